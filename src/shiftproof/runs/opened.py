"""A finished run, read whole: what its page and the comparison of runs are made from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from shiftproof.errors import InputError
from shiftproof.runs.result_faults import FaultCounts, describe_faults
from shiftproof.runs.scores.grid import Count, GridScores
from shiftproof.runs.scores.reading import clean_text, read_form
from shiftproof.types import CLEAN, Cell, Settings

Scores = TypeVar("Scores")
Gallery = TypeVar("Gallery")


class Head(msgspec.Struct, frozen=True):
    """``run.json``: what was asked for, which decides the numbers, and how they came about."""

    kind: str
    settings: dict[str, Any]
    classes: dict[str, Any] = {}
    assumed: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    data_faults: FaultCounts | None = None
    result_faults: dict[str, dict[str, FaultCounts]] = {}

    def describe_faults(self) -> list[str]:
        """Return what was wrong with annotations and result files, a sentence each."""
        models = self.settings.get("models")
        named = models if isinstance(models, dict) else {}
        return describe_faults(named, self.data_faults, self.result_faults)


class EventRecord(msgspec.Struct, frozen=True):
    """Something that an adapter told: in which batch since its reset, in which pass, and why.

    ``count`` is how many such it stands for, of which this is the last.
    """

    kind: str
    reason: str
    batch: Count
    number: Count = msgspec.field(name="pass")
    cell: str | None = None
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


class OpenRun(Generic[Scores, Gallery]):
    """A run folder, read.

    Attributes:
        path: the folder.
        kind: what was measured.
        settings: what decides the numbers.
        classes: title and count.
        assumed: what was taken for granted when the models were loaded, by model.
        provenance: how the numbers came about.
        faults: what was wrong with annotations and result files, a sentence each.
        scores: all figures.
        gallery: what pictures there are.
    """

    def __init__(self, path: Path, scores: type[Scores], gallery: type[Gallery]) -> None:
        head = read_head(path)
        self.path = path
        self.kind = head.kind
        self.settings: Settings = head.settings
        self.classes: Settings = head.classes
        self.assumed: Settings = head.assumed
        self.provenance: Settings = head.provenance
        self.faults: tuple[str, ...] = tuple(map(clean_text, head.describe_faults()))
        self.scores: Scores = read_form(path / "scores.json", scores)
        kept = path / "gallery.json"
        self.gallery: Gallery = read_form(kept, gallery) if kept.is_file() else gallery()

    def adapter(self, model: str) -> Settings | None:
        """Return the settings of an adapter; None for a model as it is."""
        adapters = self.settings.get("adapters")
        found = adapters.get(model) if isinstance(adapters, dict) else None
        return dict(found) if isinstance(found, dict) else None

    @cached_property
    def events(self) -> tuple[ModelEvent, ...]:
        """What adapters told, in the order of the models and of the grid."""
        if not isinstance(self.scores, GridScores):
            return ()
        return tuple(_read_events(self.path / "events", self.scores))

    @property
    def adapts(self) -> bool:
        """Whether any model of the run adapts."""
        return bool(self.settings.get("adapters"))


def read_head(path: Path) -> Head:
    """Read the ``run.json`` of a finished run.

    Raises:
        InputError: there is no such folder, or it holds no finished run.
        BrokenFileError: the file cannot be read as what it should be.
    """
    if not path.is_dir():
        raise InputError(f"{path}: expected the folder of a run, found none.")
    for name in ("run.json", "scores.json"):
        if not (path / name).is_file():
            raise InputError(
                f"{path}: expected the folder of a finished run, but it has no {name}. "
                "Start the benchmark again with the same settings; it goes on where it stopped."
            )
    return read_form(path / "run.json", Head)


def _read_events(folder: Path, scores: GridScores) -> Iterator[ModelEvent]:
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
