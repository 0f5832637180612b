"""Reading predictions of classifiers from other frameworks: arrays of scores, or tables of top
classes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.counts import pluralize
from shiftproof.data.images.cells import canonicalize_corruption
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.arrays import read_array, read_arrays
from shiftproof.io.border import open_regular
from shiftproof.io.parquet import read_columns
from shiftproof.io.text import read_csv, read_json
from shiftproof.metrics.faults import read_integer, read_number
from shiftproof.runs.records.classification import TOP
from shiftproof.types import CLEAN, F32, F64, Cell

SUFFIXES = (".npz", ".npy", ".csv", ".parquet")
"""Files that only classifiers' answers have."""

JSON = ".json"
"""Suffix of classifiers' answers, and of detectors' results; :func:`is_json_of_answers` tells which."""

FORMS = (
    "Answers of a classifier are .npz, .npy, .csv, .parquet or .json files with a row for each image: "
    "its name in image, and prediction, top1 to top5, logits or probabilities"
)
"""What a classifier's file looks like, for messages."""

_HEAD = 1 << 16
"""Number of bytes in which the first record of a JSON is looked for."""

_IMAGE = ("image", "id", "path", "file", "filename", "file_name")
_LABEL = ("label", "target", "class")
_CONFIDENCE = ("confidence", "probability", "score")
_LOGITS = "logits"
_PROBABILITIES = ("probabilities", "probs")
_BEST = ("prediction", "predicted")
_DETECTED = ("bbox", "segmentation")
_ANSWERS = (_LOGITS, *_PROBABILITIES, *_BEST, "top1")
_TOLERANCE = 1e-2
"""Tolerance of a row's sum of probabilities, for half precision."""


@dataclass(frozen=True, eq=False)
class ClassPredictions:
    """Predictions for N images.

    Attributes:
        where: name of the file in messages.
        images: names of the images; None if the rows are in the order of the dataset.
        logits: ``(N, K)`` float32: unnormalized log-probabilities; None where only the best
            classes are there.
        top: ``N`` rows of classes, best first, by index or name; empty if there are ``logits``.
        confidence: ``(N,)`` probability of the first class of ``top``, NaN if unknown.
        labels: ``N`` true classes by index or name, None if the file has none.
    """

    where: str
    images: Sequence[str] | None = None
    logits: F32 | None = None
    top: Sequence[Sequence[str]] = ()
    confidence: F64 | None = None
    labels: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.top) if self.logits is None else len(self.logits)


def read_class_predictions(path: Path) -> ClassPredictions:
    """Read the predictions of one cell.

    ``.npy``: ``(N, K)`` in the order of the dataset; rows that sum to one are probabilities, others
    logits. ``.npz``: ``logits`` or ``probabilities`` ``(N, K)``, with ``images`` and ``labels`` ``(N,)``
    beside it if one likes. ``.csv`` and ``.parquet``: a row per image with a column ``image``; the
    best classes in ``top1`` to ``top5`` (or ``prediction`` alone), the probability of the first in
    ``confidence``; or, of Parquet, lists in ``logits`` or ``probabilities``; and ``label`` if one
    likes. ``.json``: the same as a list of records, ``[{"image": "a.png", "prediction": 3}, ...]``, or as
    an object from a column's name to its list. Classes are indices or names.

    Raises:
        BrokenFileError: the file cannot be read, or a number in it is none.
        InputError: it has another form.
    """
    suffix = path.suffix.lower()
    where = f"{path.parent.name}/{path.name}"
    if suffix == ".npy":
        return ClassPredictions(where, logits=_read_ambiguous(read_array(path), where))
    if suffix == ".npz":
        return _from_arrays(read_arrays(path), where)
    return _from_columns(read_table(path), where)


def read_cells(path: Path) -> dict[Cell, ClassPredictions]:
    """Read the predictions of all cells from one table with the columns ``corruption`` and
    ``severity``.

    Severity 0, or the corruption "clean", is the clean cell.

    Raises:
        BrokenFileError: the file cannot be read, or a number in it is none.
        InputError: it has another form.
    """
    columns = read_table(path)
    missing = [name for name in ("corruption", "severity") if name not in columns]
    if missing:
        raise InputError(
            f"{path}: expected a table with the columns corruption, severity and image, or a folder "
            f"with one file for each cell; it has no {missing[0]}."
        )
    rows: dict[Cell, list[int]] = {}
    for row, (name, severity) in enumerate(
        zip(columns["corruption"], columns["severity"], strict=True)
    ):
        rows.setdefault(_read_cell(name, severity, f"{path}, row {row + 1}"), []).append(row)
    return {
        cell: _from_columns(
            {name: [values[row] for row in chosen] for name, values in columns.items()},
            f"{path.name}, {cell}",
        )
        for cell, chosen in rows.items()
    }


