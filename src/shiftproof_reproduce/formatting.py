"""Formatting figures with their intervals, in percent or points."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.metrics import Interval
from shiftproof.report import corruption_title
from shiftproof_reproduce.result import Unit, Value

DASH, MINUS = "–", "−"


def format_figure(value: Value, unit: Unit) -> str:
    """Format a figure with its interval: ``17.4 (16.9–18.0)`` in percent, changes with a sign.

    >>> format_figure(Interval(0.174, 0.169, 0.18), "error")
    '17.4 (16.9–18.0)'
    """
    if value is None:
        return DASH
    figure = format_number(value.value, unit)
    bare = unit == "number" or value.lower == value.value == value.upper
    return figure if bare else f"{figure} ({format_interval(value, unit)})"


def format_interval(value: Interval, unit: Unit) -> str:
    """Format the bounds of an interval."""
    # A minus sign beside a dash is hard to read.
    signed = unit == "change" or (unit == "score" and value.lower < 0)
    between = " to " if signed else DASH
    return f"{format_number(value.lower, unit)}{between}{format_number(value.upper, unit)}"


def format_number(value: float, unit: Unit) -> str:
    """Format a number: ``57.9`` for an error of 0.579, ``+3.1`` for a change, ``0.997`` for a
    score.
    """
    if unit == "number":
        return f"{value:g}"
    if unit == "score":
        text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
        return text.replace("-", MINUS)
    text = f"{100 * value:.1f}"
    if not text.strip("-0."):
        return text.removeprefix("-")
    sign = "+" if unit == "change" and value > 0 else ""
    return sign + text.replace("-", MINUS)


def list_corruptions(names: Sequence[str]) -> str:
    """Return a list of corruptions for a sentence.

    >>> list_corruptions(["gaussian_noise", "jpeg_compression", "fog"])
    'Gaussian noise, JPEG compression and fog'
    """
    titles = [corruption_title(name) for name in names]
    # JPEG and Gaussian keep their capitals.
    words = [t if t[:2].isupper() or t.startswith("Gauss") else t.lower() for t in titles]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
