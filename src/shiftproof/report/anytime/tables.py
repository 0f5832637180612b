"""The tables of an anytime run: the number, its course, and the cells."""

from __future__ import annotations

from shiftproof.report import wording
from shiftproof.report.anytime.wording import describe_end
from shiftproof.report.table_writing import Column, Row, Table, ends, write_csv
from shiftproof.runs.scores.anytime import AnytimeScores


def summarize(scores: AnytimeScores) -> Table:
    """Return the number of every model and difference."""
    scored = [*scores.models, *scores.differences]
    level = wording.level(scores.interval.level)
    headline = scores.headline
    notes = [f"in %, {level} intervals, valid at every time of stopping", describe_end(scores)]
    if scores.reason is not None:
        notes.append(f"not mCE: {scores.reason}")
    broken = len(scores.images.broken)
    if broken:
        notes.append(f"{wording.pluralize(broken, 'broken file')} left out, see the report")
    return Table(
        columns=tuple(Column(one.name, one.against) for one in scored),
        rows=(
            Row(
                "summary", headline.name, headline.title, "", headline.name,
                tuple(one.figure for one in scored),
            ),
        ),
        caption=f"{headline.title} in %, {level} confidence sequences"
        + ("; differences in percentage points." if scores.differences else "."),
        notes=tuple(notes),
    )  # fmt: skip


def write_figures(scores: AnytimeScores) -> str:
    """Return CSV of the number after each block, and of each cell's images and predicted errors."""
    lines: list[list[object]] = [
        ["model", "against", "corruption", "severity", "passes", "value", "low", "high"]
    ]
    for one in (*scores.models, *scores.differences):
        for passes, figure in zip(scores.passes, one.path, strict=True):
            lines.append([one.name, one.against or "", "", "", passes, *ends(figure)])
    for cell in scores.cells:
        for name, error in cell.errors.items():
            place = [cell.corruption, cell.severity, cell.images]
            lines.append([name, "", *place, error, "", ""])
    return write_csv(lines)