def has_cells(path: Path) -> bool:
    """Whether a file is a table of answers in all cells: not a table of results, which has no images.

    Raises:
        BrokenFileError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        return False
    if suffix == JSON:
        return is_json_of_answers(path) is True
    return suffix in (".csv", ".parquet") and any(name in read_table(path) for name in _IMAGE)


def is_json_of_answers(path: Path) -> bool | None:
    """Return whether a JSON file has answers of a classifier, by the names in its first record.

    They name an image and its classes or scores, and no box.

    Returns:
        None for an empty list, which any task may write.
    """
    names = peek_names(path)
    if not names:
        return None if names is None else False
    return names.isdisjoint(_DETECTED) and all(
        not names.isdisjoint(wanted) for wanted in (_IMAGE, _ANSWERS)
    )


def check_detections(path: Path, where: str) -> bool:
    """Return whether a JSON file has results of a detector; False for an empty list.

    Raises:
        InputError: its first record has neither a box nor a mask.
    """
    names = peek_names(path)
    if names is None:
        return False
    if names.isdisjoint(_DETECTED):
        shown = ", ".join(sorted(names)[:6])
        got = f"a record with {shown}" if names else "no records"
        raise InputError(
            f"{where}: expected COCO results, a list of objects with image_id, category_id, bbox or "
            f"segmentation, and score, got {got}. {FORMS}."
        )
    return True


def peek_names(path: Path) -> set[str] | None:
    """Return the names in the first record of a JSON file, in lower case, from its beginning alone.

    Results of detectors have hundreds of megabytes. Without a list of records, they are those of the
    outermost object, or none.

    Returns:
        None for an empty list or object, and for what does not begin like JSON.
    """
    with open_regular(path) as file:
        head = file.read(_HEAD).decode("utf-8-sig", "replace").lstrip()
    record = head[1:].lstrip() if head.startswith("[") else head
    if not head.startswith(("[", "{")) or record[:1] in ("]", ""):
        return None
    if not record.startswith("{"):
        return set()
    try:
        value, _ = json.JSONDecoder().raw_decode(record)
        names = {name.lower() for name in value}
    except (ValueError, RecursionError):  # longer than what was read
        names = {name.lower() for name in re.findall(r'"([^"\\]*)"\s*:', record)}
    return names or None


def read_table(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a CSV, Parquet or JSON file by their names in lower case.

    Raises:
        BrokenFileError: it cannot be read as that, or a row has another number of cells.
    """
    if path.suffix.lower() == ".parquet":
        return {name.lower(): values for name, values in read_columns(path).items()}
    if path.suffix.lower() == JSON:
        return _read_json_table(path)
    rows = list(read_csv(path))
    if not rows:
        raise BrokenFileError(f"{path}: expected a row of column names, got an empty file.")
    _, names = rows[0]
    for line, cells in rows[1:]:
        if len(cells) != len(names):
            raise BrokenFileError(
                f"{path}, line {line}: expected {pluralize(len(names), 'cell')}, one for each column, got "
                f"{len(cells)}."
            )
    return {
        name.lower(): [cells[place] for _, cells in rows[1:]] for place, name in enumerate(names)
    }


