"""Forecast of a run's time, memory and disk from ten seconds of it; nothing is written."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.bench.arguments import CorruptionLike
from shiftproof.bench.cells.protocol import Protocol
from shiftproof.bench.cells.stream import Episode
from shiftproof.bench.cells.views import Encode, View
from shiftproof.bench.grid.extending import MergedRun, check_all_given, describe_extent, merge_run
from shiftproof.bench.grid.request import GridRequest, LoadedGrid
from shiftproof.bench.tasks.interface import AdapterLike, Prepared, Task
from shiftproof.compute.needs import Needs, measure_memory
from shiftproof.corruptions import COMMON
from shiftproof.corruptions.extent import format_existing
from shiftproof.data import ImageData
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.runs.folder import RunFolder
from shiftproof.types import Cell, Image, Sample

TRIED_SECONDS = 5.0
"""Minimum seconds for corrupting images, and for the models."""

_GOLDEN = (math.sqrt(5) - 1) / 2
"""The fractional parts of its multiples always split one of the widest remaining gaps."""

_ROWS = 8
"""Rows of the table from which the size of a row is estimated."""


@dataclass(frozen=True)
class Forecast:
    """Forecast of a run.

    Attributes:
        images: number of images.
        cells: number of corruptions times severities, plus the clean cell.
        models: number of models and adapters.
        passes: number of images over all models, cells and passes of adaptation.
        load_seconds: seconds of one process for reading, resizing and corrupting.
        model_seconds: seconds of the models on their device.
        workers: number of processes that read and corrupt.
        device: device of the models.
        tried: number of images in the trial.
        memory: bytes of all processes.
        disk: bytes of the records, and of the resized images that are cached during the run.
        parts: maximum number of commands or machines that can share the run.
        extent: what the run in the folder has, and what would be added; None without one.
    """

    images: int
    cells: int
    models: int
    passes: int
    load_seconds: float
    model_seconds: float
    workers: int
    device: str
    tried: int
    memory: int = 0
    disk: int = 0
    parts: int = 1
    extent: str | None = None

    @property
    def needs(self) -> Needs:
        """The needs on this machine, in the form common to all verbs."""
        return Needs(self.seconds, self.memory, self.disk, self.parts)

    @property
    def seconds(self) -> float:
        """Approximate duration; loading and models overlap unless both run on the CPU."""
        loading = self.load_seconds / max(self.workers, 1)
        if self.workers == 0 or self.device == "cpu":
            return loading + self.model_seconds
        return max(loading, self.model_seconds)


def forecast_run(
    models: Any,
    data: ImageData | str | Path,
    *,
    task: Task,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike] = COMMON,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike] = (),
    images: int | str | None = None,
    batch_size: int | None = None,
    protocol: Protocol | None = None,
    seed: int = 0,
    encode: Encode = "none",
    workers: int | None = None,
    device: str = "cpu",
    out: str | Path | None = None,
) -> Forecast:
    """Return a forecast of :func:`run` with the same arguments; nothing is written.

    Of a run that is there in the folder ``out`` only what is missing is foretold.

    For five seconds, evenly spaced images are corrupted by every corruption at its middle severity;
    for five more, the models predict batches of them. It is rough, since images differ in size.

    Raises:
        InputError: an argument cannot be used, or none of the images can be read.
        RunMismatchError: ``out`` belongs to a run with other settings, or that cannot be extended so.
    """
    request = GridRequest(
        models=models, data=data, task=task, corruptions=corruptions, severities=severities,
        adapters=adapters, images=images, batch_size=batch_size, protocol=protocol or Protocol(),
        seed=seed, encode=encode, workers=workers, device=device,
    )  # fmt: skip
    folder = None if out is None else RunFolder(Path(out))
    merged = _load_merged(request, folder)
    grid = merged.grid
    grid.check_copies()
    prepared, samples = grid.prepared, grid.prepared.data.samples
    missing = None if folder is None else set(merged.list_missing(folder))
    left = _Left.of(grid, missing)
    size = min(grid.batch_size, len(samples))
    seconds, tried, examples = _time_loading(grid, left.cells or grid.cells, keep=size)
    batch = list(itertools.islice(itertools.cycle(examples), size))
    per_image = _time_models(prepared, batch, left.passes)
    keeps = prepared.keeps_images and prepared.corrupted is None and left.tables
    per_record = round(_record_bytes(prepared, samples, batch) * left.tables)
    return Forecast(
        images=len(samples),
        cells=len(grid.cells),
        models=len(prepared.titles),
        passes=sum(left.passes.values()),
        load_seconds=seconds * left.loads / max(len(left.cells), 1),
        model_seconds=sum(per_image[name] * count for name, count in left.passes.items()),
        workers=grid.workers,
        device=prepared.device,
        tried=tried,
        memory=measure_memory(grid.workers),
        disk=len(samples) * (per_record + (examples[0].nbytes if keeps else 0)),
        parts=left.parts,
        extent=_describe(merged, left, folder),
    )


def _load_merged(request: GridRequest, folder: RunFolder | None) -> MergedRun:
    """Return the grid that a run would have: with what the folder has already."""
    grid = request.load(None)
    if folder is None or not folder.run_file.is_file():
        return MergedRun(grid, {})
    merged = merge_run(folder.path, grid)
    if not merged.is_done(folder):
        check_all_given(merged, folder, gallery_needs_models=request.task.gallery_needs_models)
    return merged


@dataclass(frozen=True)
class _Left:
    """What a run has not recorded yet.

    Attributes:
        cells: that some model lacks.
        passes: number of forward passes of each model, in images.
        loads: number of images that are read and corrupted.
        tables: number of record tables.
        parts: number of models in episodes.
    """

    cells: Sequence[Cell]
    passes: Mapping[str, int]
    loads: int
    tables: int
    parts: int

    @classmethod
    def of(cls, grid: LoadedGrid, missing: Collection[tuple[str, Cell]] | None) -> _Left:
        names, streams = list(grid.prepared.models), grid.list_episodes()
        lacks = [
            (episode, [name for name in names if _lacks(name, episode, missing)])
            for episode in streams
        ]
        lengths = {episode.name: sum(map(len, episode.visits)) for episode in streams}
        cells = dict.fromkeys(cell for episode, some in lacks if some for cell in episode.cells)
        return cls(
            cells=list(cells),
            passes={
                name: sum(lengths[episode.name] for episode, some in lacks if name in some)
                for name in names
            },
            loads=sum(lengths[episode.name] for episode, some in lacks if some),
            tables=len(grid.cells) * len(names) if missing is None else len(missing),
            parts=sum(len(some) for _, some in lacks),
        )


def _lacks(name: str, episode: Episode, missing: Collection[tuple[str, Cell]] | None) -> bool:
    return missing is None or any((name, cell) in missing for cell in episode.cells)


def _describe(merged: MergedRun, left: _Left, folder: RunFolder | None) -> str | None:
    if folder is None or merged.previous is None:
        return None
    info = describe_extent(merged, folder)
    stored = len(merged.titles) * len(merged.grid.cells) - left.tables
    return info or f"{format_existing(stored)}, {left.tables:,} are left"


def _spread(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Yield each sample once, in an order in which any first few are evenly spread."""
    seen = set()
    # Three times as many steps reach every sample.
    for step in range(3 * len(samples)):
        place = int(step * _GOLDEN % 1 * len(samples))
        if place not in seen:
            seen.add(place)
            yield samples[place]


