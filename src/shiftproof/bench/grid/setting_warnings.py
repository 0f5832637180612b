"""Warnings about settings of adapters that are known to do harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shiftproof.adapt.safeguards.cautions import describe_few_classes, list_cautions
from shiftproof.bench.cells.protocol import Protocol
from shiftproof.compute.progress import console
from shiftproof.io.border import show_text
from shiftproof.runs.events import EventRecord, ModelEvent
from shiftproof.types import Settings


def warn_about_settings(
    adapters: Mapping[str, Settings], batch_size: int, protocol: Protocol
) -> None:
    """Print a line to standard error for each harmful setting."""
    for name, settings in adapters.items():
        for caution in list_cautions(settings, batch_size=batch_size, order=protocol.order):
            _print_line(f"{name}: {caution}")


def report_kept_statistics(events: Iterable[ModelEvent]) -> None:
    """Print a line for each adapter that kept the source's statistics in batches of few classes."""
    by_model: dict[str, list[EventRecord]] = {}
    for one in events:
        by_model.setdefault(one.model, []).append(one.event)
    for name, found in by_model.items():
        said = describe_few_classes(found)
        if said is not None:
            _print_line(f"{name}: {said}")


def _print_line(text: str) -> None:
    line = show_text(text)
    console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
