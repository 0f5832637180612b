"""The tables of a run over the grid: its summary, and every cell."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid.words import describe_level, number_format
from shiftproof.report.sections import find_single_title
from shiftproof.report.table_writing import Column, Row, Table, ends, write_csv
from shiftproof.report.wording import find_number_format
from shiftproof.runs.scores.grid import GridScores, ModelScores


def summarize(scores: GridScores) -> Table:
    """Return the clean images, each corruption over its severities, groups, and the headlines.

    Rows without any figure are left out; the columns are every model, then every difference.
    """
    scored = [*scores.models, *scores.differences]
    interval = describe_level(scores)
    form = number_format(scores)
    severities = wording.describe_severities(scores.severities)
    parts = [
        f"{wording.capitalize(_make_title(scores))}{form.short_phrase}, {severities}",
        f"{interval} intervals from a bootstrap over {wording.pluralize(scores.used or 0, 'image')}"
        if interval
        else "",
        f"differences in{form.full_points}" if scores.differences and form.full_points else "",
    ]
    return Table(
        columns=tuple(
            Column(one.name, one.against, find_single_title(scores.models, one)) for one in scored
        ),
        rows=tuple(row for row in _make_rows(scores, scored) if any(row.figures)),
        caption="; ".join(part for part in parts if part) + ".",
        notes=tuple(_make_notes(scores, interval)),
        number_format=form,
    )


def _make_title(scores: GridScores) -> str:
    """Return the full name of the measure in charts of the grid."""
    return scores.measure.title


def _make_rows(scores: GridScores, scored: Sequence[ModelScores]) -> list[Row]:
    name = scores.measure.name

    def row(kind: str, key: str, title: str, group: str, figures: list[Interval | None]) -> Row:
        return Row(kind, key, title, group, name, tuple(figures), number_format(scores))

    rows = []
    if any(one.name == "clean" for one in scores.headlines):
        clean = [one.of_clean(name) or one.summary.get("clean") for one in scored]
        rows.append(row("clean", "clean", "Clean", "", clean))
    corruptions = [one.of_corruptions(name) for one in scored]
    groups = [one.of_groups(name) for one in scored]
    for group, names in scores.groups().items():
        for corruption in names:
            figures = [found.get(corruption) for found in corruptions]
            title = wording.corruption_title(corruption)
            rows.append(row("corruption", corruption, title, group, figures))
    for group in scores.groups():
        title = f"Mean over {wording.corruption_title(group).lower()}"
        figures = [found.get(group) for found in groups]
        rows.append(row("group", f"mean_{group}", title, "", figures))
    for one in scores.headlines:
        if one.name != "clean" and one.name != "calibration_error":
            figures = [each.summary.get(one.name) for each in scored]
            title = "Mean over corruptions" if " under " in one.title else one.title
            form = find_number_format(one.unit)
            rows.append(Row("summary", one.name, title, "", one.name, tuple(figures), form))
    return rows


def _make_notes(scores: GridScores, interval: str) -> list[str]:
    what = [f"{_make_title(scores)}{number_format(scores).short_phrase}"]
    if scores.used is not None:
        what.append(wording.pluralize(scores.used, "image"))
    if scores.images.objects is not None:
        what.append(wording.pluralize(scores.images.objects, "object"))
    what.append(wording.describe_severities(scores.severities))
    why = "a single image has none" if scores.used == 1 else "there are no images to resample"
    what.append(f"{interval} intervals" if interval else f"no intervals: {why}")
    notes = [", ".join(what)]
    if scores.grid.reason:
        notes.append(f"no {scores.grid.claim}: {scores.grid.reason}")
    if scores.images.broken:
        count = wording.pluralize(len(scores.images.broken), "broken file")
        notes.append(f"{count} left out, see the report")
    notes += describe_unanswered(scores)
    if interval and scores.used is not None and scores.used < wording.FEW_IMAGES:
        notes.append("few images, so the intervals are wide")
    return notes


def describe_unanswered(scores: GridScores) -> list[str]:
    """Say of each model for how many images it gave no number, and where most."""
    found = []
    for name in dict.fromkeys(one.model for one in scores.images.unanswered):
        own = [one for one in scores.images.unanswered if one.model == name]
        most = max(own, key=lambda one: one.images)
        found.append(
            f"{name} gave NaN {sum(one.images for one in own):,} times in "
            f"{wording.pluralize(len(own), 'cell')}, which counts as wrong; most often in "
            f"{wording.title_cell(str(most.cell))}: {wording.pluralize(most.images, 'image')}"
        )
    return found


def write_cells(scores: GridScores) -> str:
    """Return every cell of every model as CSV: one line per cell, in the units of the figures."""
    measures = [measure.name for measure in scores.measures]
    numbers = number_names([scores])
    head: list[object] = ["model", "against", "corruption", "severity", "images"]
    for name in measures:
        head += [name, f"{name}_low", f"{name}_high"]
    lines = [[*head, *numbers]]
    for scored in (*scores.models, *scores.differences):
        for corruption, severity, found in scores.list_cell_figures(scored):
            line: list[object] = [scored.name, scored.against or "", corruption, severity]
            line.append("" if found.images is None else found.images)
            for name in measures:
                line += ends(found.figures.get(name))
            values = [found.numbers.get(name) for name in numbers]
            lines.append([*line, *("" if value is None else value for value in values)])
    return write_csv(lines)


def number_names(all_scores: Sequence[GridScores]) -> list[str]:
    """Return the names of all numbers that are no measures, in the order of the files."""
    found: dict[str, None] = {}
    measured: set[str] = set()
    for scores in all_scores:
        measured |= {measure.name for measure in scores.measures}
        for model in scores.models:
            for cell in (model.clean, *model.cells):
                found |= dict.fromkeys(cell.numbers if cell else ())
    return [name for name in found if name not in measured]
