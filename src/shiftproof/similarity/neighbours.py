"""Each training row's nearest test row, and each test row's nearest training rows: exactly."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import InputError
from shiftproof.similarity.half_rows import HalfTestRows
from shiftproof.similarity.halfprecision import choose_half
from shiftproof.similarity.search import (
    DENSE_ROWS,
    Certificate,
    How,
    Precision,
    TestRows,
    TestSide,
    choose_kind,
    count_threads,
    each_block,
    parse_memory,
    rows_in_memory,
    sample_of,
)
from shiftproof.similarity.sources import Block, Embeddings, Source, check_flags, open_embeddings

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


Group: TypeAlias = list[tuple[str, TestSide]]
"""Chunks of test rows that are compared in one pass, each with its test set's name."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest test row of every training row.

    Attributes:
        similarity: ``(n,)`` float32, the largest inner product; NaN for rows that were skipped.
        index: ``(n,)`` int64, the test row that has it, the first of equal ones; -1 if skipped.
        certificate: why this is exact.
    """

    similarity: F32
    index: I64
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.similarity)


@dataclass(frozen=True, eq=False)
class TopK:
    """The nearest training rows of every test row.

    Attributes:
        similarity: ``(m, k)`` float64, best first; minus infinity where there are fewer rows.
        index: ``(m, k)`` int64, rows of the whole training source, of equal ones the first; -1 where
            there are fewer.
        certificate: why this is exact.
    """

    similarity: F64
    index: I64
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.similarity)


def nearest(
    train: Source,
    test: Source,
    *,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
    shards: Sequence[int] | None = None,
) -> Nearest:
    """Find the nearest test row of every training row.

    Exact: the similarity is the inner product of the float32 rows, added up in float64; of equal
    ones the first test row counts. ``precision`` changes how long it takes and nothing else.

    Args:
        train: embeddings, see :func:`~shiftproof.similarity.open_embeddings`.
        test: embeddings of the same width.
        precision: "int8" looks at 8-bit products first, "fp32" at float32 ones; "fp16" and "bf16" at
            16-bit ones that torch makes on the device. "auto" takes fp16 on a GPU, and else int8
            where that is faster than fp32: on most processors, for four times as many test rows as a
            row is wide or more.
        device: "cpu", or where torch makes the 16-bit products: "cuda", "cuda:1" and so on.
        memory: how much may be used, in bytes or such as "4GB" (the default). Test rows that do not
            fit are compared in several passes.
        threads: by default all cores of this process.
        shards: only these shards of the training source; see :func:`merge_nearest`.

    Raises:
        InputError: widths that differ, an empty test set, rows that cannot be used, a device that is
            not there.
        MissingExtraError: torch is needed and not installed.

    >>> import numpy
    >>> train = numpy.eye(3, dtype="float32")
    >>> found = nearest(train, train[[2, 0]])
    >>> found.index.tolist(), found.similarity.tolist()
    ([1, 0, 0], [1.0, 0.0, 1.0])
    """
    return nearest_to_each(
        train,
        {"test": test},
        precision=precision,
        device=device,
        memory=memory,
        threads=threads,
        shards=shards,
    )["test"]


def nearest_to_each(
    train: Source,
    tests: Mapping[str, Source],
    *,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
    shards: Sequence[int] | None = None,
) -> dict[str, Nearest]:
    """Find every training row's nearest row in each of several test sets, in one pass.

    The arguments are those of :func:`nearest`.
    """
    rows, sets = open_both(train, tests)
    used = count_threads(threads)
    groups = passes(rows, sets, How(precision, device, memory), used, sample_of(rows, shards))
    return nearest_of_groups(rows, list(sets), groups, used, shards)


def nearest_of_groups(
    rows: Embeddings,
    names: Sequence[str],
    groups: Iterable[Group],
    threads: int,
    shards: Sequence[int] | None,
) -> dict[str, Nearest]:
    """Find every training row's nearest row in each test set, given what :func:`passes` gives."""
    count = sum(rows.shards[shard].rows for shard in _chosen(rows, shards))
    best = {name: np.full(count, -np.inf) for name in names}
    index = {name: np.full(count, -1, dtype=np.int64) for name in names}
    certificates: dict[str, list[Certificate]] = {name: [] for name in names}
    for chunks in groups:

        def work(block: Block, chunks: Group = chunks) -> list[tuple[F64, I64]]:
            return [side.nearest(block.values, block.usable) for _, side in chunks]

        place = skipped = 0
        for block, found in each_block(rows, shards, threads, work):
            here = slice(place, place + len(block.values))
            place = here.stop
            skipped += int((~block.usable).sum())
            for (name, _), (values, places) in zip(chunks, found, strict=True):
                # Chunks come in the order of the test rows: an equal one later is not nearer.
                better = values > best[name][here]
                best[name][here][better] = values[better]
                index[name][here][better] = places[better]
        for name, side in chunks:
            first = not certificates[name]
            certificates[name].append(side.certificate(skipped if first else 0))
    return {
        name: Nearest(
            similarity=np.where(index[name] >= 0, best[name], np.nan).astype(np.float32),
            index=index[name],
            certificate=reduce(Certificate.merged, certificates[name]),
        )
        for name in names
    }


