"""The tables of breaking points: mean severities, and the corresponding errors."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.table_writing import Column, Row, Table, ends, write_csv
from shiftproof.report.wording import NUMBERS, SHARES, NumberFormat
from shiftproof.runs.resamples import find_group
from shiftproof.runs.scores.breaking import BreakingScores, ModelBreaking


def summarize(scores: BreakingScores) -> Table:
    """Return the mean breaking severity over and under each corruption, and the errors that it means."""
    scored = [*scores.models, *scores.differences]
    rows = [
        _make_row(
            "summary",
            "severity",
            "Breaking severity",
            [one.severity for one in scored],
            NUMBERS,
        ),
        _make_row("summary", "clean", "Clean error", [one.clean for one in scored], SHARES),
        _make_row("summary", "error", "Error it means", [one.error for one in scored], SHARES),
    ]
    if scores.reason is None:
        rows.append(
            _make_row("summary", "mce", "mCE it means", [one.mce for one in scored], SHARES)
        )
    rows += [
        _make_row(
            "corruption", name, wording.corruption_title(name),
            [one.corruptions[place].severity for one in scored], NUMBERS,
        )
        for place, name in enumerate(scores.corruptions)
    ]  # fmt: skip
    level = wording.level(scores.interval.level)
    notes = [
        f"severities from 0 (wrong clean) to 5 (never broken), errors in %, {level} intervals over "
        "images",
        describe_recovered(scores.models[0]),
    ]
    if scores.images.broken:
        notes.append(
            f"{wording.pluralize(len(scores.images.broken), 'broken file')} left out, see the report"
        )
    return Table(
        columns=tuple(Column(one.name, one.against) for one in scored),
        rows=tuple(rows),
        caption=f"Mean breaking severity, 0 to 5, and errors in %, {level} intervals over images.",
        notes=tuple(notes),
        number_format=NUMBERS,
    )


def _make_row(
    kind: str,
    name: str,
    title: str,
    figures: Sequence[Interval | None],
    number_format: NumberFormat,
) -> Row:
    group = find_group(name) if kind == "corruption" else ""
    measure = "severity" if number_format is NUMBERS else "share"
    return Row(kind, name, title, group, measure, tuple(figures), number_format)


def describe_recovered(model: ModelBreaking) -> str:
    """Say how often an answer came back beyond its breaking point."""
    if not model.checked:
        return "No answer broke that could be asked once more beyond its breaking point."
    return (
        f"Of {wording.pluralize(model.checked, 'answer that was', 'answers that were')} asked once more "
        f"beyond {'its' if model.checked == 1 else 'their'} breaking point, "
        f"{model.recovered:,} ({model.recovered / model.checked:.1%}) "
        f"{'was' if model.recovered == 1 else 'were'} right again."
    )


def write_figures(scores: BreakingScores) -> str:
    """Return every figure as CSV: of each corruption the mean severity, and the share right by level."""
    lines: list[list[object]] = [
        ["model", "against", "corruption", "measure", "severity", "value", "low", "high"]
    ]
    for model in (*scores.models, *scores.differences):
        for one in model.corruptions:
            front = [model.name, model.against or "", one.corruption]
            lines.append([*front, "breaking severity", "", *ends(one.severity)])
            lines.append([*front, "survived", "", *ends(one.survived)])
            lines += [
                [*front, "right", round(level, 6), *ends(figure)]
                for level, figure in zip((0.0, *scores.levels), one.curve, strict=False)
            ]
    return write_csv(lines)
