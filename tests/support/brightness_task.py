"""A custom task in one file: predict the brightness of images. Models are functions to floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import pyarrow as pa

from shiftproof.bench import SOURCE, Grid, Measured, OnTheFly, Prepared, Task, as_loaded
from shiftproof.metrics import LEVEL, REPLICATES, sum_resamples
from shiftproof.runs import (
    BrokenImage,
    Headline,
    Images,
    Measure,
    Replicates,
    Resampling,
    RunFolder,
    explain_other_images,
    open_table,
    write_table,
)
from shiftproof.types import Cell, Image, Sample

Gauge: TypeAlias = Callable[[Sequence[Image]], Sequence[float]]

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("target", pa.float64(), nullable=False),
        pa.field("prediction", pa.float64()),
        pa.field("error", pa.string()),
    ]
)

ERROR = Measure("error", "mean absolute error", lower_is_better=True, unit="number", high=None)
HEADLINES = (
    Headline("clean", "Clean error", "grey levels", lower_is_better=True, unit="number"),
    Headline("mean", "Error under corruption", "grey levels", lower_is_better=True, unit="number"),
)


class _Recorder:
    """Rows of one cell, by image index."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.rows: dict[int, dict[str, Any]] = {}

    def add(self, rows: Sequence[int], answers: Sequence[float], positions: Sequence[int]) -> None:
        for row, answer, position in zip(rows, answers, positions, strict=True):
            self._add(row, position, float(answer), None)

    def add_broken(self, row: int, reason: str, position: int) -> None:
        self._add(row, position, None, reason)

    def _add(self, row: int, position: int, answer: float | None, reason: str | None) -> None:
        sample = self.samples[row]
        self.rows[row] = {
            "id": sample.id, "position": int(position), "target": float(sample.label or 0),
            "prediction": answer, "error": reason,
        }  # fmt: skip


class _Recording:
    def gather(self, images: Sequence[Image]) -> list[Image]:
        return list(images)

    def predict(self, model: Gauge, batch: list[Image]) -> np.ndarray:
        return np.asarray(model(batch), dtype=np.float64)

    def pick(self, answers: np.ndarray, places: Sequence[int]) -> np.ndarray:
        return answers[list(places)]

    def recorder(self, samples: Sequence[Sample]) -> _Recorder:
        return _Recorder(samples)

    def resume(self, path: Path, samples: Sequence[Sample]) -> _Recorder:
        recorder = _Recorder(samples)
        places = {sample.id: row for row, sample in enumerate(samples)}
        with open_table(path, SCHEMA) as table:
            recorder.rows = {places[row["id"]]: row for row in table.to_pylist()}
        return recorder

    def write(self, path: Path, recorder: _Recorder) -> None:
        rows = [recorder.rows[row] for row in sorted(recorder.rows)]
        write_table(path, pa.Table.from_pylist(rows, schema=SCHEMA))


@final
class Brightness(Task):
    """Measure the error of predicted gray levels."""

    kind = "brightness"

    def prepare(self, models, data, adapters, *, device) -> Prepared:
        named = dict(models) if isinstance(models, Mapping) else {SOURCE: models}

        def make_view(corruptions, seed, encode):
            return OnTheFly(data, as_loaded, corruptions, seed=seed, encode=encode)

        return Prepared(
            models=named,
            titles={name: name for name in named},
            data=data,
            recording=_Recording(),
            settings={"models": {name: {"function": name} for name in named}, "adapters": {}},
            about={},
            make_view=make_view,
        )

    def begin(self, folder: RunFolder, prepared: Prepared) -> None:
        """Write nothing besides the records."""

    def measure(
        self, folder: RunFolder, models: Sequence[str], grid: Grid, *, workers, show_progress
    ) -> Measured:
        tables = {
            (name, cell): _read(folder.records_file(name, cell))
            for name in models
            for cell in grid.cells
        }
        ids = next(iter(tables.values()))["id"]
        for (name, cell), table in tables.items():
            if table["id"] != ids:
                raise explain_other_images(folder.records_file(name, cell))
        sums = sum_resamples(
            [lambda table=table: _columns(table) for table in tables.values()], len(ids)
        )
        cells: dict[str, dict[Cell, dict[str, Replicates]]] = {name: {} for name in models}
        for (name, cell), one in zip(tables, sums, strict=True):
            counted = np.where(one[:, 0] > 0, one[:, 0], np.nan)
            cells[name][cell] = {"error": one[:, 1] / counted}
        first = tables[models[0], grid.cells[0]]
        broken = [
            BrokenImage(name, 1, str(grid.cells[0]), reason)
            for name, reason in zip(ids, first["error"], strict=True)
            if reason is not None
        ]
        return Measured(
            measures=(ERROR,),
            headlines=HEADLINES,
            cells=cells,
            images=Images(len(ids), len(ids) - len(broken), tuple(broken)),
            interval=Resampling(
                LEVEL, "paired percentile bootstrap over images", REPLICATES, 0,
            ),
        )  # fmt: skip

    def save_gallery(self, folder, prepared, view, cells) -> None:
        """Save no images."""


def _read(path: Path) -> dict[str, list[Any]]:
    with open_table(path, SCHEMA) as table:
        return table.to_pydict()


def _columns(table: Mapping[str, list[Any]]) -> np.ndarray:
    """Return ``(N, 2)``: whether the image counts, and its error."""
    counts = np.array([reason is None for reason in table["error"]])
    answers = np.array([np.nan if one is None else one for one in table["prediction"]])
    off = np.where(counts, np.abs(answers - np.array(table["target"])), 0)
    return np.stack([counts, off], axis=1)
