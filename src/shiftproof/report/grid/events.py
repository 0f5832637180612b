"""The events of adapters (steps left out, resets, roll-backs), as a section of the page."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.sections import Section
from shiftproof.runs.events import ModelEvent

FIRST = 3
"""Number of events of a kind that are shown in full; the run's folder has more."""


def build_events_section(shown: PageContent) -> Section | None:
    """Build the section: counts per model and kind, and the first few events; None without
    events.
    """
    rows = [
        {
            "model": entry.label,
            "kind": kind,
            "count": f"{_count(found):,}",
            "first": [f"{_place(one)}: {one.event.reason}" for one in found[:FIRST]],
            "more": _make_more(found),
        }
        for entry in shown.entries
        for kind, found in _make_by_kind(entry).items()
    ]
    if not rows:
        return None
    return Section("events", "Events of the adapters", "Events", "events.html.j2", {"rows": rows})


def _make_by_kind(entry: Entry) -> dict[str, list[ModelEvent]]:
    found: dict[str, list[ModelEvent]] = {}
    for one in entry.run.events:
        if one.model == entry.scored.name:
            found.setdefault(one.event.kind, []).append(one)
    return found


def _count(found: Sequence[ModelEvent]) -> int:
    return sum(one.event.count for one in found)


def _make_more(found: Sequence[ModelEvent]) -> str | None:
    """Describe how many more events there are, and how many of them the run's folder has."""
    more = _count(found) - _count(found[:FIRST])
    if not more:
        return None
    single = sum(one.event.count == 1 for one in found)
    if single == len(found):
        return f"and {more:,} more, in the run's folder"
    return f"and {more:,} more; the run's folder lists {single:,} and counts the others"


def _place(one: ModelEvent) -> str:
    event = one.event
    if event.cell is not None:
        where = wording.title_cell(event.cell)
    elif one.episode == "all":
        where = "All corruptions, mixed"
    else:
        where = f"{wording.corruption_title(one.episode)}, mixed"
    again = f", pass {event.number + 1}" if event.number else ""
    return f"{where}{again}, batch {event.batch + 1}"
