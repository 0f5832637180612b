"""The two sides of a search: engines, which emit tiles of candidates, and what questions make of them.

A similarity is the inner product of two float32 rows added up in float64
(:func:`~shiftproof.similarity.search.kernels.exact_product`). An engine's products, in 8 bits, in 16
or in float32, only decide which pairs cannot matter, by a proven bound; so every engine gives the same
numbers bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from shiftproof.similarity.search.certificate import Tally
from shiftproof.similarity.search.tiles import Tile
from shiftproof.types import F32, F64, Flags


class State(Protocol):
    """The arrays that a question fills: a NamedTuple whose methods are compiled into the loops.

    Each state that is one of ours is compiled and kept on disk for each kind of tile. Methods are
    written in what numba compiles; a row is counted in its block, a test row in its chunk.
    """

    def floor(self, row: int, test: int) -> float:
        """Return what a product must reach to matter; never lower than before.

        Of the row alone where each row's largest product is looked for, and else of the test row
        alone, in -4..4 or minus infinity.
        """

    def stop(self, row: int) -> int:
        """Return how many of the first test rows count for a row: :data:`EVERY`, or 0 when it is done."""

    def enter(self, row: int, test: int, value: float) -> None:
        """Take a similarity that may matter."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """What a question makes of the pairs of a block of training rows and a chunk of test rows.

    Attributes:
        state: a :class:`State`.
        thresholds: what products must reach to matter, one value for each test row or one for all, in
            -4..4; None where each training row's largest is looked for. None is to be known of a test
            row whose threshold is minus infinity.
        k: training rows that each test row keeps; 0 where it keeps none, and the thresholds do not
            rise.
    """

    state: Any
    thresholds: F64 | float | None
    k: int = 0


class Engine(Protocol):
    """A chunk of test rows, made ready to be compared with any number of training rows."""

    @property
    def precision(self) -> str:
        """Of the products that decide what cannot matter."""

    @property
    def device(self) -> str:
        """Where they are made: "cpu" or "cuda"."""

    @property
    def rows(self) -> F32:
        """``(m, width)``, the test rows."""

    @property
    def first(self) -> int:
        """The first one's place in the test set."""

    @property
    def block_rows(self) -> int:
        """So many training rows may be compared at a time where all pairs may be candidates."""

    @property
    def stretch(self) -> int:
        """Training rows of a block where few pairs are candidates."""

    def emit(self, rows: F32, usable: Flags, reduction: Reduction, tally: Tally) -> Iterator[Tile]:
        """Yield tiles that name all pairs that may matter; each is reduced before the next is made.

        Args:
            rows: ``(n, width)`` float32, a block of training rows.
            usable: ``(n,)`` bool; other rows are in no tile.
            reduction: what is looked for.
            tally: told the bound, and what was set aside.
        """


def scan(engine: Engine, rows: F32, usable: Flags, reduction: Reduction) -> Tally:
    """Compare a block of training rows ``(n, width)`` with an engine's test rows."""
    from shiftproof.similarity.search.kernels import visit_pairs

    tally = Tally(products=int(usable.sum()) * len(engine.rows))
    for tile in engine.emit(rows, usable, reduction, tally):
        visit_pairs(tile, rows, engine.rows, reduction.state, tally.counts)
    return tally
