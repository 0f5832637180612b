"""Fill a run's folder: run every model on every episode, and write each cell after its last batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftproof.bench.cells import batching
from shiftproof.bench.cells.episode_run import EpisodeRun
from shiftproof.bench.cells.on_device import OnDevice, gather_each, prefetch
from shiftproof.bench.cells.recording import Recording, choose_recording
from shiftproof.bench.cells.stream import Episode
from shiftproof.bench.cells.views import View
from shiftproof.compute.progress import progress
from shiftproof.io import files
from shiftproof.runs.folder import RunFolder
from shiftproof.types import Sample


@dataclass(frozen=True, eq=False)
class Workload:
    """Episodes over the same images, and the models to run on them.

    Attributes:
        view: loads the images.
        episodes: the streams.
        samples: the images, in the order of the record tables.
        models: models by name, all of one kind.
    """

    view: View
    episodes: Sequence[Episode]
    samples: Sequence[Sample]
    models: Mapping[str, Any]


def fill(
    folder: RunFolder,
    workload: Workload,
    recording: Recording,
    *,
    batch_size: int,
    workers: int,
    show_progress: bool | None,
) -> None:
    """Predict the cells without records; write each after its last batch."""
    view, samples = workload.view, workload.samples
    for name in workload.models:
        files.make_folder(folder.path / "records" / name)
    steps = [
        (episode, number, active)
        for episode in workload.episodes
        if (runs := _start_episode_runs(folder, episode, workload, recording))
        for number in range(len(episode.visits))
        if (active := [run for run in runs if run.needs_visit(number)])
    ]
    visits = [episode.visits[number] for episode, number, _ in steps]
    batches = batching.make_batches(view, visits, samples, batch_size=batch_size, workers=workers)
    if isinstance(view, OnDevice):
        shown = prefetch(batches, lambda batch: view.gather(batch, samples), view.device)
    else:
        shown = gather_each(batches, lambda batch: recording.gather(batch.images))
    with (
        contextlib.closing(batches),
        contextlib.closing(shown),
        progress("Benchmark", sum(map(len, visits)), show=show_progress) as advance,
    ):
        for episode, number, active in steps:
            with contextlib.ExitStack() as contexts:
                for run in active:
                    contexts.enter_context(run.enter_visit(number))
                for batch, images in _iterate_visit(shown):
                    for run in active:
                        run.predict_batch(number, batch, images)
                    advance(len(batch), note=_add_event(episode, number))
            for run in active:
                run.finish(number)


def _start_episode_runs(
    folder: RunFolder, episode: Episode, workload: Workload, recording: Recording
) -> list[EpisodeRun]:
    runs = [
        EpisodeRun(
            name, model, episode, folder, workload.samples, choose_recording(recording, name)
        )
        for name, model in workload.models.items()
    ]
    return [run for run in runs if not run.is_done]


def _iterate_visit(
    shown: Iterator[tuple[batching.Batch, Any]],
) -> Iterator[tuple[batching.Batch, Any]]:
    for batch, images in shown:
        yield batch, images
        if batch.ends_visit:
            return


def _add_event(episode: Episode, number: int) -> str:
    visit = episode.visits[number]
    what = str(visit.cells[0]) if len(visit.cells) == 1 else f"{episode.name}, mixed"
    return (
        f"{what}, pass {visit.pass_index + 1} of {episode.passes}" if episode.is_offline else what
    )
