"""Parts of a run's files that only detection has: sizes, classes, images with boxes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.runs.scores.shared import Count, Share

SIZES = {"APs": "small", "APm": "medium", "APl": "large"}
"""The metrics by object size, and COCO's names of the sizes."""


class Drop(msgspec.Struct, frozen=True):
    """A share without an interval: on clean images, and as the mean over the grid."""

    clean: Share | None = None
    mean: Share | None = None

    @property
    def lost(self) -> float | None:
        """The loss under corruption; negative if the metric rises."""
        return None if self.clean is None or self.mean is None else self.clean - self.mean


class ClassDrop(Drop, frozen=True, kw_only=True):
    """One class: its number of objects (None: unknown), and its AP clean and corrupted."""

    name: str
    index: Count | None = None
    objects: Count | None = None


class Detail(msgspec.Struct, frozen=True):
    """The scores that only detectors have.

    ``sizes`` has the names of ``SIZES``; ``classes`` are sorted by decreasing loss.
    """

    sizes: dict[str, Drop] = {}
    classes: tuple[ClassDrop, ...] = ()


# ---------------------------------------------------------------- gallery.json

Pixels = Annotated[float, Meta(ge=-1e6, le=1e6)]
Extent = Annotated[float, Meta(ge=0, le=1e6)]
Side = Annotated[int, Meta(gt=0, le=100_000)]

Box = tuple[Pixels, Pixels, Extent, Extent]
"""x, y, width and height in pixels of the image."""


class GroundTruthBox(msgspec.Struct, frozen=True):
    """A ground-truth object; ``counts`` is False for crowds and difficult objects."""

    name: str
    box: Box
    counts: bool


class PredictedBox(msgspec.Struct, frozen=True):
    """A detected box, and the index of its matched object; None if unmatched."""

    name: str
    score: Share
    box: Box
    thing: Count | None = None


class Sheet(msgspec.Struct, frozen=True):
    """One photograph in every cell, with each model's detections.

    ``size`` is (width, height) of the image; boxes are in its pixels. ``files`` are its pictures
    below the run folder, by cell; ``found`` is by model, then by cell.
    """

    id: str
    size: tuple[Side, Side]
    things: tuple[GroundTruthBox, ...]
    files: dict[str, str]
    found: dict[str, dict[str, tuple[PredictedBox, ...]]]

    def __post_init__(self) -> None:
        for by_cell in self.found.values():
            for boxes in by_cell.values():
                _check_things(boxes, self.things)


class GalleryPicture(msgspec.Struct, frozen=True):
    """One picture of a photograph with a large loss: cell, file, and detections."""

    cell: str
    file: str
    found: tuple[PredictedBox, ...]


class Worst(msgspec.Struct, frozen=True):
    """A photograph in which the first model loses the share ``lost`` of its clean detections."""

    id: str
    size: tuple[Side, Side]
    things: tuple[GroundTruthBox, ...]
    lost: Share
    clean_found: Count
    clean: GalleryPicture
    corrupted: GalleryPicture

    def __post_init__(self) -> None:
        for picture in (self.clean, self.corrupted):
            _check_things(picture.found, self.things)


class Gallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``; empty if the run has no pictures.

    A box matches an object if their intersection over union is at least ``overlap``; ``thresholds``
    are each model's score thresholds of the boxes in the gallery.
    """

    overlap: Share | None = None
    thresholds: dict[str, Share] = {}
    sheets: tuple[Sheet, ...] = ()
    worst: tuple[Worst, ...] = ()


def _check_things(boxes: tuple[PredictedBox, ...], things: tuple[GroundTruthBox, ...]) -> None:
    for box in boxes:
        if box.thing is not None and box.thing >= len(things):
            raise ValueError(f"one of the {len(things)} objects of the photograph, not {box.thing}")
