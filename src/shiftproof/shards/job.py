"""A job over shards, and the way from its parts to one result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from shiftproof.compute.progress import progress
from shiftproof.errors import UnfinishedError
from shiftproof.shards.backends import Backend, Local
from shiftproof.shards.folder import Arrays, PartFolder, Parts
from shiftproof.types import Settings

Context = TypeVar("Context")
Part = TypeVar("Part")

_TOGETHER = 16
"""So many parts are merged at a time: what they hold is copied once for each power of it."""

_TOLD = 10


@dataclass(frozen=True)
class Job(Generic[Context]):
    """What is to be done for every shard.

    Attributes:
        name: says what the parts are.
        function: gives the part of one shard, ``function(context, shard)``, and writes nothing. The
            same shard always gives the same part.
        context: what the function needs: paths and settings, not arrays, as it is sent to workers.
        shards: how many there are.
        settings: what decides the parts' content: another job's folder is refused.
    """

    name: str
    function: Callable[[Context, int], Arrays]
    context: Context
    shards: int
    settings: Settings


def run_shards(
    job: Job[Any], folder: Path, backend: Backend | None = None, *, show: bool | None = None
) -> PartFolder:
    """Make every part that is not there yet, and return the folder when all are.

    Whatever ends this early (a killed worker or driver, a full disk) costs the shards that were
    under way: the same call does the rest. The parts are the same on every backend.

    Args:
        job: what to do.
        folder: for the parts; new, empty, or that of the same job.
        backend: where to do it; by default in one process per core.
        show: the progress display; by default on a terminal.

    Raises:
        RunMismatchError: the folder is another job's.
        UnfinishedError: this worker's share is done, but parts of other workers are missing.
        RunError: the disk is full, or a shard took its worker down again and again.
        Exception: whatever the function raises.
    """
    parts = PartFolder.create(folder, job.name, job.shards, job.settings)
    fill_parts(job.name, job.function, job.context, parts, backend or Local(), show=show)
    return parts


def fill_parts(
    name: str,
    function: Callable[[Any, int], Arrays],
    context: Any,
    parts: Parts,
    backend: Backend,
    *,
    show: bool | None = None,
) -> None:
    """Make every part that is not there yet, wherever parts are kept; see :func:`run_shards`.

    Raises:
        UnfinishedError: this worker's share is done, but parts of other workers are missing.
        RunError: the disk is full, or a shard took its worker down again and again.
        Exception: whatever the function raises.
    """
    mine = backend.share(parts.missing())
    # Closed here, also where the display is interrupted: an engine that is left to the garbage
    # collector ends when the interpreter does.
    with (
        progress(name, len(mine), show=show) as advance,
        contextlib.closing(backend.work(function, context, parts, mine)) as done,
    ):
        for number in done:
            advance(note=f"shard {number}")
    check_finished(name, parts, backend)


def check_finished(name: str, parts: Parts, backend: Backend) -> None:
    """Refuse to go on while parts are missing, which others are to make.

    Raises:
        UnfinishedError: says which, and whose they are.
    """
    missing = parts.missing()
    if missing:
        told = ", ".join(map(str, missing[:_TOLD]))
        more = f" and {len(missing) - _TOLD} more" if len(missing) > _TOLD else ""
        raise UnfinishedError(
            f"{name}: {parts.shards - len(missing)} of {parts.shards} parts are in {parts.path}; "
            f"missing: {told}{more}{backend.whose(missing)}. Whoever starts the same command when "
            "all are there merges them."
        )


def merge_parts(parts: Iterable[Part], merge: Callable[[Sequence[Part]], Part]) -> Part:
    """Merge neighbouring parts until one is left; ``merge`` must be associative.

    Parts are taken one at a time and merged in groups of groups: few are held at once.
    """
    levels: list[list[Part]] = []
    for part in parts:
        _enter(levels, part, 0, merge)
    left: list[Part] = []
    for level in levels:
        left = [*level, *left]
    return left[0] if len(left) == 1 else merge(left)


def _enter(
    levels: list[list[Part]], part: Part, depth: int, merge: Callable[[Sequence[Part]], Part]
) -> None:
    if depth == len(levels):
        levels.append([])
    levels[depth].append(part)
    if len(levels[depth]) == _TOGETHER:
        group, levels[depth] = levels[depth], []
        _enter(levels, merge(group), depth + 1, merge)
