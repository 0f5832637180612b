"""The folder of a run: what it holds, in which forms, written once and read by all."""

from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.run import ProbeRun, Run, load_run
from shiftproof.runs.scores.grid import Scored

__all__ = ["ProbeRun", "Run", "RunFolder", "Scored", "load_run", "provenance"]
