"""Differences between models: by corruption, effective robustness, and gains of each change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid import figures
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.grid.sections import Grid
from shiftproof.report.listing import Chart, Item, Listing, build_section, write_change
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.report.svg.charts import ScatterPoint, Trace
from shiftproof.report.svg.markup import Html
from shiftproof.report.wording import SHARES, NumberFormat

MIN_FOR_A_LINE = 3
"""Minimum number of models for a fit, since a line passes exactly through two."""

MIN_REACH = 0.02
"""Minimum range of the clean scores for a meaningful fit."""

# ---------------------------------------------------------------- corruptions that separate


@dataclass(frozen=True)
class _Spread:
    """A corruption with all models' scores, the best first."""

    name: str
    found: Sequence[tuple[Entry, Interval]]

    @property
    def reach(self) -> float:
        """Range from the best to the worst."""
        return abs(self.found[-1][1].value - self.found[0][1].value)


def _name_ends(spread: _Spread, number_format: NumberFormat) -> list[Item]:
    """Return the cells of the best and the worst model; if all are equal, none is either."""
    best, worst = spread.found[0], spread.found[-1]
    if spread.reach == 0:
        return [Item(f"all {number_format.figure(best[1].value)}"), Item(wording.NONE)]
    return [
        Item(f"{entry.label} {number_format.figure(figure.value)}")
        for entry, figure in (best, worst)
    ]


def build_separation_section(grid: Grid) -> Section | None:
    """Build the corruptions sorted by the range of the models' scores; None for one model."""
    spreads = _list_spreads(grid)
    if not spreads:
        return None
    number_format = grid.number_format
    low, top = charts.choose_axis_range(
        (one for spread in spreads for _, one in spread.found), number_format
    )
    heads = [("Corruption", False), ("Best", False), ("Worst", False),
             (f"Range{number_format.short_phrase}", True), ("Significant", False),
             ("All", False)]  # fmt: skip
    rows = [
        [
            Item(wording.corruption_title(spread.name)),
            *_name_ends(spread, number_format),
            Item(number_format.figure(spread.reach)),
            Item(_describe_significance(grid.shown, spread)),
            Item("", drawn=_draw_spread(spread, grid, low, top)),
        ]
        for spread in spreads
    ]
    first, last = spreads[0], spreads[-1]
    return build_section(
        "separation",
        "Which corruptions separate the models",
        "What separates",
        words=[
            f"The {grid.measure} of the models differs most under "
            f"{_make_title(first)} ({number_format.figure(first.reach)}{number_format.points}) and least "
            f"under {_make_title(last)} ({number_format.figure(last.reach)}{number_format.points}).",
            "Significant means that the paired interval of the difference between best and worst "
            "excludes 0. Without a paired interval, it means that the intervals of the two models do "
            "not overlap.",
        ],
        legend=figures.make_legend(grid.shown.entries, spell=grid.spell),
        tables=[Listing("", heads, rows)],
    )


def _list_spreads(grid: Grid) -> list[_Spread]:
    entries = grid.shown.entries
    sign = 1 if grid.lower_is_better else -1
    found = []
    for name in itertools.chain.from_iterable(figures.group_corruptions(grid.columns).values()):
        known = [
            (entry, column.corruptions[name])
            for entry, column in zip(entries, grid.columns, strict=True)
            if name in column.corruptions
        ]
        if len(known) > 1:
            found.append(_Spread(name, sorted(known, key=lambda one: sign * one[1].value)))
    return sorted(found, key=lambda spread: -spread.reach)


def _make_title(spread: _Spread) -> str:
    title = wording.corruption_title(spread.name)
    return title if title[1:2].isupper() or title.startswith("Gaussian") else title.lower()


def _describe_significance(shown: PageContent, spread: _Spread) -> str:
    (best, upper), (worst, lower) = spread.found[0], spread.found[-1]
    for change in shown.changes:
        if {change.entry.label, change.against.label} == {best.label, worst.label}:
            moved = change.scored.of_corruptions(shown.measure).get(spread.name)
            if moved is not None and not moved.bare:
                return "no" if moved.spans_zero else "yes"
    if upper.bare or lower.bare:
        return wording.NONE
    meet = upper.lower <= lower.upper and lower.lower <= upper.upper
    return "unknown" if meet else "yes"


def _draw_spread(spread: _Spread, grid: Grid, low: float, top: float) -> Html:
    told = "; ".join(
        f"{entry.label} {grid.number_format.with_span(figure)}" for entry, figure in spread.found
    )
    rows = [(entry.series, figure) for entry, figure in spread.found]
    title = f"{wording.corruption_title(spread.name)}: {told}"
    return charts.draw_dots(rows, title=title, top=top, low=low, number_format=grid.number_format)


