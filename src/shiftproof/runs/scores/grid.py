"""``scores.json`` of a run over the corruption grid, for any task.

A task defines its measures (:class:`Measure`) and headlines (:class:`Headline`); the page, the
tables and the comparison of runs follow from these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from shiftproof.corruptions.names import FAMILIES as BENCHMARK_FAMILIES
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.format_1 import UPGRADES
from shiftproof.runs.scores.ranking import Ranking
from shiftproof.runs.scores.reading import AT, describe_range, is_outside
from shiftproof.runs.scores.shared import BrokenImage, Count, Resampling, check_differences
from shiftproof.runs.scores.tidy import Row, TidyScores, list_columns
from shiftproof.types import CLEAN, Cell

Unit = Literal["share", "nats", "number"]
"""A share is shown in percent and a difference of shares in points."""

FAMILIES = (*BENCHMARK_FAMILIES, "other")
"""The groups of corruptions, in the order of the benchmark's paper."""


class Measure(msgspec.Struct, frozen=True):
    """A metric that is measured in every cell.

    Attributes:
        name: its key in the cells.
        title: full name.
        lower_is_better: whether lower values are better.
        unit: unit of its values.
        low: lower limit of its values, None without a limit.
        high: upper limit of its values, None without a limit.
    """

    name: str
    title: str
    lower_is_better: bool
    unit: Unit
    low: float | None = 0.0
    high: float | None = 1.0


class Headline(msgspec.Struct, frozen=True):
    """A summary metric of a model, such as mCE.

    Attributes:
        name: its key in the summaries.
        title: name shown to users, such as "mCE".
        note: short description.
        lower_is_better: whether lower values are better.
        unit: unit of its values; a ratio to another model's errors is also a share.
        card: whether the overview of the page shows it.
    """

    name: str
    title: str
    note: str
    lower_is_better: bool
    unit: Unit
    card: bool = True


class Images(msgspec.Struct, frozen=True):
    """The images of a run: total, those in the scores, and those that could not be read.

    Counts are None if only a table of results was given. ``objects`` is the number of ground-truth
    objects; ``unanswered`` images count as wrong.
    """

    total: Count | None
    used: Count | None
    broken: tuple[BrokenImage, ...] = ()
    objects: Count | None = None
    unanswered: tuple[Unanswered, ...] = ()


class Unanswered(msgspec.Struct, frozen=True):
    """Number of images of one cell for which a model returned NaN."""

    model: str
    corruption: str
    severity: Annotated[int, Meta(ge=0)]
    images: Count

    @property
    def cell(self) -> Cell:
        """The cell."""
        return Cell(self.corruption, self.severity)


class Grid(msgspec.Struct, frozen=True):
    """The grid of a run.

    Attributes:
        corruptions: in the order of the grid.
        severities: ascending.
        complete: whether it is the whole benchmark, 15 corruptions at five severities.
        claim: title of the benchmark's headline, "mCE" or "mPC"; None without one.
        reason: why that is not claimed; None if it is.
        missing: names of missing cells.
    """

    corruptions: tuple[str, ...]
    severities: tuple[Count, ...]
    complete: bool
    claim: str | None = None
    reason: str | None = None
    missing: tuple[str, ...] = ()


class CellFigures(msgspec.Struct, frozen=True):
    """The scores of one model in one cell.

    Attributes:
        figures: value by name of the measure; None if undefined.
        numbers: further values without an interval.
        images: number of images that count.
    """

    figures: dict[str, Interval | None] = {}
    numbers: dict[str, float | None] = {}
    images: Count | None = None


class GridCell(CellFigures, frozen=True, kw_only=True):
    """A cell of the grid with its figures."""

    corruption: str
    severity: Annotated[int, Meta(ge=0)]

    @property
    def cell(self) -> Cell:
        """The cell."""
        return Cell(self.corruption, self.severity)


class CorruptionFigures(msgspec.Struct, frozen=True):
    """A corruption averaged over its severities, for the first measure and those that a task adds."""

    corruption: str
    figures: dict[str, Interval | None]
    group: str = "other"


class GroupFigures(msgspec.Struct, frozen=True):
    """The mean over a whole group of corruptions."""

    group: str
    figures: dict[str, Interval | None]


