"""Searches over a training set in parts: resumable, in processes, by a scheduler, or on Ray.

A part is a range of training rows, compared on one thread. The merged result is bit-identical to
that of the search in memory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from shiftproof.counts import pluralize
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.io import files
from shiftproof.shards import Arrays, Backend, Job, Local, PartFolder, Ray, merge_parts, run_shards
from shiftproof.similarity.prune import (
    Proof,
    Pruning,
    check_limits,
    check_one_of,
    check_usable,
    find_limits,
    make_proofs,
    make_pruning,
)
from shiftproof.similarity.questions.above import Above, AboveQuestion
from shiftproof.similarity.questions.nearest import Nearest, NearestQuestion
from shiftproof.similarity.questions.top_k import TopK, TopKQuestion
from shiftproof.similarity.search.engines import Chunk, prepare_passes
from shiftproof.similarity.search.fp16 import choose_half
from shiftproof.similarity.search.in_memory import sample_rows, search_passes
from shiftproof.similarity.search.options import (
    Precision,
    SearchOptions,
    count_rows_in_memory,
    parse_memory,
)
from shiftproof.similarity.search.question import Found, Question, pack_found, unpack_found
from shiftproof.similarity.sources import Embeddings, Source, open_sources
from shiftproof.types import F64, Flags, Settings

Task = TypeVar("Task")

MIN_PART_ROWS, MAX_PART_ROWS = 20_000, 1_000_000
"""Limits of the default number of rows of a part, which is a sixteenth of all rows. With fewer,
preparing the test rows would dominate; with more, an interruption would cost much.
"""


@dataclass(frozen=True)
class Sharding:
    """How a search is split into parts: the backend that computes them and the folder that stores
    them.

    Attributes:
        folder: holds one folder for every search.
        backend: the processes, scheduler or cluster that computes the parts.
        precision: see :func:`~shiftproof.similarity.nearest`.
        memory: the limit of all processes of one machine together.
        part_rows: approximate training rows in a part; None chooses by their number.
        device: see :func:`~shiftproof.similarity.nearest`; each process takes its own share of a
            GPU's memory, so use few processes there.
    """

    folder: Path
    backend: Backend = field(default_factory=Local)
    precision: Precision = "auto"
    memory: int | str | None = None
    part_rows: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        parse_memory(self.memory)
        if self.part_rows is not None and self.part_rows < 1:
            raise InputError(f"Expected parts of 1 row or more, got {self.part_rows}.")

    def processes(self, parts: int) -> int:
        """Return the number of parts computed at a time on one machine."""
        return max(1, min(self.backend.processes(), parts))

    def options(self, parts: int) -> SearchOptions:
        """Return the search options of one of ``parts`` parts."""
        memory = parse_memory(self.memory) // self.processes(parts)
        return SearchOptions(self.precision, self.device, memory, threads=1)

    def within(self, name: str) -> Sharding:
        """Return the sharding for searches of another kind, in a folder of this one."""
        return dataclasses.replace(self, folder=self.folder / name)


def split_to_parts(
    train: Embeddings, part_rows: int | None
) -> tuple[Embeddings, tuple[tuple[int, ...], ...]]:
    """Split large files and join small ones into parts of about ``part_rows`` rows.

    Returns:
            The training rows in new shards, and the shards of each part. They depend only on the
            rows and on ``part_rows``, not on the backend.
    """
    rows = choose_part_rows(len(train), part_rows)
    pieces = train.split_rows(rows)
    parts: list[list[int]] = []
    held = 0
    for shard in pieces.shards:
        if not shard.rows:
            continue
        if not parts or held + shard.rows > rows:
            parts.append([])
            held = 0
        parts[-1].append(shard.number)
        held += shard.rows
    return pieces, tuple(tuple(part) for part in parts)


def choose_part_rows(rows: int, part_rows: int | None) -> int:
    """Return the approximate number of rows of a part."""
    return part_rows or min(max(-(-rows // 16), MIN_PART_ROWS), MAX_PART_ROWS)


# ---------------------------------------------------------------- a question in parts


@dataclass(frozen=True, eq=False)
class Search(Generic[Task]):
    """What a worker needs to compute any part.

    Attributes:
        task: a question, or another argument of the function that computes a part.
        train: the training rows; each shard belongs to one part.
        tests: the test sets.
        parts: the shards of each part.
        options: how a part is searched.
        k: number of training rows listed for each test row.
        key: identifies this search.
        keep: returns which rows of a part are searched; None searches all.
    """

    task: Task
    train: Embeddings
    tests: dict[str, Embeddings]
    parts: tuple[tuple[int, ...], ...]
    options: SearchOptions
    k: int
    key: str
    keep: Callable[[int], Flags] | None = None


@dataclass(frozen=True, eq=False)
class Parts(Generic[Found]):
    """The parts of a search on disk, read one at a time.

    Attributes:
        folder: the folder of the parts.
        question: the question they answer.
        tests: the names of the test sets.
    """

    folder: PartFolder
    question: Question[Found]
    tests: tuple[str, ...]

    def __iter__(self) -> Iterator[dict[str, Found]]:
        """Yield the results of the parts, in the order of the training rows."""
        return map(self._unpack, self.folder.each())

    def read(self, number: int) -> dict[str, Found]:
        """Return the results of one part."""
        return self._unpack(self.folder.read(number))

    def merge(self) -> dict[str, Found]:
        """Return the merged results of all parts."""
        return merge_parts(self, self._merge)

    def _merge(self, parts: Sequence[dict[str, Found]]) -> dict[str, Found]:
        return {name: self.question.merge([part[name] for part in parts]) for name in self.tests}

    def _unpack(self, part: Arrays) -> dict[str, Found]:
        sets: list[Arrays] = [{} for _ in self.tests]
        try:
            for name, values in part.items():
                number, _, field_name = name.partition(".")
                sets[int(number)][field_name] = values
            found = [unpack_found(self.question.found, arrays) for arrays in sets]
        except (KeyError, ValueError, IndexError) as error:
            raise make_version_error(self.folder) from error
        return dict(zip(self.tests, found, strict=True))


def open_parts(
    question: Question[Found], train: Embeddings, tests: Sequence[str], sharding: Sharding
) -> Parts[Found]:
    """Open the parts of a finished search."""
    count = len(split_to_parts(train, sharding.part_rows)[1])
    return Parts(PartFolder(sharding.folder / question.name, count), question, tuple(tests))


def make_version_error(parts: PartFolder) -> RunMismatchError:
    """Return the error for parts in the format of an earlier version."""
    return RunMismatchError(
        f"{parts.path} holds parts that an earlier version made. Choose another output "
        "folder, or delete this one to start anew."
    )


def search_in_parts(
    question: Question[Found],
    train: Source,
    tests: Mapping[str, Source],
    sharding: Sharding,
    *,
    name: str | None = None,
    keep: Callable[[int], Flags] | None = None,
    about_keep: Settings | None = None,
) -> Parts[Found]:
    """Ask a question of the training rows and each of several test sets, part by part.

    The parts are stored in the sharding's folder under ``name``, by default the question's.
    ``keep`` is sent to the workers and returns flags of the rows of a part that are searched, by
    default all; ``about_keep`` are the settings it depends on.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: invalid input, as for the search in memory.
    """
    folder = run_search(
        name or question.name, make_part, question, train, tests, sharding,
        k=question.k, settings={**question.settings(), **(about_keep or {})}, keep=keep,
    )  # fmt: skip
    return Parts(folder, question, tuple(tests))


def make_part(search: Search[Question[Any]], number: int) -> Arrays:
    """Search one part; arrays are named by the index of the test set."""
    shards = search.parts[number]
    keep = None
    if search.keep is not None:
        # Flags of the whole source, although only this part's rows are searched.
        keep = np.zeros(len(search.train), dtype=bool)
        first = int(search.train.starts[shards[0]])
        kept = search.keep(number)
        keep[first : first + len(kept)] = kept
    question = search.task
    found = search_passes(
        question, search.train, search.tests, _prepare_tests(search), 1, shards=shards, keep=keep
    )
    return {
        f"{place}.{name}": values
        for place, of_set in enumerate(found.values())
        for name, values in pack_found(of_set).items()
    }


_prepared: dict[str, list[Chunk]] = {}
"""The prepared test rows of this process's last part, by the search's key: the next part uses them
too.
"""


def _prepare_tests(search: Search[Any]) -> Iterator[list[Chunk]]:
    """Yield the prepared test rows of a search, prepared once per process if all fit in memory.

    The preparation depends only on the search, so that parts do not depend on earlier ones.
    """
    chunks = _prepared.get(search.key)
    if chunks is None:
        _prepared.clear()
        sample = sample_rows(search.train, None)
        passes = prepare_passes(search.train, search.tests, search.options, 1, sample, k=search.k)
        chunks = next(passes)
        held = sum(len(chunk.engine.rows) for chunk in chunks)
        if held < sum(len(of_set) for of_set in search.tests.values()):
            yield chunks
            yield from passes
            return
        _prepared[search.key] = chunks
    yield chunks


def run_search(
    name: str,
    function: Callable[[Search[Task], int], Arrays],
    task: Task,
    train: Source,
    tests: Mapping[str, Source],
    sharding: Sharding,
    *,
    settings: Settings,
    k: int = 0,
    keep: Callable[[int], Flags] | None = None,
) -> PartFolder:
    """Compute the parts of a search.

    ``function`` computes one part; besides the rows and the sharding its result depends on
    ``settings`` only. ``task``, ``k`` and ``keep`` are passed to it in a :class:`Search`.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: too little memory, a missing device, or invalid input of the function.
    """
    rows, sets = open_sources(train, tests)
    if not isinstance(sharding.backend, Ray):
        # Check the device before anything is written; the machines of a cluster have their own
        # devices.
        choose_half(sharding.precision, sharding.device)
    pieces, parts = split_to_parts(rows, sharding.part_rows)
    options = sharding.options(len(parts))
    _check_memory(rows, k, sharding, len(parts))
    key_settings: Settings = {
        "train": rows.fingerprint(),
        "tests": {name: of_set.fingerprint() for name, of_set in sets.items()},
        "k": k,
        "thresholds": settings,
        "precision": sharding.precision,
        "device": sharding.device.partition(":")[0],
        "part_rows": choose_part_rows(len(rows), sharding.part_rows),
    }
    key = files.fingerprint(
        [json.dumps([name, key_settings, options.memory], sort_keys=True).encode()]
    )
    search = Search(task, pieces, sets, parts, options, k, key, keep)
    try:
        return run_shards(
            Job(name, function, search, len(parts), key_settings),
            sharding.folder / name,
            sharding.backend,
        )
    finally:
        _prepared.clear()


def _check_memory(rows: Embeddings, k: int, sharding: Sharding, parts: int) -> None:
    """Check that each process has enough memory."""
    try:
        count_rows_in_memory(parse_memory(sharding.options(parts).memory), rows.width, 1, k)
    except InputError as error:
        raise InputError(
            f"{error} This is the memory of each of {pluralize(sharding.processes(parts), 'process')}; allow "
            "more, or use fewer workers."
        ) from error


# ---------------------------------------------------------------- the questions


def nearest_in_parts(
    train: Source, tests: Mapping[str, Source], sharding: Sharding
) -> dict[str, Nearest]:
    """Find every training row's nearest row in each of several test sets.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: as for :func:`~shiftproof.similarity.nearest`.
    """
    return search_in_parts(NearestQuestion(), train, tests, sharding).merge()


def top_k_in_parts(
    train: Source, tests: Mapping[str, Source], sharding: Sharding, k: int = 1
) -> dict[str, TopK]:
    """Find the ``k`` nearest training rows of every row of several test sets.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: as for :func:`~shiftproof.similarity.top_k`.
    """
    if k < 1:
        raise InputError(f"Expected k of 1 or more, got {k}.")
    return search_in_parts(TopKQuestion(k), train, tests, sharding).merge()


def prune_in_parts(
    train: Source,
    tests: Mapping[str, Source],
    sharding: Sharding,
    *,
    reference: Source | None = None,
    thresholds: Mapping[str, F64 | float] | None = None,
) -> Pruning:
    """Find the training rows that are more similar to a test row than the reference set is.

    Args:
        train: the training set, ``(n, d)``.
        tests: test sets by name, ``(m, d)`` each.
        sharding: how parts are computed, and the folder that stores them.
        reference: the training set whose nearest row gives the limit of each test row.
        thresholds: limits instead of a reference, for each test set one number or ``(m,)``.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: as for :func:`~shiftproof.similarity.prune`.
    """
    check_one_of(reference, thresholds)
    if reference is not None:
        near = top_k_in_parts(reference, tests, sharding.within("reference"), 1)
        limits = find_limits(near)
    else:
        limits = check_limits(open_sources(train, tests)[1], thresholds or {})
    found = search_in_parts(AboveQuestion(limits), train, tests, sharding).merge()
    pruning = make_pruning(found, limits)
    check_usable(pruning)
    return pruning


def prove_in_parts(
    train: Source, tests: Mapping[str, Source], sharding: Sharding, limits: Mapping[str, F64]
) -> dict[str, Proof]:
    """Verify a pruning: search the kept rows again, in float32, for any above the limits.

    Args:
        train: the training set that was pruned.
        tests: the test sets of the pruning.
        sharding: the sharding of the pruning, whose parts give the kept rows.
        limits: for each test set ``(m,)`` the largest allowed similarities, its ``thresholds``.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
    """
    plain = dataclasses.replace(sharding, precision="fp32", device="cpu")
    above = AboveQuestion(limits)
    rows, sets = open_sources(train, tests)
    pruned = open_parts(above, rows, list(sets), sharding)
    near = search_in_parts(
        TopKQuestion(1), rows, sets, plain,
        name="proof", keep=partial(_read_kept, pruned), about_keep=above.settings(),
    ).merge()  # fmt: skip
    return make_proofs(near, limits)


def _read_kept(pruned: Parts[Above], number: int) -> Flags:
    """Return which rows of a part the pruning kept."""
    return make_pruning(pruned.read(number), {}).keep()
