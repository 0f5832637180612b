"""Warnings of classes that models over images with boxes or label maps have not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.sections import look_up
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.reading import clean_text


def warn_of_missing_classes(
    shown: PageContent, form: type[Any], tell: Callable[[str, Sequence[str], Any, GridScores], str]
) -> list[str]:
    """Warn of classes that models lack, once for all models that lack the same ones.

    ``tell`` words it, from the models, the classes and the task's own part (``form``) of the scores.
    """
    by_gap: dict[tuple[str, ...], list[Entry]] = {}
    for entry in shown.entries:
        missing = look_up(entry.run.settings, "classes", entry.scored.name, "missing")
        if isinstance(missing, list) and missing:
            by_gap.setdefault(tuple(clean_text(str(name)) for name in missing), []).append(entry)
    return [
        tell(
            wording.join_list([entry.label for entry in lacking]),
            gap,
            lacking[0].detail(form),
            lacking[0].run.scores,
        )
        for gap, lacking in by_gap.items()
    ]
