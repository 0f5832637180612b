"""What must not be, as text: ``mCE > +1.0`` is a condition on a difference, ``mCE > 60`` on a figure."""

from __future__ import annotations

import math
import re
from typing import Literal

import msgspec

from shiftproof.errors import InputError
from shiftproof.metrics.intervals import Interval

Sign = Literal[">", ">=", "<", "<="]

_FORM = re.compile(
    r"\s*(?P<measure>[^<>=]+?)\s*(?P<sign>>=|<=|>|<)\s*"
    r"(?P<number>[+\-\N{MINUS SIGN}]?\s*(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*"
    r"(?P<unit>%|points?|pp)?\s*",
    re.IGNORECASE,
)


class Condition(msgspec.Struct, frozen=True):
    """What must not be.

    Attributes:
        text: as it was given.
        measure: what it is about, as it was given: "mCE", "fog", "worst".
        sign: on which side of the threshold it holds.
        threshold: in the measure's unit as people read it: percent or points of a share.
        change: whether it is about the difference, candidate minus baseline; else about the
            candidate's own figure.
    """

    text: str
    measure: str
    sign: Sign
    threshold: float
    change: bool

    def holds(self, value: float, scale: float = 1.0) -> bool:
        """Whether a figure, times ``scale``, lies beyond the threshold."""
        threshold = self.threshold / scale
        if self.sign == ">":
            return value > threshold
        if self.sign == ">=":
            return value >= threshold
        return value < threshold if self.sign == "<" else value <= threshold

    def holds_throughout(self, interval: Interval, scale: float) -> bool:
        """Whether the whole interval lies beyond the threshold: it is shown to hold."""
        return all(self.holds(end, scale) for end in (interval.lower, interval.upper))

    def holds_somewhere(self, interval: Interval, scale: float) -> bool:
        """Whether a part of the interval lies beyond the threshold: it is not shown not to hold."""
        return any(self.holds(end, scale) for end in (interval.lower, interval.upper))


def parse_condition(text: str) -> Condition:
    """Read a condition such as ``mCE > +1.0``.

    A number with a sign is a difference, candidate minus baseline, in points of a share or in the
    measure's own unit; one without is the candidate's own figure.

    Raises:
        InputError: another form, or a bare 0, which could be meant either way.

    >>> parse_condition("mCE > +1.0").change
    True
    >>> parse_condition("clean > 30 %").change
    False
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise InputError(
            f"Expected a condition such as 'mCE > +1.0' (a difference) or 'mCE > 60' (a figure): a "
            f"measure, >, >=, < or <=, and a number; got {text!r}."
        )
    number = re.sub(r"\s", "", found["number"]).replace("\N{MINUS SIGN}", "-")
    change = number[0] in "+-"
    threshold = float(number)
    if not math.isfinite(threshold):
        raise InputError(f"Expected a finite number in the condition {text!r}.")
    if threshold == 0 and not change:
        raise InputError(
            f"{text!r}: write +0 for a difference of the two runs, or 0.0001 for the candidate's own "
            "figure; 0 alone could mean either."
        )
    sign: Sign = _SIGNS[found["sign"]]
    return Condition(text.strip(), found["measure"].strip(), sign, threshold, change)


_SIGNS: dict[str, Sign] = {">": ">", ">=": ">=", "<": "<", "<=": "<="}