# ---------------------------------------------------------------- clean against corrupted


@dataclass(frozen=True)
class _Standing:
    """A model's clean and corrupted accuracy, or performance, as shares."""

    entry: Entry
    clean: float
    corrupted: float


def build_robustness_section(grid: Grid) -> Section | None:
    """Build clean against corrupted scores, and effective robustness relative to unadapted models.

    Effective robustness (Taori et al. 2020, "Measuring Robustness to Natural Distribution Shifts in
    Image Classification", section 2) is the accuracy under shift minus the one predicted from clean
    accuracy by a linear fit over models, on logits of both accuracies. None with fewer than two
    models with both scores, or if the scores are no shares.
    """
    standings = _list_standings(grid)
    if len(standings) < 2 or grid.number_format is not SHARES:
        return None
    what = "accuracy" if grid.lower_is_better else grid.measure
    plain = [one for one in standings if one.entry.adapter is None]
    line = fit_line([(one.clean, one.corrupted) for one in plain])
    top = charts.choose_top(max(max(one.clean, one.corrupted) for one in standings))
    heads = [("Model", False), (f"Clean {what}, %", True), ("Under corruption, %", True),
             ("Lost, points", True)]  # fmt: skip
    if line is not None:
        heads += [("Expected, %", True), ("Effective robustness, points", True)]
    ordered = sorted(standings, key=lambda one: _beyond(one, line), reverse=True)
    return build_section(
        "robustness",
        "Clean against corrupted",
        "Clean and robust",
        words=_describe_line(line is not None, len(plain), what),
        legend=figures.make_legend(grid.shown.entries, spell=grid.spell),
        charts=[Chart(_draw_standings(standings, line, top, what))],
        tables=[Listing("", heads, [_make_standing_row(one, line) for one in ordered])],
    )


def _beyond(one: _Standing, line: Line | None) -> float:
    """Return the sort key: effective robustness, or without a fit the corrupted score."""
    expected = 0.0 if line is None else line(one.clean)
    return -1.0 if expected is None else one.corrupted - expected


def _list_standings(grid: Grid) -> list[_Standing]:
    found = []
    for entry, column in zip(grid.shown.entries, grid.columns, strict=True):
        if column.clean is not None and column.mean is not None:
            clean, mean = column.clean.value, column.mean.value
            if grid.lower_is_better:
                clean, mean = 1 - clean, 1 - mean
            found.append(_Standing(entry, clean, mean))
    return found


@dataclass(frozen=True)
class Line:
    """The fit from clean share to expected share under shift, within the range of the models.

    Attributes:
        expect: the expected share.
        low: lower end of the valid clean shares: the models' minimum minus half of their range.
        high: upper end of the valid clean shares.
    """

    expect: Callable[[float], float]
    low: float
    high: float

    def __call__(self, clean: float) -> float | None:
        """Return the expected share; None outside the valid range."""
        return self.expect(clean) if self.low <= clean <= self.high else None


def fit_line(points: Sequence[tuple[float, float]]) -> Line | None:
    """Fit the share under shift to the clean share: linear in logits, by least squares.

    Args:
        points: clean share and share under shift of each model.

    Returns:
        None if fewer than ``MIN_FOR_A_LINE`` models have shares between 0 and 1, or the range of
        their clean shares is below ``MIN_REACH``.
    """
    within = [(x, y) for x, y in points if 0 < x < 1 and 0 < y < 1]
    reach = max((x for x, _ in within), default=0) - min((x for x, _ in within), default=0)
    if len(within) < MIN_FOR_A_LINE or reach < MIN_REACH:
        return None
    across, upward = (np.array([_logit(one) for one in side]) for side in zip(*within, strict=True))
    slope, height = np.polyfit(across, upward, 1)

    def expect(clean: float) -> float:
        bounded = min(max(clean, 1e-6), 1 - 1e-6)
        return 1 / (1 + math.exp(-(slope * _logit(bounded) + height)))

    clean = [x for x, _ in within]
    return Line(expect, min(clean) - reach / 2, max(clean) + reach / 2)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _describe_line(has_line: bool, plain: int, what: str) -> list[str]:
    if not has_line:
        return [
            f"Models with a better clean {what} are usually better under corruption too. Effective "
            "robustness is the difference from a fit to at least three models without adapters (Taori "
            f"et al. 2020). It cannot be computed: here {_count_plain(plain)}. The dashed line means no "
            "loss."
        ]
    return [
        f"The line is the expected performance for a clean {what}: a linear fit between the logits of "
        f"both, to the {plain} models without adapters. The difference from it is the effective "
        "robustness (Taori et al. 2020). The dashed line means no loss.",
        f"A fit to {plain} models depends on each of them, so small differences mean little.",
    ]


