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
from shiftproof.similarity.search.options import Precision, SearchOptions
from shiftproof.similarity.search.passes import search
from shiftproof.similarity.search.question import Partial
from shiftproof.similarity.search.tiles import EVERY
from shiftproof.similarity.sources import Block, Source, open_both
from shiftproof.types import F32, F64, I64, Flags, Settings


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
    options = SearchOptions(precision, device, memory, threads)
    return search(NearestQuestion(), rows, sets, options, shards=shards)


def merge_nearest(parts: Sequence[Nearest]) -> Nearest:
    """Join the results for neighbouring shards, in their order; associative."""
    return Nearest(
        similarity=np.concatenate([part.similarity for part in parts]),
        index=np.concatenate([part.index for part in parts]),
        certificate=merge_certificates(part.certificate for part in parts),
    )


# ---------------------------------------------------------------- the question


class _NearestState(NamedTuple):
    """The nearest test row so far of each row of a block; ``first`` is that of the chunk."""

    best: F64
    places: I64
    first: int

    def floor(self, row: int, test: int) -> float:
        value: float = self.best[row]
        return value

    def stop(self, row: int) -> int:
        return EVERY

    def enter(self, row: int, test: int, value: float) -> None:
        place = self.first + test
        if value > self.best[row] or (value == self.best[row] and place < self.places[row]):
            self.best[row], self.places[row] = value, place


@dataclass(frozen=True, eq=False)
class _NearestSoFar:
    """The nearest test row so far of every training row: threads do not meet, nor do chunks."""

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
        """Return nothing: the rows decide."""
        return {}

    def start(self, name: str, train_rows: int, test_rows: int) -> _NearestSoFar:
        """Begin with rows that have no neighbour."""
        return _NearestSoFar(np.full(train_rows, -np.inf), np.full(train_rows, -1, dtype=np.int64))

    def merge(self, parts: Sequence[Nearest]) -> Nearest:
        """Put the rows behind each other."""
        return merge_nearest(parts)
