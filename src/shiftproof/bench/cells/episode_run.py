"""One model in one episode: its records, its events, and the checkpoints from which it is resumed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import msgspec

from shiftproof.adapt.base.events import MAX_EVENTS, find_new_events
from shiftproof.adapt.base.state import read_state, save_state
from shiftproof.bench.cells.batching import Batch
from shiftproof.bench.cells.recording import Learner, Recorder, Recording
from shiftproof.bench.cells.stream import Episode, Visit
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.lazy import import_extra
from shiftproof.runs.events import EventFile, EventRecord
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.scores.reading import FORMAT, clean_text, read_form, write_form
from shiftproof.types import Cell, Sample

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State
    from shiftproof.adapt.base.events import Event


class Checkpoint(msgspec.Struct, frozen=True):
    """``checkpoint.json``: where an episode can be resumed.

    Attributes:
        format: of the file.
        episode: its name.
        visits: number of finished visits.
        batches: number of predicted batches.
        unfinished: corruption and severity of cells with some predictions.
        state: the file of an adapter's state.
        events: events so far.
    """

    format: int
    episode: str
    visits: int
    batches: int
    unfinished: tuple[tuple[str, int], ...]
    state: str | None
    events: tuple[EventRecord, ...]


@final
class EpisodeRun:
    """One model in one episode.

    After each visit but the last a checkpoint is written: the adapter's state, the predictions in
    unfinished cells, and the events. A killed run resumes there with the same final files. If a
    checkpoint does not match, the episode starts again.

    Args:
        name: the model's, in the run.
        model: the model; one that learns is reset, and only it gets passes without predictions.
        episode: the episode, a stream between two resets.
        folder: folder of the run.
        samples: the images of the run, in the order of the tables.
        recording: records the predictions of such models.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        episode: Episode,
        folder: RunFolder,
        samples: Sequence[Sample],
        recording: Recording,
    ) -> None:
        self.name = name
        self._model = model
        self._adapter = model if isinstance(model, Learner) else None
        self._episode = episode
        self._folder = folder
        self._samples = samples
        self._recording = recording
        self._recorders: dict[Cell, Recorder] = {}
        self._last: tuple[Batch, Any] | None = None
        self._events: list[EventRecord] = []
        # Events of the adapter that are in self._events, or happened before the episode.
        self._reported: Sequence[Event] = ()
        self._batches = 0
        self._state: State = {}
        self._next = 0
        self._checkpoint = folder.checkpoint(name, episode.name)
        if self.is_done:
            self._next = len(episode.visits)
        elif len(episode.visits) > 1:
            self._resume()

    @property
    def is_done(self) -> bool:
        """Whether all cells of the episode are recorded."""
        return all(self._folder.has(self.name, cell) for cell in self._episode.cells)

    def needs_visit(self, visit: int) -> bool:
        """Return whether the model needs the visit of that number."""
        return visit >= self._next and (
            self._adapter is not None or self._episode.visits[visit].recorded
        )

    def enter_visit(self, visit: int) -> AbstractContextManager[None]:
        """Return the context for a visit's batches; starts the episode."""
        if self._adapter is not None and visit == self._next:
            self._adapter.reset()
            if visit > 0:
                self._adapter.load_state(self._state)
                self._state = {}
            self._reported = self._adapter.events
        predicts_only = self._episode.is_offline and self._episode.visits[visit].recorded
        if self._adapter is None or not predicts_only:
            return contextlib.nullcontext()
        return self._adapter.frozen()

    def predict_batch(self, visit: int, batch: Batch, gathered: Any) -> None:
        """Let the model predict a batch with the images ``gathered``, and record the
        predictions.
        """
        shown = self._episode.visits[visit]
        answers = None
        if batch.images:
            answers = self._recording.predict(self._model, gathered)
            self._batches += 1
            self._collect_events(shown)
        # The device gets its next batch before its results are awaited.
        self._record_last()
        if shown.recorded:
            self._last = batch, answers

    def _record_last(self) -> None:
        """Record the last batch, unless it is recorded already."""
        if self._last is None:
            return
        (batch, answers), self._last = self._last, None
        for cell in dict.fromkeys(batch.cells):
            of_cell = [place for place, other in enumerate(batch.cells) if other == cell]
            self._get_recorder(cell).add(
                [batch.rows[place] for place in of_cell],
                self._recording.pick(answers, of_cell),
                [batch.start + place for place in of_cell],
            )
        for place, (row, cell, reason) in enumerate(batch.broken, batch.start + len(batch.images)):
            self._get_recorder(cell).add_broken(row, reason, place)

    def finish(self, visit: int) -> None:
        """Write the records of a visit after its last batch."""
        self._record_last()
        shown = self._episode.visits[visit]
        if self._adapter is not None and shown.ends_pass and not shown.recorded:
            self._adapter.end_epoch()
            self._collect_events(shown)
        last = visit == len(self._episode.visits) - 1
        if last and self._events:
            # Before the records, which mark the episode as done.
            path = self._folder.events_file(self.name, self._episode.name)
            files.make_folder(path.parent)
            write_form(path, EventFile(FORMAT, tuple(self._events)))
        for cell in self._episode.cells_finished_by(visit):
            recorder = self._recorders.pop(cell)
            self._recording.write(self._folder.records_file(self.name, cell), recorder)
        if not last:
            self._save(visit)
        elif len(self._episode.visits) > 1:
            shutil.rmtree(self._checkpoint, ignore_errors=True)

    def _get_recorder(self, cell: Cell) -> Recorder:
        if cell not in self._recorders:
            self._recorders[cell] = self._recording.recorder(self._samples)
        return self._recorders[cell]

    def _collect_events(self, shown: Visit) -> None:
        """Collect the adapter's events, with the run's count of batches and the position in the
        run.
        """
        if self._adapter is None:
            return
        events = self._adapter.events
        for event in find_new_events(self._reported, events):
            self._add_event(
                EventRecord(
                    kind=event.kind,
                    # As it would be read again from a checkpoint.
                    reason=clean_text(event.reason),
                    # Not the adapter's own count, which restarts when a run is resumed.
                    batch=max(self._batches - 1, 0),
                    number=shown.pass_index,
                    cell=str(shown.cells[0]) if len(shown.cells) == 1 else None,
                    count=event.count,
                )
            )
        self._reported = events

    def _add_event(self, event: EventRecord) -> None:
        """Add an event; of a kind with many the last one counts the rest."""
        of_kind = [other for other in self._events if other.kind == event.kind]
        if len(of_kind) > MAX_EVENTS:
            last = of_kind[-1]
            event = msgspec.structs.replace(event, count=event.count + last.count)
            self._events.remove(last)
        self._events.append(event)

    # ------------------------------------------------------------ checkpoints

    def _save(self, visit: int) -> None:
        """Write a checkpoint; ``checkpoint.json`` comes last and makes it valid."""
        place = files.make_folder(self._checkpoint)
        # Older tables may lie there; each is written anew in its visit.
        for cell in self._episode.visits[visit].cells:
            if cell in self._recorders:
                self._recording.write(_locate_table(place, cell), self._recorders[cell])
        state = None
        if self._adapter is not None:
            state = f"state-{visit + 1}.safetensors"
            # No settings are stored: the run's folder has checked that they are the same.
            save_state(self._adapter.state(), {}, place / state)
        write_form(
            place / "checkpoint.json",
            Checkpoint(
                format=FORMAT,
                episode=self._episode.name,
                visits=visit + 1,
                batches=self._batches,
                unfinished=tuple((cell.corruption, cell.severity) for cell in self._recorders),
                state=state,
                events=tuple(self._events),
            ),
        )
        for old in place.glob("state-*.safetensors"):
            if old.name != state:
                old.unlink()

    def _resume(self) -> None:
        """Resume from the checkpoint, if there is a matching one."""
        place = self._checkpoint
        try:
            saved = read_form(place / "checkpoint.json", Checkpoint)
            visits = saved.visits
            written = [cell for v in range(visits) for cell in self._episode.cells_finished_by(v)]
            if saved.episode != self._episode.name or not all(
                self._folder.has(self.name, cell) for cell in written
            ):
                return
            cells = [Cell(corruption, severity) for corruption, severity in saved.unfinished]
            recorders = {
                cell: self._recording.resume(_locate_table(place, cell), self._samples)
                for cell in cells
            }
            _, state = read_state(place / str(saved.state)) if self._adapter else ({}, {})
        except (BrokenFileError, LookupError, TypeError, ValueError):
            return  # no checkpoint, or a damaged one
        self._recorders, self._state = recorders, state
        self._batches, self._events = saved.batches, list(saved.events)
        self._next = visits


def _locate_table(place: Path, cell: Cell) -> Path:
    return place / f"{cell}.parquet"


def check_states_can_be_saved() -> None:
    """Raise MissingExtraError if the library for writing an adapter's state is not installed."""
    import_extra("safetensors.torch", "torch")
