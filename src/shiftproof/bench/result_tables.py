"""Tables of results, P for each cell and nothing below it: of mmdetection's test_robustness, or own."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.corruptions import CORRUPTIONS
from shiftproof.data.cells import canonical
from shiftproof.errors import InputError
from shiftproof.io.border import convert_errors
from shiftproof.io.pickles import read_plain_pickle
from shiftproof.io.text import read_json, read_text
from shiftproof.metrics.detection import COCO_METRICS
from shiftproof.types import CLEAN, Cell

from .measures import Performance

SUFFIXES = (".pkl", ".pickle", ".json", ".csv")

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The classes of Pascal VOC in the order of its development kit (Everingham et al. 2010), which is
that of mmdetection's lists."""


def read_table(path: Path, *, kind: str = "bbox") -> tuple[str, dict[Cell, Performance]]:
    """Read a table of results.

    Three forms: the pickle that mmdetection's test_robustness writes, ``{corruption: {severity 0 to
    5: {"bbox": {"AP": ...}}}}`` or for VOC a list of ``{"ap": ...}``, one per class; the same as
    JSON, or plainly ``{corruption: {severity: P}}``; a CSV with the columns corruption, severity and
    P. Severity 0, or the corruption "clean", is the clean cell.

    Args:
        path: the file.
        kind: "bbox" or "segm", where the table has both.

    Returns:
        What P is called, "AP" or "AP50", and the cells. P is a fraction: 0.363, not 36.3.

    Raises:
        BrokenFileError: it cannot be read; a pickle that names anything but containers and numbers.
        InputError: another form, a value outside of 0..1, or clean cells that differ.
    """
    suffix = path.suffix.lower()
    if suffix in (".pkl", ".pickle"):
        value = read_plain_pickle(path)
    elif suffix == ".json":
        value = read_json(path)
    else:
        value = _from_csv(path)
    if not isinstance(value, Mapping) or not value:
        raise _no_table(path, value)
    names: set[str] = set()
    cells: dict[Cell, Performance] = {}
    for corruption, row in value.items():
        if not isinstance(row, Mapping):
            raise _no_table(path, value)
        for severity, entry in row.items():
            cell = _cell(path, str(corruption), severity)
            name, one = _performance(path, cell, entry, kind)
            names.add(name)
            known = cells.setdefault(cell, one)
            if known is not one and known.replicates[0] != one.replicates[0]:
                raise InputError(
                    f"{path.name}: the clean cell is there twice, as {known.replicates[0]:g} and "
                    f"{one.replicates[0]:g} (under {corruption}); expected one value."
                )
    if not cells:
        raise _no_table(path, value)
    if len(names) > 1:
        raise InputError(f"{path.name}: expected one measure, got {' and '.join(sorted(names))}.")
    return names.pop(), cells


def _no_table(path: Path, value: Any) -> InputError:
    got = ", ".join(map(str, list(value)[:4])) if isinstance(value, Mapping) else ""
    return InputError(
        f"{path.name}: expected a table of results, corruption to severity to P, got a "
        f"{type(value).__name__}{f' with {got}' if got else ''}."
    )


def _cell(path: Path, corruption: str, severity: Any) -> Cell:
    try:
        number = int(severity)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number <= 5:
        raise InputError(
            f"{path.name}, {corruption}: expected severities from 0 (clean) to 5, got {severity!r:.40}."
        )
    name = canonical(corruption)
    if number == 0 or name in ("clean", "none"):
        return CLEAN
    if name not in CORRUPTIONS and not name.isidentifier():
        raise InputError(f"{path.name}: {corruption!r:.60} cannot name a corruption.")
    return Cell(name, number)


def _performance(path: Path, cell: Cell, entry: Any, kind: str) -> tuple[str, Performance]:
    if isinstance(entry, Mapping):
        numbers = entry.get(kind, entry)
        if not isinstance(numbers, Mapping) or "AP" not in numbers:
            raise InputError(
                f"{path.name}, {cell}: expected {kind} with AP and the other COCO numbers, got "
                f"{', '.join(map(str, list(entry)[:5])) or 'nothing'}."
            )
        read = {
            name: _fraction(path, cell, numbers[name]) for name in COCO_METRICS if name in numbers
        }
        return "AP", Performance(np.array([read["AP"]]), read)
    if isinstance(entry, Sequence) and not isinstance(entry, (str, bytes)):
        try:
            each = [_fraction(path, cell, one["ap"]) for one in entry]
        except (TypeError, KeyError, IndexError) as error:
            raise InputError(
                f"{path.name}, {cell}: expected a list of one 'ap' per class, got {entry!r:.60}."
            ) from error
        known = [value for value in each if math.isfinite(value)]
        mean = float(np.mean(known)) if known else math.nan
        return "AP50", Performance(np.array([mean]), {"AP50": mean}, each)
    value = _fraction(path, cell, entry)
    return "AP", Performance(np.array([value]), {"AP": value})


def _fraction(path: Path, cell: Cell, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if number == -1:  # COCO's sign for nothing to find
        return math.nan
    if not 0 <= number <= 1:
        raise InputError(
            f"{path.name}, {cell}: expected a fraction from 0 to 1, not per cent, got {value!r:.60}."
        )
    return number


def _from_csv(path: Path) -> dict[str, dict[str, str]]:
    text = read_text(path)
    with convert_errors(path, "no CSV that can be read"):
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    if not rows or len(rows[0]) != 3 or rows[0][:2] != ["corruption", "severity"]:
        raise InputError(
            f"{path.name}: expected the columns corruption, severity and P (AP, say), got "
            f"{', '.join(rows[0]) if rows else 'an empty file'}."
        )
    table: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 3:
            raise InputError(f"{path.name}, line {number}: expected 3 columns, got {len(row)}.")
        corruption, severity, value = (cell.strip() for cell in row)
        if severity in table.setdefault(corruption, {}):
            raise InputError(
                f"{path.name}, line {number}: {corruption}, {severity} is there twice."
            )
        table[corruption][severity] = value
    return table
