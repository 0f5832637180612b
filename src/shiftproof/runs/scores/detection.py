"""What is detection's own in a run's files: sizes, classes, pictures with boxes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.runs.scores.shared import Count, Share

SIZES = {"APs": "small", "APm": "medium", "APl": "large"}
"""The numbers by size of object, and COCO's words for the sizes."""


class Fall(msgspec.Struct, frozen=True):
    """A number without an interval: on clean images, and as the mean over the grid. Shares."""

    clean: Share | None = None
    mean: Share | None = None

    @property
    def lost(self) -> float | None:
        """The loss under corruption; negative where the figure rises."""
        return None if self.clean is None or self.mean is None else self.clean - self.mean


class ClassFall(Fall, frozen=True, kw_only=True):
    """One class: how many objects of it there are (None: not known), and how P falls."""

    name: str
    index: Count | None = None
    objects: Count | None = None


class Detail(msgspec.Struct, frozen=True):
    """What a detector's scores have beside those of every task.

    ``sizes`` are by the names in ``SIZES``; ``classes`` have the largest loss first.
    """

    sizes: dict[str, Fall] = {}
    classes: tuple[ClassFall, ...] = ()


# ---------------------------------------------------------------- gallery.json

Pixels = Annotated[float, Meta(ge=-1e6, le=1e6)]
Extent = Annotated[float, Meta(ge=0, le=1e6)]
Side = Annotated[int, Meta(gt=0, le=100_000)]

Box = tuple[Pixels, Pixels, Extent, Extent]
"""x, y, width and height in pixels of the image."""


class Thing(msgspec.Struct, frozen=True):
    """An object in a photograph; ``counts`` is False for crowds and difficult ones."""

    name: str
    box: Box
    counts: bool


class Found(msgspec.Struct, frozen=True):
    """A box that was found, and the place of its object among the photograph's; None is on none."""

    name: str
    score: Share
    box: Box
    thing: Count | None = None


class Sheet(msgspec.Struct, frozen=True):
    """One photograph in every cell, with what each model found there.

    ``size`` is width and height of the image, in whose pixels the boxes are; ``files`` are its
    pictures below the run folder, by cell; ``found`` is by model, then by cell.
    """

    id: str
    size: tuple[Side, Side]
    things: tuple[Thing, ...]
    files: dict[str, str]
    found: dict[str, dict[str, tuple[Found, ...]]]

    def __post_init__(self) -> None:
        for by_cell in self.found.values():
            for found in by_cell.values():
                _check_things(found, self.things)


class Shown(msgspec.Struct, frozen=True):
    """One picture of a photograph that loses most: its cell, its file, what was found."""

    cell: str
    file: str
    found: tuple[Found, ...]


class Worst(msgspec.Struct, frozen=True):
    """A photograph that loses the share ``lost`` of what the first model finds in it clean."""

    id: str
    size: tuple[Side, Side]
    things: tuple[Thing, ...]
    lost: Share
    clean_found: Count
    clean: Shown
    corrupted: Shown

    def __post_init__(self) -> None:
        for shown in (self.clean, self.corrupted):
            _check_things(shown.found, self.things)


class Gallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``; empty where the run kept no pictures.

    A box is on an object from the intersection over union ``overlap`` on; ``thresholds`` are the
    scores from which on each model's boxes are in the gallery.
    """

    overlap: Share | None = None
    thresholds: dict[str, Share] = {}
    sheets: tuple[Sheet, ...] = ()
    worst: tuple[Worst, ...] = ()


def _check_things(found: tuple[Found, ...], things: tuple[Thing, ...]) -> None:
    for one in found:
        if one.thing is not None and one.thing >= len(things):
            raise ValueError(f"one of the {len(things)} objects of the photograph, not {one.thing}")
