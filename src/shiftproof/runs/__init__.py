"""The files of a run: its folder, record tables, scores and settings, each format defined once.

:func:`load_run` opens a finished run of any kind. The other names are for custom tasks
(:class:`shiftproof.bench.Task`): record tables, and the description of metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.lazy import load_name

if TYPE_CHECKING:
    from shiftproof.provenance import provenance
    from shiftproof.runs.folder import RunFolder
    from shiftproof.runs.parquet import explain_other_images, open_table, write_table
    from shiftproof.runs.resamples import Replicates
    from shiftproof.runs.run import (
        AnyRun,
        AnytimeRun,
        AuditRun,
        BreakingRun,
        EvaluationRun,
        ProbeRun,
        Run,
        load_run,
    )
    from shiftproof.runs.scores.anytime import AnytimeScores
    from shiftproof.runs.scores.audit import AuditScores
    from shiftproof.runs.scores.breaking import BreakingScores
    from shiftproof.runs.scores.evaluation import EvaluationScores
    from shiftproof.runs.scores.grid import GridScores, Headline, Images, Measure, ModelScores
    from shiftproof.runs.scores.probe import ProbeScores
    from shiftproof.runs.scores.shared import BrokenImage, Resampling

__all__ = [
    "AnyRun",
    "AnytimeRun",
    "AnytimeScores",
    "AuditRun",
    "AuditScores",
    "BreakingRun",
    "BreakingScores",
    "BrokenImage",
    "EvaluationRun",
    "EvaluationScores",
    "GridScores",
    "Headline",
    "Images",
    "Measure",
    "ModelScores",
    "ProbeRun",
    "ProbeScores",
    "Replicates",
    "Resampling",
    "Run",
    "RunFolder",
    "explain_other_images",
    "load_run",
    "open_table",
    "provenance",
    "write_table",
]

# Loaded at first use: who needs one of these modules does not wait for all.
_NAMES = {
    "AnyRun": "shiftproof.runs.run",
    "AnytimeRun": "shiftproof.runs.run",
    "AnytimeScores": "shiftproof.runs.scores.anytime",
    "AuditRun": "shiftproof.runs.run",
    "AuditScores": "shiftproof.runs.scores.audit",
    "BreakingRun": "shiftproof.runs.run",
    "BreakingScores": "shiftproof.runs.scores.breaking",
    "BrokenImage": "shiftproof.runs.scores.shared",
    "EvaluationRun": "shiftproof.runs.run",
    "EvaluationScores": "shiftproof.runs.scores.evaluation",
    "GridScores": "shiftproof.runs.scores.grid",
    "Headline": "shiftproof.runs.scores.grid",
    "Images": "shiftproof.runs.scores.grid",
    "Measure": "shiftproof.runs.scores.grid",
    "ProbeRun": "shiftproof.runs.run",
    "ProbeScores": "shiftproof.runs.scores.probe",
    "Replicates": "shiftproof.runs.resamples",
    "Resampling": "shiftproof.runs.scores.shared",
    "Run": "shiftproof.runs.run",
    "RunFolder": "shiftproof.runs.folder",
    "ModelScores": "shiftproof.runs.scores.grid",
    "load_run": "shiftproof.runs.run",
    "open_table": "shiftproof.runs.parquet",
    "explain_other_images": "shiftproof.runs.parquet",
    "provenance": "shiftproof.provenance",
    "write_table": "shiftproof.runs.parquet",
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
