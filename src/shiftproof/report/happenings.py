"""What the adapters told of themselves on the way, as a section of the page."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.report import wording
from shiftproof.report.run_folder import Happening
from shiftproof.report.sections import AnyEntry, Section

FIRST = 3
"""How many of a kind are told in full; the run's folder has more."""


def happenings_section(shown: Sequence[AnyEntry]) -> Section | None:
    """Build the section: counts per model and kind, and the first few; None where nothing happened."""
    rows = [
        {
            "model": entry.label,
            "kind": kind,
            "count": f"{_count(found):,}",
            "first": [f"{_place(one)}: {one.reason}" for one in found[:FIRST]],
            "more": _more(found),
        }
        for entry in shown
        for kind, found in _by_kind(entry).items()
    ]
    if not rows:
        return None
    return Section(
        "happenings", "What happened on the way", "Events", "happenings.html.j2", {"rows": rows}
    )


def _by_kind(entry: AnyEntry) -> dict[str, list[Happening]]:
    found: dict[str, list[Happening]] = {}
    for one in entry.run.happenings:
        if one.model == entry.scored.name:
            found.setdefault(one.kind, []).append(one)
    return found


def _count(found: Sequence[Happening]) -> int:
    return sum(one.count for one in found)


def _more(found: Sequence[Happening]) -> str | None:
    """Say how many more there are than are told, and how many of them the run's folder has."""
    more = _count(found) - _count(found[:FIRST])
    if not more:
        return None
    counted = [one for one in found if one.count > 1]
    if not counted:
        return f"and {more:,} more, in the run's folder"
    single = len(found) - len(counted)
    return f"and {more:,} more; the run's folder tells of {single:,} and counts the others"


def _place(one: Happening) -> str:
    if one.cell is not None:
        where = wording.cell_title(one.cell)
    elif one.episode == "all":
        where = "All corruptions, mixed"
    else:
        where = f"{wording.corruption_title(one.episode)}, mixed"
    again = f", pass {one.number + 1}" if one.number else ""
    return f"{where}{again}, batch {one.batch + 1}"
