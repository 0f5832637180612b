"""The record table of classifiers: one row per image, one file per cell and model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.io.parquet import NameCache, decode_texts
from shiftproof.metrics.conformal import METHODS
from shiftproof.runs.folder import make_cell_path
from shiftproof.runs.parquet import TableFormat, open_table, read_same_images
from shiftproof.runs.records.rows import ImageRows
from shiftproof.types import F32, I32, Cell, Flags

if TYPE_CHECKING:
    import pyarrow

TOP = 5
"""Number of recorded classes with the highest scores."""

_SCALED = ("scaled_confidence", "scaled_loss", "scaled_brier")
_SETS = {"size": "int32", "covers": "bool"}


@dataclass
class CalibratedPredictions:
    """A model's predictions after temperature scaling, and its prediction sets, per sample.

    ``confidence``, ``loss`` (nats) and ``brier`` are those of :class:`CellRecords` at the fitted
    temperature. ``sizes`` ``(N, M)`` is the number of classes in the set of each of the M
    ``metrics.conformal.METHODS``, -1 without a prediction; ``covers`` ``(N, M)`` whether the true
    class is in it.
    """

    confidence: F32
    loss: F32
    brier: F32
    sizes: I32
    covers: Flags

    @classmethod
    def empty(cls, count: int) -> CalibratedPredictions:
        """Return predictions for ``count`` samples, none of which is recorded yet."""
        return cls(
            confidence=np.full(count, np.nan, np.float32),
            loss=np.full(count, np.nan, np.float32),
            brier=np.full(count, np.nan, np.float32),
            sizes=np.full((count, len(METHODS)), -1, np.int32),
            covers=np.zeros((count, len(METHODS)), bool),
        )

    def put(self, rows: NDArray[Any], predictions: CalibratedPredictions) -> None:
        """Store the predictions for some of the samples, given by their indices."""
        for column in dataclasses.fields(self):
            getattr(self, column.name)[rows] = getattr(predictions, column.name)

    def pick(self, rows: NDArray[Any]) -> CalibratedPredictions:
        """Return the predictions for some of the samples, given by their indices."""
        columns = (getattr(self, column.name) for column in dataclasses.fields(self))
        return CalibratedPredictions(*(values[rows] for values in columns))


@dataclass
class CellRecords(ImageRows):
    """The predictions of one model in one cell, one entry per sample in the order of the dataset.

    ``target`` and ``prediction`` are indices into the model's classes, -1 if there is none
    (no label; a file that could not be read). ``confidence`` is the largest softmax probability,
    ``loss`` the cross-entropy in nats (NaN without a target), ``top`` the five classes of highest
    score, best first. ``position`` is the index in the stream since the model's last reset (in an
    offline protocol, in the pass that predicts). ``error`` is the reason if a file could not be
    read. ``brier`` is the Brier score in 0..2 (NaN without a target), None if only the best classes
    are known, and in tables of earlier versions. ``calibrated`` is None in runs without held-out
    images for calibration.
    """

    ids: list[str] = field(default_factory=list)
    position: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    target: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    prediction: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    confidence: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    loss: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    top: I32 = field(default_factory=lambda: np.zeros((0, TOP), np.int32))
    error: list[str | None] = field(default_factory=list)
    brier: F32 | None = None
    calibrated: CalibratedPredictions | None = None

    def pick(self, rows: NDArray[Any]) -> CellRecords:
        """Return the records of some of the samples, given by their indices."""
        indices = rows.tolist()
        return CellRecords(
            ids=[self.ids[index] for index in indices],
            position=self.position[rows],
            target=self.target[rows],
            prediction=self.prediction[rows],
            confidence=self.confidence[rows],
            loss=self.loss[rows],
            top=self.top[rows],
            error=[self.error[index] for index in indices],
            brier=None if self.brier is None else self.brier[rows],
            calibrated=None if self.calibrated is None else self.calibrated.pick(rows),
        )


_COLUMNS = {
    "id": "string", "position": "int32", "target": "int32", "prediction": "int32",
    "confidence": "float32", "top5": "[int32]", "loss": "float32", "error": "string",
}  # fmt: skip


_METHOD_COLUMNS = {f"{method}_{name}": kind for method in METHODS for name, kind in _SETS.items()}

_FORMATS = tuple(
    TableFormat({**_COLUMNS, **further}, required=("id", "position"))
    for further in (
        {},
        {"brier": "float32"},
        {**dict.fromkeys(("brier", *_SCALED), "float32"), **_METHOD_COLUMNS},
    )
)
"""The formats of tables without Brier scores, with them, and with calibrated predictions."""


def _open(path: Path, known: NameCache | None = None) -> AbstractContextManager[pyarrow.Table]:
    """Open a table of any of the formats."""
    oldest, *newer = (form.make_schema() for form in _FORMATS)
    return open_table(path, oldest, newer=newer, known=known)


def write_cell(path: Path, records: CellRecords) -> None:
    """Write a cell's table, atomically and deterministically; missing values are null."""
    absent = records.prediction < 0
    values: dict[str, Any] = {
        "id": records.ids,
        "position": records.position,
        "target": records.target,
        "prediction": records.prediction,
        "confidence": records.confidence,
        "top5": [[label for label in row if label >= 0] or None for row in records.top.tolist()],
        "loss": records.loss,
        "error": records.error,
    }
    missing = {
        "target": records.target < 0,
        "prediction": absent,
        "confidence": absent,
        "loss": np.isnan(records.loss),
    }
    form = _FORMATS[0]
    if records.brier is not None:
        form = _FORMATS[1]
        values["brier"], missing["brier"] = records.brier, np.isnan(records.brier)
        if records.calibrated is not None:
            form = _FORMATS[2]
            _add_calibrated(records.calibrated, values, missing)
    form.write(path, values, missing)


