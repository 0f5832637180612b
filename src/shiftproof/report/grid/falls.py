"""Sections of figures that fall from clean to corrupted images: by class, by size, by condition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry
from shiftproof.report.grid.sections import list_dots
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.runs.scores.detection import Fall
from shiftproof.runs.scores.segmentation import RangedFall, Ranges

MOST_OPEN = 25
"""Rows that are listed openly, the others to be unfolded."""

MOST_LISTED = 1500
"""A longer list would make a page that no browser likes; the run's files have the rest."""


@dataclass(frozen=True)
class FallRow:
    """A class, size or condition: what is counted of it, and the fall of each model."""

    title: str
    falls: Sequence[Fall | None]
    counts: Sequence[str] = ()


def falls_section(
    anchor: str,
    title: str,
    short: str,
    entries: Sequence[Entry],
    rows: Sequence[FallRow],
    *,
    words: Sequence[str],
    first: str,
    counted: Sequence[str] = (),
) -> Section:
    """Build the rows with a drawing, and for each model the figures and the change.

    ``first`` is the heading of the rows' titles, ``counted`` those of their counts.
    """
    drawn = [_draw(entries, row) for row in rows[:MOST_LISTED]]
    context = {
        "words": words, "first": first, "counted": counted, "entries": list_dots(entries),
        "axis": charts.axis(1.0), "rows": drawn[:MOST_OPEN], "folded": drawn[MOST_OPEN:],
    }  # fmt: skip
    return Section(anchor, title, short, "falls.html.j2", context)


def _draw(entries: Sequence[Entry], row: FallRow) -> dict[str, object]:
    falls = [fall or Fall() for fall in row.falls]
    drawn = [(e.look, fall.clean, fall.mean) for e, fall in zip(entries, falls, strict=True)]
    return {
        "title": row.title,
        "counts": row.counts,
        "chart": charts.falls(drawn, title=row.title, top=1.0),
        "falls": [_spell(fall) for fall in falls],
    }


def _spell(fall: Fall) -> dict[str, object]:
    ranges = fall.ranges if isinstance(fall, RangedFall) else Ranges()
    return {
        "clean": wording.percent(fall.clean),
        "mean": wording.percent(fall.mean),
        "span": wording.span(ranges.mean),
        "change": wording.points(None if fall.lost is None else -fall.lost),
        "change_span": _change_span(ranges.lost),
        "sure": ranges.lost is not None and not ranges.lost.spans_zero,
    }


def _change_span(lost: Interval | None) -> str:
    """Return the interval of a change, the negative of the loss."""
    if lost is None or lost.bare:
        return ""
    return wording.SHARES.change_span(Interval(-lost.value, -lost.upper, -lost.lower))


def describe_ranges(falls: Iterable[Fall | None]) -> str:
    """Describe the small figures, which falls without intervals do not have."""
    if not any(isinstance(one, RangedFall) and one.ranges.mean is not None for one in falls):
        return "These figures have no intervals."
    return (
        "The small figures are intervals over images, of the corrupted figure and of the change; a "
        "change in bold has one that leaves out 0."
    )
