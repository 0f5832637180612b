"""Tables of results with P for each cell, and no images: of mmdetection's test_robustness, or CSV."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.bench.scoring.classifier_results import FORMS
from shiftproof.bench.tasks.performance import Performance
from shiftproof.corruptions import CORRUPTIONS
from shiftproof.data.images.cells import canonicalize_corruption
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.pickles import read_plain_pickle
from shiftproof.io.text import read_csv, read_json
from shiftproof.metrics.detection import COCO_METRICS
from shiftproof.metrics.faults import read_integer, read_number, show_value
from shiftproof.types import CLEAN, Cell

SUFFIXES = (".pkl", ".pickle", ".json", ".csv")

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The classes of Pascal VOC in the order of its development kit (Everingham et al. 2010), which is
that of mmdetection's lists."""


_OTHER_MEASURES = re.compile(r"(?i)err|acc|top.?\d|m?iou|mce|loss|predict|label|class|logit|prob")
"""Names of a column that are of another task's figures."""


def read_table(path: Path, *, kind: str = "bbox") -> tuple[str, dict[Cell, Performance]]:
    """Read a table of results.

    Three forms: the pickle that mmdetection's test_robustness writes, ``{corruption: {severity 0 to
    5: {"bbox": {"AP": ...}}}}`` or for VOC a list of ``{"ap": ...}``, one per class, and since its
    version 3 what its metrics give, ``{"coco/bbox_mAP": ...}`` or ``{"pascal_voc/AP50": ...}``; the
    same as JSON, or plainly ``{corruption: {severity: P}}``; a CSV with the columns corruption,
    severity and P. Severity 0, or the corruption "clean", is the clean cell.

    Args:
        path: the file.
        kind: "bbox" or "segm", where the table has both.

    Returns:
        What P is called, "AP" or "AP50", and the cells. P is a fraction: 0.363, not 36.3.

    Raises:
        BrokenFileError: it cannot be read; a pickle that names anything but containers and numbers.
        InputError: another form, such as the detections themselves, a value outside of 0..1, or clean
            cells that differ.
    """
    suffix = path.suffix.lower()
    if suffix in (".pkl", ".pickle"):
        value = _from_pickle(path)
    elif suffix == ".json":
        value = read_json(path)
    else:
        value = _from_csv(path)
    if not isinstance(value, Mapping) or not value:
        raise _explain_no_table(path, value)
    names: set[str] = set()
    cells: dict[Cell, Performance] = {}
    for corruption, row in value.items():
        if not isinstance(row, Mapping):
            raise _explain_no_table(path, value)
        for severity, entry in row.items():
            cell = _read_cell(path, corruption, severity)
            name, one = _read_performance(path, cell, entry, kind)
            names.add(name)
            known = cells.setdefault(cell, one)
            if known is not one and known.replicates[0] != one.replicates[0]:
                raise InputError(
                    f"{path.name}: the clean cell occurs twice, as {known.replicates[0]:g} and "
                    f"{one.replicates[0]:g} (under {corruption}); expected one value."
                )
    if not cells:
        raise _explain_no_table(path, value)
    if len(names) > 1:
        raise InputError(f"{path.name}: expected one measure, got {' and '.join(sorted(names))}.")
    return names.pop(), cells


def _from_pickle(path: Path) -> Any:
    try:
        return read_plain_pickle(path)
    except BrokenFileError as error:
        if re.search(r"it names (numpy|torch|mmdet|mmengine|mmcv)\b|above \d+ MB", str(error)):
            raise _refuse_detections(path) from error
        raise


def _refuse_detections(path: Path) -> InputError:
    results = path.stem.removesuffix("_results") + "_results" + path.suffix
    return InputError(
        f"{path.name}: expected a table of results, and these look like the detections themselves, "
        f"which test_robustness.py writes to --out. The table lies beside them: {results}. Of "
        "detections in COCO's form, give the folder that holds a file for each cell."
    )


def _explain_no_table(path: Path, value: Any) -> InputError:
    if isinstance(value, list):
        return _refuse_detections(path)
    got = ", ".join(_shorten(key) for key in list(value)[:4]) if isinstance(value, Mapping) else ""
    is_truth = isinstance(value, Mapping) and {"images", "annotations"} <= value.keys()
    advice = " This is ground truth: give it as data (--data)." if is_truth else ""
    return InputError(
        f"{path.name}: expected a table of results, corruption to severity to P, got a "
        f"{type(value).__name__}{f' with {got}' if got else ''}.{advice}"
    )


def _shorten(key: Any) -> str:
    return key[:60] if isinstance(key, str) else show_value(key)


def _read_cell(path: Path, corruption: Any, severity: Any) -> Cell:
    word = _shorten(corruption)
    number = read_integer(severity)
    if number is None or not 0 <= number <= 5:
        raise InputError(
            f"{path.name}, {word}: expected severities from 0 (clean) to 5, got {show_value(severity)}."
        )
    name = canonicalize_corruption(word)
    if number == 0 or name in ("clean", "none"):
        return CLEAN
    if name not in CORRUPTIONS and not name.isidentifier():
        raise InputError(f"{path.name}: {word!r} cannot name a corruption.")
    return Cell(name, number)


