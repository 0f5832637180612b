"""The records of COCO's lists, with the faults found in them.

Annotations (``annotations.py``) and results (``coco.py``) are read from these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from shiftproof.errors import InputError
from shiftproof.metrics.faults import LARGEST, Fault, read_integer, read_number, show_value
from shiftproof.types import F64, Flags


@dataclass(frozen=True, eq=False)
class CocoRecords:
    """Some of the records of a list, with their places in the file.

    Attributes:
        where: name of the file in messages.
        key: name of the list in the file; empty if the file is the list.
        indices: the index of each record in the list.
        records: the records.
        faults: all faults of the list.
    """

    where: str
    key: str
    indices: Sequence[int]
    records: Sequence[Mapping[str, Any]]
    faults: list[Fault]

    def place(self, row: int) -> str:
        """Return the place of a record in the file: ``annotations[3] with the id 7``."""
        record_id = self.records[row].get("id") if self.key else None
        suffix = (
            f" with the id {show_value(record_id)}" if isinstance(record_id, (int, str)) else ""
        )
        return f"{self.key}[{self.indices[row]}]{suffix}"

    def name(self, row: int) -> str:
        """Return the name of a record in messages."""
        return f"{self.where}{', ' if self.key else ''}{self.place(row)}"

    def column(self, field: str) -> list[Any]:
        """Return a field of all records, None where it is missing."""
        return [record.get(field) for record in self.records]

    def take(self, kept: Flags) -> CocoRecords:
        """Return the records where ``kept`` is true."""
        if kept.all():
            return self
        indices, records = compress(self.indices, kept), compress(self.records, kept)
        return CocoRecords(self.where, self.key, list(indices), list(records), self.faults)

    def add_fault(self, row: int, reason: str, *, kept: bool, detail: str = "") -> None:
        """Add a fault of a record."""
        self.faults.append(Fault(self.name(row), reason, kept, detail))


def clean_name(text: str) -> str:
    r"""Return text that UTF-8 can encode: lone surrogates are replaced by their code points.

    >>> clean_name("a\ud800.jpg")
    'aU+D800.jpg'
    """
    return re.sub(r"[\ud800-\udfff]", lambda match: f"U+{ord(match[0]):04X}", text)


class Ids:
    """Ids of images or categories, looked up by a record's value."""

    def __init__(self, ids: Iterable[Any]) -> None:
        self._ids = {known: known for known in ids}

    def find(self, value: Any) -> tuple[Any, bool]:
        """Return the matching id or None, and whether it was written with the right type."""
        if isinstance(value, str):
            text = clean_name(value)
            if text in self._ids:
                return text, True
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
            # "007" is a name, not a number.
            match = self._ids.get(number) if number is not None and str(number) == text else None
            return match, match is None
        number = read_integer(value)
        if number is None or number in self._ids:
            return self._ids.get(number), True
        match = self._ids.get(str(number))
        return match, match is None


def has_mask_alone(record: Mapping[str, Any]) -> bool:
    """Return whether a record has a segmentation and no ``bbox``: none at all, null or an empty list."""
    return _is_absent(record.get("bbox")) and not _is_absent(record.get("segmentation"))


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple, Mapping, str)) and not value)


def read_boxes(column: Sequence[Any]) -> tuple[F64, list[int]]:
    """Return ``(N, 4)`` numbers, with rows of NaN for invalid boxes, and the rows that had text."""
    boxes = _convert_boxes(column)
    as_text: list[int] = []
    if boxes is None:
        boxes = np.full((len(column), 4), np.nan)
        for row, box in enumerate(column):
            values = box.tolist() if isinstance(box, np.ndarray) else box
            if isinstance(values, (list, tuple)) and len(values) == 4:
                boxes[row] = [read_number(value) for value in values]
                has_text = any(isinstance(value, str) for value in values)
                if has_text and np.isfinite(boxes[row]).all():
                    as_text.append(row)
    boxes[~(np.abs(boxes) < LARGEST).all(axis=1)] = np.nan
    return boxes, as_text


def _convert_boxes(column: Sequence[Any]) -> F64 | None:
    """Convert all boxes at once, if all are four numbers."""
    if not column:
        return np.empty((0, 4))
    try:
        array = np.array(column)
    except (ValueError, OverflowError):
        return None
    is_valid = array.dtype.kind in "iuf" and array.ndim == 2 and array.shape[1] == 4
    return array.astype(np.float64) if is_valid else None


MANY_BOXES = 10
"""Number of boxes from which the order of their numbers indicates the format."""


def check_box_format(where: str, boxes: F64, sizes: Sequence[tuple[int, int] | None]) -> None:
    """Refuse boxes that are probably x1, y1, x2, y2: x2 >= x1 in all, and read as x, y, width,
    height most of them exceed their images.

    Args:
        where: name of the boxes' file in messages.
        boxes: ``(N, 4)``; rows of NaN are skipped.
        sizes: width and height of each box's image.

    Raises:
        InputError: they are x1, y1, x2, y2.
    """
    is_valid = ~np.isnan(boxes).any(axis=1)
    valid = boxes[is_valid]
    if len(valid) < MANY_BOXES or (valid[:, 2:] < valid[:, :2]).any():
        return
    limit = np.array([size or (np.inf, np.inf) for size in sizes], dtype=np.float64)[is_valid]
    beyond = (valid[:, :2] + valid[:, 2:] > limit + 1).any(axis=1)
    if beyond.mean() > 0.5:
        raise InputError(
            f"{where}: expected bbox as x, y, width, height, and {beyond.sum()} of {len(valid)} "
            f"boxes leave their image, such as {valid[beyond][0].tolist()}. If they are x1, y1, x2, "
            "y2, subtract x1 from x2 and y1 from y2."
        )


def describe(value: Any) -> str:
    """Describe a value: its type, or a dictionary's first keys."""
    if isinstance(value, Mapping):
        keys = ", ".join(str(key)[:60] for key in list(value)[:5])
        return f"dictionary with the keys {keys or '(none)'}"
    return type(value).__name__
