"""The events of adapters (skipped steps, resets, roll-backs): ``events/MODEL/EPISODE.json`` of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.reading import read_form
from shiftproof.runs.scores.shared import Count
from shiftproof.types import CLEAN, Cell


class EventRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of an adapter: its kind, its reason, and the batch and pass since the last reset.

    ``cell`` is None if the episode has several cells. ``count`` is the number of events that this
    one stands for: it is the last of them.
    """

    kind: str
    reason: str
    batch: Count
    number: Count = msgspec.field(name="pass")
    cell: str | None
    count: Annotated[int, Meta(ge=1)] = 1


class EventFile(msgspec.Struct, frozen=True):
    """``events/MODEL/EPISODE.json``."""

    format: int
    events: tuple[EventRecord, ...]


class ModelEvent(msgspec.Struct, frozen=True):
    """An event with its model, and its episode: the stretch between two resets."""

    model: str
    episode: str
    event: EventRecord


def read_events(folder: Path, scores: GridScores) -> Iterator[ModelEvent]:
    """Yield the events below a run's folder ``events``, in the order of the models and of the grid.

    Raises:
        BrokenFileError: a file is damaged or has another content.
    """
    # Looked up among the existing files, so names in scores.json cannot lead out of the folder.
    files_by_name = {(path.parent.name, path.stem): path for path in folder.glob("*/*.json")}
    episodes = [str(CLEAN)]
    for name in scores.corruptions:
        episodes += [name, *(str(Cell(name, severity)) for severity in scores.severities)]
    for model in scores.models:
        for episode in dict.fromkeys([*episodes, "all"]):
            path = files_by_name.get((model.name, episode))
            if path is not None:
                for event in read_form(path, EventFile).events:
                    yield ModelEvent(model.name, episode, event)
