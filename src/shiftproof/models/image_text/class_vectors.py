"""One vector for each class, of all its sentences: what a zero-shot classifier compares images with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shiftproof.compute.progress import progress
from shiftproof.errors import BrokenFileError, ModelError
from shiftproof.io import files
from shiftproof.io.arrays import read_array
from shiftproof.models.image_text.prompts import Prompts
from shiftproof.models.image_text.towers import TextTower
from shiftproof.types import F32, Settings

if TYPE_CHECKING:
    import torch

FOLDER = "prompts"
"""Where a run keeps them."""

_SENTENCES = 256
"""That the text tower is given at a time, at least those of one class."""


@dataclass(frozen=True, eq=False)
class ClassVectors:
    """The vectors of classes, and what they were made of.

    Attributes:
        prompts: the sentences.
        values: ``(K, width)`` float32, each of length 1.
        fingerprint: of the sentences and the text tower together.
    """

    prompts: Prompts
    values: F32
    fingerprint: str

    def settings(self) -> Settings:
        """Return what reproduces them, as JSON takes it."""
        return {**self.prompts.settings(), "vectors": self.fingerprint}

    def save(self, run: Path) -> None:
        """Keep them in the folder of a run, with their sentences beside them.

        Raises:
            RunError: the disk is full.
        """
        folder = files.make_folder(run / FOLDER)
        words = {"names": self.prompts.names, "templates": self.prompts.templates}
        files.write_bytes(folder / f"{self.fingerprint}.json", json.dumps(words, indent=1).encode())
        with files.atomic(folder / f"{self.fingerprint}.npy") as file:
            np.lib.format.write_array(file, self.values, allow_pickle=False)


def make_class_vectors(
    texts: TextTower, prompts: Prompts, *, kept: Path | None = None
) -> ClassVectors:
    """Return a vector for each class: the mean of its sentences' vectors.

    Every sentence's vector is scaled to length 1, then the mean over the templates is taken and
    scaled again (Radford et al. 2021, section 3.1.4; as ``build_zero_shot_classifier`` of OpenCLIP).

    Args:
        texts: the tower.
        prompts: the sentences.
        kept: the folder of a run that may have them already.

    Raises:
        ModelError: the tower gives vectors that are zero or not finite.
    """
    fingerprint = files.fingerprint([texts.fingerprint().encode(), prompts.fingerprint.encode()])
    there = None if kept is None else _read(kept / FOLDER / f"{fingerprint}.npy", prompts)
    values = np.concatenate(list(_average(texts, prompts))) if there is None else there
    usable = np.isfinite(values).all(axis=1)
    if not usable.all():
        name = prompts.names[int(np.flatnonzero(~usable)[0])]
        raise ModelError(
            f"The text tower gives no vector for the class {name!r} (zero or not finite). Check the "
            "weights."
        )
    return ClassVectors(prompts, values, fingerprint)


def _average(texts: TextTower, prompts: Prompts) -> Iterator[F32]:
    import torch

    size = max(1, _SENTENCES // len(prompts.templates))
    with progress("Prompts", len(prompts.names)) as advance, torch.inference_mode():
        for start in range(0, len(prompts.names), size):
            names = prompts.names[start : start + size]
            sentences = [sentence for name in names for sentence in prompts.sentences(name)]
            vectors = _unit(texts.encode(sentences).float())
            means = vectors.reshape(len(names), len(prompts.templates), -1).mean(dim=1)
            yield np.array(_unit(means).cpu().numpy(), dtype=np.float32)
            advance(len(names))


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    unit: torch.Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return unit


def _read(path: Path, prompts: Prompts) -> F32 | None:
    """Return vectors that a run has kept, or None where it has none that can be used."""
    if not path.is_file():
        return None
    try:
        values = read_array(path)
    except BrokenFileError:
        return None
    fits = values.ndim == 2 and len(values) == len(prompts.names) and values.dtype == np.float32
    return np.asarray(values, np.float32) if fits else None
