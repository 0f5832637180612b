"""Fill a run's folder: every model sees every stream, and each cell is written when it is through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shiftproof.bench import grid
from shiftproof.bench.on_device import OnDevice, each_gathered, gather_ahead
from shiftproof.bench.passage import Passage
from shiftproof.bench.recording import Recording, recording_of
from shiftproof.bench.stream import Episode
from shiftproof.bench.views import View
from shiftproof.compute.progress import progress
from shiftproof.io import files
from shiftproof.runs.folder import RunFolder
from shiftproof.types import Sample


def fill(
    folder: RunFolder,
    view: View,
    streams: Sequence[Episode],
    samples: Sequence[Sample],
    models: Mapping[str, Any],
    recording: Recording,
    *,
    batch_size: int,
    workers: int,
    show_progress: bool | None,
) -> None:
    """Do what is not there yet; a cell is written when its last batch is through.

    Args:
        folder: of the run.
        view: gives the images.
        streams: the episodes of the run.
        samples: the images of the run, in the order of the tables.
        models: name to what predicts, all of one kind.
        recording: how the answers of that kind are kept.
        batch_size: images of a batch.
        workers: processes that read and corrupt.
        show_progress: None shows it on a terminal only.
    """
    for name in models:
        files.make_folder(folder.path / "records" / name)
    steps = [
        (episode, number, taking)
        for episode in streams
        if (passages := _passages(folder, episode, samples, models, recording))
        for number in range(len(episode.visits))
        if (taking := [passage for passage in passages if passage.takes(number)])
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
        for episode, number, taking in steps:
            with contextlib.ExitStack() as contexts:
                for passage in taking:
                    contexts.enter_context(passage.during(number))
                for batch, images in _of_one_visit(shown):
                    for passage in taking:
                        passage.show(number, batch, images)
                    advance(len(batch), note=_note(episode, number))
            for passage in taking:
                passage.finish(number)


def _passages(
    folder: RunFolder,
    episode: Episode,
    samples: Sequence[Sample],
    models: Mapping[str, Any],
    recording: Recording,
) -> list[Passage]:
    passages = [
        Passage(name, model, episode, folder, samples, recording_of(recording, name))
        for name, model in models.items()
    ]
    return [passage for passage in passages if not passage.is_done]


def _of_one_visit(shown: Iterator[tuple[grid.Batch, Any]]) -> Iterator[tuple[grid.Batch, Any]]:
    for batch, images in shown:
        yield batch, images
        if batch.ends_visit:
            return


def _note(episode: Episode, number: int) -> str:
    visit = episode.visits[number]
    what = str(visit.cells[0]) if len(visit.cells) == 1 else f"{episode.name}, mixed"
    return f"{what}, pass {visit.number + 1} of {episode.passes}" if episode.is_offline else what
