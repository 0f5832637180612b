"""Integrations with experiment trackers and training loops.

``shiftproof.integrations.lightning`` and ``shiftproof.integrations.transformers`` have the
callbacks; each imports its library, so import them explicitly.
"""

from shiftproof.integrations.epochs import EpochGrid
from shiftproof.integrations.logged import Logged, collect
from shiftproof.integrations.trackers import TRACKERS, check_tracker, log_run

__all__ = ["TRACKERS", "EpochGrid", "Logged", "check_tracker", "collect", "log_run"]