def _count_plain(plain: int) -> str:
    if plain >= MIN_FOR_A_LINE:
        return f"their clean figures lie within {100 * MIN_REACH:g} points, too few for a fit"
    return f"{'is' if plain == 1 else 'are'} {plain}"


def _make_standing_row(one: _Standing, line: Line | None) -> list[Item]:
    row = [
        Item(one.entry.label, drawn=charts.draw_dot(one.entry.series)),
        Item(wording.percent(one.clean)),
        Item(wording.percent(one.corrupted)),
        Item(wording.percent(one.clean - one.corrupted)),
    ]
    if line is None:
        return row
    expected = line(one.clean)
    if expected is None:
        return [
            *row,
            Item(wording.NONE),
            Item(wording.NONE, title="outside the range of the models without adapters"),
        ]
    return [*row, Item(wording.percent(expected)), Item(wording.points(one.corrupted - expected))]


def _draw_standings(
    standings: Sequence[_Standing],
    line: Line | None,
    top: float,
    what: str,
) -> Html:
    spots = [
        ScatterPoint(
            one.entry.series, one.clean, one.corrupted,
            f"{one.entry.label}: {wording.share(one.clean)} clean, "
            f"{wording.share(one.corrupted)} under corruption",
        )
        for one in standings
    ]  # fmt: skip
    traces = [] if line is None else [Trace(_follow(line))]
    told = "; ".join(spot.tooltip for spot in spots)
    return charts.draw_scatter(
        spots,
        title=f"Clean against corrupted {what}. {told}",
        across=f"clean {what}, %",
        upward="under corruption, %",
        top=top,
        traces=traces,
    )


def _follow(line: Line) -> list[tuple[float, float]]:
    low, high = max(line.low, 0.0), min(line.high, 1.0)
    steps = [low + (high - low) * step / 30 for step in range(31)]
    return [(x, line.expect(x)) for x in steps]


# ---------------------------------------------------------------- gains


def build_gains_section(grid: Grid) -> Section | None:
    """Build the gains of each change by corruption, largest first; None without changes."""
    changes = grid.shown.changes
    if not changes:
        return None
    moves = {change.label: change.scored.of_corruptions(grid.measure) for change in changes}
    names = list(dict.fromkeys(name for found in moves.values() for name in found))
    sign = 1 if grid.lower_is_better else -1
    first = next(iter(moves.values()))
    names.sort(key=lambda name: sign * first[name].value if name in first else math.inf)
    reach = figures.find_reach(grid.differences, grid.number_format)
    heads = [("Corruption", False), *((label, True) for label in moves)]
    rows = [
        [
            Item(wording.corruption_title(name)),
            *(_paint_move(found.get(name), name, reach, grid) for found in moves.values()),
        ]
        for name in names
    ]
    means = [change.scored.summary.get("mean") for change in changes]
    rows.append([Item("Mean"), *(write_change(grid.number_format, one) for one in means)])
    return build_section(
        "gains",
        "What each change gains, corruption by corruption",
        "Gains",
        words=[
            f"The {grid.measure} with the change minus that without it{grid.number_format.phrase}, largest "
            f"gain first. Blue is better, orange worse; bold is significant.",
            *(_describe_gains(label, found, sign) for label, found in moves.items()),
        ],
        tables=[Listing("", heads, rows, totals=frozenset({"Mean"}))],
    )


def _paint_move(move: Interval | None, name: str, reach: float, grid: Grid) -> Item:
    if move is None:
        return Item(wording.NONE)
    painted = figures.paint_difference(
        move, wording.corruption_title(name), reach,
        lower_is_better=grid.lower_is_better, number_format=grid.number_format,
    )  # fmt: skip
    return Item(
        painted["text"],
        grid.number_format.change_span(move),
        f"h {painted['style']}",
        painted["title"],
    )


def _describe_gains(label: str, found: Mapping[str, Interval], sign: int) -> str:
    """Count the corruptions with significant gains and losses of a change."""
    sure = {name: sign * one.value for name, one in found.items() if not one.spans_zero}
    parts = []
    for word, better in (("gains", True), ("loses", False)):
        names = [name for name, value in sure.items() if (value < 0) == better]
        if names:
            most = max(names, key=lambda name: abs(sure[name]))
            parts.append(
                f"{word} significantly under {len(names)} of {len(found)}, most under "
                f"{wording.corruption_title(most).lower()}"
            )
    return f"{label}: {wording.join_list(parts) or 'nothing significant'}."
