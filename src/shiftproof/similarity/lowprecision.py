"""Products of rows in 8 bits and fewer dimensions, with a proven bound on what that leaves out.

For a training row x, a test row q, any two vectors m and n, and a matrix R whose columns are
orthonormal, with ``x' = x - n`` and ``q' = q - m``:

    <x, q> = <x, m> + <n, q'> + <x'R, q'R> + <x's part outside R, q's part outside R>

and for whole rows X and Q that stand for ``x'R = a X + e`` and ``q'R = b Q + f``

    <x'R, q'R> = a b <X, Q> + <e, q'R> + a <X, f>

The first two terms are known to float64, ``<X, Q>`` is a sum of whole numbers, and by the inequality
of Cauchy and Schwarz the rest is at most the product of two lengths, three times over. With m and n
near the means of the two sides, and R along the directions in which they spread, those are short. R
also mixes its directions, so that no dimension has larger numbers than the others and all 8 bits are
used. That float32 makes R not quite orthonormal and rounds ``x'R`` is in the bound, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

SMALLEST_STEP = 1e-4
"""Finer steps gain nothing, and sums of whole numbers must stay below 2**29."""

WIDEST = 16384
"""Wider rows could overflow the sums."""

SET_ASIDE = 256
"""One training row in so many may be left to float32, where a few outliers would make all rows coarse."""

OUTLIER = 1.5
"""How much larger than the others' the numbers of a row must be for that."""

SLACK = 1e-9
"""More than float64 rounds off in the terms that are known."""

_CACHED_ROWS = 504
"""So many rows of the usual widths stay in a core's cache while the test rows pass by."""

_SAMPLE = 8192


