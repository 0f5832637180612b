"""Parts of a run's files that only segmentation has: classes, conditions, images of label maps."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.detection import Drop
from shiftproof.runs.scores.shared import Count, Share


class ConfusedClass(msgspec.Struct, frozen=True):
    """A wrong class as which pixels of a class are predicted.

    ``name`` is None for predictions outside the dataset's classes. ``clean`` and ``mean`` are shares
    of the true class's pixels, on clean images and as the mean over the grid.
    """

    name: str | None
    clean: Share | None = None
    mean: Share | None = None


class Ranges(msgspec.Struct, frozen=True):
    """The intervals of a drop: of both values, and of the paired loss."""

    clean: Interval | None = None
    mean: Interval | None = None
    lost: Interval | None = None


class DropWithIntervals(Drop, frozen=True, kw_only=True):
    """A drop with its intervals over images."""

    ranges: Ranges = Ranges()


class ClassDrop(DropWithIntervals, frozen=True, kw_only=True):
    """The drop of a class's IoU and of its recall, and the classes with which it is confused.

    ``pixels`` is the number of its pixels, ``images`` the number of images with the class; ``takers``
    are the classes as which most of its pixels are predicted in corrupted images.
    """

    name: str
    index: Count
    pixels: Count
    images: Count
    recall: Drop
    takers: tuple[ConfusedClass, ...] = ()


class Confusion(msgspec.Struct, frozen=True):
    """The confusion matrix: the share of each class's pixels that is predicted as each class.

    Rows are the true classes that occur, in the order of ``classes``. Columns have the same order,
    and a last one for all other classes together.
    """

    classes: tuple[str, ...]
    mean: tuple[tuple[Share, ...], ...]
    clean: tuple[tuple[Share, ...], ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.classes)
        for table in (self.mean, self.clean):
            if table is not None and (
                len(table) != count or any(len(row) != count + 1 for row in table)
            ):
                raise ValueError(f"{count} rows of {count + 1} shares")


class Detail(msgspec.Struct, frozen=True):
    """The scores that only segmenters have.

    ``classes`` are sorted by decreasing loss; ``conditions`` is mIoU by the condition under which
    images were taken, if the dataset has several; ``confusion`` is None if there are many classes.
    """

    classes: tuple[ClassDrop, ...] = ()
    conditions: dict[str, DropWithIntervals] = {}
    confusion: Confusion | None = None


# ---------------------------------------------------------------- truth.json


TRUTH = "truth.json"
"""The file of the classes and conditions in a run."""


class Truth(msgspec.Struct, frozen=True):
    """``truth.json``: the classes of the dataset, and the condition under which each image was taken.

    ``conditions`` is by image id; empty if there is only one condition.
    """

    format: int
    classes: tuple[str, ...]
    conditions: dict[str, str] = {}

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("at least one class")


# ---------------------------------------------------------------- gallery.json

Channel = Annotated[int, Meta(ge=0, le=255)]


class Answer(msgspec.Struct, frozen=True):
    """A model's label map in a cell, as a picture, and its mIoU over the image's own classes."""

    cell: str
    file: str
    iou: Share | None = None


class Sheet(msgspec.Struct, frozen=True):
    """One image: clean, with its truth, and in the mildest cell of its largest loss.

    ``files`` are paths below the run folder: "clean", "truth", "corrupted", and the predictions as
    "MODEL clean" and "MODEL corrupted"; "corrupted" is missing if imported label maps were scored.
    ``answers`` is by model, clean first. ``lost`` is the first model's mean loss of mIoU over all
    cells.
    """

    id: str
    cell: str
    lost: Share
    files: dict[str, str]
    classes: tuple[str, ...]
    answers: dict[str, tuple[Answer, ...]]


class Example(msgspec.Struct, frozen=True):
    """One image in one cell of every corruption, with each model's prediction.

    ``truth`` and ``photos`` are files below the run folder, the latter by cell; with imported label
    maps there is only the clean photograph. ``answers`` are by model, then by cell; a model that
    adapts had only this image to adapt to.
    """

    id: str
    truth: str
    photos: dict[str, str]
    answers: dict[str, dict[str, Answer]]

    def list_files(self) -> list[str]:
        """Return all its files."""
        answers = [one.file for by_cell in self.answers.values() for one in by_cell.values()]
        return [self.truth, *self.photos.values(), *answers]


class ClassColor(msgspec.Struct, frozen=True):
    """The color of a class in the pictures: red, green and blue."""

    name: str
    color: tuple[Channel, Channel, Channel]


class Gallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``: the images of the largest loss, and examples in every cell."""

    colors: tuple[ClassColor, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def worst(self) -> tuple[()]:
        """Empty: the sheets are the worst images already."""
        return ()
