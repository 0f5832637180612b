"""Sections on drops from clean to corrupted images: by class, size or condition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry
from shiftproof.report.grid.sections import list_dots
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.runs.scores.detection import Drop
from shiftproof.runs.scores.segmentation import DropWithIntervals, Ranges

MAX_OPEN = 25
"""Number of rows shown; further rows are collapsed."""

MAX_LISTED = 1500
"""Maximum number of rows, to limit the page size; the run's files have all."""


@dataclass(frozen=True)
class DropRow:
    """A class, size or condition: its counts, and the drop of each model."""

    title: str
    drops: Sequence[Drop | None]
    counts: Sequence[str] = ()


def build_drops_section(
    anchor: str,
    title: str,
    short: str,
    entries: Sequence[Entry],
    rows: Sequence[DropRow],
    *,
    words: Sequence[str],
    first: str,
    counted: Sequence[str] = (),
) -> Section:
    """Build the rows with a drawing, and for each model the figures and the change.

    ``first`` is the heading of the rows' titles, ``counted`` those of their counts.
    """
    drawn = [_draw(entries, row) for row in rows[:MAX_LISTED]]
    context = {
        "words": words, "first": first, "counted": counted, "entries": list_dots(entries),
        "axis": charts.draw_axis(1.0), "rows": drawn[:MAX_OPEN], "folded": drawn[MAX_OPEN:],
    }  # fmt: skip
    return Section(anchor, title, short, "drops.html.j2", context)


def _draw(entries: Sequence[Entry], row: DropRow) -> dict[str, object]:
    drops = [drop or Drop() for drop in row.drops]
    drawn = [(e.series, drop.clean, drop.mean) for e, drop in zip(entries, drops, strict=True)]
    return {
        "title": row.title,
        "counts": row.counts,
        "chart": charts.draw_drops(drawn, title=row.title, top=1.0),
        "drops": [_spell(drop) for drop in drops],
    }


def _spell(drop: Drop) -> dict[str, object]:
    ranges = drop.ranges if isinstance(drop, DropWithIntervals) else Ranges()
    return {
        "clean": wording.percent(drop.clean),
        "mean": wording.percent(drop.mean),
        "span": wording.span(ranges.mean),
        "change": wording.points(None if drop.lost is None else -drop.lost),
        "change_span": _make_change_span(ranges.lost),
        "sure": ranges.lost is not None and not ranges.lost.spans_zero,
    }


def _make_change_span(lost: Interval | None) -> str:
    """Return the interval of a change, the negative of the loss."""
    if lost is None or lost.bare:
        return ""
    return wording.SHARES.change_span(Interval(-lost.value, -lost.upper, -lost.lower))


def describe_ranges(drops: Iterable[Drop | None]) -> str:
    """Describe the small figures; drops without intervals have none."""
    if not any(isinstance(one, DropWithIntervals) and one.ranges.mean is not None for one in drops):
        return "These figures have no intervals."
    return (
        "The small figures are intervals over images, for the corrupted figure and for the change. A "
        "change is bold if its interval excludes 0."
    )
