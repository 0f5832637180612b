"""The folder of a run: what it holds, in which forms, written once and read by all."""

from shiftproof.runs.folder import RunFolder
from shiftproof.runs.run import EvaluationRun, ProbeRun, Run, load_run

__all__ = ["EvaluationRun", "ProbeRun", "Run", "RunFolder", "load_run"]
