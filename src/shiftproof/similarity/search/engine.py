"""The interface of engines, which emit tiles of candidate pairs, and of the states they are reduced
to.

A similarity is the inner product of two float32 rows, summed in float64
(:func:`~shiftproof.similarity.search.kernels.exact_product`). An engine's products, in 8 bits, 16
bits or float32, only exclude pairs, by a proven error bound; so every engine gives bit-identical
results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from shiftproof.similarity.search.certificate import Tally
from shiftproof.similarity.search.tiles import Tile
from shiftproof.types import F32, F64, Flags


class State(Protocol):
    """The arrays that a question fills: a NamedTuple whose methods numba compiles into the loops.

    States of this package are compiled for each kind of tile and cached on disk. Rows are indexed
    within their block, test rows within their chunk.
    """

    def floor(self, row: int, test: int) -> float:
        """Return the similarity that a pair must reach to matter; it never decreases.

        It depends on the row only if each row's largest product is searched, and otherwise on the
        test row only; in -4..4 or minus infinity.
        """

    def stop(self, row: int) -> int:
        """Return how many of the first test rows to compare with a row: :data:`ALL_TESTS`, or 0
        once it is done.
        """

    def enter(self, row: int, test: int, value: float) -> None:
        """Record a similarity that may matter."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """How the pairs of a block of training rows and a chunk of test rows are reduced.

    Attributes:
        state: a :class:`State`.
        thresholds: the similarities that pairs must reach to matter, one for each test row or one
            for all, in -4..4; None if each training row's largest product is searched. Nothing is
            known about a test row with a threshold of minus infinity.
        k: number of training rows in each test row's list; 0 without lists: the thresholds do not
            rise.
    """

    state: Any
    thresholds: F64 | float | None
    k: int = 0


class Engine(Protocol):
    """A chunk of test rows, prepared for comparisons with any number of training rows."""

    @property
    def precision(self) -> str:
        """Precision of the products that exclude pairs."""

    @property
    def device(self) -> str:
        """Device of these products: "cpu" or "cuda"."""

    @property
    def rows(self) -> F32:
        """``(m, width)``, the test rows."""

    @property
    def first(self) -> int:
        """Index of the first one in the test set."""

    @property
    def block_rows(self) -> int:
        """Maximum number of training rows per block if all pairs may be candidates."""

    @property
    def wide_block_rows(self) -> int:
        """Number of training rows per block if few pairs are candidates."""

    def emit(self, rows: F32, usable: Flags, reduction: Reduction, tally: Tally) -> Iterator[Tile]:
        """Yield tiles with all pairs that may matter; each is reduced before the next is computed.

        Args:
            rows: ``(n, width)`` float32, a block of training rows.
            usable: ``(n,)`` bool; other rows are in no tile.
            reduction: how the pairs are reduced.
            tally: records the error bound and the number of rows set aside.
        """


def scan(engine: Engine, rows: F32, usable: Flags, reduction: Reduction) -> Tally:
    """Compare a block of training rows ``(n, width)`` with an engine's test rows."""
    from shiftproof.similarity.search.kernels import visit_pairs

    tally = Tally(products=int(usable.sum()) * len(engine.rows))
    for tile in engine.emit(rows, usable, reduction, tally):
        visit_pairs(tile, rows, engine.rows, reduction.state, tally.counts)
    return tally
