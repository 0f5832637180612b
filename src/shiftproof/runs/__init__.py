"""The folder of a run: what it holds, in which forms, written once and read by all.

:func:`load_run` opens a finished run of any kind. The other names are what a task of one's own
(:class:`shiftproof.bench.Task`) writes: its record tables, and what it says of its figures.
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