def _read_json_table(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a list of records, or of an object from name to column."""
    content = read_json(path)
    if isinstance(content, dict) and content:
        # pandas writes a column as an object from row to value.
        columns = [list(one.values()) if isinstance(one, dict) else one for one in content.values()]
        if (
            all(isinstance(one, list) for one in columns)
            and len({len(one) for one in columns}) == 1
        ):
            return {name.lower(): values for name, values in zip(content, columns, strict=True)}
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise BrokenFileError(
            f"{path}: expected a list of records, or columns of one length by name, got a "
            f"{type(content).__name__}. {FORMS}."
        )
    names = list(content[0]) if content else []
    for place, record in enumerate(content):
        if list(record) != names and set(record) != set(names):
            differing = sorted(set(record) ^ set(names))[0]
            raise BrokenFileError(
                f"{path}, record {place + 1}: expected the fields of the first one, "
                f"{', '.join(names)}; {'it has also' if differing in record else 'it has no'} "
                f"{differing}."
            )
    return {name.lower(): [record[name] for record in content] for name in names}


# ---------------------------------------------------------------- forms


def _from_arrays(arrays: Mapping[str, Any], where: str) -> ClassPredictions:
    images, labels = (
        _find_column(arrays, (*_IMAGE, "images", "ids")),
        _find_column(arrays, (*_LABEL, "labels")),
    )
    scores = _read_scores(arrays, where)
    if scores is None:
        raise InputError(
            f"{where}: expected an array called logits or probabilities, (N, K), got "
            f"{', '.join(arrays) or 'none'}."
        )
    predictions = ClassPredictions(
        where,
        logits=scores,
        images=None if images is None else [_to_text(one) for one in np.ravel(images)],
        labels=None if labels is None else [_to_text(one) for one in np.ravel(labels)],
    )
    return _check_lengths(predictions)


def _from_columns(columns: Mapping[str, list[Any]], where: str) -> ClassPredictions:
    images, labels = _find_column(columns, _IMAGE), _find_column(columns, _LABEL)
    if images is None:
        raise InputError(
            f"{where}: expected a column image with the images' names, got {', '.join(columns)}."
        )
    predictions = ClassPredictions(
        where,
        images=[_to_text(one) for one in images],
        labels=None if labels is None else [_to_text(one) for one in labels],
    )
    scores = _read_scores(columns, where)
    if scores is not None:
        return _check_lengths(replace(predictions, logits=scores))
    names = [name for name in (f"top{place}" for place in range(1, TOP + 1)) if name in columns]
    best = names or [name for name in _BEST if name in columns][:1]
    if not best or (names and names != [f"top{place}" for place in range(1, len(names) + 1)]):
        raise InputError(
            f"{where}: expected the answers in columns prediction, or top1 to top5, or lists in "
            f"logits or probabilities; got {', '.join(columns)}."
        )
    confidence = _find_column(columns, _CONFIDENCE)
    return replace(
        predictions,
        top=[
            [_to_text(one) for one in row]
            for row in zip(*(columns[name] for name in best), strict=True)
        ],
        confidence=None if confidence is None else _read_confidences(confidence, where),
    )


def _check_lengths(predictions: ClassPredictions) -> ClassPredictions:
    for what, values in (("images", predictions.images), ("labels", predictions.labels)):
        if values is not None and len(values) != len(predictions):
            raise InputError(
                f"{predictions.where}: {len(values)} {what} and {pluralize(len(predictions), 'row')} of "
                "scores; expected "
                "as many."
            )
    return predictions


def _find_column(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((values[name] for name in names if name in values), None)


# ---------------------------------------------------------------- numbers


def _read_scores(values: Mapping[str, Any], where: str) -> F32 | None:
    """Convert scores of all classes of any kind to logits."""
    if _LOGITS in values:
        return _read_matrix(values[_LOGITS], where).astype(np.float32)
    probabilities = _find_column(values, _PROBABILITIES)
    if probabilities is None:
        return None
    matrix = _read_matrix(probabilities, where)
    off = ~_sums_to_one(matrix)
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise InputError(
            f"{where}: expected probabilities in 0..1 that sum to 1 in each row; row {row} sums to "
            f"{matrix[row].sum():g} ({pluralize(int(off.sum()), 'such row')}). Call them logits if they are."
        )
    return _to_logits(matrix)


def _read_ambiguous(values: Any, where: str) -> F32:
    """Read an array whose kind of scores is not stated."""
    matrix = _read_matrix(values, where)
    if _sums_to_one(matrix).all():
        return _to_logits(matrix)
    if ((matrix >= 0) & (matrix <= 1)).all():
        raise InputError(
            f"{where}: the numbers are in 0..1, and the rows do not sum to 1: these may be "
            "probabilities or logits. Write an .npz with the array called probabilities or logits."
        )
    return matrix.astype(np.float32)


def _read_matrix(values: Any, where: str) -> F64:
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: expected rows of K numbers, all of one length.") from error
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(f"{where}: expected scores of shape (N, K), got {matrix.shape}.")
    return matrix


def _sums_to_one(matrix: F64) -> Any:
    inside = ((matrix >= 0) & (matrix <= 1 + _TOLERANCE)).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        return inside & (np.abs(matrix.sum(axis=1) - 1) <= _TOLERANCE)


def _to_logits(probabilities: F64) -> F32:
    # The smallest normal number replaces zero, whose logarithm is infinite.
    least = np.finfo(np.float32).tiny
    return np.asarray(np.log(np.maximum(probabilities, least)), np.float32)


def _read_confidences(values: Sequence[Any], where: str) -> F64:
    found = np.array([_read_probability(value, where) for value in values])
    outside = (found < 0) | (found > 1)
    if outside.any():
        raise InputError(
            f"{where}: expected confidences in 0..1, got {found[outside][0]:g}; hand in "
            "probabilities, not logits or percent."
        )
    return found


def _read_probability(value: Any, where: str) -> float:
    if value is None or value == "" or value != value:
        return math.nan
    number = read_number(value)
    if math.isnan(number):
        raise BrokenFileError(
            f"{where}: expected a confidence, a number in 0..1, got {value!r:.40}."
        )
    return number


def _read_cell(name: Any, severity: Any, where: str) -> Cell:
    level = read_integer(severity)
    if level is None or not 0 <= level <= 5:
        raise InputError(f"{where}: expected a severity from 0 to 5, got {severity!r:.40}.")
    called = canonicalize_corruption(str(name))
    return CLEAN if level == 0 or called == CLEAN.corruption else Cell(called, level)


def _to_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))  # a column of whole numbers with a gap comes as floats
    return "" if value is None else str(value)
