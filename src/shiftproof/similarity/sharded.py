"""Searches over a training set in parts: resumable, in processes, by a scheduler, or on Ray.

A part is some neighboring rows of the training set, compared on one thread; what comes of them all is
what the search in memory gives, bit for bit, whatever the question.
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
from shiftproof.similarity.search.options import (
    Precision,
    SearchOptions,
    parse_memory,
    rows_in_memory,
)
from shiftproof.similarity.search.passes import sample_rows, search_passes
from shiftproof.similarity.search.question import Found, Question, pack_found, unpack_found
from shiftproof.similarity.sources import Embeddings, Source, open_sources
from shiftproof.types import F64, Flags, Settings

Asked = TypeVar("Asked")

FEWEST, MOST = 20_000, 1_000_000
"""Rows of a part where none are named: a sixteenth of all within these. With fewer, making the test rows
ready would count; with more, an interruption would cost much."""


@dataclass(frozen=True)
class Sharding:
    """How a search is split into parts: what makes them, and the folder that stores them.

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
        """Return how many of so many parts are made at a time on one machine."""
        return max(1, min(self.backend.processes(), parts))

    def options(self, parts: int) -> SearchOptions:
        """Return how one of so many parts is searched."""
        memory = parse_memory(self.memory) // self.processes(parts)
        return SearchOptions(self.precision, self.device, memory, threads=1)

    def within(self, name: str) -> Sharding:
        """Return the sharding for searches of another kind, in a folder of this one."""
        return dataclasses.replace(self, folder=self.folder / name)


def split_to_parts(
    train: Embeddings, part_rows: int | None
) -> tuple[Embeddings, tuple[tuple[int, ...], ...]]:
    """Cut large files and put small ones together, to parts of about ``part_rows`` rows.

    Returns:
        The training rows in their shards, and the shards of each part. They depend on the rows and
        ``part_rows`` alone, not on who does the work.
    """
    rows = size_of_parts(len(train), part_rows)
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


