"""``scores.json`` of an anytime run: the estimated number, and the course of its interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Headline, Images
from shiftproof.runs.scores.shared import Count, Resampling, Share, check_differences
from shiftproof.runs.scores.tidy import Row, TidyScores, list_columns
from shiftproof.types import Cell

StopReason = Literal["precision", "budget", "decided", "exhausted", "unfinished"]
"""Why a run ended: the precision was reached, the budget was used, every difference was decided, or all
pairs were evaluated; "unfinished" while it runs."""


class CellDraws(msgspec.Struct, frozen=True):
    """A cell of the grid: number of evaluated images, and each model's error.

    ``errors`` include predictions for the other images, and so have no interval.
    """

    corruption: str
    severity: Annotated[int, Meta(ge=1, le=5)]
    images: Count
    errors: dict[str, Share]

    @property
    def cell(self) -> Cell:
        """The cell."""
        return Cell(self.corruption, self.severity)


class AnytimeEstimate(msgspec.Struct, frozen=True):
    """The number of a model, or the difference of two models.

    Attributes:
        name: name of the model.
        figure: the number with its interval.
        title: full name of the model.
        against: name of the subtracted model; None for a single model.
        path: the number after each block, parallel to ``passes`` of the scores.
    """

    name: str
    figure: Interval
    path: tuple[Interval, ...]
    title: str = ""
    against: str | None = None

    @property
    def is_decided(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.figure.spans_zero


class AnytimeScores(TidyScores, frozen=True):
    """The content of ``scores.json``.

    Attributes:
        format: version of the file format.
        kind: "anytime".
        headline: description of the number.
        interval: method of the intervals.
        images: the images of the dataset.
        cells: the cells of the grid.
        models: the numbers of the models.
        differences: each other model minus the first.
        passes: number of evaluated pairs of image and cell after each block.
        pairs: number of pairs in the whole grid.
        ended: why the run ended.
        precision: target half-width as a share; None without one.
        compare: whether the draws narrowed the differences.
        reason: why the number is not mCE; None if it is.
    """

    format: int
    kind: Literal["anytime"]
    headline: Headline
    interval: Resampling
    images: Images
    cells: tuple[CellDraws, ...]
    models: tuple[AnytimeEstimate, ...]
    differences: tuple[AnytimeEstimate, ...]
    passes: tuple[Count, ...]
    pairs: Count
    ended: StopReason
    precision: float | None = None
    compare: bool = False
    reason: str | None = None

    def __post_init__(self) -> None:
        if not self.models or not self.cells or not self.passes:
            raise ValueError("at least one model, one cell and one block")
        for one in (*self.models, *self.differences):
            if len(one.path) != len(self.passes):
                raise ValueError(f"an interval of {one.name!r} after every block")
        check_differences(self.models, self.differences)

    def rows(self) -> Iterator[Row]:
        """Yield a row per model or difference."""
        for model in (*self.models, *self.differences):
            yield {
                "model": model.name, "against": model.against, "measure": self.headline.name,
                **list_columns(model.figure),
            }  # fmt: skip

    @property
    def measure(self) -> str:
        """Name of the measure, as in all kinds of runs."""
        return self.headline.name

    @property
    def asked(self) -> int:
        """Number of evaluated pairs of image and cell."""
        return self.passes[-1]

    @property
    def used(self) -> int | None:
        """Number of images in the scores."""
        return self.images.used

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The corruptions of the grid, in order."""
        return tuple(dict.fromkeys(cell.corruption for cell in self.cells))

    @property
    def severities(self) -> tuple[int, ...]:
        """The severities of the grid, sorted."""
        return tuple(sorted({cell.severity for cell in self.cells}))
