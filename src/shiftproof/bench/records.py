"""The record table: one row per image, one Parquet file per cell and model, averaged last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shiftproof import files
from shiftproof.errors import BrokenFileError
from shiftproof.metrics import classification
from shiftproof.types import Cell, Logits, Sample

if TYPE_CHECKING:
    import pyarrow

TOP = 5


@dataclass
class CellRecords:
    """What one model answered in one cell, one entry per sample in the order of the data set.

    ``target`` and ``prediction`` are indices into the model's classes, -1 where there is none
    (no label; a file that could not be read). ``confidence`` is the largest softmax probability,
    ``loss`` the cross-entropy in nats (NaN without a target), ``top`` the five classes of highest
    score, best first. ``position`` is the place in the stream that the model saw. ``error`` says why
    a file could not be read.
    """

    ids: list[str] = field(default_factory=list)
    position: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    target: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    prediction: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    confidence: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    loss: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    top: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, TOP), np.int32))
    error: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """``(N,)`` bool: which files could be read."""
        return np.array([reason is None for reason in self.error], dtype=bool)


class CellRecorder:
    """Collects the answers of one model in one cell, batch by batch, in the order of the stream."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Any, ...]] = {}

    def add(self, samples: Sequence[Sample], logits: Logits) -> None:
        """Record one batch; ``logits`` is ``(N, K)`` for the N samples."""
        target = np.array([-1 if s.label is None else s.label for s in samples], dtype=np.int32)
        top = classification.top_classes(logits, TOP)
        confidence = classification.confidence(logits)
        loss = np.full(len(samples), np.nan, dtype=np.float32)
        known = target >= 0
        if known.any():
            loss[known] = classification.cross_entropy(logits[known], target[known])
        for row, sample in enumerate(samples):
            position = len(self._rows)
            padded = np.full(TOP, -1, dtype=np.int32)
            padded[: top.shape[1]] = top[row]
            self._rows[sample.id] = (
                position, target[row], top[row, 0], confidence[row], loss[row], padded, None,
            )  # fmt: skip

    def add_broken(self, sample: Sample, reason: str) -> None:
        """Record a file that could not be read."""
        label = -1 if sample.label is None else sample.label
        self._rows[sample.id] = (
            len(self._rows), label, -1, np.nan, np.nan, np.full(TOP, -1, np.int32), reason,
        )  # fmt: skip

    def finish(self, samples: Sequence[Sample]) -> CellRecords:
        """Return the table in the order of ``samples``."""
        rows = [self._rows[sample.id] for sample in samples]
        position, target, prediction, confidence, loss, top, error = zip(*rows, strict=True)
        return CellRecords(
            ids=[sample.id for sample in samples],
            position=np.array(position, dtype=np.int32),
            target=np.array(target, dtype=np.int32),
            prediction=np.array(prediction, dtype=np.int32),
            confidence=np.array(confidence, dtype=np.float32),
            loss=np.array(loss, dtype=np.float32),
            top=np.stack(top),
            error=list(error),
        )


# ---------------------------------------------------------------- Parquet


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            pa.field("target", pa.int32()),
            pa.field("prediction", pa.int32()),
            pa.field("confidence", pa.float32()),
            pa.field("top5", pa.list_(pa.int32())),
            pa.field("loss", pa.float32()),
            pa.field("error", pa.string()),
        ]
    )


def write_cell(path: Path, records: CellRecords) -> None:
    """Write a cell's table atomically: the same records give the same bytes. What is missing is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    absent = records.prediction < 0
    columns = [
        pa.array(records.ids, pa.string()),
        pa.array(records.position, pa.int32()),
        pa.array(records.target, pa.int32(), mask=records.target < 0),
        pa.array(records.prediction, pa.int32(), mask=absent),
        pa.array(records.confidence, pa.float32(), mask=absent),
        pa.array([[c for c in row if c >= 0] or None for row in records.top.tolist()],
                 pa.list_(pa.int32())),
        pa.array(records.loss, pa.float32(), mask=np.isnan(records.loss)),
        pa.array(records.error, pa.string()),
    ]  # fmt: skip
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=_schema()), buffer, compression="zstd")
    files.write_bytes(path, buffer.getvalue().to_pybytes())


def read_cell(path: Path) -> CellRecords:
    """Read a cell's table.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
        if not table.schema.equals(_schema()):
            raise ValueError(f"expected the columns {', '.join(_schema().names)}")
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise BrokenFileError(
            f"{path}: not a readable record table ({str(error).splitlines()[0][:200]}). "
            "Delete it and start the run again: only this cell is done anew."
        ) from error
    column = {name: table.column(name).combine_chunks() for name in table.schema.names}
    top = np.full((len(table), TOP), -1, dtype=np.int32)
    for row, classes in enumerate(column["top5"].to_pylist()):
        if classes:
            top[row, : len(classes)] = classes[:TOP]
    return CellRecords(
        ids=column["id"].to_pylist(),
        position=_numpy(column["position"], np.int32, -1),
        target=_numpy(column["target"], np.int32, -1),
        prediction=_numpy(column["prediction"], np.int32, -1),
        confidence=_numpy(column["confidence"], np.float32, np.nan),
        loss=_numpy(column["loss"], np.float32, np.nan),
        top=top,
        error=column["error"].to_pylist(),
    )


def _numpy(array: Any, dtype: Any, missing: float) -> NDArray[Any]:
    if array.null_count:
        array = array.fill_null(missing)
    return np.asarray(array, dtype=dtype)


def cell_file(folder: Path, model: str, cell: Cell) -> Path:
    """Return where the records of ``model`` in ``cell`` lie below the run's folder."""
    return folder / "records" / model / f"{cell}.parquet"
