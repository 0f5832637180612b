"""One progress display for all long work; silent where nobody looks at a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from shiftproof.io.border import show_name

__all__ = ["Advance", "console", "progress"]

Advance = Callable[..., None]
"""``advance(steps=1, note=None)``: that many steps are done; ``note`` says what is under way."""

console = Console(stderr=True)
"""Where people read: standard error, so that standard output stays clean for ``--json``."""


@contextlib.contextmanager
def progress(title: str, total: int, *, show: bool | None = None) -> Iterator[Advance]:
    """Show how far ``total`` steps have come, with the time left.

    ``show=None`` shows it on a terminal only. The display is removed when the work ends.
    """
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield _silent
        return
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
