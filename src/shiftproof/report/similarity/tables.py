"""The table of an audit: a column per test set."""

from __future__ import annotations

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.table_writing import Column, Row, Table, write_csv
from shiftproof.runs.scores.audit import AuditScores, TestSet

_ROWS = {
    "similarity": "Similarity to training set",
    "reference_similarity": "To reference",
    "gap": "Gap",
    "share_closer": "Share closer",
    "near_duplicates": "Near-duplicates",
    "reference_near_duplicates": "Of reference",
    "density": "Density",
}


def summarize(scores: AuditScores) -> Table:
    """Return the figures of every test set, as fractions; rows without any figure are left out."""
    rows = [
        Row("figure", name, title, "", name, tuple(getattr(each, name) for each in scores.sets))
        for name, title in _ROWS.items()
    ]
    rows.append(
        Row(
            "summary",
            "pruned",
            "Left out by pruning",
            "",
            "pruned",
            tuple(map(_share_left_out, scores.sets)),
        )
    )
    level = wording.level(scores.interval.level)
    return Table(
        columns=tuple(Column(each.name) for each in scores.sets),
        rows=tuple(row for row in rows if any(row.figures)),
        caption=f"Cosine similarities and shares in %, {level} intervals over test rows.",
        notes=(
            "similarities and shares in %, "
            f"{wording.pluralize(scores.train.rows, 'training row')}, {level} intervals over "
            "test rows",
        ),
    )


def _share_left_out(tested: TestSet) -> Interval | None:
    return None if tested.pruned is None else Interval(tested.pruned.share)


def write_curves(scores: AuditScores) -> str:
    """Return the curves as CSV: a line per test set and bin."""
    head = ["test set", "up to", "train", "reference", "train at or below", "reference at or below"]
    lines: list[list[object]] = [list(head)]
    for tested in scores.sets:
        for place, edge in enumerate(scores.edges[1:]):
            lines.append(
                [
                    tested.name,
                    edge,
                    *(
                        "" if side is None else side[place]
                        for pair in (tested.histogram, tested.cumulative)
                        for side in (pair.train, pair.reference)
                    ),
                ]
            )
    return write_csv(lines)
