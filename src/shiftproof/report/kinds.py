"""The kinds of runs that have a page of their own: to add one is a folder and a row here."""

from __future__ import annotations

from typing import Any

from shiftproof.report.anytime.kind import AnytimePage
from shiftproof.report.breaking.kind import BreakingPage
from shiftproof.report.classification.kind import CLASSIFICATION
from shiftproof.report.detection.kind import DETECTION
from shiftproof.report.evaluation.kind import EvaluationPage
from shiftproof.report.grid.page import GridPage
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.kind import PageKind
from shiftproof.report.probe.kind import ProbePage
from shiftproof.report.segmentation.kind import SEGMENTATION
from shiftproof.report.similarity.kind import AuditPage

KINDS: dict[str, PageKind[Any, Any]] = {
    "classification": GridPage(CLASSIFICATION),
    "detection": GridPage(DETECTION),
    "segmentation": GridPage(SEGMENTATION),
    "probe": ProbePage(),
    "similarity": AuditPage(),
    "evaluation": EvaluationPage(),
    "anytime": AnytimePage(),
    "breaking": BreakingPage(),
}


def find_kind(name: str) -> PageKind[Any, Any]:
    """Return the display of a kind; an unknown kind has the sections that all grids have."""
    return KINDS.get(name) or GridPage(TaskPage())