@dataclass(frozen=True, eq=False)
class Basis:
    """Directions along which both sides spread, the widest first, and what takes them off.

    Attributes:
        centre: ``(width,)`` float32, near the mean of the test rows.
        shift: ``(width,)`` float32, near the mean of the training rows.
        directions: ``(width, width)`` float64, orthonormal columns.
    """

    centre: F32
    shift: F32
    directions: F64

    @classmethod
    def of(cls, tests: F32, train: F32) -> Basis:
        """Find them from rows of both sides."""
        centre = tests.mean(axis=0, dtype=np.float64).astype(np.float32)
        shift = train.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = np.zeros((tests.shape[1],) * 2)
        for rows, middle in ((tests, centre), (train, shift)):
            some = rows[:: max(1, len(rows) // _SAMPLE)] - middle
            spread += (some.T @ some).astype(np.float64) / len(some)
        _, directions = np.linalg.eigh(spread)
        return cls(centre, shift, np.ascontiguousarray(directions[:, ::-1]))

    def matrix(self, dimensions: int) -> tuple[F32, float]:
        """Return R ``(width, dimensions)``, and how far it is from orthonormal."""
        draws = np.random.Generator(np.random.PCG64(dimensions))
        mixing, _ = np.linalg.qr(draws.standard_normal((dimensions, dimensions)))
        matrix = np.ascontiguousarray(self.directions[:, :dimensions] @ mixing, dtype=np.float32)
        exact = matrix.astype(np.float64)
        return matrix, float(np.linalg.norm(exact.T @ exact - np.eye(dimensions))) + 1e-12


@dataclass(frozen=True, eq=False)
class QuantisedTests:
    """The test side: whole rows, laid out for the tile, and what the bound needs.

    Attributes:
        kind: a key of :data:`shiftproof.similarity.kernels.TILES`.
        basis: what was taken off, and the directions.
        matrix: ``(width, dimensions)`` float32, R.
        panels: R as :func:`~shiftproof.similarity.kernels.multiply_floats` takes it.
        defect: how far it is from orthonormal.
        step: what a whole number stands for.
        whole: ``(groups, 16, padded dimensions)`` int8: the members of a group side by side.
        packed: the same as the tile wants it.
        starts: what the 16-bit sums begin with.
        corrections: ``(padded count,)`` int64, what the offset of the training rows adds to each sum.
        known: ``(count,)`` float64, ``<n, q'>``.
        lengths: ``(count,)`` float64, of ``q'R``.
        outside: ``(count,)`` float64, at least the length of the part outside R.
        largest_error: the largest length of what rounding left.
        levels: the largest whole number that a training row may hold.
        offset: what is added to a training row's whole numbers to make them unsigned.
        window_limits: ``(windows, 2)`` int64, how long (squared) a training row may be in a window.
    """

    kind: str
    basis: Basis
    matrix: F32
    panels: F32
    defect: float
    step: float
    whole: I8
    packed: I8
    starts: I16
    corrections: I64
    known: F64
    lengths: F64
    outside: F64
    largest_error: float
    levels: int
    offset: int
    window_limits: I64


@dataclass(frozen=True, eq=False)
class Products:
    """The sums of one block of training rows.

    A product is at most ``scale * (sum + bias) + reach[row]``; of the sums, the maxima over groups of
    16 test rows are kept, the bias included. ``chosen`` names the rows that have some. A product lies
    at most twice ``bound`` below that.
    """

    whole: I8
    chosen: Flags
    maxima: I32
    lanes: int
    reach: F64
    scale: float
    bias: I32
    bound: float


def quantise_tests(tests: F32, basis: Basis, kind: str, dimensions: int) -> QuantisedTests:
    """Quantise test rows ``(n, width)`` for a kind of tile, along so many directions."""
    from shiftproof.similarity import kernels

    tile = kernels.TILES[kind]
    count = len(tests)
    steps = -(-dimensions // (kernels.STEP * kernels.WINDOW)) * kernels.WINDOW
    spans = -(-count // tile.span)
    matrix, defect = basis.matrix(dimensions)
    rows = np.empty((count, dimensions), dtype=np.float32)
    known, squares = np.empty(count), np.empty(count)
    exact, shift = matrix.astype(np.float64), basis.shift.astype(np.float64)
    for start in range(0, count, 1024):
        here = slice(start, start + 1024)
        moved = tests[here].astype(np.float64) - basis.centre
        known[here] = moved @ shift
        squares[here] = np.einsum("nd,nd->n", moved, moved)
        rows[here] = moved @ exact
    largest = np.empty(count, dtype=np.float32)
    kernels.largest_values(rows, largest)
    step = max(float(largest.max()) / 127, SMALLEST_STEP)
    whole = np.zeros((spans * tile.span, steps * kernels.STEP), dtype=np.int8)
    errors, lengths, whole_lengths = np.empty(count), np.empty(count), np.empty(count)
    kernels.quantise(rows, step, whole, errors, lengths, whole_lengths)

    windows = steps // kernels.WINDOW
    levels = offset = 127
    starts = np.zeros((spans, tile.tiles, 0, 0, 0), dtype=np.int16)
    corrections = np.zeros(len(whole), dtype=np.int64)
    window_limits = np.zeros((windows, 2), dtype=np.int64)
    if tile.narrow:
        # vpmaddubsw clamps the sum of two products to 16 bits: it must not come to that.
        pairs = np.abs(whole).reshape(len(whole), -1, 2).sum(axis=2, dtype=np.int16)
        levels = offset = min(127, 32767 // (2 * max(int(pairs.max()), 1)))
        # A window's sum may wrap around on its way if it ends within 16 bits; that it does is
        # Cauchy's inequality again. The offset's share is taken off before the first step.
        longest = np.zeros((windows, 2), dtype=np.int64)
        kernels.window_lengths(whole, longest)
        window_limits = 32767**2 // np.maximum(longest, 1)
        halves = whole.reshape(len(whole), windows, kernels.WINDOW, 2, 2)
        begin = (-offset * halves.sum(axis=(2, 4), dtype=np.int32)).astype(np.int16)
        starts = np.ascontiguousarray(
            begin.reshape(spans, tile.tiles, tile.width, windows, 2).transpose(0, 1, 3, 2, 4)
        )
    else:
        corrections = offset * whole.sum(axis=1, dtype=np.int64)
    packed = whole.reshape(spans, tile.tiles, tile.width, steps, kernels.STEP)
    grouped = whole.reshape(spans, kernels.MEMBERS, tile.lanes, -1).transpose(0, 2, 1, 3)
    return QuantisedTests(
        kind=kind,
        basis=basis,
        matrix=matrix,
        panels=panels_of(np.ascontiguousarray(matrix.T)),
        defect=defect,
        step=step,
        # What is looked at together lies together.
        whole=np.ascontiguousarray(grouped).reshape(-1, kernels.MEMBERS, whole.shape[1]),
        packed=np.ascontiguousarray(packed.transpose(0, 1, 3, 2, 4)),
        starts=starts,
        corrections=corrections,
        known=known,
        lengths=lengths,
        # float64 made these; what it and the last rounding to float32 leave is below 1e-6.
        outside=_outside(squares, lengths, 1e-6, defect),
        largest_error=float(errors.max()),
        levels=levels,
        offset=offset,
        window_limits=window_limits,
    )


def panels_of(columns: F32) -> F32:
    """Return columns, given as rows ``(m, width)``, in the panels of :func:`multiply_floats`."""
    from shiftproof.similarity import kernels

    count, width = columns.shape
    panels = np.empty(
        (-(-count // kernels.FLOAT_COLUMNS), width, kernels.FLOAT_COLUMNS), dtype=np.float32
    )
    kernels.pack_panels(columns, panels)
    return panels


def multiply_floats(rows: F32, panels: F32) -> F32:
    """Return the float32 products ``(n, 24 p)`` of rows and panels, on this thread alone.

    A library of linear algebra would start threads of its own in each of ours.
    """
    from shiftproof.similarity import kernels

    count = len(rows)
    left = -count % kernels.FLOAT_ROWS
    if left:
        rows = np.concatenate([rows, np.zeros((left, rows.shape[1]), dtype=np.float32)])
    out = np.empty((len(rows), len(panels) * kernels.FLOAT_COLUMNS), dtype=np.float32)
    kernels.multiply_floats(np.ascontiguousarray(rows), panels, out)
    return out[:count]


def _outside(squares: F64, inside: F64, error: F64 | float, defect: float) -> F64:
    """Return at least the lengths outside R of rows of squared lengths ``squares``.

    ``inside`` are the lengths along R, which err by ``error``.
    """
    least = np.maximum(inside - error, 0) ** 2 / (1 + defect)
    lengths: F64 = np.sqrt(np.maximum(squares - least, 0) + 1e-12)
    return lengths


def multiply(
    tests: QuantisedTests, rows: F32, usable: Flags, thresholds: F64 | float
) -> Products | None:
    """Multiply a block of training rows with all test rows in 8 bits.

    Args:
        tests: the test side.
        rows: ``(n, width)`` float32.
        usable: ``(n,)`` bool.
        thresholds: ``(m,)`` or one for all, taken off each test row's products.

    Returns:
        The sums, or None where no row suits 8 bits.
    """
    from shiftproof.similarity import kernels

    tile = kernels.TILES[tests.kind]
    count, width = rows.shape
    dimensions = tests.matrix.shape[1]
    moved: F32 = np.subtract(rows, tests.basis.shift)
    along = multiply_floats(moved, tests.panels)[:, :dimensions]
    along = np.ascontiguousarray(along)
    largest = np.empty(count, dtype=np.float32)
    kernels.largest_values(along, largest)
    there = np.sort(largest[usable])
    if not len(there):
        return None
    most = float(there[-1])
    usual = float(there[len(there) - 1 - len(there) // SET_ASIDE])
    step = max((usual if most > OUTLIER * usual else most) / tests.levels, SMALLEST_STEP)
    chosen = usable & (largest <= step * tests.levels * (1 + 1e-6))
    padded = tests.packed.shape[2] * kernels.STEP
    whole = np.zeros((-(-count // tile.rows) * tile.rows, padded), dtype=np.int8)
    errors, lengths, whole_lengths = np.empty(count), np.empty(count), np.empty(count)
    kernels.quantise(along, step, whole, errors, lengths, whole_lengths)
    if tile.narrow:
        kernels.fits_windows(whole[:count], tests.window_limits, chosen)
    if not chosen.any():
        return None

    squares = np.empty(count)
    kernels.square_lengths(moved, squares)
    full = np.sqrt(squares)
    # Float32 rounds the differences, and then each of the sums that make a row along R.
    unit = 2.0**-24
    rounding = width * unit / (1 - width * unit) * np.sqrt(dimensions) * (1 + tests.defect) * full
    rounding += 2 * unit * (full + 1.1)
    outside = _outside(squares * (1 + 1e-6) + 1e-12, lengths, rounding, tests.defect)
    longest = float(tests.lengths.max())
    # Of two lengths that vary, the product is at most a part for the row and one for the test row.
    balance = float(tests.outside.mean() / max(outside[chosen].mean(), 1e-9))
    beyond = (
        whole_lengths * tests.largest_error
        + rounding * longest
        + tests.defect * full * longest
        + balance / 2 * outside**2
        # The part outside, and what the differences lost, is met by the test row's whole length.
        + 2 * unit * (full + 1.1) * 2.2
    )
    error = float(errors[chosen].max())
    beyond_test = error * tests.lengths + tests.outside**2 / (2 * balance)

    scale = step * tests.step
    bias = np.full(len(tests.corrections), kernels.FAR, dtype=np.int32)
    offsets = (tests.known + beyond_test - thresholds) / scale
    bias[: len(offsets)] = np.clip(np.ceil(offsets), kernels.FAR, 1 << 29)
    begin = np.maximum(bias - tests.corrections, kernels.FAR).astype(np.int32)

    packed = np.empty((len(whole) // tile.rows, padded // 4, tile.rows, 4), dtype=np.uint8)
    kernels.pack_rows(whole, tests.offset, packed)
    spans = len(tests.packed)
    # An odd number of cache lines from row to row, so that rows do not push each other out.
    stride = spans + (1 - spans % 2) if tile.lanes == 16 else -(-spans // 4) * 4 + 2
    maxima = np.full((len(packed), tile.rows, stride, tile.lanes), kernels.FAR, dtype=np.int32)
    panels = _CACHED_ROWS // tile.rows
    for start in range(0, len(packed), panels):
        kernels.MAXIMA[tests.kind](
            packed[start : start + panels],
            tests.packed,
            tests.starts,
            begin.reshape(spans, tile.tiles, tile.width),
            maxima[start : start + panels],
        )
    known = np.empty(count)
    kernels.products_with(rows, tests.basis.centre, known)
    return Products(
        whole=whole[:count],
        chosen=chosen,
        maxima=maxima.reshape(len(whole), -1)[:count],
        lanes=tile.lanes,
        reach=known + beyond + SLACK,
        scale=scale,
        bias=bias,
        bound=float(beyond[chosen].max()) + float(beyond_test.max()) + scale,
    )


_GROUP_COST = 400_000
"""Looking at a group again takes as long as so many 8-bit products."""

_TUNING_TESTS = 2048
_TUNING_ROWS = 256


def tuning_rows(tests: int) -> slice:
    """Return which of so many test rows :func:`choose_dimensions` looks at."""
    return slice(None, None, -(-tests // _TUNING_TESTS))


def choose_dimensions(
    tests: F32, basis: Basis, kind: str, train: F32, thresholds: F64 | None
) -> int:
    """Choose along how many directions to multiply: fewer are faster, and rule out less.

    Tries some on a sample of both sides and counts.

    Args:
        tests: ``(m, width)`` float32.
        basis: the directions.
        kind: a kind of tile.
        train: ``(n, width)`` float32, a sample.
        thresholds: ``(m,)``, what products are compared with, which counts for :func:`tuning_rows`
            only; None where the largest is looked for.
    """
    width: int = tests.shape[1]
    sizes: list[int] = sorted(
        {min(width, -(-width * part // 8 // 32) * 32) for part in (3, 4, 5, 6, 8)}
    )
    some = tuning_rows(len(tests))
    rows = np.ascontiguousarray(train[:: -(-len(train) // _TUNING_ROWS)])
    usable = np.ones(len(rows), dtype=bool)
    few = np.ascontiguousarray(tests[some])
    limits: F64 | float = 0.0 if thresholds is None else thresholds[some]
    largest = (rows @ few.T).max(axis=1) if thresholds is None else np.zeros(len(rows))
    # How many products lie near the largest hardly hangs on how many there are.
    share = 1.0 if thresholds is None else len(tests) / len(few)
    costs = {}
    for size in sizes:
        low = quantise_tests(few, basis, kind, size)
        products = multiply(low, rows, usable, limits)
        if products is None:
            return width
        possible = products.scale * products.maxima + products.reach[:, None]
        groups = (possible >= largest[:, None])[products.chosen].sum() / products.chosen.sum()
        costs[size] = size * (len(tests) + width) + share * groups * _GROUP_COST
    return min(costs, key=costs.__getitem__)