def merge_nearest(parts: Sequence[Nearest]) -> Nearest:
    """Join the results for neighbouring shards, in their order; associative."""
    return Nearest(
        similarity=np.concatenate([part.similarity for part in parts]),
        index=np.concatenate([part.index for part in parts]),
        certificate=reduce(Certificate.merged, (part.certificate for part in parts)),
    )


def top_k(
    train: Source,
    test: Source,
    k: int = 1,
    *,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
    shards: Sequence[int] | None = None,
    keep: Flags | None = None,
) -> TopK:
    """Find the ``k`` nearest training rows of every test row; exact, as :func:`nearest` is.

    Args:
        train: embeddings.
        test: embeddings of the same width.
        k: how many.
        precision: see :func:`nearest`.
        device: see :func:`nearest`.
        memory: see :func:`nearest`.
        threads: see :func:`nearest`.
        shards: only these shards of the training source; see :func:`merge_top_k`.
        keep: ``(n,)`` bool over the whole training source; only these rows, by default all.

    >>> import numpy
    >>> train = numpy.eye(3, dtype="float32")
    >>> top_k(train, train[[2, 0]], 1).index.tolist()
    [[2], [0]]
    """
    return top_k_of_each(
        train,
        {"test": test},
        k,
        precision=precision,
        device=device,
        memory=memory,
        threads=threads,
        shards=shards,
        keep=keep,
    )["test"]


def top_k_of_each(
    train: Source,
    tests: Mapping[str, Source],
    k: int = 1,
    *,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
    shards: Sequence[int] | None = None,
    keep: Flags | None = None,
) -> dict[str, TopK]:
    """Find the nearest training rows of every row of several test sets, in one pass."""
    if k < 1:
        raise InputError(f"Expected k of 1 or more, got {k}.")
    rows, sets = open_both(train, tests)
    if keep is not None:
        keep = check_flags(keep, len(rows), "keep")
    used = count_threads(threads)
    how, sample = How(precision, device, memory), sample_of(rows, shards)
    groups = passes(rows, sets, how, used, sample, lists=k)
    return top_k_of_groups(rows, list(sets), groups, k, used, shards, keep)


def top_k_of_groups(
    rows: Embeddings,
    names: Sequence[str],
    groups: Iterable[Group],
    k: int,
    threads: int,
    shards: Sequence[int] | None,
    keep: Flags | None,
) -> dict[str, TopK]:
    """Find the nearest training rows of every test row, given what :func:`passes` gives."""
    found: dict[str, list[TopK]] = {name: [] for name in names}
    for chunks in groups:
        lists = _lists(rows, shards, chunks, k, threads, keep)
        for (name, side), (values, indices), skipped in lists:
            found[name].append(TopK(values, indices, side.certificate(skipped)))
    return {
        name: TopK(
            similarity=np.concatenate([part.similarity for part in parts]),
            index=np.concatenate([part.index for part in parts]),
            certificate=reduce(Certificate.merged, (part.certificate for part in parts)),
        )
        for name, parts in found.items()
    }


_Lists = list[tuple[F64, I64]]


def _lists(
    rows: Embeddings,
    shards: Sequence[int] | None,
    chunks: Group,
    k: int,
    threads: int,
    keep: Flags | None,
) -> Iterator[tuple[tuple[str, TestSide], tuple[F64, I64], int]]:
    """Yield for each chunk of test rows its lists and the number of rows that were skipped."""

    def empty() -> _Lists:
        return [
            (
                np.full((len(side.rows), k), -np.inf),
                np.full((len(side.rows), k), -1, dtype=np.int64),
            )
            for _, side in chunks
        ]

    def usable(block: Block) -> Flags:
        if keep is None:
            return block.usable
        return block.usable & keep[block.first : block.first + len(block.values)]

    def enter(block: Block, lists: _Lists) -> None:
        for (_, side), (values, indices) in zip(chunks, lists, strict=True):
            side.enter(block.values, usable(block), block.first, values, indices)

    # The first rows fill one set of lists; every thread goes on with a copy. What is in a list
    # does not depend on who found it, as equal similarities go by the row.
    begun = empty()
    waiting: queue.SimpleQueue[_Lists] = queue.SimpleQueue()
    dense = max(DENSE_ROWS, 4 * k)
    skipped = seen = 0

    def work(block: Block) -> None:
        lists = waiting.get()
        try:
            enter(block, lists)
        finally:
            waiting.put(lists)

    waiting.put(begun)
    copies = [begun]
    for block, _ in each_block(rows, shards, threads, work):
        skipped += int((~block.usable).sum())
        seen += len(block.values)
        if len(copies) < threads and seen >= dense:
            held = waiting.get()
            while len(copies) < threads:
                copy = [(values.copy(), indices.copy()) for values, indices in held]
                copies.append(copy)
                waiting.put(copy)
            waiting.put(held)
    for number, chunk in enumerate(chunks):
        yield chunk, merge_lists([lists[number] for lists in copies], k), skipped


