"""A segmenter's own part of the scores."""

from __future__ import annotations

from shiftproof.report.grid.entries import Entry
from shiftproof.runs.scores.reading import convert
from shiftproof.runs.scores.segmentation import Detail


def detail_of(entry: Entry) -> Detail:
    """Return what a model's scores have beside those of every task.

    Raises:
        BrokenFileError: it is not what a run of segmenters writes.
    """
    place = entry.run.scores.models.index(entry.scored)
    where = f"models[{place}].detail"
    return convert(entry.scored.detail, Detail, entry.run.path / "scores.json", where)
