"""The files of a run: its folder, record tables, scores and settings, each format defined once.

:func:`load_run` opens a finished run of any kind. The other names are for custom tasks
(:class:`shiftproof.bench.Task`): record tables, and the description of metrics.
"""

from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.parquet import open_table, other_images, write_table
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
from shiftproof.runs.scores.grid import GridScores, Headline, Images, Measure, Scored
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
    "ProbeRun",
    "ProbeScores",
    "Replicates",
    "Resampling",
    "Run",
    "RunFolder",
    "Scored",
    "load_run",
    "open_table",
    "other_images",
    "provenance",
    "write_table",
]