class ModelScores(msgspec.Struct, frozen=True):
    """All scores of one model, or of a difference: then ``against`` is the subtracted model.

    ``detail`` is specific to the task.
    """

    name: str
    summary: dict[str, Interval | None]
    cells: tuple[GridCell, ...]
    corruptions: tuple[CorruptionFigures, ...]
    clean: CellFigures | None = None
    groups: tuple[GroupFigures, ...] = ()
    title: str = ""
    against: str | None = None
    detail: dict[str, Any] = {}

    def __post_init__(self) -> None:
        places = [cell.cell for cell in self.cells]
        if len(set(places)) < len(places):
            raise ValueError("one entry per corruption and severity")

    def of_clean(self, measure: str) -> Interval | None:
        """Return a measure on the clean images."""
        return None if self.clean is None else self.clean.figures.get(measure)

    def of_cells(self, measure: str) -> dict[Cell, Interval]:
        """Return a measure in each cell in which it is defined."""
        figures = ((cell.cell, cell.figures.get(measure)) for cell in self.cells)
        return {cell: figure for cell, figure in figures if figure is not None}

    def of_corruptions(self, measure: str) -> dict[str, Interval]:
        """Return a measure of each corruption over its severities."""
        figures = ((one.corruption, one.figures.get(measure)) for one in self.corruptions)
        return {name: figure for name, figure in figures if figure is not None}

    def of_groups(self, measure: str) -> dict[str, Interval]:
        """Return a measure of each group of corruptions."""
        figures = ((one.group, one.figures.get(measure)) for one in self.groups)
        return {name: figure for name, figure in figures if figure is not None}


class GridScores(TidyScores, frozen=True):
    """The content of ``scores.json``.

    ``measures`` are measured in the cells; charts show the first. ``ranking`` needs at least two
    models; None for one, and in files of earlier versions. ``upgrades`` convert older formats.
    """

    upgrades: ClassVar[Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]]] = UPGRADES

    format: int
    kind: str
    measures: tuple[Measure, ...]
    headlines: tuple[Headline, ...]
    interval: Resampling
    images: Images
    grid: Grid
    models: tuple[ModelScores, ...]
    differences: tuple[ModelScores, ...]
    ranking: Ranking | None = None

    def __post_init__(self) -> None:
        for name, entries in (("measures", self.measures), ("models", self.models)):
            if not entries:
                raise ValueError(f"at least one of them{AT}{name}")
        check_differences(self.models, self.differences)
        self._check_ranking([model.name for model in self.models])
        _check_ranges(self.measures, self.models, differences=False)
        _check_ranges(self.measures, self.differences, differences=True)

    def _check_ranking(self, names: Sequence[str]) -> None:
        """Check that the ranking is by a headline and of these models."""
        if self.ranking is None:
            return
        if self.ranking.headline not in {one.name for one in self.headlines}:
            raise ValueError(f"the name of a headline{AT}ranking.headline")
        for index, place in enumerate(self.ranking.places):
            if place.name not in names:
                raise ValueError(f"the name of a model{AT}ranking.places[{index}].name")

    def rows(self) -> Iterator[Row]:
        """Yield a row per figure: of models and differences (``against``), ``over`` a headline, a
        corruption, a group or a cell; the clean cell is the corruption "clean" of severity 0.
        """
        for model in (*self.models, *self.differences):
            yield from _list_rows(model)

    @property
    def headline(self) -> Headline | None:
        """The main headline: the benchmark's own if it is claimed, else the mean."""
        claimed = self.grid.claim if self.grid.reason is None else None
        return find_headline(self.headlines, claimed)

    @property
    def measure(self) -> Measure:
        """The measure shown in charts of the grid."""
        return self.measures[0]

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The corruptions of the run, in the order of the grid."""
        return self.grid.corruptions

    @property
    def severities(self) -> tuple[int, ...]:
        """The severities of the run, ascending."""
        return self.grid.severities

    @property
    def used(self) -> int | None:
        """Number of images in the scores."""
        return self.images.used

    @property
    def resampled(self) -> bool:
        """Whether any value has an interval."""
        return any(
            figure is not None and not figure.bare
            for model in self.models
            for figure in (*model.summary.values(), model.of_clean(self.measure.name))
        )

    def groups(self) -> dict[str, list[str]]:
        """Return the corruptions that were run, by group, in the benchmark's order."""
        group_by_name = {
            one.corruption: one.group for model in self.models for one in model.corruptions
        }
        groups: dict[str, list[str]] = {}
        for name in self.corruptions:
            groups.setdefault(group_by_name.get(name, "other"), []).append(name)
        known = [group for group in FAMILIES if group in groups]
        return {group: groups[group] for group in dict.fromkeys([*known, *groups])}

    def list_cells(self) -> list[Cell]:
        """Return the cells of the run, the clean one first."""
        first = self.models[0]
        clean = [CLEAN] if first.clean is not None else []
        return [*clean, *(figures.cell for figures in first.cells)]

    def list_cell_figures(self, model: ModelScores) -> list[tuple[str, int, CellFigures]]:
        """Return a model's scores by cell, the clean cell first, in the order of the grid."""
        order = {name: index for index, name in enumerate(self.corruptions)}
        cells = sorted(
            model.cells, key=lambda one: (order.get(one.corruption, len(order)), one.cell)
        )
        return [
            ("clean", 0, model.clean or CellFigures()),
            *((one.corruption, one.severity, one) for one in cells),
        ]


