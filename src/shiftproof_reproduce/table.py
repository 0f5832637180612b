"""The recipes by name, and running one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.runs import provenance
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
"""Descriptions of the scales."""


@dataclass(frozen=True)
class Recipe:
    """One row of ``RECIPES``.

    ``small`` runs it on freely available data, ``medium`` likewise but longer, and ``paper`` on the
    paper's data; None if the recipe lacks a scale. ``trains_in_workers``: whether ``small`` and
    ``medium`` accept a number of training processes.
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

    An interrupted experiment in ``out`` resumes: trainings by epoch, runs by cell.

    Args:
        name: one of ``RECIPES``.
        out: the output folder, with ``README.md``, ``result.json``, a CSV file per table, figures,
            and the runs with their records in ``runs``.
        scale: ``"small"``, ``"medium"`` if the recipe has it, or ``"paper"``.
        data: the folder of Fashion-MNIST (None: that of the Debian package), or of the paper's
            data: ImageNet-C, for detection Pascal VOC, COCO or Cityscapes, for
            train-test-similarity embeddings.
        model: for the scale paper, a spec for ``load_classifier`` or ``load_detector``; None uses
            the paper's model.
        device: for the scale paper, the device of the model.
        workers: for the scale paper, processes that read images; for aninfonce and
            train-test-similarity at the other scales, processes that train.
        show_progress: None shows it on a terminal only.

    Raises:
        UnknownNameError: no such recipe or scale.
        InputError: the data are missing, or ``out`` belongs to a run with other settings.
        RunError: the clean error of the trained network is too high.
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
    started = provenance(device, 0)["started"]
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
    # An experiment describes its machine at its end.
    result = replace(result, provenance={**result.provenance, "started": started})
    write_result(result, folder / RESULT)
    publish(folder / RESULT, folder)
    return result


def _check_scale(name: str, scale: str) -> None:
    """Check that a recipe has a scale."""
    available = {
        "medium": [key for key, each in RECIPES.items() if each.medium is not None],
        "paper": [key for key, each in RECIPES.items() if each.paper is not None],
    }
    if scale in available and name not in available[scale]:
        raise InputError(
            f"{name} has no scale {scale}; it is there for {', '.join(available[scale])}."
        )
