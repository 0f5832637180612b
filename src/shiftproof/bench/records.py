"""The record table: one row per image, one Parquet file per cell and model, averaged last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.io.parquet import texts_of
from shiftproof.metrics import classification
from shiftproof.models import ClassifierLike
from shiftproof.types import Cell, Image, Images, Logits, Sample

from .record_files import other_images, reading, write_table

if TYPE_CHECKING:
    import pyarrow

TOP = 5


@dataclass
class CellRecords:
    """What one model answered in one cell, one entry per sample in the order of the data set.

    ``target`` and ``prediction`` are indices into the model's classes, -1 where there is none
    (no label; a file that could not be read). ``confidence`` is the largest softmax probability,
    ``loss`` the cross-entropy in nats (NaN without a target), ``top`` the five classes of highest
    score, best first. ``position`` is the place in the stream that the model saw since its last
    reset (of an offline protocol, in the pass that predicts). ``error`` says why a file could not
    be read.
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
    """Collects the answers of one model in one cell, batch by batch; ``samples`` are the cell's.

    Arrays and no rows: where all cells are mixed, all of them are under way at once.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        count = len(samples)
        self._samples = samples
        self._seen = np.zeros(count, dtype=bool)
        self._position = np.zeros(count, dtype=np.int32)
        self._prediction = np.full(count, -1, dtype=np.int32)
        self._confidence = np.full(count, np.nan, dtype=np.float32)
        self._loss = np.full(count, np.nan, dtype=np.float32)
        self._top = np.full((count, TOP), -1, dtype=np.int32)
        self._error: dict[int, str] = {}

    @classmethod
    def of(cls, records: CellRecords, samples: Sequence[Sample]) -> CellRecorder:
        """Go on with records of some of the samples.

        Raises:
            LookupError: records of other samples.
        """
        recorder = cls(samples)
        places = {sample.id: row for row, sample in enumerate(samples)}
        rows = np.array([places[name] for name in records.ids], dtype=np.int64)
        recorder._seen[rows] = True
        recorder._position[rows] = records.position
        recorder._prediction[rows] = records.prediction
        recorder._confidence[rows] = records.confidence
        recorder._loss[rows] = records.loss
        recorder._top[rows] = records.top
        recorder._error = {
            int(row): reason
            for row, reason in zip(rows, records.error, strict=True)
            if reason is not None
        }
        return recorder

    def add(self, rows: Sequence[int], logits: Logits, positions: Sequence[int]) -> None:
        """Record a batch of samples, given by their places; ``logits`` is ``(N, K)`` for those N."""
        where = np.array(rows, dtype=np.int64)
        target = np.array([_label(self._samples[row]) for row in rows], dtype=np.int32)
        top = classification.top_classes(logits, TOP)
        self._seen[where] = True
        self._position[where] = positions
        self._prediction[where] = top[:, 0]
        self._confidence[where] = classification.confidence(logits)
        self._top[where, : top.shape[1]] = top
        known = target >= 0
        if known.any():
            self._loss[where[known]] = classification.cross_entropy(logits[known], target[known])

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record a file that could not be read."""
        self._seen[row] = True
        self._position[row] = position
        self._error[row] = reason

    def finish(self) -> CellRecords:
        """Return the table of the samples that were seen, in their order."""
        rows = np.flatnonzero(self._seen)
        samples = [self._samples[row] for row in rows.tolist()]
        return CellRecords(
            ids=[sample.id for sample in samples],
            position=self._position[rows],
            target=np.array([_label(sample) for sample in samples], dtype=np.int32),
            prediction=self._prediction[rows],
            confidence=self._confidence[rows],
            loss=self._loss[rows],
            top=self._top[rows],
            error=[self._error.get(row) for row in rows.tolist()],
        )


class ClassifierRecording:
    """How the answers of classifiers are kept: logits in, the table of a cell out."""

    def gather(self, images: Sequence[Image]) -> Images | list[Image]:
        """Return one array where all images have one size, as behind a preprocess with a fixed size."""
        same = all(image.shape == images[0].shape for image in images)
        return np.stack(images) if images and same else list(images)

    def predict(self, model: ClassifierLike, batch: Images | Sequence[Image]) -> Logits:
        """Return the logits of a gathered batch."""
        return model.predict(batch)

    def pick(self, answers: Logits, places: Sequence[int]) -> Logits:
        """Return the logits of some of the images."""
        return answers[list(places)]

    def recorder(self, samples: Sequence[Sample]) -> CellRecorder:
        """Return an empty recorder."""
        return CellRecorder(samples)

    def resume(self, path: Path, samples: Sequence[Sample]) -> CellRecorder:
        """Return a recorder that goes on with a table."""
        return CellRecorder.of(read_cell(path), samples)

    def write(self, path: Path, recorder: CellRecorder) -> None:
        """Write what a recorder has."""
        write_cell(path, recorder.finish())


def _label(sample: Sample) -> int:
    return -1 if sample.label is None else sample.label


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
    write_table(path, pa.Table.from_arrays(columns, schema=_schema()))


def read_cell(path: Path) -> CellRecords:
    """Read a cell's table.

    Raises:
        BrokenFileError: the file is missing, damaged, or has other columns.
    """
    with reading(path, _schema()) as table:
        column = {name: table.column(name).combine_chunks() for name in table.schema.names}
        if any(field.null_count for field in (column["id"], column["position"])):
            raise ValueError("a row has no position")
        top = np.full((len(table), TOP), -1, dtype=np.int32)
        for row, classes in enumerate(column["top5"].to_pylist()):
            if classes:
                kept = classes[:TOP]
                top[row, : len(kept)] = kept
        return CellRecords(
            ids=column["id"].to_pylist(),
            position=_numpy(column["position"], np.int32, -1),
            target=_numpy(column["target"], np.int32, -1),
            prediction=_numpy(column["prediction"], np.int32, -1),
            confidence=_numpy(column["confidence"], np.float32, np.nan),
            loss=_numpy(column["loss"], np.float32, np.nan),
            top=top,
            error=texts_of(column["error"]),
        )


def read_tables(
    folder: Path, models: Sequence[str], cells: Sequence[Cell]
) -> dict[str, dict[Cell, CellRecords]]:
    """Read the tables of ``models`` in ``cells`` below a run's folder.

    Raises:
        BrokenFileError: one of them cannot be read, or they are not about the same images.
    """
    tables: dict[str, dict[Cell, CellRecords]] = {name: {} for name in models}
    ids: list[str] | None = None
    for name in models:
        for cell in cells:
            path = cell_file(folder, name, cell)
            record = read_cell(path)
            ids = record.ids if ids is None else ids
            if record.ids != ids:
                raise other_images(path)
            record.ids = ids  # one list for all cells: names are what takes the memory
            tables[name][cell] = record
    return tables


def _numpy(array: Any, dtype: Any, missing: float) -> NDArray[Any]:
    if array.null_count:
        array = array.fill_null(missing)
    return np.asarray(array, dtype=dtype)


def cell_file(folder: Path, model: str, cell: Cell) -> Path:
    """Return where the records of ``model`` in ``cell`` lie below the run's folder."""
    return folder / "records" / model / f"{cell}.parquet"
