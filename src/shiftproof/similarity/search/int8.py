"""Products of rows in 8 bits and fewer dimensions, with a proven bound on the error.

For a training row x, a test row q, any two vectors m and n, and a matrix R whose columns are
orthonormal, with ``x' = x - n`` and ``q' = q - m``:

    <x, q> = <x, m> + <n, q'> + <x'R, q'R> + <x's part outside R, q's part outside R>

and for integer rows X and Q with ``x'R = a X + e`` and ``q'R = b Q + f``

    <x'R, q'R> = a b <X, Q> + <e, q'R> + a <X, f>

The first two terms are computed in float64, ``<X, Q>`` is an integer sum, and by the Cauchy-Schwarz
inequality each of the three other terms is at most a product of two lengths. These are short if m
and n are near the means of the two sides and R has their principal directions. R also mixes these
directions, so that all dimensions have values of similar size and use all 8 bits. The bound
includes the rounding of ``x'R`` and the departure of R from orthonormality in float32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shiftproof.similarity.search.certificate import Tally
from shiftproof.similarity.search.engine import Reduction
from shiftproof.similarity.search.float32 import Float32, multiply_floats, pack_panels
from shiftproof.similarity.search.tiles import ALL_TESTS, ROWS, Maxima, ProductTile
from shiftproof.types import F32, F64, I8, I16, I32, I64, Flags

MIN_STEP = 1e-4
"""Smallest quantization step: finer ones gain nothing, and integer sums must stay below 2**29."""

MAX_WIDTH = 16384
"""Largest width: wider rows could overflow the sums."""

ROWS_PER_OUTLIER = 256
"""One in this many training rows may be an outlier, compared in float32, which allows finer steps.
"""

OUTLIER = 1.5
"""Minimum ratio of an outlier's values to those of other rows."""

SLACK = 1e-9
"""Upper bound of the rounding errors of float64 in the exact terms."""

_CACHED_ROWS = 504
"""Rows of usual widths that fit into a core's cache."""

_MIXED = 64
"""Dimensions that :func:`~shiftproof.similarity.search.kernels.mix` combines."""

_SAMPLE = 8192


