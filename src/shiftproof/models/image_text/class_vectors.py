"""Class vectors of zero-shot classifiers: one for each class, from all its prompts."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
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
from shiftproof.unit_rows import measure_tensor_rows

if TYPE_CHECKING:
    import torch

FOLDER = "prompts"
"""Folder of the class vectors in a run."""

UNFINISHED = ".prompts"
"""Folder of unfinished class vectors; it begins with a dot, since the run's folder must be empty
otherwise.
"""

SECONDS = 30.0
"""Interval of saving unfinished vectors: of ImageNet's 80,000 sentences a large tower encodes a few
hundred per minute on one core.
"""

_SENTENCES = 256
"""Batch size of the text tower, but at least the sentences of one class."""


@dataclass(frozen=True, eq=False)
class ClassVectors:
    """Class vectors and their prompts.

    Attributes:
        prompts: the prompts.
        values: ``(K, width)`` float32, each of length 1.
        fingerprint: fingerprint of prompts and text tower.
    """

    prompts: Prompts
    values: F32
    fingerprint: str

    def settings(self) -> Settings:
        """Return the settings that reproduce them, for JSON."""
        return {**self.prompts.settings(), "vectors": self.fingerprint}

    def warn_of_shared(self) -> tuple[str, ...]:
        """Return a warning about classes with the vector of another, which are never predicted; or
        ().

        The tokenizer may map two unknown words, or two truncated sentences, to the same tokens.
        """
        _, first, inverse = np.unique(self.values, axis=0, return_index=True, return_inverse=True)
        duplicates = first[inverse.reshape(-1)]
        later = np.flatnonzero(duplicates != np.arange(len(duplicates)))
        if not len(later):
            return ()
        names = self.prompts.names
        one, other = names[int(duplicates[later[0]])], names[int(later[0])]
        which = "class has" if len(later) == 1 else "classes have"
        return (
            f"{len(later):,} {which} the same vector as another and are never predicted: the tokenizer "
            f"does not tell their sentences apart, such as those of {one!r:.60} and {other!r:.60}",
        )

    def save(self, run: Path) -> None:
        """Write them to the folder of a run, with their prompts.

        Raises:
            RunError: the disk is full.
        """
        folder = files.make_folder(run / FOLDER)
        words = {"names": self.prompts.names, "templates": self.prompts.templates}
        files.write_bytes(folder / f"{self.fingerprint}.json", json.dumps(words, indent=1).encode())
        _write(folder / f"{self.fingerprint}.npy", self.values)
        shutil.rmtree(run / UNFINISHED, ignore_errors=True)


def make_class_vectors(
    texts: TextTower, prompts: Prompts, *, run_folder: Path | None = None
) -> ClassVectors:
    """Return a vector for each class: the mean of its prompts' vectors.

    Every prompt's vector is scaled to length 1, and their mean over the templates is scaled again
    (Radford et al. 2021, section 3.1.4; as ``build_zero_shot_classifier`` of OpenCLIP).

    Args:
        texts: the tower.
        prompts: the prompts.
        run_folder: the folder of a new or existing run that may contain them. In long computations,
            intermediate results are saved there, from which interrupted work resumes.

    Raises:
        ModelError: the tower gives vectors that are zero or not finite.
    """
    fingerprint = _fingerprint(texts, prompts)
    if run_folder is None:
        values = _average(texts, prompts, None)
    else:
        there = _read(run_folder / FOLDER / f"{fingerprint}.npy")
        unfinished = (
            run_folder / UNFINISHED / f"{fingerprint}.npy" if _is_ours(run_folder) else None
        )
        whole = there is not None and len(there) == len(prompts.names)
        values = there if there is not None and whole else _average(texts, prompts, unfinished)
    usable = np.isfinite(values).all(axis=1)
    if not usable.all():
        name = prompts.names[int(np.flatnonzero(~usable)[0])]
        raise ModelError(
            f"The text tower gives no vector for the class {name!r} (zero or not finite). Check the "
            "weights."
        )
    return ClassVectors(prompts, values, fingerprint)


def _fingerprint(texts: TextTower, prompts: Prompts) -> str:
    """Return a fingerprint of the inputs: the last bits of the vectors depend on machine and
    threads.
    """
    parts = [texts.fingerprint().encode(), prompts.fingerprint.encode()]
    if texts.tokens is not None:
        # Two tokenizers of one class may have different vocabularies.
        first = [prompts.sentences(name)[0] for name in prompts.names]
        tokens = texts.tokens.tokenize(first)
        parts += [tokens[name].cpu().numpy().tobytes() for name in sorted(tokens)]
    return files.fingerprint(parts)


def _average(texts: TextTower, prompts: Prompts, path: Path | None) -> F32:
    """Return the mean vector of each class's prompts, resuming from those in the file."""
    there = None if path is None else _read(path)
    parts = [] if there is None or len(there) > len(prompts.names) else [there]
    done = sum(map(len, parts))
    size = max(1, _SENTENCES // len(prompts.templates))
    written = time.monotonic()
    with progress("Prompts", len(prompts.names)) as advance:
        advance(done)
        for start in range(done, len(prompts.names), size):
            names = prompts.names[start : start + size]
            parts.append(_average_names(texts, prompts, names))
            advance(len(names))
            if path is not None and time.monotonic() - written >= SECONDS:
                files.make_folder(path.parent)
                _write(path, np.concatenate(parts))
                written = time.monotonic()
    return np.concatenate(parts)


def _average_names(texts: TextTower, prompts: Prompts, names: Sequence[str]) -> F32:
    import torch

    sentences = [sentence for name in names for sentence in prompts.sentences(name)]
    with torch.inference_mode():
        vectors = _normalize(texts.encode(sentences).float())
        means = vectors.reshape(len(names), len(prompts.templates), -1).mean(dim=1)
        return np.array(_normalize(means).cpu().numpy(), dtype=np.float32)


def _normalize(vectors: torch.Tensor) -> torch.Tensor:
    rows, lengths = measure_tensor_rows(vectors)
    unit: torch.Tensor = rows / lengths
    return unit


def _is_ours(folder: Path) -> bool:
    """Whether a folder is that of a run, or can become one."""
    if not folder.is_dir():
        return not folder.exists()
    names = [path.name for path in folder.iterdir()]
    return "run.json" in names or all(name.startswith(".") for name in names)


def _write(path: Path, values: F32) -> None:
    with files.atomic(path) as file:
        np.lib.format.write_array(file, values, allow_pickle=False)


def _read(path: Path) -> F32 | None:
    """Return the vectors in a file, or None if there are no valid ones."""
    if not path.is_file():
        return None
    try:
        values = read_array(path)
    except BrokenFileError:
        return None
    fits = values.ndim == 2 and values.dtype == np.float32
    return np.asarray(values, np.float32) if fits else None
