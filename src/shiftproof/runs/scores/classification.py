"""Parts of a run's files that only classification has: classes, label-free estimates, images."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.runs.scores.shared import Count, Share
from shiftproof.runs.scores.trust import Trust
from shiftproof.types import Cell

CLASS_NAMES = "classes.json"
"""The file of the classes in a run."""


class ClassNames(msgspec.Struct, frozen=True):
    """``classes.json``: the classes of the model's outputs."""

    title: str
    names: tuple[str, ...]


class ClassErrors(msgspec.Struct, frozen=True):
    """Error of one class, clean and over the corrupted cells of the mean, as shares.

    ``images`` is the number of its images that could be read.
    """

    name: str
    images: Count
    error: Share
    clean_error: Share | None = None
    index: Count | None = None


class EstimatedCell(msgspec.Struct, frozen=True):
    """Estimated and true error in one cell, as shares."""

    corruption: str
    severity: Count
    estimate: Share
    error: Share

    @property
    def cell(self) -> Cell:
        """The cell."""
        return Cell(self.corruption, self.severity)


class Estimator(msgspec.Struct, frozen=True):
    """Accuracy of a label-free error estimate over a model's corrupted cells, as shares.

    Attributes:
        bias: mean of estimate minus error; negative if it is optimistic.
        within: cells whose error is at most 1.96 root mean squares.
        worst: the cell with the largest error.
    """

    name: str
    title: str
    cells: Count
    mean_absolute_error: Share
    root_mean_square: Share
    bias: Annotated[float, Meta(ge=-1, le=1)]
    within: Count
    worst: EstimatedCell


class Detail(msgspec.Struct, frozen=True):
    """Scores of a model that only classification has; empty without labels.

    Attributes:
        classes: errors by class, the worst first.
        estimators: accuracy of the label-free estimates.
        estimates: estimated error by cell and estimator.
        trust: reliability of the confidences; None in files of earlier versions.
    """

    classes: tuple[ClassErrors, ...] = ()
    estimators: tuple[Estimator, ...] = ()
    estimates: dict[str, dict[str, Share]] = {}
    trust: Trust | None = None


# ---------------------------------------------------------------- gallery.json


class Prediction(msgspec.Struct, frozen=True):
    """A model's prediction for one image.

    ``name`` is None for an unreadable image, ``correct`` also for an image without a label.
    """

    name: str | None = None
    confidence: Share | None = None
    correct: bool | None = None


class Sheet(msgspec.Struct, frozen=True):
    """One image in every cell.

    ``files`` are paths relative to the run folder, by cell; ``predictions`` by model, then by cell.
    """

    id: str
    label: str | None
    files: dict[str, str]
    predictions: dict[str, dict[str, Prediction]]


class GalleryPicture(msgspec.Struct, frozen=True):
    """One image of a worst case: cell, file, and prediction."""

    cell: str
    file: str
    prediction: Prediction


class Worst(msgspec.Struct, frozen=True):
    """An image that the first model gets wrong in ``errors`` of ``cells`` cells."""

    id: str
    label: str | None
    errors: Count
    cells: Count
    clean: GalleryPicture | None = None
    corrupted: GalleryPicture | None = None


class Gallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``; empty if the run stored no images."""

    sheets: tuple[Sheet, ...] = ()
    worst: tuple[Worst, ...] = ()
