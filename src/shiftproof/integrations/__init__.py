"""Runs in the tools that people have: loggers of experiments, and callbacks of training loops.

``shiftproof.integrations.lightning`` and ``shiftproof.integrations.transformers`` hold the callbacks;
each imports its library, and is imported by its own name.
"""

from shiftproof.integrations.epochs import EpochGrid
from shiftproof.integrations.logged import Logged, collect
from shiftproof.integrations.trackers import TRACKERS, check_tracker, log_run

__all__ = ["TRACKERS", "EpochGrid", "Logged", "check_tracker", "collect", "log_run"]
