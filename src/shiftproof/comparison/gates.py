"""Conditions that fail a gate: ``mCE > +1.0`` is on a difference, ``mCE > 60`` on a score."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Literal, cast

import msgspec

from shiftproof.errors import InputError
from shiftproof.metrics.intervals import Interval

Sign = Literal[">", ">=", "<", "<="]

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

_FORM = re.compile(
    r"\s*(?P<measure>[^<>=]+?)\s*(?P<sign>>=|<=|>|<)\s*"
    r"(?P<number>[+\-\N{MINUS SIGN}]?\s*(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*"
    r"(?P<unit>%|points?|pp)?\s*",
    re.IGNORECASE,
)


class Condition(msgspec.Struct, frozen=True):
    """A condition that must not hold.

    Attributes:
        text: the condition as given.
        measure: the measure as given: "mCE", "fog", "worst".
        sign: the comparison operator.
        threshold: in the displayed unit: for shares percent or percentage points.
        change: whether it is on the difference, candidate minus baseline; else on the candidate's
            score.
    """

    text: str
    measure: str
    sign: Sign
    threshold: float
    change: bool

    def holds(self, value: float, scale: float = 1.0) -> bool:
        """Return whether a value, times ``scale``, is beyond the threshold."""
        return _OPERATORS[self.sign](value, self.threshold / scale)

    def holds_throughout(self, interval: Interval, scale: float) -> bool:
        """Return whether the whole interval is beyond the threshold: it holds significantly.

        A value without an interval, such as that of a single image, is never significant.
        """
        if interval.bare:
            return False
        return all(self.holds(end, scale) for end in (interval.lower, interval.upper))

    def holds_somewhere(self, interval: Interval, scale: float) -> bool:
        """Return whether part of the interval is beyond the threshold: it cannot be excluded."""
        return any(self.holds(end, scale) for end in (interval.lower, interval.upper))


def parse_condition(text: str) -> Condition:
    """Parse a condition such as ``mCE > +1.0``.

    A number with a sign is a difference, candidate minus baseline, in percentage points or in the
    measure's unit; one without a sign is on the candidate's score.

    Raises:
        InputError: another format, or a bare 0, which is ambiguous.

    >>> parse_condition("mCE > +1.0").change
    True
    >>> parse_condition("clean > 30 %").change
    False
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise InputError(
            f"Expected a condition such as 'mCE > +1.0' (a difference) or 'mCE > 60' (a figure): a "
            f"measure, >, >=, < or <=, and a number; got {text!r}."
        )
    number = re.sub(r"\s", "", match["number"]).replace("\N{MINUS SIGN}", "-")
    change = number[0] in "+-"
    threshold = float(number)
    if not math.isfinite(threshold):
        raise InputError(f"Expected a finite number in the condition {text!r}.")
    if threshold == 0 and not change:
        raise InputError(
            f"{text!r}: write +0 for a difference of the two runs, or 0.0001 for the candidate's own "
            "figure; 0 alone could mean either."
        )
    sign = cast("Sign", match["sign"])
    return Condition(text.strip(), match["measure"].strip(), sign, threshold, change)
