"""Comparing two runs, paired by image: differences, and conditions for a quality gate."""

from shiftproof.comparison.compare import compare
from shiftproof.comparison.gates import Condition, parse_condition
from shiftproof.comparison.result import Check, Comparison, Difference, Side
from shiftproof.comparison.writing import comparison_junit, comparison_markdown

__all__ = [
    "Check",
    "Comparison",
    "Condition",
    "Difference",
    "Side",
    "compare",
    "comparison_junit",
    "comparison_markdown",
    "parse_condition",
]
