"""Progress display: a bar on a terminal, one line per minute elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console

from shiftproof.io.border import show_name

__all__ = ["Advance", "console", "progress"]

Advance = Callable[..., None]
"""``advance(steps=1, note=None)``: counts finished steps; ``note`` describes the current one."""

LINE_SECONDS = 60.0
"""Seconds between two lines without a terminal, as in the log of a batch scheduler."""

console = Console(stderr=True)
"""Console for messages: standard error, so that standard output stays clean for ``--json``."""


@contextlib.contextmanager
def progress(title: str, total: int, *, show: bool | None = None) -> Iterator[Advance]:
    """Show the progress of ``total`` steps, with the remaining time.

    ``show=None`` shows a bar on a terminal, which is removed at the end, and otherwise a line per
    minute, so that short jobs print nothing. False shows nothing.
    """
    if show is None and not sys.stderr.isatty():
        yield _Lines(title, total)
        return
    if show is False:
        yield _silent
        return
    # Imported only for a bar, because every command imports this module at its start.
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=total, note="")

        def advance(steps: int = 1, note: str | None = None) -> None:
            if note is None:
                bar.update(task, advance=steps)
            else:
                bar.update(task, advance=steps, note=show_name(note))

        yield advance


def _silent(steps: int = 1, note: str | None = None) -> None:
    return None


class _Lines:
    """Progress as lines in a log."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._done, self._begun = 0, time.monotonic()
        self._last_line = self._begun

    def __call__(self, steps: int = 1, note: str | None = None) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._last_line < LINE_SECONDS or self._done >= self._total:
            return
        self._last_line = now
        words = f"{self._title}: {self._done} of {self._total}"
        if note:
            words += f", {show_name(note)}"
        spent = now - self._begun
        left = spent / max(self._done, 1) * (self._total - self._done)
        words += f"; {_format_time(spent)}, about {_format_time(left)} left"
        with contextlib.suppress(OSError):
            print(words, file=sys.stderr, flush=True)


def _format_time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
