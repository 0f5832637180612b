"""Tiles: which pairs of a block of training rows and a chunk of test rows may matter."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from shiftproof.types import F32, F64, I8, I32, I64, Flags

ALL_TESTS = 1 << 62
"""More test rows than there are."""

ROWS = 1024
"""Training rows that are worked on at a time."""


class Maxima(NamedTuple):
    """Sums of 8-bit products with all test rows: the maxima of groups of 16.

    A product less its test row's threshold is at most ``scale * sum + reach[row]``.

    Attributes:
        whole: ``(n, padded width)`` int8, the training rows.
        tests: ``(groups, 16, padded width)`` int8, the test rows by groups.
        chosen: ``(n,)`` the rows that have sums.
        maxima: ``(n, groups)`` int32, what test rows' sums begin with included.
        bias: ``(m,)`` int32, what they begin with.
        reach: ``(n,)`` float64.
        scale: what a sum's unit stands for.
        lanes: how far apart the members of a group lie among the test rows.
        largest: whether only each row's largest product is looked for; thresholds are 0 then.
    """

    whole: I8
    tests: I8
    chosen: Flags
    maxima: I32
    bias: I32
    reach: F64
    scale: float
    lanes: int
    largest: bool


class ProductTile(NamedTuple):
    """Float32 products with some neighboring test rows.

    Attributes:
        scores: ``(r, c)`` float32.
        places: ``(r,)`` int64, the rows in the block.
        first: the first of the test rows.
        columns: how many there are; what lies behind them in ``scores`` means nothing.
        slack: so far off is a product at most.
        largest: whether only each row's largest product is looked for.
    """

    scores: F32
    places: I64
    first: int
    columns: int
    slack: float
    largest: bool


class Candidates(NamedTuple):
    """Pairs of a training row and a test row that a bound could not rule out.

    Attributes:
        row: ``(p,)`` int64, places in the block of training rows.
        test: ``(p,)`` int64, places among the test rows.
        estimate: ``(p,)`` float64, their products as they were made.
        error: ``(n,)`` float64 for every training row of the block: so far off these may be.
    """

    row: I64
    test: I64
    estimate: F64
    error: F64


Tile: TypeAlias = Maxima | ProductTile | Candidates
