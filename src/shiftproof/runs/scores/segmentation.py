"""What is segmentation's own in a run's files: classes, conditions, pictures with label maps."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.detection import Drop
from shiftproof.runs.scores.shared import Count, Share


class Taker(msgspec.Struct, frozen=True):
    """A wrong class that pixels of a class are predicted as.

    ``name`` is None for what is none of the data's classes; ``clean`` and ``mean`` are shares of the
    pixels of the class that is taken, on clean images and as the mean over the grid.
    """

    name: str | None
    clean: Share | None = None
    mean: Share | None = None


class Ranges(msgspec.Struct, frozen=True):
    """The intervals of a fall: of both ends, and of what is lost, resample by resample."""

    clean: Interval | None = None
    mean: Interval | None = None
    lost: Interval | None = None


class DropWithIntervals(Drop, frozen=True, kw_only=True):
    """A fall with its intervals over images."""

    ranges: Ranges = Ranges()


class ClassDrop(DropWithIntervals, frozen=True, kw_only=True):
    """How the intersection over union of a class falls, how its recall does, and to whom it goes.

    ``pixels`` is how many it has, ``images`` in how many images it is; ``takers`` are those classes
    that take most of its pixels in corrupted images.
    """

    name: str
    index: Count
    pixels: Count
    images: Count
    recall: Drop
    takers: tuple[Taker, ...] = ()


class Confusion(msgspec.Struct, frozen=True):
    """Of the pixels of each class the share that is predicted as each class.

    Rows are the true classes that occur, in the order of ``classes``; so are the columns, and the
    last column is all other classes together.
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
    """What a segmenter's scores have beside those of every task.

    ``classes`` have the largest loss first; ``conditions`` is mIoU by the condition under which
    images were taken, where the dataset has several; ``confusion`` is there for few classes only.
    """

    classes: tuple[ClassDrop, ...] = ()
    conditions: dict[str, DropWithIntervals] = {}
    confusion: Confusion | None = None


# ---------------------------------------------------------------- truth.json


class Truth(msgspec.Struct, frozen=True):
    """``truth.json``: the classes of the data, and under which condition each image was taken.

    ``conditions`` is by the id of an image, and empty where there is one condition only.
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
    """One image: clean, with its truth, and in the mildest cell in which it loses most.

    ``files`` are the pictures below the run folder: "clean", "truth", "corrupted", and the answers
    as "MODEL clean" and "MODEL corrupted"; "corrupted" is missing where label maps made elsewhere were
    scored. ``answers`` is by model, clean first. ``lost`` is the mean
    loss of mIoU of the first model over all cells.
    """

    id: str
    cell: str
    lost: Share
    files: dict[str, str]
    classes: tuple[str, ...]
    answers: dict[str, tuple[Answer, ...]]


class Example(msgspec.Struct, frozen=True):
    """One image in a cell of every corruption, with what each model answered there.

    ``truth`` and ``photos`` are pictures below the run folder, the latter by cell; of label maps made
    elsewhere only the clean photograph is there. ``answers`` are by model, then by cell; a model that
    adapts had only this image to adapt to.
    """

    id: str
    truth: str
    photos: dict[str, str]
    answers: dict[str, dict[str, Answer]]

    def list_files(self) -> list[str]:
        """Return all its pictures."""
        answers = [one.file for found in self.answers.values() for one in found.values()]
        return [self.truth, *self.photos.values(), *answers]


class ClassColor(msgspec.Struct, frozen=True):
    """The color of a class in the pictures: red, green and blue."""

    name: str
    color: tuple[Channel, Channel, Channel]


class Gallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``: the images that lose most, the worst first, and two in every cell."""

    colors: tuple[ClassColor, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def worst(self) -> tuple[()]:
        """None beside the sheets."""
        return ()
