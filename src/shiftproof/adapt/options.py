"""Checks of the numbers that adapters are made with."""

from __future__ import annotations

import math

from shiftproof.errors import InputError


def check_number(what: str, value: float, low: float, high: float = math.inf) -> float:
    """Return a number from ``low`` to ``high``, or raise an InputError that names the option."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or math.isnan(value) or not low <= value <= high:
        ends = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
        raise InputError(f"{what}: expected a number, {ends}, got {value!r}.")
    return value


def check_rate(value: float) -> float:
    """Return a learning rate, 0 or more and finite, or raise an InputError."""
    if math.isinf(check_number("lr", value, 0)):
        raise InputError(f"lr: expected a finite number, got {value!r}.")
    return value


def check_count(what: str, value: int, least: int = 1) -> int:
    """Return a whole number of ``least`` or more, or raise an InputError that names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{what}: expected a whole number, {least} or more, got {value!r}.")
    return value
