"""The recipes by name, and the one door to them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shiftproof.errors import InputError, UnknownNameError
from shiftproof_reproduce import (
    adaptation_methods,
    aninfonce,
    bn_adaptation,
    detection,
    detection_paper,
    paper,
    self_learning,
    simclr,
    train_test_paper,
    train_test_similarity,
)
from shiftproof_reproduce.rendering import RESULT, publish
from shiftproof_reproduce.result import Result, write_result

Scale = Literal["small", "medium", "paper"]

SCALES: dict[str, str] = {
    "small": "networks trained here on Fashion-MNIST; some twenty minutes",
    "medium": "what takes an hour, of recipes that have it",
    "paper": "the paper's own data from disk",
}
"""What each scale takes."""


@dataclass(frozen=True)
class Recipe:
    """One row of ``RECIPES``: ``small`` runs it on what can be had anywhere, ``paper`` on its data.

    ``medium`` takes longer than ``small`` and needs no more; None where there is no such scale, as
    with ``paper``.
    ``trains_in_workers`` says that both of them take the number of processes that train.
    """

    description: str
    small: Callable[..., Result]
    paper: Callable[..., Result] | None
    medium: Callable[..., Result] | None = None
    trains_in_workers: bool = False


RECIPES: dict[str, Recipe] = {
    "bn-adaptation": Recipe(
        "Statistics of the test images instead of the training set's (Schneider et al. 2020).",
        bn_adaptation.reproduce,
        functools.partial(paper.reproduce, "bn-adaptation"),
    ),
    "self-learning": Recipe(
        "Learning from one's own answers (Rusak et al. 2022).",
        self_learning.reproduce,
        functools.partial(paper.reproduce, "self-learning"),
    ),
    "adaptation-methods": Recipe(
        "Every adaptation method under every protocol, on three kinds of norm and a CLIP.",
        adaptation_methods.reproduce,
        None,
    ),
    "detection": Recipe(
        "Detectors under corruption, and stylised training data (Michaelis et al. 2019).",
        detection.reproduce,
        detection_paper.reproduce,
    ),
    "aninfonce": Recipe(
        "Latents recovered by contrastive learning, and their precision (Rusak et al. 2025).",
        aninfonce.reproduce,
        simclr.reproduce_paper,
        aninfonce.reproduce_medium,
        trains_in_workers=True,
    ),
    "train-test-similarity": Recipe(
        "What is too close to a test set is left out, and the network trained anew "
        "(Mayilvahanan et al. 2024).",
        train_test_similarity.reproduce,
        train_test_paper.reproduce,
        trains_in_workers=True,
    ),
}
"""Recipes by the name that the command line takes."""


def reproduce(
    name: str,
    *,
    out: str | Path,
    scale: str = "small",
    data: str | Path | None = None,
    model: str | None = None,
    device: str = "cpu",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Repeat a paper's experiment, and write its tables, figures and findings into ``out``.

    Whatever is finished in ``out`` is resumed: the training by the epoch, the runs by the cell.

    Args:
        name: one of ``RECIPES``.
        out: the folder: ``README.md``, ``result.json``, a CSV file per table, figures, and the
            runs with their records below ``runs``.
        scale: ``"small"``, ``"medium"`` where the recipe has it, or ``"paper"``.
        data: the folder of Fashion-MNIST (None: where Debian puts it), or of the paper's data:
            ImageNet-C, for detection Pascal VOC, COCO or Cityscapes, for train-test-similarity
            embeddings.
        model: of the scale paper, what ``load_classifier`` or ``load_detector`` takes; None takes
            the paper's.
        device: of the scale paper, where the model is loaded.
        workers: of the scale paper, the processes that read; of aninfonce and train-test-similarity
            at the other scales, those that train.
        show_progress: None shows it on a terminal only.

    Raises:
        UnknownNameError: no such recipe or scale.
        InputError: the data are not there, or ``out`` is of a run with other settings.
        RunError: the network that was trained is not good enough.
    """
    if name not in RECIPES:
        raise UnknownNameError.of("recipe", name, RECIPES)
    if scale not in SCALES:
        raise UnknownNameError.of("scale", scale, SCALES)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; expected a folder.")
    recipe = RECIPES[name]
    _check_scale(name, scale)
    if scale != "paper" and workers is not None and not recipe.trains_in_workers:
        raise InputError(f"{name} trains in one process at scale {scale}: leave workers out.")
    here = recipe.medium if scale == "medium" and recipe.medium else recipe.small
    if scale == "paper" and recipe.paper is not None:
        result = recipe.paper(
            folder,
            data=data,
            model=model,
            device=device,
            workers=workers,
            show_progress=show_progress,
        )
    elif recipe.trains_in_workers:
        result = here(folder, data=data, workers=workers, show_progress=show_progress)
    else:
        result = here(folder, data=data, show_progress=show_progress)
    write_result(result, folder / RESULT)
    publish(folder / RESULT, folder)
    return result


def _check_scale(name: str, scale: str) -> None:
    """Raise an InputError where a recipe has no such scale; says which have it."""
    there = {
        "medium": [key for key, each in RECIPES.items() if each.medium is not None],
        "paper": [key for key, each in RECIPES.items() if each.paper is not None],
    }
    if scale in there and name not in there[scale]:
        raise InputError(f"{name} has no scale {scale}; it is there for {', '.join(there[scale])}.")
