"""Events of an adapter, of which only a limited number is stored per kind."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_EVENTS = 20
"""Number of stored events of a kind; further ones are only counted."""


FEW_CLASSES = "few classes"
"""The kind of event for a batch or memory of few classes, from which nothing was learned."""


@dataclass(frozen=True)
class Event:
    """An event that affects the interpretation of results: a skipped update, a roll-back, a reset.

    ``kind`` is its name (``"skipped"``, ``"rolled back"``, ``"reset"``, ``"fell back"``, ``"few
    classes"``), ``batch`` the index of the batch since the last ``reset()``, and ``reason`` a
    sentence. ``count`` is the number of events it represents: after the first ``MAX_EVENTS`` of a
    kind one event represents all further ones, with the batch and the reason of the last.
    """

    kind: str
    batch: int
    reason: str
    count: int = 1


class EventLog:
    """The events since a reset: the first ones of each kind, and one for all further ones of it."""

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
            if event.count == 1 and self._kept[event.kind] < MAX_EVENTS:
                self._first.append(event)
                self._kept[event.kind] += 1
                continue
            before = self._further.get(event.kind)
            count = event.count + (0 if before is None else before.count)
            self._further[event.kind] = dataclasses.replace(event, count=count)

    @property
    def events(self) -> tuple[Event, ...]:
        """The stored events in order, then one for all further events of each kind."""
        return (*self._first, *self._further.values())


def find_new_events(before: Sequence[Event], now: Sequence[Event]) -> list[Event]:
    """Return the events in ``now`` that are not in ``before``, of the same adapter at an earlier
    time.
    """
    reported: collections.Counter[str] = collections.Counter()
    for event in before:
        reported[event.kind] += event.count
    found = []
    for event in now:
        known = min(reported[event.kind], event.count)
        reported[event.kind] -= known
        if event.count > known:
            found.append(dataclasses.replace(event, count=event.count - known))
    return found
