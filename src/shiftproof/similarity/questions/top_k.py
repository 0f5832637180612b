"""Each test row's nearest training rows, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

import numpy as np

from shiftproof.errors import InputError
from shiftproof.similarity.search.certificate import Certificate, Tally
from shiftproof.similarity.search.engine import Engine, Reduction, scan
from shiftproof.similarity.search.in_memory import search
from shiftproof.similarity.search.options import Precision, SearchOptions
from shiftproof.similarity.search.question import Partial
from shiftproof.similarity.search.tiles import ALL_TESTS
from shiftproof.similarity.sources import Block, Source, check_flags, open_sources
from shiftproof.types import F64, I64, Flags, Settings

DENSE_ROWS = 2048
"""Training rows that are compared exactly to fill the lists, before 8-bit products can exclude
any.
"""


@dataclass(frozen=True, eq=False)
class TopK:
    """The nearest training rows of every test row.

    Attributes:
        similarity: ``(m, k)`` float64, best first; minus infinity for missing entries.
        index: ``(m, k)`` int64, rows of the whole training source, ties to the first; -1 for
            missing entries.
        certificate: evidence that this is exact.
    """

    similarity: F64
    index: I64
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.similarity)


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
    """Find the ``k`` nearest training rows of every test row.

    Exact, like :func:`~shiftproof.similarity.nearest`.

    Args:
        train: embeddings.
        test: embeddings of the same width.
        k: number of neighbors, 1 or more.
        precision: see :func:`~shiftproof.similarity.nearest`.
        device: see :func:`~shiftproof.similarity.nearest`.
        memory: see :func:`~shiftproof.similarity.nearest`.
        threads: see :func:`~shiftproof.similarity.nearest`.
        shards: only these shards of the training source; see :func:`merge_top_k`.
        keep: ``(n,)`` bool over the whole training source; restricts the search to these rows; by
            default all.

    >>> import numpy
    >>> train = numpy.eye(3, dtype="float32")
    >>> top_k(train, train[[2, 0]], 1).index.tolist()
    [[2], [0]]
    """
    options = SearchOptions(precision, device, memory, threads)
    return search_top_k(train, {"test": test}, k, options, shards=shards, keep=keep)["test"]


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
    """Find the nearest training rows of every row of several test sets, in one pass.

    Args:
        train: the training set, ``(n, d)``.
        tests: test sets by name, ``(m, d)`` each.
        k: number of neighbors of each row, 1 or more.
        precision: as for :func:`top_k`; so are ``device``, ``memory``, ``threads`` and ``shards``.
        device: device of the products.
        memory: memory limit.
        threads: number of threads.
        shards: the shards of the training set to search; None for all.
        keep: ``(n,)`` the training rows to search; None for all.

    Raises:
        InputError: ``k`` below 1, or invalid input as for :func:`top_k`.
    """
    options = SearchOptions(precision, device, memory, threads)
    return search_top_k(train, tests, k, options, shards=shards, keep=keep)


def search_top_k(
    train: Source,
    tests: Mapping[str, Source],
    k: int,
    options: SearchOptions,
    *,
    shards: Sequence[int] | None = None,
    keep: Flags | None = None,
) -> dict[str, TopK]:
    """Search like :func:`top_k_of_each`, with options as one argument."""
    if k < 1:
        raise InputError(f"Expected k of 1 or more, got {k}.")
    rows, sets = open_sources(train, tests)
    if keep is not None:
        keep = check_flags(keep, len(rows), "keep")
    return search(TopKQuestion(k), rows, sets, options, shards=shards, keep=keep)


def merge_lists(lists: Sequence[tuple[F64, I64]], k: int) -> tuple[F64, I64]:
    """Merge lists of the same test rows; duplicates count once."""
    values = np.concatenate([part[0] for part in lists], axis=1)
    indices = np.concatenate([part[1] for part in lists], axis=1)
    order = np.lexsort((indices, -values), axis=1)
    values = np.take_along_axis(values, order, axis=1)
    indices = np.take_along_axis(indices, order, axis=1)
    duplicated = np.zeros(values.shape, dtype=bool)
    duplicated[:, 1:] = (indices[:, 1:] == indices[:, :-1]) & (indices[:, 1:] >= 0)
    # A stable sort moves duplicates to the end and keeps the order of the rest.
    order = np.argsort(duplicated, axis=1, kind="stable")[:, :k]
    return (
        np.ascontiguousarray(np.take_along_axis(values, order, axis=1)),
        np.ascontiguousarray(np.take_along_axis(indices, order, axis=1)),
    )


def merge_top_k(first: TopK, second: TopK) -> TopK:
    """Merge the lists of two sets of shards for the same test rows; associative."""
    values, indices = merge_lists(
        [(first.similarity, first.index), (second.similarity, second.index)],
        first.similarity.shape[1],
    )
    return TopK(values, indices, first.certificate.merge(second.certificate))


# ---------------------------------------------------------------- the question


class _TopKState(NamedTuple):
    """Lists ``(m, k)`` of the nearest training rows, best first; ``first`` is the block's first
    row.
    """

    values: F64
    indices: I64
    first: int

    def floor(self, row: int, test: int) -> float:
        value: float = self.values[test, self.values.shape[1] - 1]
        return value

    def stop(self, row: int) -> int:
        return ALL_TESTS

    def enter(self, row: int, test: int, value: float) -> None:
        values, indices, index = self.values[test], self.indices[test], self.first + row
        place = values.shape[0]
        while place > 0 and (
            value > values[place - 1] or (value == values[place - 1] and index < indices[place - 1])
        ):
            place -= 1
        if place == values.shape[0]:
            return
        for i in range(values.shape[0] - 1, place, -1):
            values[i], indices[i] = values[i - 1], indices[i - 1]
        values[place], indices[place] = value, index


@dataclass(frozen=True, eq=False)
class _Lists:
    """The lists so far of a chunk of test rows. Duplicates between threads count once."""

    values: F64
    indices: I64

    def enter(self, engine: Engine, block: Block, here: slice) -> Tally:
        state = _TopKState(self.values, self.indices, block.first)
        reduction = Reduction(state, self.values[:, -1], self.values.shape[1])
        return scan(engine, block.values, block.usable, reduction)

    def fork(self) -> _Lists:
        return _Lists(self.values.copy(), self.indices.copy())

    def join(self, others: Sequence[Partial]) -> None:
        every = [self, *(other for other in others if isinstance(other, _Lists))]
        lists = [(one.values, one.indices) for one in every]
        self.values[:], self.indices[:] = merge_lists(lists, self.values.shape[1])


@dataclass(frozen=True, eq=False)
class _TopKAnswer:
    """The lists of a test set, chunk by chunk."""

    k: int
    chunks: list[_Lists] = field(default_factory=list)

    def begin(self, engine: Engine) -> Partial:
        shape = (len(engine.rows), self.k)
        self.chunks.append(_Lists(np.full(shape, -np.inf), np.full(shape, -1, dtype=np.int64)))
        return self.chunks[-1]

    def finish(self, certificate: Certificate, skipped: Flags) -> TopK:
        return TopK(
            np.concatenate([chunk.values for chunk in self.chunks]),
            np.concatenate([chunk.indices for chunk in self.chunks]),
            certificate,
        )


@dataclass(frozen=True)
class TopKQuestion:
    """Which training rows are nearest to each test row?"""

    k: int
    name: str = "top-k"
    found: type[TopK] = TopK

    @property
    def dense(self) -> int:
        """Only full lists can exclude rows."""
        return max(DENSE_ROWS, 4 * self.k)

    def settings(self) -> Settings:
        """Return no settings beside ``k``, which is recorded anyway."""
        return {}

    def start(self, name: str, train_rows: int, test_rows: int) -> _TopKAnswer:
        """Start with empty lists."""
        return _TopKAnswer(self.k)

    def merge(self, parts: Sequence[TopK]) -> TopK:
        """Join the lists."""
        return reduce(merge_top_k, parts)