def _add_calibrated(
    predictions: CalibratedPredictions, values: dict[str, Any], missing: dict[str, Flags]
) -> None:
    """Add the columns of calibrated predictions, and their missing rows."""
    numbers = (predictions.confidence, predictions.loss, predictions.brier)
    for name, column in zip(_SCALED, numbers, strict=True):
        values[name], missing[name] = column, np.isnan(column)
    for method, sizes, covers in zip(
        METHODS, predictions.sizes.T, predictions.covers.T, strict=True
    ):
        values[f"{method}_size"] = np.ascontiguousarray(sizes)
        values[f"{method}_covers"] = np.ascontiguousarray(covers)
        missing[f"{method}_size"] = missing[f"{method}_covers"] = sizes < 0


def read_cell(path: Path, known: NameCache | None = None) -> CellRecords:
    """Read a cell's table.

    Args:
        path: the file.
        known: cache of image names, since most cells have the same images.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    known = NameCache() if known is None else known
    with _open(path, known) as table:
        column = {name: _join_chunks(table.column(name)) for name in table.schema.names}
        if any(field.null_count for field in (column["id"], column["position"])):
            raise ValueError("a row has no position")
        return CellRecords(
            ids=known.list_texts(column["id"]),
            position=_to_numpy(column["position"], np.int32, -1),
            target=_to_numpy(column["target"], np.int32, -1),
            prediction=_to_numpy(column["prediction"], np.int32, -1),
            confidence=_to_numpy(column["confidence"], np.float32, np.nan),
            loss=_to_numpy(column["loss"], np.float32, np.nan),
            top=_read_top(column["top5"]),
            error=decode_texts(column["error"]),
            brier=_to_numpy(column["brier"], np.float32, np.nan) if "brier" in column else None,
            calibrated=_read_calibrated(column) if _SCALED[0] in column else None,
        )


def _read_top(column: Any) -> I32:
    """Return lists of classes as ``(N, TOP)``, padded with -1."""
    import pyarrow.compute as pc

    values = column.flatten()
    if values.null_count:
        raise ValueError("a class has no number")
    lengths = _to_numpy(pc.list_value_length(column), np.int64, 0)
    if (lengths == TOP).all():
        return _to_numpy(values, np.int32, -1).reshape(len(column), TOP)
    is_listed = np.arange(TOP) < lengths[:, None]
    indices = (np.cumsum(lengths) - lengths)[:, None] + np.arange(TOP)
    top = np.full(is_listed.shape, -1, dtype=np.int32)
    top[is_listed] = _to_numpy(values, np.int32, -1)[indices[is_listed]]
    return top


def _read_calibrated(column: dict[str, Any]) -> CalibratedPredictions:
    return CalibratedPredictions(
        confidence=_to_numpy(column["scaled_confidence"], np.float32, np.nan),
        loss=_to_numpy(column["scaled_loss"], np.float32, np.nan),
        brier=_to_numpy(column["scaled_brier"], np.float32, np.nan),
        sizes=np.stack(
            [_to_numpy(column[f"{method}_size"], np.int32, -1) for method in METHODS], axis=1
        ),
        covers=np.stack(
            [_to_numpy(column[f"{method}_covers"], bool, False) for method in METHODS], axis=1
        ),
    )


def read_class_predictions(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Read label, prediction and confidence of the images that have all three.

    Returns:
        ``(N,)`` int32, int32 and float32, in the order of the table.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    with _open(path) as table:
        target, prediction, confidence = (
            _to_numpy(_join_chunks(table.column(name)), dtype, missing)
            for name, dtype, missing in (
                ("target", np.int32, -1), ("prediction", np.int32, -1),
                ("confidence", np.float32, np.nan),
            )
        )  # fmt: skip
    complete = (target >= 0) & (prediction >= 0) & np.isfinite(confidence)
    return target[complete], prediction[complete], confidence[complete]


def read_tables(
    folder: Path, models: Sequence[str], cells: Sequence[Cell]
) -> dict[str, dict[Cell, CellRecords]]:
    """Read the tables of ``models`` in ``cells`` below a run's folder.

    Raises:
        BrokenFileError: a table cannot be read, or has other images.
    """
    paths = {(name, cell): make_cell_path(folder, name, cell) for name in models for cell in cells}
    tables: dict[str, dict[Cell, CellRecords]] = {name: {} for name in models}
    known = NameCache()
    for (name, cell), record in read_same_images(
        paths, lambda path: read_cell(path, known)
    ).items():
        tables[name][cell] = record
    return tables


def _join_chunks(column: Any) -> Any:
    # Combining would copy even a single chunk.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _to_numpy(array: Any, dtype: Any, missing: float) -> NDArray[Any]:
    if array.null_count:
        array = array.fill_null(missing)
    if dtype is bool:  # bits in Arrow, bytes in numpy
        return np.asarray(array, dtype)
    # Not np.asarray, for which Arrow imports pandas.
    return np.asarray(np.from_dlpack(array), dtype)