def _read_performance(path: Path, cell: Cell, entry: Any, kind: str) -> tuple[str, Performance]:
    if isinstance(entry, Mapping):
        return _read_numbers(path, cell, entry, kind)
    if isinstance(entry, Sequence) and not isinstance(entry, (str, bytes)):
        try:
            each = [_read_fraction(path, cell, one["ap"]) for one in entry]
        except (TypeError, KeyError, IndexError) as error:
            raise InputError(
                f"{path.name}, {cell}: expected a list of one 'ap' per class, got "
                f"{show_value(entry)}."
            ) from error
        known = [value for value in each if math.isfinite(value)]
        mean = float(np.mean(known)) if known else math.nan
        return "AP50", Performance(np.array([mean]), {"AP50": mean}, each)
    value = _read_fraction(path, cell, entry)
    return "AP", Performance(np.array([value]), {"AP": value})


def _read_numbers(
    path: Path, cell: Cell, entry: Mapping[Any, Any], kind: str
) -> tuple[str, Performance]:
    """Read the numbers of a cell that have names: COCO's own, or those of mmdetection's metrics."""
    numbers = entry.get(kind, entry)
    if isinstance(numbers, Mapping) and "AP" not in numbers:
        numbers = _rename_to_coco(numbers, kind)
    if not isinstance(numbers, Mapping) or not {"AP", "AP50"} & set(numbers):
        raise InputError(
            f"{path.name}, {cell}: expected {kind} with AP and the other COCO numbers, or "
            f"coco/{kind}_mAP, pascal_voc/AP50 or the like, got "
            f"{', '.join(_shorten(key) for key in list(entry)[:5]) or 'nothing'}. "
            "Masks (segm) are read with the measure coco-masks."
        )
    read = {
        name: _read_fraction(path, cell, numbers[name]) for name in COCO_METRICS if name in numbers
    }
    name = "AP" if "AP" in read else "AP50"
    return name, Performance(np.array([read[name]]), read)


_METRICS = {
    "mAP": "AP",
    "mAP_50": "AP50",
    "mAP_75": "AP75",
    "mAP_s": "APs",
    "mAP_m": "APm",
    "mAP_l": "APl",
    **{name: name for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
}
"""The names of mmdetection's CocoMetric and of its LVISMetric, which has COCO's, after the kind."""


def _rename_to_coco(entry: Mapping[Any, Any], kind: str) -> dict[str, Any]:
    """Return numbers of a metric of mmdetection 3 by COCO's names; AP50 alone for Pascal VOC."""
    # The prefix is the metric's, and may be set in a config: coco, cityscapes, pascal_voc, ...
    plain = {str(key).rpartition("/")[2]: value for key, value in entry.items()}
    named = {
        _METRICS[rest]: value
        for key, value in plain.items()
        if key.startswith(f"{kind}_") and (rest := key.removeprefix(f"{kind}_")) in _METRICS
    }
    if named or "mAP" not in plain:
        return named if named or "AP50" not in plain else {"AP50": plain["AP50"]}
    if "AP@50" in plain:  # Cityscapes, of masks
        return {"AP": plain["mAP"], "AP50": plain["AP@50"]}
    at = [key for key in plain if re.fullmatch(r"AP[0-9]{2}", key)]
    if at == ["AP50"] and abs(read_number(plain["mAP"]) - read_number(plain["AP50"])) < 6e-4:
        return {"AP50": plain["mAP"]}  # the same, which is not rounded to three digits
    if at:
        return {"AP50": plain["AP50"]} if "AP50" in at else {}
    if any(str(key).startswith("pascal_voc/") for key in entry):
        return {"AP50": plain["mAP"]}
    return {}


def _read_fraction(path: Path, cell: Cell, value: Any) -> float:
    number = read_number(value)
    if number == -1:  # COCO's sign for nothing to find
        return math.nan
    if not 0 <= number <= 1:
        raise InputError(
            f"{path.name}, {cell}: expected a fraction from 0 to 1, not per cent, got {show_value(value)}."
        )
    return number


def _from_csv(path: Path) -> dict[str, dict[str, str]]:
    rows = list(read_csv(path))
    _, head = rows[0] if rows else (0, [])
    if len(head) != 3 or head[:2] != ["corruption", "severity"]:
        raise InputError(
            f"{path.name}: expected the columns corruption, severity and P (AP, say), got "
            f"{', '.join(head) or 'an empty file'}."
        )
    if _OTHER_MEASURES.search(head[2]):
        raise InputError(
            f"{path.name}: expected P of detectors as the third column (AP, say), got {head[2]}, which is "
            f"not one. A table of a classifier has a row for each image. {FORMS}."
        )
    table: dict[str, dict[str, str]] = {}
    for number, row in rows[1:]:
        if len(row) != 3:
            raise InputError(f"{path.name}, line {number}: expected 3 columns, got {len(row)}.")
        corruption, severity, value = row
        if severity in table.setdefault(corruption, {}):
            raise InputError(f"{path.name}, line {number}: {corruption}, {severity} occurs twice.")
        table[corruption][severity] = value
    return table
