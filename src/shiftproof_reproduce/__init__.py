"""The papers' experiments, from data to findings: each recipe is one call."""

from __future__ import annotations

from shiftproof_reproduce.rendering import publish, render
from shiftproof_reproduce.result import Finding, Result, Table, read_result
from shiftproof_reproduce.table import RECIPES, Recipe, reproduce

__all__ = [
    "RECIPES",
    "Finding",
    "Recipe",
    "Result",
    "Table",
    "publish",
    "read_result",
    "render",
    "reproduce",
]
