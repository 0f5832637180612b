"""Tiles: the pairs of a block of training rows and a chunk of test rows that may matter."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from shiftproof.types import F32, F64, I8, I32, I64, Flags

ALL_TESTS = 1 << 62
"""Stands for all test rows; larger than any number of them."""

ROWS = 1024
"""Default number of training rows per block."""


class Maxima(NamedTuple):
    """Sums of 8-bit products with all test rows: the maxima of groups of 16.

    A product minus its test row's threshold is at most ``scale * sum + reach[row]``.

    Attributes:
        whole: ``(n, padded width)`` int8, the training rows.
        tests: ``(groups, 16, padded width)`` int8, the test rows by groups.
        chosen: ``(n,)`` the rows that have sums.
        maxima: ``(n, groups)`` int32, including the bias.
        bias: ``(m,)`` int32, initial values of the test rows' sums.
        reach: ``(n,)`` float64.
        scale: value of one unit of a sum.
        lanes: stride between the members of a group among the test rows.
        largest: whether only each row's largest product is searched; thresholds are then 0.
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
    """Float32 products with consecutive test rows.

    Attributes:
        scores: ``(r, c)`` float32.
        places: ``(r,)`` int64, the rows in the block.
        first: index of the first test row.
        columns: number of test rows; further columns of ``scores`` are undefined.
        slack: error bound of a product.
        largest: whether only each row's largest product is searched.
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
        row: ``(p,)`` int64, indices in the block of training rows.
        test: ``(p,)`` int64, indices of the test rows.
        estimate: ``(p,)`` float64, their approximate products.
        error: ``(n,)`` float64, error bounds for every training row of the block.
    """

    row: I64
    test: I64
    estimate: F64
    error: F64


Tile: TypeAlias = Maxima | ProductTile | Candidates
