"""The tables of a run of detectors: its summary, and every cell."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.report import detection_wording, wording
from shiftproof.report.detection_scores import Scored, Scores
from shiftproof.report.run_folder import every_cell
from shiftproof.report.table_writing import Column, Row, Table, csv_text, ends


def summary(scores: Scores) -> Table:
    """Return the clean images, each corruption over its severities, the groups, mPC and rPC.

    Where the grid is not the whole one, the mean over what was run stands in the place of mPC, under
    its own name. Rows without any figure are left out; the columns are every model, then every
    difference.
    """
    scored = [*scores.models, *scores.differences]
    level = detection_wording.level(scores)
    basis = f"{level} intervals from a bootstrap over {scores.used} images" if level else ""
    return Table(
        columns=tuple(Column(one.name, one.against) for one in scored),
        rows=tuple(row for row in _rows(scores, scored) if any(row.figures)),
        caption="; ".join(
            part
            for part in (
                f"{scores.measure_title} in %, {wording.severities_phrase(scores.severities)}",
                basis,
                "differences in percentage points" if scores.differences else "",
            )
            if part
        )
        + ".",
        notes=tuple(_notes(scores, level)),
    )


def _rows(scores: Scores, scored: Sequence[Scored]) -> list[Row]:
    measure = scores.measure
    clean = tuple(one.clean.p or one.summary.clean for one in scored)
    rows = [Row("clean", "clean", "Clean", "", measure, clean)]
    for group, names in scores.groups().items():
        for name in names:
            figures = tuple(one.corruptions.get(name) for one in scored)
            title = wording.corruption_title(name)
            rows.append(Row("corruption", name, title, group, measure, figures))
    for group in scores.groups():
        title = f"Mean over {wording.group_title(group).lower()}"
        figures = tuple(one.groups.get(group) for one in scored)
        rows.append(Row("group", f"mean_{group}", title, "", measure, figures))
    for name, title, whole in (
        ("mpc", "mPC", True),
        ("mean", "Mean over corruptions", False),
        ("rpc", "rPC", True),
        ("relative", "Share that is kept", False),
    ):
        # With the whole grid both names stand for one figure: it is shown once.
        if whole == scores.complete:
            figures = tuple(getattr(one.summary, name) for one in scored)
            rows.append(Row("summary", name, title, "", name, figures))
    return rows


def _notes(scores: Scores, level: str) -> list[str]:
    what = [f"{scores.measure_title} in %"]
    if scores.used is not None:
        what.append(wording.plural(scores.used, "image"))
    if scores.objects is not None:
        what.append(wording.plural(scores.objects, "object"))
    what.append(wording.severities_phrase(scores.severities))
    what.append(f"{level} intervals" if level else "no intervals: there are no images to resample")
    notes = [", ".join(what)]
    if scores.mpc_reason:
        notes.append(f"no mPC: {scores.mpc_reason}")
    if scores.broken:
        notes.append(
            f"{wording.plural(len(scores.broken), 'broken file')} left out, see the report"
        )
    if scores.used is not None and scores.used < wording.FEW_IMAGES:
        notes.append("few images: the intervals are wide, mind them")
    return notes


def cells_csv(scores: Scores) -> str:
    """Return every cell of every model as CSV: one line per cell, all numbers as fractions."""
    numbers = number_names([scores])
    head: list[object] = ["model", "against", "corruption", "severity"]
    head += [scores.measure, f"{scores.measure}_low", f"{scores.measure}_high", *numbers]
    lines = [head]
    for scored in (*scores.models, *scores.differences):
        for corruption, severity, figures in every_cell(
            scores.corruptions, scored.clean, scored.cells
        ):
            line: list[object] = [scored.name, scored.against or "", corruption, severity]
            line += ends(figures.p)
            values = [figures.numbers.get(name) for name in numbers]
            line += ["" if value is None else value for value in values]
            lines.append(line)
    return csv_text(lines)


def number_names(all_scores: Sequence[Scores]) -> list[str]:
    """Return the names of all numbers beside P, in the order of the files."""
    found: dict[str, None] = {}
    for scores in all_scores:
        for model in scores.models:
            for figures in (model.clean, *model.cells.values()):
                found |= dict.fromkeys(figures.numbers)
    return [name for name in found if name not in {scores.measure for scores in all_scores}]
