"""What is classification's own in a run's files: classes, label-free estimates, pictures."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.runs.scores.shared import Count, Share
from shiftproof.runs.scores.trust import Trust
from shiftproof.types import Cell


class ClassNames(msgspec.Struct, frozen=True):
    """``classes.json``: what the model's outputs mean."""

    title: str
    names: tuple[str, ...]


class ClassErrors(msgspec.Struct, frozen=True):
    """One class: how often its images are wrong, clean and over the corrupted cells. Shares."""

    name: str
    images: Count
    error: Share
    clean_error: Share | None = None
    index: Count | None = None


class Miss(msgspec.Struct, frozen=True):
    """An error that was estimated without labels beside the true one, in one cell. Shares."""

    corruption: str
    severity: Count
    estimate: Share
    error: Share

    @property
    def cell(self) -> Cell:
        """Where."""
        return Cell(self.corruption, self.severity)


class Estimator(msgspec.Struct, frozen=True):
    """How far an estimate without labels is off over a model's corrupted cells. Shares.

    Attributes:
        bias: mean of estimate minus error; below 0 it is too hopeful.
        within: cells that are off by no more than 1.96 root mean squares.
        worst: where it is furthest off.
    """

    name: str
    title: str
    cells: Count
    mean_absolute_error: Share
    root_mean_square: Share
    bias: Annotated[float, Meta(ge=-1, le=1)]
    within: Count
    worst: Miss


class Detail(msgspec.Struct, frozen=True):
    """What a model's scores have beside those of every task; empty without labels.

    Attributes:
        classes: the worst first.
        estimators: of the errors, without labels.
        estimates: cell to estimator to the error as it would have been estimated.
        trust: whether what the model says of itself holds; None in files from before it was measured.
    """

    classes: tuple[ClassErrors, ...] = ()
    estimators: tuple[Estimator, ...] = ()
    estimates: dict[str, dict[str, Share]] = {}
    trust: Trust | None = None


# ---------------------------------------------------------------- gallery.json


class Prediction(msgspec.Struct, frozen=True):
    """What a model said about one image.

    ``name`` is None where the image could not be read, ``correct`` also where it has no label.
    """

    name: str | None = None
    confidence: Share | None = None
    correct: bool | None = None


class Sheet(msgspec.Struct, frozen=True):
    """One photograph under every cell; ``files`` are below the run folder, by cell.

    ``predictions`` are by model, then by cell.
    """

    id: str
    label: str | None
    files: dict[str, str]
    predictions: dict[str, dict[str, Prediction]]


class Shown(msgspec.Struct, frozen=True):
    """One picture of a worst case: which cell, which file, what the model said."""

    cell: str
    file: str
    prediction: Prediction


class Worst(msgspec.Struct, frozen=True):
    """A photograph that the first model gets wrong in ``errors`` of ``cells`` cells."""

    id: str
    label: str | None
    errors: Count
    cells: Count
    clean: Shown | None = None
    corrupted: Shown | None = None


class Gallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``; empty where the run kept no pictures."""

    sheets: tuple[Sheet, ...] = ()
    worst: tuple[Worst, ...] = ()
