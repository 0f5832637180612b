"""The events of adapters (steps left out, resets, roll-backs) in a run: ``events/MODEL/EPISODE.json``."""

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
    """An event of an adapter: in which batch since its reset, in which pass, and why.

    ``cell`` is None where the visit has several cells. ``count`` is of how many such this is the last.
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
    """An event with the model that told it, and what lay between two resets."""

    model: str
    episode: str
    event: EventRecord


def read_events(folder: Path, scores: GridScores) -> Iterator[ModelEvent]:
    """Yield the events below a run's folder ``events``, in the order of the models and of the grid.

    Raises:
        BrokenFileError: a file cannot be read as what it should be.
    """
    # Looked up among the files that there are: names in scores.json lead to no other place.
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
