"""Options of adapters: checked where they are handed in."""

from __future__ import annotations

import math
from typing import Literal

from shiftproof.errors import InputError, UnknownNameError

FewClasses = Literal["skip", "learn"]
"""What is done with images of few classes, where the source's answers tell them from a shift."""


def check_range(what: str, value: float, low: float, high: float, *, below: bool = False) -> float:
    """Return a number that lies in its range, or raise an InputError; ``below``: without its end."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (below and value == high):
        ends = f"{low:g} to {'below ' if below else ''}{high:g}"
        if math.isinf(high):
            ends = f"{low:g} or more"
        raise InputError(f"{what}: expected a number, {ends}, got {value!r}.")
    return value


def check_count(what: str, value: int) -> int:
    """Return a whole number of 1 or more, or raise an InputError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{what}: expected a number of 1 or more, got {value!r}.")
    return value


def check_rate(lr: float | Literal["auto"]) -> float | Literal["auto"]:
    """Return a learning rate that can be used, or raise an InputError."""
    return "auto" if lr == "auto" else check_range("lr", lr, 0, math.inf, below=True)


def check_preset(preset: Literal["paper"] | None) -> Literal["paper"] | None:
    """Return a preset that there is, or raise an UnknownNameError."""
    if preset not in (None, "paper"):
        raise UnknownNameError.of("preset", str(preset), ["paper"])
    return preset


def check_few_classes(few_classes: FewClasses) -> FewClasses:
    """Return what is to be done with few classes, or raise an UnknownNameError."""
    if few_classes not in ("skip", "learn"):
        raise UnknownNameError.of("few_classes", str(few_classes), ["skip", "learn"])
    return few_classes
