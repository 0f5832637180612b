"""Forecast of a run's time, memory and disk from ten seconds of it; nothing is written."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.bench.arguments import (
    CorruptionLike,
    check_at_least_one,
    check_encode,
    check_readable,
    check_severities,
    default_workers,
)
from shiftproof.bench.opening import lay_out
from shiftproof.bench.protocol import Protocol
from shiftproof.bench.stream import Episode, episodes
from shiftproof.bench.task import AdapterLike, Prepared, Task
from shiftproof.bench.views import Encode, View
from shiftproof.compute.needs import Needs, measure_memory
from shiftproof.corruptions import COMMON
from shiftproof.data import ImageData, choose_images
from shiftproof.errors import BrokenFileError, InputError
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
) -> Forecast:
    """Return a forecast of :func:`run` with the same arguments; nothing is written.

    For five seconds, evenly spaced images are corrupted by every corruption at its middle severity;
    for five more, the models predict batches of them. It is rough, since images differ in size.

    Raises:
        InputError: an argument cannot be used, or none of the images can be read.
    """
    chosen = check_severities(severities)
    if batch_size is not None:
        check_at_least_one("batch_size", batch_size)
    check_encode(encode)
    prepared = task.prepare(models, data, adapters, device=device)
    wanted = prepared.data if images is None else choose_images(prepared.data, images)
    on_disk = prepared.corrupted
    layout = lay_out(
        prepared, corruptions, chosen, seed=seed, encode=encode, clean=prepared.has_clean
    )
    cells = layout.cells
    if on_disk is None:
        check_readable(wanted)
    streams = episodes(cells, wanted.samples, protocol or Protocol(), seed=seed)
    size = min(prepared.batch_size if batch_size is None else batch_size, len(wanted.samples))
    seconds, tried, loaded = _time_loading(layout.view, wanted.samples, cells, chosen, keep=size)
    batch = list(itertools.islice(itertools.cycle(loaded), size))
    workers = default_workers(prepared.device) if workers is None else workers
    shown = _count_shown(streams, len(prepared.models))
    per_image = _time_models(prepared, batch, shown // len(prepared.models))
    return Forecast(
        images=len(wanted.samples),
        cells=len(cells),
        models=len(prepared.models),
        passes=shown,
        load_seconds=seconds * len(wanted.samples) * _repeats(streams, cells, wanted.samples),
        model_seconds=per_image * shown / len(prepared.models),
        workers=workers,
        device=prepared.device,
        tried=tried,
        memory=measure_memory(workers),
        disk=len(wanted.samples)
        * (
            round(
                _record_bytes(prepared, wanted.samples, batch) * len(cells) * len(prepared.models)
            )
            + (loaded[0].nbytes if prepared.keeps_images and on_disk is None else 0)
        ),
        parts=len(streams) * len(prepared.models),
    )


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
    view: View,
    samples: Sequence[Sample],
    cells: Sequence[Cell],
    severities: Sequence[int],
    *,
    keep: int,
) -> tuple[float, int, list[Image]]:
    """Return the seconds per image in all cells, the number of tried images, and some results."""
    middle = sorted(severities)[len(severities) // 2]
    shown = [cell for cell in cells if cell.is_clean or cell.severity == middle]
    for cell in shown:
        _load(view, samples[0], cell)  # compiles and opens what is needed once
    begun, total, tried = time.perf_counter(), 0.0, 0
    loaded: list[Image] = []
    for sample in _spread(samples):
        found: list[Image] = []
        for cell in shown:
            start = time.perf_counter()
            found = _load(view, sample, cell) or found
            spent = time.perf_counter() - start
            total += spent * (1 if cell.is_clean else len(severities))
        tried += 1
        loaded = (loaded + found)[:keep]
        if loaded and time.perf_counter() - begun > TRIED_SECONDS:
            break
    if not loaded:
        raise InputError("None of the images that were tried for the estimate can be read.")
    return total / tried, tried, loaded


def _load(view: View, sample: Sample, cell: Cell) -> list[Image]:
    """Return a list with the image; empty if it is unreadable."""
    try:
        return [view.load(sample, cell)]
    except BrokenFileError:
        return []


def _time_models(prepared: Prepared, images: Sequence[Image], most: int) -> float:
    """Return the seconds per image in all models, without the first batch.

    Args:
        prepared: the prepared models and data.
        images: the images of a batch.
        most: number of images that the run shows to a model.
    """
    total = 0.0
    batch = prepared.recording.gather(images)
    for model in prepared.models.values():
        prepared.recording.predict(model, batch)
        start, count = time.perf_counter(), 0
        while not count or (
            count < most and time.perf_counter() - start < TRIED_SECONDS / len(prepared.models)
        ):
            prepared.recording.predict(model, batch)
            count += len(images)
        total += (time.perf_counter() - start) / count
    return total


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


def _count_shown(streams: Sequence[Episode], models: int) -> int:
    """Return the number of images shown to all models together."""
    return models * sum(len(visit) for episode in streams for visit in episode.visits)


def _repeats(streams: Sequence[Episode], cells: Sequence[Cell], samples: Sequence[Sample]) -> float:
    """Return how often an image is loaded per cell, more than once if adaptation repeats it."""
    return _count_shown(streams, 1) / (len(cells) * len(samples))
