"""The recipes by name, and the one door to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.recipes import bn_adaptation, paper, self_learning
from shiftproof.recipes.rendering import RESULT, publish
from shiftproof.recipes.result import Result, write_result

Scale = Literal["small", "paper"]

SCALES: dict[str, str] = {
    "small": "a ResNet trained here on Fashion-MNIST; some twenty minutes",
    "paper": "ImageNet-C from disk",
}
"""What each scale takes."""


@dataclass(frozen=True)
class Recipe:
    """One row of ``RECIPES``: ``small`` runs it on what can be had anywhere."""

    description: str
    small: Callable[..., Result]


RECIPES: dict[str, Recipe] = {
    "bn-adaptation": Recipe(
        "Statistics of the test images instead of the training set's (Schneider et al. 2020).",
        bn_adaptation.reproduce,
    ),
    "self-learning": Recipe(
        "Learning from one's own answers (Rusak et al. 2022).",
        self_learning.reproduce,
    ),
}
"""Recipes by the name that the command line takes."""


def reproduce(
    name: str,
    *,
    out: str | Path,
    scale: str = "small",
    data: str | Path | None = None,
    model: str = paper.MODEL,
    device: str = "cpu",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Repeat a paper's experiment, and write its tables, figures and findings into ``out``.

    Whatever is finished in ``out`` is gone on with: the training by the epoch, the runs by the cell.

    Args:
        name: one of ``RECIPES``.
        out: the folder: ``README.md``, ``result.json``, a CSV file per table, figures, and the
            runs with their records below ``runs``.
        scale: ``"small"`` or ``"paper"``.
        data: the folder of Fashion-MNIST (None: where Debian puts it), or of ImageNet-C.
        model: of the scale paper, what ``load_classifier`` takes.
        device: of the scale paper, where the model is loaded.
        workers: of the scale paper, the processes that read.
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
    if scale == "small":
        result = RECIPES[name].small(folder, data=data, show_progress=show_progress)
    else:
        result = paper.reproduce(
            name,
            folder,
            data=data,
            model=model,
            device=device,
            workers=workers,
            show_progress=show_progress,
        )
    write_result(result, folder / RESULT)
    publish(folder / RESULT, folder)
    return result