def _list_rows(model: ModelScores) -> Iterator[Row]:
    def row(
        over: str, name: str | None, severity: int | None, measure: str, figure: Interval | None
    ) -> Row:
        return {
            "model": model.name, "against": model.against, "over": over, "corruption": name,
            "severity": severity, "measure": measure, **list_columns(figure),
        }  # fmt: skip

    for name, figure in model.summary.items():
        yield row("headline", None, None, name, figure)
    for group in model.groups:
        for name, figure in group.figures.items():
            yield row("group", group.group, None, name, figure)
    for corruption in model.corruptions:
        for name, figure in corruption.figures.items():
            yield row("corruption", corruption.corruption, None, name, figure)
    for name, figure in (model.clean.figures if model.clean else {}).items():
        yield row("cell", "clean", 0, name, figure)
    for cell in model.cells:
        for name, figure in cell.figures.items():
            yield row("cell", cell.corruption, cell.severity, name, figure)


def find_headline(headlines: Sequence[Headline], claimed: str | None) -> Headline | None:
    """Return the main headline of models.

    Args:
        headlines: headlines of the run.
        claimed: title of the benchmark's headline, such as "mCE"; None if it is not claimed.

    Returns:
        The claimed one, else the mean over the grid, else any under corruption, else the clean one.
    """
    candidates = (
        [one for one in headlines if claimed is not None and one.title == claimed],
        [one for one in headlines if one.name == "mean"],
        [one for one in headlines if one.name != "clean"],
        headlines,
    )
    return next((matches[0] for matches in candidates if matches), None)


def _check_ranges(
    measures: Sequence[Measure], models: Sequence[ModelScores], *, differences: bool
) -> None:
    """Check that values are within their limits, for example no percentages given for shares.

    The bounds of an interval are corrected for bias, and may exceed the limits slightly.
    """
    key = "differences" if differences else "models"
    for measure in measures:
        high = measure.high
        low = (None if high is None else -high) if differences else measure.low
        for place, figure in _list_figures(measure.name, key, models):
            if is_outside(figure.value, low, high):
                raise ValueError(f"{describe_range(low, high)}{AT}{place}.value")


def _list_figures(
    measure: str, key: str, models: Sequence[ModelScores]
) -> Iterator[tuple[str, Interval]]:
    """Yield every value of a measure with its place in the file."""
    for index, model in enumerate(models):
        lists: list[tuple[str, Sequence[CellFigures | CorruptionFigures]]] = [
            ("cells", model.cells),
            ("corruptions", model.corruptions),
        ]
        if model.clean is not None and (figure := model.clean.figures.get(measure)) is not None:
            yield f"{key}[{index}].clean.figures.{measure}", figure
        for name, rows in lists:
            for number, row in enumerate(rows):
                if (figure := row.figures.get(measure)) is not None:
                    yield f"{key}[{index}].{name}[{number}].figures.{measure}", figure
