"""Events of an adapter, counted beyond the first of a kind so that endless streams need no endless list."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_EVENTS = 20
"""How many events of a kind are kept one by one; the further ones are counted."""


FEW_CLASSES = "few classes"
"""The kind of the event that a batch, or a memory, holds few classes: nothing was learned from it."""


@dataclass(frozen=True)
class Event:
    """Something that a reader of the results must know: a skipped update, a roll-back, a reset.

    ``kind`` names it (``"skipped"``, ``"rolled back"``, ``"reset"``, ``"fell back"``,
    ``"few classes"``), ``batch`` the number of the batch since the last ``reset()``, from 0, and
    ``reason`` a sentence. ``count`` is how many it stands for: after the first ``MOST_EVENTS`` of a
    kind one event stands for all further ones, with the batch and the reason of the last.
    """

    kind: str
    batch: int
    reason: str
    count: int = 1


class EventLog:
    """The events since a reset: the first of each kind, and one for all further ones of it."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._first: list[Event] = []
        self._further: dict[str, Event] = {}
        self._kept: collections.Counter[str] = collections.Counter()
        self.extend(events)

    def add(self, kind: str, batch: int, reason: str) -> None:
        """Add one event."""
        self.extend([Event(kind, batch, reason)])

    def extend(self, events: Iterable[Event]) -> None:
        """Add events in their order."""
        for event in events:
            if event.count == 1 and self._kept[event.kind] < MOST_EVENTS:
                self._first.append(event)
                self._kept[event.kind] += 1
                continue
            before = self._further.get(event.kind)
            count = event.count + (0 if before is None else before.count)
            self._further[event.kind] = dataclasses.replace(event, count=count)

    @property
    def events(self) -> tuple[Event, ...]:
        """Those kept one by one in their order, then one of each kind that has further ones."""
        return (*self._first, *self._further.values())


def new_events(before: Sequence[Event], now: Sequence[Event]) -> list[Event]:
    """Return what ``now`` tells beyond ``before``, events of the same adapter at an earlier time."""
    told: collections.Counter[str] = collections.Counter()
    for event in before:
        told[event.kind] += event.count
    found = []
    for event in now:
        known = min(told[event.kind], event.count)
        told[event.kind] -= known
        if event.count > known:
            found.append(dataclasses.replace(event, count=event.count - known))
    return found
