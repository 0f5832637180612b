"""A job over shards: running it, and merging its parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from shiftproof.compute.progress import progress
from shiftproof.counts import pluralize
from shiftproof.errors import UnfinishedError
from shiftproof.io.arrivals import fetch_finished
from shiftproof.shards.backends import Backend, Local
from shiftproof.shards.folder import Arrays, PartFolder, Parts
from shiftproof.types import Settings

Context = TypeVar("Context")
Part = TypeVar("Part")

_MERGED_AT_ONCE = 16
"""Parts merged at a time; data is copied once per level of the merge tree."""

_MAX_LISTED = 10


@dataclass(frozen=True)
class Job(Generic[Context]):
    """A function to run for every shard.

    Attributes:
        name: name of the parts, for messages.
        function: computes the part of one shard, ``function(context, shard)``; deterministic and
            without side effects.
        context: argument of the function: paths and settings, not arrays, as it is sent to workers.
        shards: how many there are.
        settings: the settings that determine the parts' content; a folder with other settings is
            refused.
    """

    name: str
    function: Callable[[Context, int], Arrays]
    context: Context
    shards: int
    settings: Settings


def run_shards(
    job: Job[Any], folder: Path, backend: Backend | None = None, *, show: bool | None = None
) -> PartFolder:
    """Compute all missing parts, and return the folder.

    An interruption (a killed worker or driver, a full disk) loses only the shards in progress: the
    same call resumes the rest. Parts do not depend on the backend.

    Args:
        job: the job.
        folder: folder of the parts; new, empty, or of the same job.
        backend: where to run; by default in one process per core.
        show: whether to show progress; by default on a terminal.

    Raises:
        RunMismatchError: the folder belongs to another job.
        UnfinishedError: this worker's share is done, but parts of other workers are missing.
        RunError: the disk is full, or a shard repeatedly crashed its worker.
        Exception: any exception of the function.
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
    describe: Callable[[int], str] = "shard {}".format,
) -> None:
    """Compute all missing parts in any storage; see :func:`run_shards`.

    ``describe`` names a part for the progress display.

    Raises:
        UnfinishedError: this worker's share is done, but parts of other workers are missing.
        RunError: the disk is full, or a shard repeatedly crashed its worker.
        Exception: any exception of the function.
    """
    mine = backend.share(parts.missing())
    # Closed here, even if the display is interrupted: otherwise the workers would live until the
    # interpreter exits.
    with (
        progress(name, len(mine), show=show) as advance,
        contextlib.closing(backend.work(function, context, parts, mine)) as done,
    ):
        for number in done:
            advance(note=describe(number))
    check_finished(name, parts, backend)


def check_finished(name: str, parts: Parts, backend: Backend) -> None:
    """Check that all parts exist, including those of other workers.

    Raises:
        UnfinishedError: names the missing parts and their workers.
    """
    missing = parts.missing()
    if missing:
        fetch_finished(parts.path, lambda: not parts.missing())
        missing = parts.missing()
    if missing:
        told = ", ".join(map(str, missing[:_MAX_LISTED]))
        more = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
        raise UnfinishedError(
            f"{name}: {parts.shards - len(missing)} of "
            f"{pluralize(parts.shards, 'part is', 'parts are')} in {parts.path}; "
            f"missing: {told}{more}{backend.describe_workers(missing)}. Start the same command again when "
            "all are there, to merge them."
        )


def merge_parts(parts: Iterable[Part], merge: Callable[[Sequence[Part]], Part]) -> Part:
    """Merge adjacent parts until one is left; ``merge`` must be associative.

    Parts are read one at a time and merged hierarchically, so that few are in memory.
    """
    levels: list[list[Part]] = []
    for part in parts:
        _add_part(levels, part, 0, merge)
    left: list[Part] = []
    for level in levels:
        left = [*level, *left]
    return left[0] if len(left) == 1 else merge(left)


def _add_part(
    levels: list[list[Part]], part: Part, depth: int, merge: Callable[[Sequence[Part]], Part]
) -> None:
    if depth == len(levels):
        levels.append([])
    levels[depth].append(part)
    if len(levels[depth]) == _MERGED_AT_ONCE:
        group, levels[depth] = levels[depth], []
        _add_part(levels, merge(group), depth + 1, merge)
