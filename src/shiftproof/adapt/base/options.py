"""Checks of the options of adapters."""

from __future__ import annotations

import math
from typing import Literal

from shiftproof.errors import InputError, UnknownNameError

FewClasses = Literal["skip", "learn"]
"""What a method does with images of few classes, where the source's predictions show that they are.
"""


def check_number(
    what: str, value: float, low: float, high: float = math.inf, *, below: bool = False
) -> float:
    """Return a number from ``low`` to ``high``, or raise an InputError that names the option.

    ``below`` excludes ``high``.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (below and value == high):
        ends = f"{low:g} to {'below ' if below else ''}{high:g}"
        if math.isinf(high):
            ends = f"{low:g} or more"
        raise InputError(f"{what}: expected a number, {ends}, got {value!r}.")
    return value


def check_count(what: str, value: int, minimum: int = 1) -> int:
    """Return a whole number of ``minimum`` or more, or raise an InputError that names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise InputError(f"{what}: expected a whole number, {minimum} or more, got {value!r}.")
    return value


def check_rate(value: float) -> float:
    """Return a learning rate, 0 or more and finite, or raise an InputError."""
    if math.isinf(check_number("lr", value, 0)):
        raise InputError(f"lr: expected a finite number, got {value!r}.")
    return value


def check_rate_or_auto(value: float | Literal["auto"]) -> float | Literal["auto"]:
    """Return ``"auto"`` or a learning rate, or raise an InputError."""
    return "auto" if value == "auto" else check_rate(value)


def check_preset(preset: Literal["paper"] | None) -> Literal["paper"] | None:
    """Return a known preset or None, or raise an UnknownNameError."""
    if preset not in (None, "paper"):
        raise UnknownNameError.of("preset", str(preset), ["paper"])
    return preset


def check_few_classes(few_classes: FewClasses) -> FewClasses:
    """Return a known way to treat images of few classes, or raise an UnknownNameError."""
    if few_classes not in ("skip", "learn"):
        raise UnknownNameError.of("few_classes", str(few_classes), ["skip", "learn"])
    return few_classes
