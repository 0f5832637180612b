"""Fill a run's folder: run every model on every episode, and write each cell after its last batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftproof.bench import grid
from shiftproof.bench.episode_run import EpisodeRun
from shiftproof.bench.on_device import OnDevice, each_gathered, gather_ahead
from shiftproof.bench.recording import Recording, recording_of
from shiftproof.bench.stream import Episode
from shiftproof.bench.views import View
from shiftproof.compute.progress import progress
from shiftproof.io import files
from shiftproof.runs.folder import RunFolder
from shiftproof.types import Sample


@dataclass(frozen=True, eq=False)
class Stretch:
    """Episodes of the same images, and the models that predict them.

    Attributes:
        view: gives the images.
        episodes: what is shown.
        samples: the images, in the order of the tables.
        models: name to what predicts, all of one kind.
    """

    view: View
    episodes: Sequence[Episode]
    samples: Sequence[Sample]
    models: Mapping[str, Any]


def fill(
    folder: RunFolder,
    stretch: Stretch,
    recording: Recording,
    *,
    batch_size: int,
    workers: int,
    show_progress: bool | None,
) -> None:
    """Predict the cells without records; write each after its last batch."""
    view, samples = stretch.view, stretch.samples
    for name in stretch.models:
        files.make_folder(folder.path / "records" / name)
    steps = [
        (episode, number, active)
        for episode in stretch.episodes
        if (runs := _episode_runs(folder, episode, stretch, recording))
        for number in range(len(episode.visits))
        if (active := [run for run in runs if run.takes(number)])
    ]
    visits = [episode.visits[number] for episode, number, _ in steps]
    batches = grid.batches(view, visits, samples, batch_size=batch_size, workers=workers)
    if isinstance(view, OnDevice):
        shown = gather_ahead(batches, lambda batch: view.gather(batch, samples), view.device)
    else:
        shown = each_gathered(batches, lambda batch: recording.gather(batch.images))
    with (
        contextlib.closing(batches),
        contextlib.closing(shown),
        progress("Benchmark", sum(map(len, visits)), show=show_progress) as advance,
    ):
        for episode, number, active in steps:
            with contextlib.ExitStack() as contexts:
                for run in active:
                    contexts.enter_context(run.during(number))
                for batch, images in _of_one_visit(shown):
                    for run in active:
                        run.show(number, batch, images)
                    advance(len(batch), note=_note(episode, number))
            for run in active:
                run.finish(number)


def _episode_runs(
    folder: RunFolder, episode: Episode, stretch: Stretch, recording: Recording
) -> list[EpisodeRun]:
    runs = [
        EpisodeRun(name, model, episode, folder, stretch.samples, recording_of(recording, name))
        for name, model in stretch.models.items()
    ]
    return [run for run in runs if not run.is_done]


def _of_one_visit(shown: Iterator[tuple[grid.Batch, Any]]) -> Iterator[tuple[grid.Batch, Any]]:
    for batch, images in shown:
        yield batch, images
        if batch.ends_visit:
            return


def _note(episode: Episode, number: int) -> str:
    visit = episode.visits[number]
    what = str(visit.cells[0]) if len(visit.cells) == 1 else f"{episode.name}, mixed"
    return f"{what}, pass {visit.number + 1} of {episode.passes}" if episode.is_offline else what
