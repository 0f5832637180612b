"""Kinds of faults of annotations and detections, one phrase for each."""

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
NO_BOX = "no box but a mask"
NO_MASK = "no mask"
ODD_SCORE = "no finite score"
SCORE_OUTSIDE = "a score outside 0..1"

EDGE = 1.0
"""Pixels by which a box may exceed its image before it is listed: tools round corners
differently."""

LARGEST = 1e38
"""Larger coordinates are invalid: their products would overflow float64."""


@dataclass(frozen=True)
class Fault:
    """A fault of a dataset or of a result file.

    Attributes:
        where: the file or image, and the position in it.
        reason: the kind of fault, one of a few phrases.
        kept: whether the record is kept. Kept records count as in the reference implementations;
            the others are unusable.
        detail: the offending numbers or names.
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
    """Return the number of faults of each kind."""
    return dict(sorted(Counter(fault.reason for fault in faults).items()))


def find_box_fault(
    where: str,
    position: tuple[float, float, float, float],
    size: tuple[int, int] | None,
    *,
    keep_negative: bool,
    instead: str = "",
) -> Fault | None:
    """Return the fault of a box, kept or not; None if it has none.

    Boxes outside the image or without area are kept, as in the reference implementations, although
    nothing matches them. Boxes without valid numbers are dropped.

    Args:
        where: position of the box, for messages.
        position: x, y, width, height in pixels.
        size: (width, height) of its image; None if unknown.
        keep_negative: whether a box of negative size is kept, as in pycocotools, or dropped.
        instead: the value found in place of four numbers, if known.
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
    """Return a number, also from decimal text; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, np.number)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError, TypeError):
        return math.nan


def read_integer(value: Any) -> int | None:
    """Return an integer, also from 48.0 or the text "48"; None for anything else."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    number = read_number(value)
    return int(number) if number.is_integer() else None


def read_flag(value: Any) -> bool | None:
    """Return a flag, ``bool(int(value))``; None for anything that is no number."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    number = read_number(value)
    return None if math.isnan(number) else number != 0


def show_value(value: Any) -> str:
    """Return a short text of a value for messages; long or nested values are truncated."""
    return _SHORT.repr(value)[:60]


class _Short(reprlib.Repr):
    def repr_instance(self, x: object, level: int) -> str:
        # The repr of other objects may have any length.
        plain = isinstance(x, (bool, float, np.number, type(None)))
        return repr(x) if plain else f"a {type(x).__name__}"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 2, 6, 6, 4
_SHORT.maxstring = _SHORT.maxother = 60