@dataclass(frozen=True, eq=False)
class Basis:
    """Principal directions of both sides, in order of decreasing variance, and the means.

    Attributes:
        center: ``(width,)`` float32, near the mean of the test rows.
        shift: ``(width,)`` float32, near the mean of the training rows.
        directions: ``(width, width)`` float64, orthonormal columns.
    """

    center: F32
    shift: F32
    directions: F64

    @classmethod
    def compute(cls, tests: F32, train: F32) -> Basis:
        """Compute the basis from test rows and training rows."""
        center = tests.mean(axis=0, dtype=np.float64).astype(np.float32)
        shift = train.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = np.zeros((tests.shape[1],) * 2)
        for rows, middle in ((tests, center), (train, shift)):
            some = rows[:: max(1, len(rows) // _SAMPLE)] - middle
            spread += (some.T @ some).astype(np.float64) / len(some)
        _, directions = np.linalg.eigh(spread)
        return cls(center, shift, np.ascontiguousarray(directions[:, ::-1]))

    def draw_signs(self, dimensions: int) -> F32 | None:
        """Return the signs ``(width,)`` of a fast R with six additions per value, or None.

        It requires that all directions are kept, since then any rotation of them is equally good.
        """
        width = len(self.center)
        if dimensions != width or width % _MIXED:
            return None
        draws = np.random.Generator(np.random.PCG64(width))
        signs: F32 = draws.choice(np.array([-1, 1], dtype=np.float32), width)
        return signs

    def make_matrix(self, dimensions: int) -> tuple[F32, float]:
        """Return R ``(width, dimensions)``, and its departure from orthonormality."""
        draws = np.random.Generator(np.random.PCG64(dimensions))
        mixing, _ = np.linalg.qr(draws.standard_normal((dimensions, dimensions)))
        matrix = np.ascontiguousarray(self.directions[:, :dimensions] @ mixing, dtype=np.float32)
        exact = matrix.astype(np.float64)
        return matrix, float(np.linalg.norm(exact.T @ exact - np.eye(dimensions))) + 1e-12


@dataclass(frozen=True, eq=False)
class QuantizedTests:
    """Quantized test rows, laid out for the tile, and the terms of the bound.

    Attributes:
        kind: a key of :data:`shiftproof.similarity.search.kernels.TILES`.
        basis: the subtracted means, and the directions.
        dimensions: number of directions.
        signs: ``(width,)`` float32 if R is that of
            :func:`~shiftproof.similarity.search.kernels.mix`.
        panels: any other R in the layout of
            :func:`~shiftproof.similarity.search.kernels.multiply_floats`.
        defect: departure of R from orthonormality.
        step: quantization step.
        whole: ``(groups, 16, padded dimensions)`` int8: the quantized rows in groups.
        packed: the quantized rows in the layout of the tile.
        starts: initial values of the 16-bit sums.
        corrections: ``(padded count,)`` int64, the contribution of the training rows' offset to
            each sum.
        known: ``(count,)`` float64, ``<n, q'>``.
        lengths: ``(count,)`` float64, lengths of ``q'R``.
        outside: ``(count,)`` float64, upper bounds of the lengths outside R.
        largest_error: the largest length of the rounding errors f.
        levels: the largest integer in a quantized training row.
        offset: added to the integers of a training row to make them unsigned.
        window_limits: ``(windows, 2)`` int64, limits of a training row's squared length in a
            window.
    """

    kind: str
    basis: Basis
    dimensions: int
    signs: F32 | None
    panels: F32 | None
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


def quantize_tests(tests: F32, basis: Basis, kind: str, dimensions: int) -> QuantizedTests:
    """Quantize test rows ``(n, width)`` for a kind of tile, along ``dimensions`` directions."""
    from shiftproof.similarity.search import kernels

    tile = kernels.TILES[kind]
    count = len(tests)
    steps = -(-dimensions // (kernels.STEP * kernels.WINDOW)) * kernels.WINDOW
    spans = -(-count // tile.span)
    signs, defect = basis.draw_signs(dimensions), 0.0
    panels: F32 | None = None
    exact: F64 = np.empty(0)
    if signs is None:
        matrix, defect = basis.make_matrix(dimensions)
        panels, exact = pack_panels(np.ascontiguousarray(matrix.T)), matrix.astype(np.float64)
    rows = np.empty((count, dimensions), dtype=np.float32)
    known, squares = np.empty(count), np.empty(count)
    shift = basis.shift.astype(np.float64)
    for start in range(0, count, 1024):
        here = slice(start, start + 1024)
        moved = tests[here].astype(np.float64) - basis.center
        known[here] = moved @ shift
        squares[here] = np.einsum("nd,nd->n", moved, moved)
        if signs is None:
            rows[here] = moved @ exact
        else:
            turned = np.empty_like(moved)
            kernels.mix(moved, signs, turned)
            rows[here] = turned
    largest = np.empty(count, dtype=np.float32)
    kernels.largest_values(rows, largest)
    step = max(float(largest.max()) / 127, MIN_STEP)
    whole = np.zeros((spans * tile.span, steps * kernels.STEP), dtype=np.int8)
    errors, lengths, whole_lengths = np.empty(count), np.empty(count), np.empty(count)
    kernels.quantize(rows, step, whole, errors, lengths, whole_lengths)

    windows = steps // kernels.WINDOW
    levels = offset = 127
    starts = np.zeros((spans, tile.tiles, 0, 0, 0), dtype=np.int16)
    corrections = np.zeros(len(whole), dtype=np.int64)
    window_limits = np.zeros((windows, 2), dtype=np.int64)
    if tile.narrow:
        # vpmaddubsw saturates the sum of two products at 16 bits, which must not happen.
        pairs = np.abs(whole).reshape(len(whole), -1, 2).sum(axis=2, dtype=np.int16)
        levels = offset = min(127, 32767 // (2 * max(int(pairs.max()), 1)))
        # A window's partial sums may wrap around if the final one fits in 16 bits, which the
        # Cauchy-Schwarz inequality ensures. The offset's contribution is subtracted first.
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
    return QuantizedTests(
        kind=kind,
        basis=basis,
        dimensions=dimensions,
        signs=signs,
        panels=panels,
        defect=defect,
        step=step,
        # Rows of a group are contiguous, as they are read together.
        whole=np.ascontiguousarray(grouped).reshape(-1, kernels.MEMBERS, whole.shape[1]),
        packed=np.ascontiguousarray(packed.transpose(0, 1, 3, 2, 4)),
        starts=starts,
        corrections=corrections,
        known=known,
        lengths=lengths,
        # Computed in float64; with the final rounding to float32 the error is below 1e-6.
        outside=_bound_outside(squares, lengths, 1e-6, defect),
        largest_error=float(errors.max()),
        levels=levels,
        offset=offset,
        window_limits=window_limits,
    )


def _bound_outside(squares: F64, inside: F64, error: F64 | float, defect: float) -> F64:
    """Return upper bounds of the lengths outside R of rows with squared lengths ``squares``.

    ``inside`` are the lengths along R, with errors up to ``error``.
    """
    least = np.maximum(inside - error, 0) ** 2 / (1 + defect)
    lengths: F64 = np.sqrt(np.maximum(squares - least, 0) + 1e-12)
    return lengths


@dataclass(frozen=True, eq=False)
class _Rounded:
    """A block of quantized training rows, and the terms of the bound.

    Attributes:
        step: quantization step.
        whole: ``(padded count, padded dimensions)`` int8.
        chosen: ``(n,)`` the rows that suit 8 bits.
        errors: ``(n,)`` float64, lengths of the rounding errors.
        lengths: ``(n,)`` float64, lengths of ``x'R``.
        whole_lengths: ``(n,)`` float64, lengths of the integer rows times the step.
    """

    step: float
    whole: I8
    chosen: Flags
    errors: F64
    lengths: F64
    whole_lengths: F64


def multiply(
    tests: QuantizedTests, rows: F32, usable: Flags, thresholds: F64 | float | None
) -> tuple[Maxima, float] | None:
    """Multiply a block of training rows with all test rows in 8 bits.

    Args:
        tests: the test side.
        rows: ``(n, width)`` float32.
        usable: ``(n,)`` bool.
        thresholds: ``(m,)`` or one for all, subtracted from each test row's products; None for
            none.

    Returns:
            The maxima and the bound: they exceed a product by at most twice the bound. None if no
            row suits 8 bits.
    """
    from shiftproof.similarity.search import kernels

    moved: F32 = np.subtract(rows, tests.basis.shift)
    rounded = _round_rows(tests, moved, usable)
    if rounded is None:
        return None
    chosen, count = rounded.chosen, len(rows)
    beyond, balance = _bound_rows(tests, moved, rounded)
    error = float(rounded.errors[chosen].max())
    beyond_test = error * tests.lengths + tests.outside**2 / (2 * balance)
    scale = rounded.step * tests.step
    bias = np.full(len(tests.corrections), kernels.FAR, dtype=np.int32)
    offsets = (tests.known + beyond_test - (0.0 if thresholds is None else thresholds)) / scale
    bias[: len(offsets)] = np.clip(np.ceil(offsets), kernels.FAR, 1 << 29)
    maxima = _find_maxima(tests, rounded.whole, bias)
    known = np.empty(count)
    kernels.products_with(rows, tests.basis.center, known)
    tile = Maxima(
        whole=rounded.whole[:count],
        tests=tests.whole,
        chosen=chosen,
        maxima=maxima[:count],
        bias=bias,
        reach=known + beyond + SLACK,
        scale=scale,
        lanes=kernels.TILES[tests.kind].lanes,
        largest=thresholds is None,
    )
    return tile, float(beyond[chosen].max()) + float(beyond_test.max()) + scale


def _round_rows(tests: QuantizedTests, moved: F32, usable: Flags) -> _Rounded | None:
    """Quantize shifted training rows along the directions; None if no row suits 8 bits."""
    from shiftproof.similarity.search import kernels

    tile = kernels.TILES[tests.kind]
    count = len(moved)
    along = _rotate(tests, moved)
    largest = np.empty(count, dtype=np.float32)
    kernels.largest_values(along, largest)
    there = np.sort(largest[usable])
    if not len(there):
        return None
    most = float(there[-1])
    usual = float(there[len(there) - 1 - len(there) // ROWS_PER_OUTLIER])
    step = max((usual if most > OUTLIER * usual else most) / tests.levels, MIN_STEP)
    chosen = usable & (largest <= step * tests.levels * (1 + 1e-6))
    padded = tests.packed.shape[2] * kernels.STEP
    whole = np.zeros((-(-count // tile.rows) * tile.rows, padded), dtype=np.int8)
    errors, lengths, whole_lengths = np.empty(count), np.empty(count), np.empty(count)
    kernels.quantize(along, step, whole, errors, lengths, whole_lengths)
    if tile.narrow:
        kernels.fits_windows(whole[:count], tests.window_limits, chosen)
    if not chosen.any():
        return None
    return _Rounded(step, whole, chosen, errors, lengths, whole_lengths)


def _rotate(tests: QuantizedTests, moved: F32) -> F32:
    """Return training rows along the directions."""
    from shiftproof.similarity.search import kernels

    if tests.signs is not None:
        along = np.empty_like(moved)
        kernels.mix(moved, tests.signs, along)
        return along
    assert tests.panels is not None
    return np.ascontiguousarray(multiply_floats(moved, tests.panels)[:, : tests.dimensions])


def _bound_rows(tests: QuantizedTests, moved: F32, rounded: _Rounded) -> tuple[F64, float]:
    """Return each row's part of the bound, and the weight that splits the part outside R between
    both sides.
    """
    from shiftproof.similarity.search import kernels

    count, width = moved.shape
    squares = np.empty(count)
    kernels.square_lengths(moved, squares)
    full = np.sqrt(squares)
    # Float32 rounding of the differences, and of each sum in the rotation.
    unit, dimensions = 2.0**-24, tests.dimensions
    if tests.signs is not None:
        # Six additions per value; the length of |x| times |H| / 8 is at most 8 times that of x.
        rounding = 6 * 8 * 1.01 * unit * full
    else:
        rounding = (
            width * unit / (1 - width * unit) * np.sqrt(dimensions) * (1 + tests.defect) * full
        )
    rounding += 2 * unit * (full + 1.1)
    outside = _bound_outside(squares * (1 + 1e-6) + 1e-12, rounded.lengths, rounding, tests.defect)
    longest = float(tests.lengths.max())
    # A product of two lengths is at most a term of the row plus a term of the test row.
    balance = float(tests.outside.mean() / max(outside[rounded.chosen].mean(), 1e-9))
    beyond: F64 = (
        rounded.whole_lengths * tests.largest_error
        + rounding * longest
        + tests.defect * full * longest
        + balance / 2 * outside**2
        # Rounding of the differences, multiplied by the test row's whole length.
        + 2 * unit * (full + 1.1) * 2.2
    )
    return beyond, balance


def _find_maxima(tests: QuantizedTests, whole: I8, bias: I32) -> I32:
    """Return the maxima of groups of test rows for each training row."""
    from shiftproof.similarity.search import kernels

    tile = kernels.TILES[tests.kind]
    begin = np.maximum(bias - tests.corrections, kernels.FAR).astype(np.int32)
    shape = (len(whole) // tile.rows, whole.shape[1] // 4, tile.rows, 4)
    packed = np.empty(shape, dtype=np.uint8)
    kernels.pack_rows(whole, tests.offset, packed)
    spans = len(tests.packed)
    # A stride of an odd number of cache lines, so that rows do not evict each other.
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
    return maxima.reshape(len(whole), -1)


_GROUP_COST = 400_000
"""Cost of rechecking a group, in 8-bit products."""

_TUNING_TESTS = 2048
_TUNING_ROWS = 256


def select_tuning_rows(tests: int) -> slice:
    """Return the slice of the test rows that :func:`choose_dimensions` uses."""
    return slice(None, None, -(-tests // _TUNING_TESTS))


def choose_dimensions(
    tests: F32, basis: Basis, kind: str, train: F32, thresholds: F64 | None
) -> int:
    """Choose the number of directions: fewer are faster, but exclude fewer pairs.

    Estimates the cost of several numbers on a sample of both sides. ``thresholds`` ``(m,)`` are
    those of the products, of which the ones of :func:`select_tuning_rows` are used; None if the
    largest products are searched. ``train`` is a sample.
    """
    width: int = tests.shape[1]
    sizes: list[int] = sorted(
        {min(width, -(-width * part // 8 // 32) * 32) for part in (3, 4, 5, 6, 8)}
    )
    some = select_tuning_rows(len(tests))
    rows = np.ascontiguousarray(train[:: -(-len(train) // _TUNING_ROWS)])
    usable = np.ones(len(rows), dtype=bool)
    few = np.ascontiguousarray(tests[some])
    limits = None if thresholds is None else thresholds[some]
    largest = (rows @ few.T).max(axis=1) if thresholds is None else np.zeros(len(rows))
    # The number of products near the largest hardly depends on the number of test rows.
    share = 1.0 if thresholds is None else len(tests) / len(few)
    costs: dict[int, float] = {}
    # From all directions down while the cost falls: each try costs as much as thousands of rows.
    for size in reversed(sizes):
        products = multiply(quantize_tests(few, basis, kind, size), rows, usable, limits)
        if products is None:
            return width
        tile, _ = products
        possible = tile.scale * tile.maxima + tile.reach[:, None]
        groups = (possible >= largest[:, None])[tile.chosen].sum() / tile.chosen.sum()
        rotation_cost = 0 if basis.draw_signs(size) is not None else size * width
        costs[size] = size * len(tests) + rotation_cost + share * groups * _GROUP_COST
        if costs[size] > min(costs.values()):
            break
    return min(costs, key=costs.__getitem__)


# ---------------------------------------------------------------- the engine


class Int8:
    """The engine of 8-bit products; rows that do not suit them are compared in float32."""

    precision = "int8"
    device = "cpu"
    block_rows = ALL_TESTS
    wide_block_rows = ROWS

    def __init__(self, rows: F32, first: int, kind: str, sample: F32) -> None:
        """Create the engine of some test rows, which are quantized at first use.

        ``first`` is the index of the first one in the test set, ``kind`` a key of
        :data:`shiftproof.similarity.search.kernels.TILES`, and ``sample`` a sample of training
        rows.
        """
        self.rows = rows
        self.first = first
        self._kind = kind
        self._sample = sample
        self._float32 = Float32(rows, first)
        self._tests: QuantizedTests | None = None
        self._lock = threading.Lock()

    def emit(
        self, rows: F32, usable: Flags, reduction: Reduction, tally: Tally
    ) -> Iterator[Maxima | ProductTile]:
        """Yield the maxima of groups of test rows, and float32 products for the rows without."""
        thresholds = reduction.thresholds
        products = None
        # Nothing can be excluded while lists are not full.
        if thresholds is None or not np.isneginf(thresholds).any():
            tests = self._get_tests(reduction)
            products = multiply(tests, rows, usable, thresholds)
        if products is None:
            yield from self._float32.emit(rows, usable, reduction, tally)
            return
        tile, bound = products
        tally.bound = max(tally.bound, bound)
        tally.dimensions = tests.dimensions
        yield tile
        left = usable & ~tile.chosen
        tally.set_aside += int(left.sum())
        yield from self._float32.emit(rows, left, reduction, tally)

    def _get_tests(self, reduction: Reduction) -> QuantizedTests:
        """Return the quantized test rows, which depend on the question but not on the block."""
        with self._lock:
            if self._tests is None:
                self._tests = self._round_tests(reduction)
            return self._tests

    def _round_tests(self, reduction: Reduction) -> QuantizedTests:
        basis = Basis.compute(self.rows, self._sample)
        size = choose_dimensions(
            self.rows, basis, self._kind, self._sample, self._estimate_limits(reduction)
        )
        return quantize_tests(self.rows, basis, self._kind, size)

    def _estimate_limits(self, reduction: Reduction) -> F64 | None:
        """Return the thresholds for :func:`choose_dimensions`."""
        if reduction.k:
            return self._estimate_lists(reduction.k)
        if reduction.thresholds is None or isinstance(reduction.thresholds, np.ndarray):
            return reduction.thresholds
        return np.full(len(self.rows), reduction.thresholds) if reduction.thresholds > 0 else None

    def _estimate_lists(self, k: int) -> F64:
        """Return the k-th largest product of each tuning test row over the sample.

        The lists themselves would depend on the order of training rows.
        """
        some, count = select_tuning_rows(len(self.rows)), len(self._sample)
        few = np.ascontiguousarray(self.rows[some])
        scores = multiply_floats(few, pack_panels(self._sample))[:, :count]
        place = count - min(k, count)
        reached = np.zeros(len(self.rows))
        reached[some] = np.partition(scores, place, axis=1)[:, place]
        return reached
