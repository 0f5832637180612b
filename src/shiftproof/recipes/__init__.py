"""The papers' experiments, from data to findings: each recipe is one call."""

from __future__ import annotations

from shiftproof.recipes.rendering import publish, render
from shiftproof.recipes.result import Finding, Result, Table, read_result
from shiftproof.recipes.table import RECIPES, Recipe, reproduce

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
