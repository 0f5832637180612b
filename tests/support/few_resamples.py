"""Fewer bootstrap replicates in the tests of whole runs."""

import importlib

MODULES = (
    "shiftproof.bench.tasks.summary",
    "shiftproof.metrics.confidence_resamples",
    "shiftproof.metrics.detection",
    "shiftproof.metrics.voc",
    "shiftproof.similarity.audit_scores",
)
"""They copy the number when they are imported."""


def set_replicates(patch, count):
    """Set the default number until ``patch`` is undone, for what reads it when it is called.

    What copies it is imported before: it would keep the small number for all tests of the process.
    """
    for module in MODULES:
        importlib.import_module(module)
    patch.setattr("shiftproof.metrics.intervals.REPLICATES", count)
