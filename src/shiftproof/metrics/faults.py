"""What can be wrong with a labeled or a found object, one sentence for each kind."""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftproof.io.border import show_name

NOT_FINITE = "not four finite numbers"
NEGATIVE = "negative size"
NO_AREA = "zero area"
OUTSIDE = "outside the image"
BEYOND = "beyond the edge"
TWICE = "the same object twice"
UNKNOWN_IMAGE = "of no image"
UNKNOWN_CLASS = "of no class"
NO_RECORD = "no object of a JSON"
NO_FIELD = "a field is missing"
NO_ID = "no id"
ID_TWICE = "an id that stands twice"
ID_AS_TEXT = "an id as text"
NUMBER_AS_TEXT = "a number as text"
NO_NAME = "no name"
NO_SIZE = "no width and height"
ODD_AREA = "an area that is none"
ODD_FLAG = "a mark that is neither 0 nor 1"
ODD_OUTLINE = "an outline that cannot be read"
NO_MASK = "no mask"
ODD_SCORE = "no finite score"
SCORE_OUTSIDE = "a score outside 0..1"

EDGE = 1.0
"""So many pixels may a box stick out before it is listed: tools round the corners differently."""

LARGEST = 1e38
"""Larger numbers of pixels are none: their products would leave the range of float64."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a data set, or in a file of results.

    Attributes:
        where: the file or image, as the data set calls it, and the place in it.
        reason: one of a few sentences, the same for all of a kind.
        kept: whether it is in the data set all the same. What is kept counts for the scores as it
            does in the field's own tools; the rest cannot be measured.
        detail: the numbers or names that were found.
    """

    where: str
    reason: str
    kept: bool
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        text = f"{self.where}: {self.reason}{detail}; {'kept' if self.kept else 'left out'}."
        return show_name(text)


def count_faults(faults: Iterable[Fault]) -> dict[str, int]:
    """Return how often each kind of fault was found."""
    return dict(sorted(Counter(fault.reason for fault in faults).items()))


def box_fault(
    where: str,
    position: tuple[float, float, float, float],
    size: tuple[int, int] | None,
    *,
    keep_negative: bool,
    instead: str = "",
) -> Fault | None:
    """Return what is odd about a box that can be measured, or why it cannot be; None for nothing.

    Boxes outside the image or without area are kept, as the field's own tools count them: nothing
    finds them. What is no number is left out.

    Args:
        where: of the box.
        position: x, y, width, height in pixels.
        size: width and height of its image; None where they are not known.
        keep_negative: whether a box of negative size is kept, as pycocotools does, or left out.
        instead: what stands there where there are not four numbers, if that is known.
    """
    x, y, w, h = position
    width, height = size or (math.inf, math.inf)
    if not all(math.isfinite(value) for value in position):
        if instead:
            return Fault(where, NOT_FINITE, kept=False, detail=instead)
        reason = NOT_FINITE
    elif w < 0 or h < 0:
        reason = NEGATIVE
    elif w == 0 or h == 0:
        reason = NO_AREA
    elif x >= width or y >= height or x + w <= 0 or y + h <= 0:
        reason = OUTSIDE
    elif x < -EDGE or y < -EDGE or x + w > width + EDGE or y + h > height + EDGE:
        reason = BEYOND
    else:
        return None
    kept = reason != NOT_FINITE and (keep_negative or reason != NEGATIVE)
    image = f"; image {width} x {height}" if size else ""
    detail = f"x {x:g}, y {y:g}, width {w:g}, height {h:g}{image}"
    return Fault(where, reason, kept, detail)


def read_number(value: Any) -> float:
    """Return a number, or NaN for what is none; text is read where it is a decimal number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, np.number)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError, TypeError):
        return math.nan


def read_whole(value: Any) -> int | None:
    """Return a whole number, also from 48.0 or the text "48"; None for what is none."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    number = read_number(value)
    return int(number) if number.is_integer() else None


def read_flag(value: Any) -> bool | None:
    """Return a mark: every number but 0 is one, as ``bool(int(value))`` has it; None for what is none."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    number = read_number(value)
    return None if math.isnan(number) else number != 0


def show_value(value: Any) -> str:
    """Return a value as a sentence can hold it: of what is long or nested, the beginning."""
    return _SHORT.repr(value)[:60]


class _Short(reprlib.Repr):
    def repr_instance(self, x: object, level: int) -> str:
        # What is no plain value may be of any length in words.
        plain = isinstance(x, (bool, float, np.number, type(None)))
        return repr(x) if plain else f"a {type(x).__name__}"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 2, 6, 6, 4
_SHORT.maxstring = _SHORT.maxother = 60