def _time_loading(
    grid: LoadedGrid, cells: Sequence[Cell], *, keep: int
) -> tuple[float, int, list[Image]]:
    """Return the seconds per image in all cells, the number of tried images, and some results."""
    view, samples = grid.view, grid.prepared.data.samples
    shown = _choose_middle(cells)
    for cell in shown:
        _load(view, samples[0], cell)  # compiles and opens what is needed once
    begun, total, tried = time.perf_counter(), 0.0, 0
    examples: list[Image] = []
    for sample in _spread(samples):
        found: list[Image] = []
        for cell, count in shown.items():
            start = time.perf_counter()
            found = _load(view, sample, cell) or found
            total += count * (time.perf_counter() - start)
        tried += 1
        examples = (examples + found)[:keep]
        if examples and time.perf_counter() - begun > TRIED_SECONDS:
            break
    if not examples:
        raise InputError("None of the images that were tried for the estimate can be read.")
    return total / tried, tried, examples


def _choose_middle(cells: Sequence[Cell]) -> dict[Cell, int]:
    """Return of each corruption the cell of the middle severity, and the number that it stands for."""
    of_corruption: dict[str, list[Cell]] = {}
    for cell in cells:
        of_corruption.setdefault(cell.corruption, []).append(cell)
    found = {}
    for some in of_corruption.values():
        rising = sorted(some, key=lambda cell: cell.severity)
        found[rising[len(rising) // 2]] = len(rising)
    return found


def _load(view: View, sample: Sample, cell: Cell) -> list[Image]:
    """Return a list with the image; empty if it is unreadable."""
    try:
        return [view.load(sample, cell)]
    except BrokenFileError:
        return []


def _time_models(
    prepared: Prepared, images: Sequence[Image], most: Mapping[str, int]
) -> dict[str, float]:
    """Return the seconds per image in each model, without the first batch."""
    found = {}
    batch = prepared.recording.gather(images)
    for name, model in prepared.models.items():
        found[name] = 0.0
        if not most[name]:
            continue
        prepared.recording.predict(model, batch)
        start, count = time.perf_counter(), 0
        while not count or (
            count < most[name] and time.perf_counter() - start < TRIED_SECONDS / len(most)
        ):
            prepared.recording.predict(model, batch)
            count += len(images)
        found[name] = (time.perf_counter() - start) / count
    return found


def _record_bytes(prepared: Prepared, samples: Sequence[Sample], images: Sequence[Image]) -> float:
    """Return the bytes per image of a record table, from two tables of the first model."""
    count = min(len(images), _ROWS)
    model = next(iter(prepared.models.values()))
    recording = prepared.recording
    answers = recording.predict(model, recording.gather(images[:count]))
    sizes = []
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as scratch:
        for rows in (range(1), range(count)):
            recorder = recording.recorder(samples[: len(rows)])
            recorder.add(list(rows), recording.pick(answers, list(rows)), list(rows))
            table = Path(scratch) / f"{len(rows)}.parquet"
            recording.write(table, recorder)
            sizes.append(table.stat().st_size)
    return max(0.0, (sizes[1] - sizes[0]) / max(count - 1, 1))
