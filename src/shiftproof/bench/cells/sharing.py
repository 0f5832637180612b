"""Distribution of a run's cells over several commands, or the machines of a cluster.

A part is one model in one episode, since adapters are reset between episodes.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.bench.cells.filling import Workload, fill
from shiftproof.bench.cells.recording import Recording
from shiftproof.bench.cells.stream import Episode
from shiftproof.errors import BrokenFileError
from shiftproof.runs.folder import RunFolder
from shiftproof.shards import (
    Arrays,
    Backend,
    FileParts,
    Ray,
    check_finished,
    fill_parts,
    pack_files,
)
from shiftproof.shards.access import make_access_error

WHAT = "Benchmark"


@dataclass(frozen=True, eq=False)
class FillJob:
    """All episodes of a run, and how they are recorded.

    Attributes:
        workloads: the workloads, run one after the other.
        recording: records the predictions.
        batch_size: images per batch.
    """

    workloads: Sequence[Workload]
    recording: Recording
    batch_size: int

    @property
    def parts(self) -> list[tuple[int, Episode, str]]:
        """The parts: index of the workload, episode, and name of the model."""
        return [
            (number, episode, name)
            for number, workload in enumerate(self.workloads)
            for episode in workload.episodes
            for name in workload.models
        ]


def fill_shared(
    folder: RunFolder,
    job: FillJob,
    backend: Backend | None,
    *,
    workers: int,
    show_progress: bool | None,
) -> None:
    """Fill a run's folder: all of it here, a worker's share, or on a cluster.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        RunError: a machine of the cluster does not see the images.
    """
    parts = FileParts(folder.path, tuple(_list_files(job)))
    if isinstance(backend, Ray):
        fill_parts(WHAT, make_cells, job, parts, backend, show=show_progress)
        return
    workloads = job.workloads
    if backend is not None:
        workloads = list(_narrow(job, set(backend.share(parts.missing()))))
    for workload in workloads:
        fill(
            folder,
            workload,
            job.recording,
            batch_size=job.batch_size,
            workers=workers,
            show_progress=show_progress,
        )
    if backend is not None:
        check_finished(WHAT, parts, backend)


def make_cells(job: FillJob, part: int) -> Arrays:
    """Return the files of one part, made on a machine of a cluster."""
    number, episode, name = job.parts[part]
    workload = job.workloads[number]
    _check_images(workload, episode)
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as scratch:
        fill(
            RunFolder(Path(scratch)),
            dataclasses.replace(workload, episodes=[episode], models={name: workload.models[name]}),
            job.recording,
            batch_size=job.batch_size,
            workers=0,
            show_progress=False,
        )
        found = pack_files(Path(scratch))
    return {path: content for path, content in found.items() if not path.startswith("cache/")}


def _list_files(job: FillJob) -> Iterable[tuple[str, ...]]:
    inner = RunFolder(Path())
    for _, episode, name in job.parts:
        yield tuple(inner.records_file(name, cell).as_posix() for cell in episode.cells)


def _narrow(job: FillJob, mine: set[int]) -> Iterable[Workload]:
    """Yield the workloads of the parts ``mine``.

    Models with the same episodes share a workload, so that each image is made only once for them.
    """
    todo: dict[tuple[int, tuple[str, ...]], list[Episode]] = {}
    by_episode: dict[tuple[int, str], list[str]] = {}
    episodes: dict[tuple[int, str], Episode] = {}
    for part, (number, episode, name) in enumerate(job.parts):
        if part in mine:
            by_episode.setdefault((number, episode.name), []).append(name)
            episodes[number, episode.name] = episode
    for key, names in by_episode.items():
        todo.setdefault((key[0], tuple(names)), []).append(episodes[key])
    for (number, chosen), some in todo.items():
        workload = job.workloads[number]
        models = {name: workload.models[name] for name in chosen}
        yield dataclasses.replace(workload, episodes=some, models=models)


def _check_images(workload: Workload, episode: Episode) -> None:
    """Refuse to record images as broken if this machine can read none of them.

    Stops at the first readable image, so it usually costs the reading of one.
    """
    first = None
    for sample in workload.samples:
        try:
            workload.view.load(sample, episode.cells[0])
        except BrokenFileError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise make_access_error("the images", str(first).removesuffix("."))
