"""The table of a probe: every factor, for every encoder, control and difference between encoders."""

from __future__ import annotations

from shiftproof.report import wording
from shiftproof.report.probe import wording as probe_wording
from shiftproof.report.table_writing import Column, Row, Table, ends, write_csv
from shiftproof.runs.scores.probe import READINGS, ProbedModel, ProbeScores


def summarize(scores: ProbeScores) -> Table:
    """Return what is kept of each factor, group by group, most first."""
    names = {model.name for model in scores.encoders}
    scored = [
        *scores.models,
        *(change for change in scores.differences if change.against in names),
    ]
    first = scores.encoders[0]
    rows = [
        Row(
            group,
            factor.name,
            factor.title,
            group,
            scores.measure,
            tuple(one.factors[factor.name].beside for one in scored),
        )
        for group in scores.groups()
        for factor in probe_wording.rank(scores, first, group)
    ]
    level = wording.level(scores.interval.level)
    notes = [
        "share of each factor that is kept, in %, read by ridge regression; "
        f"{wording.pluralize(scores.used, 'image')}, "
        f"{wording.pluralize(scores.images.versions, 'version')} each; "
        f"{level} intervals",
        *(
            sentence
            for model in scores.encoders
            for sentence in probe_wording.write_findings(scores, model, model.title or model.name)
        ),
    ]
    if scores.images.broken:
        notes.append(
            f"{wording.pluralize(len(scores.images.broken), 'broken file')} left out, see the report"
        )
    if scores.used < wording.FEW_IMAGES:
        notes.append("few images, so the intervals are wide")
    return Table(
        columns=tuple(Column(one.name, one.against) for one in scored),
        rows=tuple(rows),
        caption=(
            "Share of each factor that is kept, in %, read by ridge regression beside the unchanged "
            f"image; {level} intervals from a bootstrap over {wording.pluralize(scores.used or 0, 'image')}"
            + ("; differences in percentage points." if scores.differences else ".")
        ),
        notes=tuple(notes),
    )


def write_readings(scores: ProbeScores) -> str:
    """Return every figure as CSV: one line per model, factor and reading, as fractions."""
    lines: list[list[object]] = [
        ["model", "against", "factor", "reading", "kept", "kept_low", "kept_high", "verdict"]
    ]
    for one in (*scores.models, *scores.differences):
        lines += _make_lines(scores, one)
    return write_csv(lines)


def _make_lines(scores: ProbeScores, one: ProbedModel) -> list[list[object]]:
    return [
        [
            one.name,
            one.against or "",
            factor.name,
            reading,
            *ends(getattr(one.factors[factor.name], reading)),
            one.factors[factor.name].verdict or "" if reading == "beside" else "",
        ]
        for factor in scores.factors
        for reading in READINGS
    ]
