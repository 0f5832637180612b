"""The tables of a run of classifiers: its summary, and every cell."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.report import wording
from shiftproof.report.reading import Interval
from shiftproof.report.run_folder import every_cell
from shiftproof.report.scores import Scored, Scores
from shiftproof.report.table_writing import Column, Row, Table, csv_text, ends

_SUMMARY_TITLES = {
    "mean_error": "Mean over corruptions",
    "mce": "mCE",
    "relative_mce": "Relative mCE",
    "rpc": "rPC",
}


def summary(scores: Scores) -> Table:
    """Return the clean images, each corruption over its severities, their mean, and the mCE.

    Rows without any figure are left out; the columns are every model, then every difference.
    """
    scored = [*scores.models, *scores.differences]
    measure = "Error" if scores.labelled else "Disagreement with the clean prediction"
    return Table(
        columns=tuple(Column(one.name, one.against) for one in scored),
        rows=tuple(row for row in _rows(scores, scored) if any(row.figures)),
        caption=(
            f"{measure} in %, {wording.severities_phrase(scores.severities)}; "
            f"{wording.level(scores)} intervals from a bootstrap over {scores.used} images"
            + ("; differences in percentage points." if scores.differences else ".")
        ),
        notes=tuple(_notes(scores)),
    )


def _rows(scores: Scores, scored: Sequence[Scored]) -> list[Row]:
    def error(one: Scored, name: str) -> Interval | None:
        score = one.corruption(name)
        return None if score is None else score.error

    clean = tuple(one.clean.error or one.summary.clean_error for one in scored)
    rows = [Row("clean", "clean", "Clean", "", scores.measure, clean)]
    for group, names in scores.groups().items():
        for name in names:
            figures = tuple(error(one, name) for one in scored)
            title = wording.corruption_title(name)
            rows.append(Row("corruption", name, title, group, scores.measure, figures))
    for name, title in _SUMMARY_TITLES.items():
        figures = tuple(getattr(one.summary, name) for one in scored)
        rows.append(Row("summary", name, title, "", name, figures))
    return rows


def _notes(scores: Scores) -> list[str]:
    what = (
        "error in %"
        if scores.labelled
        else "disagreement with the clean prediction in %: the images have no labels"
    )
    notes = [
        f"{what}, {wording.plural(scores.used, 'image')}, "
        f"{wording.severities_phrase(scores.severities)}, {wording.level(scores)} intervals"
    ]
    if scores.mce_reason and scores.labelled:
        notes.append(f"no mCE: {scores.mce_reason}")
    if scores.broken:
        notes.append(
            f"{wording.plural(len(scores.broken), 'broken file')} left out, see the report"
        )
    notes += unanswered_notes(scores)
    if scores.used < wording.FEW_IMAGES:
        notes.append("few images: the intervals are wide, mind them")
    return notes


def unanswered_notes(scores: Scores) -> list[str]:
    """Say of each model for how many images it gave no number, and where most."""
    found = []
    for name in dict.fromkeys(one.model for one in scores.unanswered):
        own = [one for one in scores.unanswered if one.model == name]
        most = max(own, key=lambda one: one.images)
        found.append(
            f"{name} gave NaN {sum(one.images for one in own):,} times in "
            f"{wording.plural(len(own), 'cell')}, which counts as wrong; most often in "
            f"{wording.cell_title(str(most.cell))}: {wording.plural(most.images, 'image')}"
        )
    return found


def cells_csv(scores: Scores) -> str:
    """Return every cell of every model as CSV: one line per cell, fractions and nats."""
    fields = ("error", "top5_error", "calibration_error", "loss")
    head: list[object] = ["model", "against", "corruption", "severity", "images"]
    for name in fields:
        head.extend([name, f"{name}_low", f"{name}_high"])
    lines = [head]
    for scored in (*scores.models, *scores.differences):
        for corruption, severity, figures in every_cell(
            scores.corruptions, scored.clean, scored.cells
        ):
            line: list[object] = [
                scored.name,
                scored.against or "",
                corruption,
                severity,
                "" if figures.images is None else figures.images,
            ]
            for name in fields:
                line.extend(ends(getattr(figures, name)))
            lines.append(line)
    return csv_text(lines)