def size_of_parts(rows: int, part_rows: int | None) -> int:
    """Return how many rows a part has, about."""
    return part_rows or min(max(-(-rows // 16), FEWEST), MOST)


# ---------------------------------------------------------------- one question, in parts


@dataclass(frozen=True, eq=False)
class Search(Generic[Asked]):
    """What a worker needs for any part.

    Attributes:
        asked: a question, or what else the function that makes a part is to know.
        train: the training rows, in shards that no part cuts.
        tests: the test sets.
        parts: the shards of each part.
        options: how a part is searched.
        k: training rows that each test row keeps.
        key: tells this search from others.
        keep: gives the rows of a part that are searched; by default all.
    """

    asked: Asked
    train: Embeddings
    tests: dict[str, Embeddings]
    parts: tuple[tuple[int, ...], ...]
    options: SearchOptions
    k: int
    key: str
    keep: Callable[[int], Flags] | None = None


@dataclass(frozen=True, eq=False)
class Parts(Generic[Found]):
    """The parts of a search on disk, of which one is held at a time.

    Attributes:
        folder: where they are.
        question: that they answer.
        tests: the names of the test sets.
    """

    folder: PartFolder
    question: Question[Found]
    tests: tuple[str, ...]

    def __iter__(self) -> Iterator[dict[str, Found]]:
        """Yield what was found in neighboring parts of the training rows, in order."""
        return map(self._unpack, self.folder.each())

    def read(self, number: int) -> dict[str, Found]:
        """Return what was found in one part."""
        return self._unpack(self.folder.read(number))

    def merge(self) -> dict[str, Found]:
        """Return what was found in all of them."""
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
            raise earlier_version(self.folder) from error
        return dict(zip(self.tests, found, strict=True))


def open_parts(
    question: Question[Found], train: Embeddings, tests: Sequence[str], sharding: Sharding
) -> Parts[Found]:
    """Return the parts of a search that is done."""
    count = len(split_to_parts(train, sharding.part_rows)[1])
    return Parts(PartFolder(sharding.folder / question.name, count), question, tuple(tests))


def earlier_version(parts: PartFolder) -> RunMismatchError:
    """Return the error of parts that are laid out otherwise."""
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

    The parts lie in the sharding's folder below ``name``, the question's by default. ``keep`` gives
    the rows of a part that are searched, as flags; it is sent to workers, and ``about_keep``
    decides them. By default all are.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: what the search in memory refuses.
    """
    folder = run_search(
        name or question.name, make_part, question, train, tests, sharding,
        k=question.k, settings={**question.settings(), **(about_keep or {})}, keep=keep,
    )  # fmt: skip
    return Parts(folder, question, tuple(tests))


def make_part(search: Search[Question[Any]], number: int) -> Arrays:
    """Return what is found in one part, for every test set by its place in their order."""
    shards = search.parts[number]
    keep = None
    if search.keep is not None:
        # Of the whole source, of which only this part's rows are looked at.
        keep = np.zeros(len(search.train), dtype=bool)
        first = int(search.train.starts[shards[0]])
        kept = search.keep(number)
        keep[first : first + len(kept)] = kept
    question = search.asked
    found = search_passes(
        question, search.train, search.tests, _ready(search), 1, shards=shards, keep=keep
    )
    return {
        f"{place}.{name}": values
        for place, of_set in enumerate(found.values())
        for name, values in pack_found(of_set).items()
    }


_kept: dict[str, list[Chunk]] = {}
"""The test rows of this process's last part, by its search: the next part is of the same one."""


def _ready(search: Search[Any]) -> Iterator[list[Chunk]]:
    """Yield the test rows of a search, made ready once in a process if memory holds all of them.

    How they are made ready depends on the search alone, so that a part does not on those before it.
    """
    chunks = _kept.get(search.key)
    if chunks is None:
        _kept.clear()
        sample = sample_rows(search.train, None)
        passes = prepare_passes(search.train, search.tests, search.options, 1, sample, k=search.k)
        chunks = next(passes)
        held = sum(len(chunk.engine.rows) for chunk in chunks)
        if held < sum(len(of_set) for of_set in search.tests.values()):
            yield chunks
            yield from passes
            return
        _kept[search.key] = chunks
    yield chunks


def run_search(
    name: str,
    function: Callable[[Search[Asked], int], Arrays],
    asked: Asked,
    train: Source,
    tests: Mapping[str, Source],
    sharding: Sharding,
    *,
    settings: Settings,
    k: int = 0,
    keep: Callable[[int], Flags] | None = None,
) -> PartFolder:
    """Make the parts of a search.

    ``function`` makes one part of what is ``asked``; ``settings`` decide its content beside the
    rows and the sharding. Each test row keeps ``k`` training rows; ``keep`` goes to the function.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: too little memory, a device that is not there, or what the function refuses.
    """
    rows, sets = open_sources(train, tests)
    if not isinstance(sharding.backend, Ray):
        # Before anything is begun; machines of a cluster have devices of their own.
        choose_half(sharding.precision, sharding.device)
    pieces, parts = split_to_parts(rows, sharding.part_rows)
    options = sharding.options(len(parts))
    _check_memory(rows, k, sharding, len(parts))
    told: Settings = {
        "train": rows.fingerprint(),
        "tests": {name: of_set.fingerprint() for name, of_set in sets.items()},
        "k": k,
        "thresholds": settings,
        "precision": sharding.precision,
        "device": sharding.device.partition(":")[0],
        "part_rows": size_of_parts(len(rows), sharding.part_rows),
    }
    key = files.fingerprint([json.dumps([name, told, options.memory], sort_keys=True).encode()])
    search = Search(asked, pieces, sets, parts, options, k, key, keep)
    try:
        return run_shards(
            Job(name, function, search, len(parts), told), sharding.folder / name, sharding.backend
        )
    finally:
        _kept.clear()


def _check_memory(rows: Embeddings, k: int, sharding: Sharding, parts: int) -> None:
    """Refuse too little memory for each process."""
    try:
        rows_in_memory(parse_memory(sharding.options(parts).memory), rows.width, 1, k)
    except InputError as error:
        raise InputError(
            f"{error} So much has each of {sharding.processes(parts)} processes; allow more, or use "
            "fewer workers."
        ) from error


# ---------------------------------------------------------------- the questions


def nearest_in_parts(
    train: Source, tests: Mapping[str, Source], sharding: Sharding
) -> dict[str, Nearest]:
    """Find every training row's nearest row in each of several test sets.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: what :func:`~shiftproof.similarity.nearest` refuses.
    """
    return search_in_parts(NearestQuestion(), train, tests, sharding).merge()


def top_k_in_parts(
    train: Source, tests: Mapping[str, Source], sharding: Sharding, k: int = 1
) -> dict[str, TopK]:
    """Find the ``k`` nearest training rows of every row of several test sets.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: what :func:`~shiftproof.similarity.top_k` refuses.
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
    """Find the training rows that are closer to some test row than the reference set is.

    Args:
        train: the training set, ``(n, d)``.
        tests: test sets by name, ``(m, d)`` each.
        sharding: how parts are computed, and the folder that stores them.
        reference: the training set whose nearest rows set the limit of each test row.
        thresholds: limits in its place, by test set: one number, or ``(m,)`` of them.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: what :func:`~shiftproof.similarity.prune` refuses.
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
    """Search the rows that :func:`prune_in_parts` kept once more, in float32, for anything too close.

    Args:
        train: the training set that was pruned.
        tests: the test sets that it was pruned for.
        sharding: that of the pruning, whose parts hold the rows that were kept.
        limits: how close training rows may come, as the pruning's ``thresholds``.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
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
    """Return the rows of a part that a pruning kept."""
    return make_pruning(pruned.read(number), {}).keep()
