"""Each training row's nearest test row, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftproof.similarity.search.certificate import (
    Certificate,
    Tally,
    merge_certificates,
)
from shiftproof.similarity.search.engine import Engine, Reduction, scan
from shiftproof.similarity.search.in_memory import search
from shiftproof.similarity.search.options import Precision, SearchOptions
from shiftproof.similarity.search.question import Partial
from shiftproof.similarity.search.tiles import ALL_TESTS
from shiftproof.similarity.sources import Block, Source, open_sources
from shiftproof.types import F32, F64, I64, Flags, Settings


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest test row of every training row.

    Attributes:
        similarity: ``(n,)`` float32, the largest inner product; NaN for rows that were skipped.
        index: ``(n,)`` int64, that test row, ties to the first; -1 if skipped.
        certificate: evidence that this is exact.
    """

    similarity: F32
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

    Exact: the similarity is the inner product of the float32 rows, summed in float64; ties go to
        the first test row. ``precision`` changes only the speed, not the result.

    Args:
        train: embeddings, see :func:`~shiftproof.similarity.open_embeddings`.
        test: embeddings of the same width.
        precision: precision of the first products, which exclude most pairs: "int8", "fp32", or
            "fp16" and "bf16", computed by torch on the device. "auto" is fp16 on a GPU, otherwise
            int8 if that is faster than fp32: on most processors, if there are at least four times
            as many test rows as dimensions.
        device: "cpu", or the device of the 16-bit products: "cuda", "cuda:1" and so on.
        memory: memory limit, in bytes or such as "4GB" (the default). If the test rows do not fit,
            several passes are made.
        threads: number of threads; by default all cores of this process.
        shards: only these shards of the training source; see :func:`merge_nearest`.

    Raises:
        InputError: widths that differ, an empty test set, unusable rows, or a device that is not
            available.
        MissingExtraError: torch is needed and not installed.

    >>> import numpy
    >>> train = numpy.eye(3, dtype="float32")
    >>> found = nearest(train, train[[2, 0]])
    >>> found.index.tolist(), found.similarity.tolist()
    ([1, 0, 0], [1.0, 0.0, 1.0])
    """
    options = SearchOptions(precision, device, memory, threads)
    return search_nearest(train, {"test": test}, options, shards=shards)["test"]


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
    options = SearchOptions(precision, device, memory, threads)
    return search_nearest(train, tests, options, shards=shards)


def search_nearest(
    train: Source,
    tests: Mapping[str, Source],
    options: SearchOptions,
    *,
    shards: Sequence[int] | None = None,
) -> dict[str, Nearest]:
    """Search like :func:`nearest_to_each`, with options as one argument."""
    return search(NearestQuestion(), *open_sources(train, tests), options, shards=shards)


def merge_nearest(parts: Sequence[Nearest]) -> Nearest:
    """Join the results for neighboring shards, in their order; associative."""
    return Nearest(
        similarity=np.concatenate([part.similarity for part in parts]),
        index=np.concatenate([part.index for part in parts]),
        certificate=merge_certificates(part.certificate for part in parts),
    )


# ---------------------------------------------------------------- the question


class _NearestState(NamedTuple):
    """The nearest test row so far of a block's rows; ``first`` is the chunk's first test row."""

    best: F64
    places: I64
    first: int

    def floor(self, row: int, test: int) -> float:
        value: float = self.best[row]
        return value

    def stop(self, row: int) -> int:
        return ALL_TESTS

    def enter(self, row: int, test: int, value: float) -> None:
        place = self.first + test
        if value > self.best[row] or (value == self.best[row] and place < self.places[row]):
            self.best[row], self.places[row] = value, place


@dataclass(frozen=True, eq=False)
class _NearestAnswer:
    """The nearest test row so far of every training row; threads work on disjoint rows."""

    best: F64
    places: I64

    def begin(self, engine: Engine) -> Partial:
        return self

    def enter(self, engine: Engine, block: Block, here: slice) -> Tally:
        state = _NearestState(self.best[here], self.places[here], engine.first)
        return scan(engine, block.values, block.usable, Reduction(state, None))

    def fork(self) -> Partial:
        return self

    def join(self, others: Sequence[Partial]) -> None:
        pass

    def finish(self, certificate: Certificate, skipped: Flags) -> Nearest:
        similarity = np.where(self.places >= 0, self.best, np.nan).astype(np.float32)
        return Nearest(similarity, self.places, certificate)


@dataclass(frozen=True)
class NearestQuestion:
    """Which test row is nearest to each training row?"""

    name: str = "nearest"
    k: int = 0
    dense: int = 0
    found: type[Nearest] = Nearest

    def settings(self) -> Settings:
        """Return no settings: the rows determine the result."""
        return {}

    def start(self, name: str, train_rows: int, test_rows: int) -> _NearestAnswer:
        """Start with no neighbors."""
        return _NearestAnswer(np.full(train_rows, -np.inf), np.full(train_rows, -1, dtype=np.int64))

    def merge(self, parts: Sequence[Nearest]) -> Nearest:
        """Concatenate the rows."""
        return merge_nearest(parts)
