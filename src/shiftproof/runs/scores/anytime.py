"""``scores.json`` of an anytime run: the number that was asked, and how it narrowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Headline, Images
from shiftproof.runs.scores.shared import Count, Resampling, Share
from shiftproof.runs.scores.tidy import Row, TidyScores, ends_of
from shiftproof.types import Cell

Ended = Literal["precision", "budget", "decided", "exhausted", "unfinished"]
"""Why a run ended: the precision was reached, the time was up, every difference was decided, or all
pairs were asked. A page that is made on the way says "unfinished"."""


class CellDraws(msgspec.Struct, frozen=True):
    """A cell of the grid: how many of its images were asked, and each model's error there.

    ``errors`` are what is known and, of images that were not asked, foretold: without an interval.
    """

    corruption: str
    severity: Annotated[int, Meta(ge=1, le=5)]
    images: Count
    errors: dict[str, Share]

    @property
    def cell(self) -> Cell:
        """Its place."""
        return Cell(self.corruption, self.severity)


class Narrowed(msgspec.Struct, frozen=True):
    """The number of a model, or the difference of two: then ``against`` names what is subtracted.

    Attributes:
        name: of the model.
        figure: the number with its interval.
        title: the model's name in full.
        against: None of a model.
        path: the number after each block, as ``passes`` of the scores counts them.
    """

    name: str
    figure: Interval
    path: tuple[Interval, ...]
    title: str = ""
    against: str | None = None

    @property
    def is_decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.figure.spans_zero


class AnytimeScores(TidyScores, frozen=True):
    """The content of ``scores.json``.

    Attributes:
        format: of the file.
        kind: "anytime".
        headline: the number.
        interval: how the intervals are made.
        images: of the dataset.
        cells: of the grid.
        models: their numbers.
        differences: of every other model minus the first.
        passes: how many pairs of image and cell were asked, after each block.
        pairs: of the whole grid.
        ended: why the run ended.
        precision: the half-width that was wanted, as a share; None without one.
        compare: whether the differences were what the draws were to narrow.
        reason: why the number is not mCE; None where it is.
    """

    format: int
    kind: Literal["anytime"]
    headline: Headline
    interval: Resampling
    images: Images
    cells: tuple[CellDraws, ...]
    models: tuple[Narrowed, ...]
    differences: tuple[Narrowed, ...]
    passes: tuple[Count, ...]
    pairs: Count
    ended: Ended
    precision: float | None = None
    compare: bool = False
    reason: str | None = None

    def __post_init__(self) -> None:
        if not self.models or not self.cells or not self.passes:
            raise ValueError("at least one model, one cell and one block")
        names = {model.name for model in self.models}
        for one in (*self.models, *self.differences):
            if len(one.path) != len(self.passes):
                raise ValueError(f"an interval of {one.name!r} after every block")
        if any({one.name, one.against} - names for one in self.differences):
            raise ValueError("differences between two of the models")

    def rows(self) -> Iterator[Row]:
        """Yield a row per model or difference: the number that was asked."""
        for model in (*self.models, *self.differences):
            yield {
                "model": model.name, "against": model.against, "measure": self.headline.name,
                **ends_of(model.figure),
            }  # fmt: skip

    @property
    def measure(self) -> str:
        """What is measured, under the name that runs of all kinds have."""
        return self.headline.name

    @property
    def asked(self) -> int:
        """Pairs of image and cell that were asked."""
        return self.passes[-1]

    @property
    def used(self) -> int | None:
        """Images that the number is over."""
        return self.images.used

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Of the grid, in its order."""
        return tuple(dict.fromkeys(cell.corruption for cell in self.cells))

    @property
    def severities(self) -> tuple[int, ...]:
        """Of the grid, rising."""
        return tuple(sorted({cell.severity for cell in self.cells}))