def merge_lists(lists: Sequence[tuple[F64, I64]], k: int) -> tuple[F64, I64]:
    """Join lists of the same test rows; what several hold counts once."""
    values = np.concatenate([part[0] for part in lists], axis=1)
    indices = np.concatenate([part[1] for part in lists], axis=1)
    order = np.lexsort((indices, -values), axis=1)
    values = np.take_along_axis(values, order, axis=1)
    indices = np.take_along_axis(indices, order, axis=1)
    twice = np.zeros(values.shape, dtype=bool)
    twice[:, 1:] = (indices[:, 1:] == indices[:, :-1]) & (indices[:, 1:] >= 0)
    # A stable sort moves what is there twice to the end and keeps the order of the rest.
    order = np.argsort(twice, axis=1, kind="stable")[:, :k]
    return (
        np.ascontiguousarray(np.take_along_axis(values, order, axis=1)),
        np.ascontiguousarray(np.take_along_axis(indices, order, axis=1)),
    )


def merge_top_k(first: TopK, second: TopK) -> TopK:
    """Join the lists that two sets of shards gave for the same test rows; associative."""
    values, indices = merge_lists(
        [(first.similarity, first.index), (second.similarity, second.index)],
        first.similarity.shape[1],
    )
    return TopK(values, indices, first.certificate.merged(second.certificate))


# ---------------------------------------------------------------- what all searches begin with


def open_both(
    train: Source, tests: Mapping[str, Source]
) -> tuple[Embeddings, dict[str, Embeddings]]:
    """Open the training rows and the test sets.

    Raises:
        InputError: no test set, or widths that differ.
    """
    if not tests:
        raise InputError("Expected at least one test set.")
    rows = open_embeddings(train)
    sets = {name: open_embeddings(source).as_test_set() for name, source in tests.items()}
    for name, rows_of_set in sets.items():
        if rows_of_set.width != rows.width:
            raise InputError(
                f"The training rows have width {rows.width}, the rows of {name} "
                f"{rows_of_set.width}. Embed both with one encoder."
            )
    return rows, sets


def passes(
    train: Embeddings,
    tests: Mapping[str, Embeddings],
    how: How,
    threads: int,
    sample: F32,
    lists: int = 0,
    skip_unusable: bool = False,
) -> Iterator[Group]:
    """Yield the test rows in groups of chunks that fit into memory, made ready.

    All chunks of a group are compared in one pass over the training rows.

    Args:
        train: the training rows.
        tests: the test sets.
        how: how they are compared; its ``threads`` are of no account.
        threads: how many there will be.
        sample: some training rows (:func:`sample_of`).
        lists: how many training rows each test row keeps.
        skip_unusable: let rows that cannot be used, which are 0, stand among the test rows: nothing
            comes near them.
    """
    half = choose_half(how.precision, how.device)
    room = rows_in_memory(parse_memory(how.memory), train.width, threads, lists)
    group: Group = []
    held = 0
    for name, rows in tests.items():
        start = 0
        kind = None if half else choose_kind(how.precision, train.width, len(rows))
        while start < len(rows):
            count = min(len(rows) - start, room - held)
            values = rows.read(start, start + count)
            if not skip_unusable and not values.any(axis=1).all():
                bad = start + int(np.flatnonzero(~values.any(axis=1))[0])
                raise InputError(f"Row {bad} of test set {name} cannot be used; leave it out.")
            if half is not None:
                group.append((name, HalfTestRows(values, start, half, sample)))
            else:
                group.append((name, TestRows(values, start, kind, sample)))
            start += count
            held += count
            if held >= room:
                yield group
                group, held = [], 0
    if group:
        yield group


def _chosen(train: Embeddings, shards: Sequence[int] | None) -> Sequence[int]:
    return range(len(train.shards)) if shards is None else shards
