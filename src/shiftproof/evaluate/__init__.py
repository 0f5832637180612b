"""Accuracies of models on several test sets, together with a similarity audit of the training
set.
"""

from __future__ import annotations

from shiftproof.evaluate.run import evaluate
from shiftproof.evaluate.sets import SETS, find_labels
from shiftproof.evaluate.summary import join_audit

__all__ = ["SETS", "evaluate", "find_labels", "join_audit"]
