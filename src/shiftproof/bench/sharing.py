"""Distribution of a run's cells over several commands, or the machines of a cluster.

A part is one model in one episode: what an adapter learns ends with the episode.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.bench.filling import Stretch, fill
from shiftproof.bench.recording import Recording
from shiftproof.bench.stream import Episode
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
class Filling:
    """All episodes of a run, and how they are recorded.

    Attributes:
        stretches: one after the other.
        recording: how the answers are kept.
        batch_size: images of a batch.
    """

    stretches: Sequence[Stretch]
    recording: Recording
    batch_size: int

    @property
    def parts(self) -> list[tuple[int, Episode, str]]:
        """The parts: the number of the stretch, the episode, and the model."""
        return [
            (number, episode, name)
            for number, stretch in enumerate(self.stretches)
            for episode in stretch.episodes
            for name in stretch.models
        ]


def fill_shared(
    folder: RunFolder,
    filling: Filling,
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
    parts = FileParts(folder.path, tuple(_files_of(filling)))
    if isinstance(backend, Ray):
        fill_parts(WHAT, make_cells, filling, parts, backend, show=show_progress)
        return
    stretches = filling.stretches
    if backend is not None:
        stretches = list(_narrow(filling, set(backend.share(parts.missing()))))
    for stretch in stretches:
        fill(
            folder,
            stretch,
            filling.recording,
            batch_size=filling.batch_size,
            workers=workers,
            show_progress=show_progress,
        )
    if backend is not None:
        check_finished(WHAT, parts, backend)


def make_cells(filling: Filling, part: int) -> Arrays:
    """Return the files of one part, made on a machine of a cluster."""
    number, episode, name = filling.parts[part]
    stretch = filling.stretches[number]
    _check_images(stretch, episode)
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as scratch:
        fill(
            RunFolder(Path(scratch)),
            dataclasses.replace(stretch, episodes=[episode], models={name: stretch.models[name]}),
            filling.recording,
            batch_size=filling.batch_size,
            workers=0,
            show_progress=False,
        )
        found = pack_files(Path(scratch))
    return {path: content for path, content in found.items() if not path.startswith("cache/")}


def _files_of(filling: Filling) -> Iterable[tuple[str, ...]]:
    inner = RunFolder(Path())
    for _, episode, name in filling.parts:
        yield tuple(inner.records_file(name, cell).as_posix() for cell in episode.cells)


def _narrow(filling: Filling, mine: set[int]) -> Iterable[Stretch]:
    """Yield the stretches with the episodes that have parts of ``mine``, by the models that do them.

    Models that do the same episodes stay together: each image is made once for all of them.
    """
    todo: dict[tuple[int, tuple[str, ...]], list[Episode]] = {}
    by_episode: dict[tuple[int, str], list[str]] = {}
    episodes: dict[tuple[int, str], Episode] = {}
    for part, (number, episode, name) in enumerate(filling.parts):
        if part in mine:
            by_episode.setdefault((number, episode.name), []).append(name)
            episodes[number, episode.name] = episode
    for key, names in by_episode.items():
        todo.setdefault((key[0], tuple(names)), []).append(episodes[key])
    for (number, chosen), some in todo.items():
        stretch = filling.stretches[number]
        models = {name: stretch.models[name] for name in chosen}
        yield dataclasses.replace(stretch, episodes=some, models=models)


def _check_images(stretch: Stretch, episode: Episode) -> None:
    """Refuse to record that images are broken which only this machine does not see.

    Stops at the first image that can be read, so that it costs the reading of one.
    """
    first = None
    for sample in stretch.samples:
        try:
            stretch.view.load(sample, episode.cells[0])
        except BrokenFileError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise make_access_error("the images", str(first).removesuffix("."))
