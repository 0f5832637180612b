"""Compiled inner loops of the similarity search: low-precision products, and exact re-checks.

The products of quantised rows are sums of whole numbers, so they are exact and the same on every
processor; only how four of them are added at a time differs:

- ``vnni``: 16 lanes, one instruction for four products a lane.
- ``avx2``: 8 lanes; ``vpmaddubsw`` adds two products into 16 bits, and 16-bit sums of
  :data:`WINDOW` steps are widened together. What must hold so that none overflows is checked when
  the rows are quantised (``lowprecision.py``).
- ``plain``: the arithmetic of ``vnni`` without its instruction, for any processor.

numba has no functions for these instructions; the loops over them are written here in LLVM's own
terms, the loops around them in Python as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from shiftproof.compiled import compiled

U8 = NDArray[np.uint8]
I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

STEP = 4
"""Dimensions that one instruction multiplies and adds in a lane."""

WINDOW = 8
"""Steps that are added up in 16 bits before they are widened."""

MEMBERS = 16
"""Test rows that share one maximum: the lane of a few neighbouring tiles."""

FAR = -(1 << 30)
"""Below any sum that occurs."""


@dataclass(frozen=True)
class Tile:
    """How many products stay in registers at a time.

    Attributes:
        rows: training rows.
        vectors: vectors of test rows.
        lanes: test rows in a vector.
        narrow: whether sums are kept in 16 bits for a while.
    """

    rows: int
    vectors: int
    lanes: int
    narrow: bool

    @property
    def width(self) -> int:
        """Test rows in a tile."""
        return self.vectors * self.lanes

    @property
    def span(self) -> int:
        """Test rows whose maxima are kept in one vector."""
        return MEMBERS * self.lanes

    @property
    def tiles(self) -> int:
        """Tiles in a span."""
        return MEMBERS // self.vectors


TILES = {
    "vnni": Tile(rows=6, vectors=4, lanes=16, narrow=False),
    "avx2": Tile(rows=4, vectors=2, lanes=8, narrow=True),
    "plain": Tile(rows=2, vectors=1, lanes=8, narrow=False),
}


# ---------------------------------------------------------------- the tile, in LLVM's terms

_BYTE, _SHORT, _INT, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))


class _Emitter:
    """Writes the loads, stores and products of one kind of tile."""

    def __init__(self, builder: ir.IRBuilder, tile: Tile, kind: str) -> None:
        self.builder = builder
        self.kind = kind
        self.lanes = tile.lanes
        self.bytes = ir.VectorType(_BYTE, STEP * tile.lanes)
        self.shorts = ir.VectorType(_SHORT, 2 * tile.lanes)
        self.ints = ir.VectorType(_INT, tile.lanes)

    def load(self, address: Any, offset: int, type_: Any) -> Any:
        moved = self.builder.add(address, ir.Constant(_LONG, offset))
        return self.builder.load(self.builder.inttoptr(moved, type_.as_pointer()), align=4)

    def store(self, value: Any, address: Any, offset: int) -> None:
        moved = self.builder.add(address, ir.Constant(_LONG, offset))
        pointer = self.builder.inttoptr(moved, value.type.as_pointer())
        self.builder.store(value, pointer, align=4)

    def broadcast(self, address: Any, offset: int) -> Any:
        """Load four bytes and repeat them in every lane."""
        undefined = ir.Constant(self.ints, ir.Undefined)
        word = self.load(address, offset, _INT)
        first = self.builder.insert_element(undefined, word, ir.Constant(_INT, 0))
        lanes = ir.Constant(ir.VectorType(_INT, self.lanes), [0] * self.lanes)
        return self.builder.bitcast(
            self.builder.shuffle_vector(first, undefined, lanes), self.bytes
        )

    def larger(self, first: Any, second: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", first, second), first, second)

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            self.builder.module, signature, name
        )
        return self.builder.call(function, arguments)

    def multiply_add(self, sums: Any, unsigned: Any, signed: Any) -> Any:
        """Add the products of four neighbouring bytes to each lane's sum."""
        if self.kind == "avx2":
            pairs = self.call("llvm.x86.avx2.pmadd.ub.sw", self.shorts, [unsigned, signed])
            return self.builder.add(sums, pairs)
        if self.kind == "vnni":
            as_ints = [self.builder.bitcast(value, self.ints) for value in (unsigned, signed)]
            return self.call("llvm.x86.avx512.vpdpbusd.512", self.ints, [sums, *as_ints])
        for place in range(STEP):
            sums = self.builder.add(
                sums,
                self.builder.mul(
                    self.builder.zext(self.every_fourth(unsigned, place), self.ints),
                    self.builder.sext(self.every_fourth(signed, place), self.ints),
                ),
            )
        return sums

    def every_fourth(self, values: Any, place: int) -> Any:
        lanes = [lane * STEP + place for lane in range(self.lanes)]
        chosen = ir.Constant(ir.VectorType(_INT, self.lanes), lanes)
        return self.builder.shuffle_vector(values, values, chosen)

    def widen(self, sums: Any) -> Any:
        ones = ir.Constant(self.shorts, [1] * (2 * self.lanes))
        return self.call("llvm.x86.avx2.pmadd.wd", self.ints, [sums, ones])


def _tile_intrinsic(kind: str, arithmetic: str | None = None) -> Any:
    """Build the function that multiplies one tile and raises the maxima of its rows.

    ``(rows, tests, starts, bias, maxima, stride, windows)``: addresses of the training rows
    ``(steps, rows, 4)`` uint8, the test rows ``(steps, width, 4)`` int8, the first values of the
    16-bit sums ``(windows, width, 2)`` int16 (narrow tiles), the first values of all sums
    ``(width,)`` int32, the first row's maxima ``(lanes,)`` int32; bytes from one row's maxima to the
    next; and the number of windows. ``arithmetic`` is that of another kind, for the same layout.
    """
    tile = TILES[kind]

    @intrinsic
    def multiply(  # type: ignore[no-untyped-def]
        typing_context, rows, tests, starts, bias, maxima, stride, windows
    ):
        signature = types.void(*[types.int64] * 7)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _write_tile(builder, tile, arithmetic or kind, arguments)
            return context.get_dummy_value()

        return signature, generate

    return multiply


def _write_tile(builder: ir.IRBuilder, tile: Tile, kind: str, arguments: list[Any]) -> None:
    rows, tests, starts, bias, maxima, stride, windows = arguments
    emit = _Emitter(builder, tile, kind)
    vector = 4 * tile.lanes
    pairs = [(row, column) for row in range(tile.rows) for column in range(tile.vectors)]
    first = [emit.load(bias, vector * column, emit.ints) for column in range(tile.vectors)]

    before = builder.block
    loop, after = builder.append_basic_block("window"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    window = builder.phi(_LONG)
    window.add_incoming(ir.Constant(_LONG, 0), before)
    sums = []
    for _, column in pairs:
        value = builder.phi(emit.ints)
        value.add_incoming(first[column], before)
        sums.append(value)

    def moved(address: Any, size: int) -> Any:
        return builder.add(address, builder.mul(window, ir.Constant(_LONG, size)))

    rows_here = moved(rows, WINDOW * tile.rows * STEP)
    tests_here = moved(tests, WINDOW * tile.width * STEP)
    if tile.narrow:
        starts_here = moved(starts, tile.width * STEP)
        start = [
            emit.load(starts_here, vector * column, emit.shorts) for column in range(tile.vectors)
        ]
        running = [start[column] for _, column in pairs]
    else:
        running = list(sums)
    for step in range(WINDOW):
        loaded = [
            emit.load(tests_here, (step * tile.vectors + column) * vector, emit.bytes)
            for column in range(tile.vectors)
        ]
        for row in range(tile.rows):
            repeated = emit.broadcast(rows_here, (step * tile.rows + row) * STEP)
            for column in range(tile.vectors):
                place = row * tile.vectors + column
                running[place] = emit.multiply_add(running[place], repeated, loaded[column])
    if tile.narrow:
        running = [
            builder.add(total, emit.widen(part)) for total, part in zip(sums, running, strict=True)
        ]
    for value, grown in zip(sums, running, strict=True):
        value.add_incoming(grown, loop)
    following = builder.add(window, ir.Constant(_LONG, 1))
    window.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, windows), loop, after)

    builder.position_at_end(after)
    for row in range(tile.rows):
        best = emit.load(maxima, 0, emit.ints)
        for column in range(tile.vectors):
            best = emit.larger(best, running[row * tile.vectors + column])
        emit.store(best, maxima, 0)
        maxima = builder.add(maxima, stride)


_multiply_avx2 = _tile_intrinsic("avx2")
_multiply_vnni = _tile_intrinsic("vnni")
_multiply_plain = _tile_intrinsic("plain")


@compiled
def maxima_avx2(rows: U8, tests: I8, starts: I16, bias: I32, maxima: I32) -> None:
    """Raise ``maxima`` to the products of rows and test rows, by ``avx2``; see :data:`MAXIMA`."""
    panels, windows = rows.shape[0], tests.shape[2] // 8
    for span in range(tests.shape[0]):
        for tile in range(tests.shape[1]):
            for panel in range(panels):
                _multiply_avx2(
                    rows[panel].ctypes.data,
                    tests[span, tile].ctypes.data,
                    starts[span, tile].ctypes.data,
                    bias[span, tile].ctypes.data,
                    maxima[panel, 0, span].ctypes.data,
                    maxima.strides[1],
                    windows,
                )


@compiled
def maxima_vnni(rows: U8, tests: I8, starts: I16, bias: I32, maxima: I32) -> None:
    """Raise ``maxima`` to the products of rows and test rows, by ``vnni``; see :data:`MAXIMA`."""
    panels, windows = rows.shape[0], tests.shape[2] // 8
    for span in range(tests.shape[0]):
        for tile in range(tests.shape[1]):
            for panel in range(panels):
                _multiply_vnni(
                    rows[panel].ctypes.data,
                    tests[span, tile].ctypes.data,
                    0,
                    bias[span, tile].ctypes.data,
                    maxima[panel, 0, span].ctypes.data,
                    maxima.strides[1],
                    windows,
                )


@compiled
def maxima_plain(rows: U8, tests: I8, starts: I16, bias: I32, maxima: I32) -> None:
    """Raise ``maxima`` to the products of rows and test rows, anywhere; see :data:`MAXIMA`."""
    panels, windows = rows.shape[0], tests.shape[2] // 8
    for span in range(tests.shape[0]):
        for tile in range(tests.shape[1]):
            for panel in range(panels):
                _multiply_plain(
                    rows[panel].ctypes.data,
                    tests[span, tile].ctypes.data,
                    0,
                    bias[span, tile].ctypes.data,
                    maxima[panel, 0, span].ctypes.data,
                    maxima.strides[1],
                    windows,
                )


MAXIMA: dict[str, Callable[[U8, I8, I16, I32, I32], None]] = {
    "vnni": maxima_vnni,
    "avx2": maxima_avx2,
    "plain": maxima_plain,
}
"""For each kind of tile: raise the maxima of groups of test rows, for every training row.

``rows`` ``(panels, steps, rows, 4)`` uint8; ``tests`` ``(spans, tiles, steps, width, 4)`` int8;
``starts`` ``(spans, tiles, windows, width, 2)`` int16; ``bias`` ``(spans, tiles, width)`` int32, what
each test row's sum begins with; ``maxima`` ``(panels, rows, spans, lanes)`` int32. Test row
``span * 16 * lanes + member * lanes + lane`` belongs to the maximum ``span, lane``.
"""


def fastest_kind() -> str | None:
    """Return the kind of tile that is faster than float32 on this processor, if any is."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512vnni") and features.get("avx512bw"):
        return "vnni"
    return "avx2" if features.get("avx2") else None


# ---------------------------------------------------------------- exact products


def _multiply_floats(typing_context: Any, first: Any, second: Any, chunks: Any) -> Any:
    """Return the sum of products of ``8 * chunks`` float32 at two addresses, in float64."""
    signature = types.float64(*[types.int64] * 3)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        singles, doubles = (ir.VectorType(kind, 8) for kind in (ir.FloatType(), ir.DoubleType()))

        def product(one: Any, other: Any) -> Any:
            return builder.fmul(builder.fpext(one, doubles), builder.fpext(other, doubles))

        total = _sum_over(builder, arguments, singles, doubles, product, builder.fadd)
        return _fold(builder, total, builder.fadd)

    return signature, generate


def _multiply_bytes(typing_context: Any, first: Any, second: Any, chunks: Any) -> Any:
    """Return the sum of products of ``32 * chunks`` int8 at two addresses; none may be -128."""
    signature = types.int32(*[types.int64] * 3)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        narrow, middle, wide = (ir.VectorType(kind, 32) for kind in (_BYTE, _SHORT, _INT))

        def product(one: Any, other: Any) -> Any:
            # 127 * 127 has 14 bits.
            short = builder.mul(builder.sext(one, middle), builder.sext(other, middle))
            return builder.sext(short, wide)

        total = _sum_over(builder, arguments, narrow, wide, product, builder.add)
        return _fold(builder, total, builder.add)

    return signature, generate


def _sum_over(
    builder: ir.IRBuilder,
    arguments: list[Any],
    loaded: Any,
    summed: Any,
    product: Callable[[Any, Any], Any],
    add: Callable[[Any, Any], Any],
) -> Any:
    """Write the loop over two addresses; lane i of the sum holds every so-manyth product."""
    first, second, chunks = arguments
    size = loaded.count * (4 if isinstance(loaded.element, ir.FloatType) else 1)
    before = builder.block
    check, body, after = (builder.append_basic_block(name) for name in ("check", "body", "after"))
    builder.branch(check)
    builder.position_at_end(check)
    chunk, total = builder.phi(_LONG), builder.phi(summed)
    chunk.add_incoming(ir.Constant(_LONG, 0), before)
    total.add_incoming(ir.Constant(summed, [0] * loaded.count), before)
    builder.cbranch(builder.icmp_signed("<", chunk, chunks), body, after)
    builder.position_at_end(body)
    offset = builder.mul(chunk, ir.Constant(_LONG, size))
    values = [
        builder.load(builder.inttoptr(builder.add(address, offset), loaded.as_pointer()), align=1)
        for address in (first, second)
    ]
    total.add_incoming(add(total, product(*values)), body)
    chunk.add_incoming(builder.add(chunk, ir.Constant(_LONG, 1)), body)
    builder.branch(check)
    builder.position_at_end(after)
    return total


def _fold(builder: ir.IRBuilder, total: Any, add: Callable[[Any, Any], Any]) -> Any:
    """Add up the lanes by halves: lane i and lane i + half, again and again."""
    count = total.type.count
    while count > 1:
        count //= 2
        halves = [
            builder.shuffle_vector(
                total,
                total,
                ir.Constant(ir.VectorType(_INT, count), list(range(start, start + count))),
            )
            for start in (0, count)
        ]
        total = add(*halves)
    return builder.extract_element(total, ir.Constant(_INT, 0))


_float_products: Any = intrinsic(_multiply_floats)
_byte_products: Any = intrinsic(_multiply_bytes)


@compiled
def exact_product(first: F32, second: F32) -> float:
    """Return the inner product, added up in float64 in an order that is the same everywhere.

    Two float32 multiply without rounding in float64, so nothing here depends on the processor.
    Both must be contiguous.
    """
    size = first.shape[0]
    chunks = size // 8
    total: float = _float_products(first.ctypes.data, second.ctypes.data, chunks)
    for i in range(8 * chunks, size):
        total += np.float64(first[i]) * np.float64(second[i])
    return total


@compiled
def _whole_product(first: I8, second: I8) -> int:
    """Return the inner product of whole rows, whose width is a multiple of 32."""
    total: int = _byte_products(first.ctypes.data, second.ctypes.data, first.shape[0] // 32)
    return total


# ---------------------------------------------------------------- float32 products

FLOAT_ROWS = 4
FLOAT_LANES = 8
FLOAT_VECTORS = 3
FLOAT_COLUMNS = FLOAT_LANES * FLOAT_VECTORS
"""What stays in the registers of a processor with AVX2; one with less uses memory as well."""


def _write_float_tile(
    typing_context: Any, rows: Any, stride: Any, panel: Any, out: Any, out_stride: Any, width: Any
) -> Any:
    """Write the products of four rows and a panel of 24 columns to ``out``."""
    signature = types.void(*[types.int64] * 6)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, stride, panel, out, out_stride, width = arguments
        single = ir.FloatType()
        vector = ir.VectorType(single, FLOAT_LANES)
        signature_of_fma = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, signature_of_fma, f"llvm.fmuladd.v{FLOAT_LANES}f32"
        )

        def pointer(address: Any, type_: Any) -> Any:
            return builder.inttoptr(address, type_.as_pointer())

        def times(value: Any, factor: int) -> Any:
            return builder.mul(value, ir.Constant(_LONG, factor))

        starts = [builder.add(rows, times(stride, row)) for row in range(FLOAT_ROWS)]
        before = builder.block
        loop, after = builder.append_basic_block("dimension"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        place = builder.phi(_LONG)
        place.add_incoming(ir.Constant(_LONG, 0), before)
        sums = []
        for _ in range(FLOAT_ROWS * FLOAT_VECTORS):
            value = builder.phi(vector)
            value.add_incoming(ir.Constant(vector, [0.0] * FLOAT_LANES), before)
            sums.append(value)
        here = builder.add(panel, times(place, 4 * FLOAT_COLUMNS))
        columns = [
            builder.load(
                pointer(builder.add(here, ir.Constant(_LONG, 4 * FLOAT_LANES * number)), vector),
                align=4,
            )
            for number in range(FLOAT_VECTORS)
        ]
        everywhere = ir.Constant(ir.VectorType(_INT, FLOAT_LANES), [0] * FLOAT_LANES)
        undefined = ir.Constant(vector, ir.Undefined)
        for row in range(FLOAT_ROWS):
            value = builder.load(
                pointer(builder.add(starts[row], times(place, 4)), single), align=4
            )
            first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
            repeated = builder.shuffle_vector(first, undefined, everywhere)
            for number in range(FLOAT_VECTORS):
                total = sums[row * FLOAT_VECTORS + number]
                total.add_incoming(builder.call(fma, [repeated, columns[number], total]), loop)
        following = builder.add(place, ir.Constant(_LONG, 1))
        place.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, width), loop, after)
        builder.position_at_end(after)
        for row in range(FLOAT_ROWS):
            line = builder.add(out, times(out_stride, row))
            for number in range(FLOAT_VECTORS):
                grown = sums[row * FLOAT_VECTORS + number].incomings[1][0]
                target = builder.add(line, ir.Constant(_LONG, 4 * FLOAT_LANES * number))
                builder.store(grown, pointer(target, vector), align=4)
        return context.get_dummy_value()

    return signature, generate


_float_tile: Any = intrinsic(_write_float_tile)


@compiled
def multiply_floats(rows: F32, panels: F32, out: F32) -> None:
    """Write the products of rows and columns in float32, on this thread alone.

    ``rows`` ``(n, width)``, n a multiple of 4; ``panels`` ``(p, width, 24)``, see
    :func:`pack_panels`; ``out`` ``(n, 24 p)``. Each is the sum of ``width`` products in order.
    """
    for panel in range(panels.shape[0]):
        for row in range(0, rows.shape[0], 4):
            _float_tile(
                rows[row].ctypes.data,
                rows.strides[0],
                panels[panel].ctypes.data,
                out[row, panel * 24 :].ctypes.data,
                out.strides[0],
                rows.shape[1],
            )


@compiled
def pack_panels(columns: F32, panels: F32) -> None:
    """Lay columns, given as rows ``(m, width)``, out in panels of 24; what is left over is 0."""
    for panel in range(panels.shape[0]):
        for lane in range(24):
            place = panel * 24 + lane
            if place < columns.shape[0]:
                for i in range(columns.shape[1]):
                    panels[panel, i, lane] = columns[place, i]
            else:
                for i in range(columns.shape[1]):
                    panels[panel, i, lane] = 0


@compiled
def products_with(rows: F32, vector: F32, out: F64) -> None:
    """Write the exact product of each row with one vector."""
    for i in range(rows.shape[0]):
        out[i] = exact_product(rows[i], vector)


# ---------------------------------------------------------------- quantising


@compiled
def largest_values(rows: F32, out: F32) -> None:
    """Write the largest absolute value of each row."""
    for i in range(rows.shape[0]):
        row = rows[i].view(np.int32)
        largest = np.int32(0)
        for j in range(row.shape[0]):
            # As whole numbers non-negative floats have the same order, and the vector unit helps.
            largest = max(largest, np.int32(row[j] & np.int32(0x7FFFFFFF)))
        out[i : i + 1].view(np.int32)[0] = largest


@compiled
def square_lengths(rows: F32, out: F64) -> None:
    """Write the squared length of each row, in float64."""
    for i in range(rows.shape[0]):
        out[i] = exact_product(rows[i], rows[i])


@compiled
def quantise(
    rows: F32, step: float, out: I8, errors: F64, lengths: F64, whole_lengths: F64
) -> None:
    """Round ``row / step`` to whole numbers; ``out`` ``(n, padded)`` int8.

    ``errors`` gets the lengths of what rounding left, ``lengths`` those of the rows, and
    ``whole_lengths`` those of the rounded rows times ``step``; all computed in float64.
    """
    inverse = 1.0 / step
    for i in range(rows.shape[0]):
        row, whole = rows[i], out[i]
        error = square = whole_square = 0.0
        for j in range(row.shape[0]):
            value = np.float64(row[j])
            rounded = min(max(np.rint(value * inverse), -127.0), 127.0)
            whole[j] = np.int8(rounded)
            left = value - step * rounded
            error += left * left
            square += value * value
            whole_square += rounded * rounded
        errors[i] = np.sqrt(error)
        lengths[i] = np.sqrt(square)
        whole_lengths[i] = step * np.sqrt(whole_square)


@compiled
def window_lengths(whole: I8, out: I64) -> None:
    """Raise ``out`` ``(windows, 2)`` to the squared lengths of each row's parts in a window's lane.

    A 16-bit lane adds dimensions 0 and 1, or 2 and 3, of each step of its window.
    """
    for i in range(whole.shape[0]):
        row = whole[i]
        for window in range(out.shape[0]):
            for half in range(2):
                total = 0
                for step in range(8):
                    place = window * 32 + step * 4 + half * 2
                    total += np.int64(row[place]) * row[place]
                    total += np.int64(row[place + 1]) * row[place + 1]
                out[window, half] = max(out[window, half], total)


@compiled
def fits_windows(whole: I8, limits: I64, fits: Flags) -> None:
    """Clear ``fits`` where a row's part in a window is longer than ``limits`` (squared) allows."""
    for i in range(whole.shape[0]):
        row = whole[i]
        for window in range(limits.shape[0]):
            for half in range(2):
                total = 0
                for step in range(8):
                    place = window * 32 + step * 4 + half * 2
                    total += np.int64(row[place]) * row[place]
                    total += np.int64(row[place + 1]) * row[place + 1]
                if total > limits[window, half]:
                    fits[i] = False


@compiled
def pack_rows(whole: I8, offset: int, out: U8) -> None:
    """Lay quantised rows out for the tile: ``out`` ``(panels, steps, rows, 4)`` uint8."""
    width = out.shape[2]
    for i in range(whole.shape[0]):
        panel, place = i // width, i % width
        for step in range(out.shape[1]):
            for j in range(4):
                out[panel, step, place, j] = np.uint8(np.int32(whole[i, step * 4 + j]) + offset)


# ---------------------------------------------------------------- what becomes of the maxima


@compiled
def nearest_of_maxima(
    rows: F32,
    whole: I8,
    chosen: Flags,
    maxima: I32,
    lanes: int,
    reach: F64,
    scale: float,
    bias: I32,
    tests: F32,
    whole_tests: I8,
    best: F64,
    index: I64,
    counts: I64,
) -> None:
    """Find each chosen row's nearest test row among the groups whose maximum allows it.

    A product is at most ``scale * sum + reach[row]``. ``maxima`` ``(n, groups)``; ``best`` and
    ``index`` hold the best so far. ``counts`` gets the groups looked at, the sums made again, and the
    exact products.
    """
    size = tests.shape[0]
    for i in range(rows.shape[0]):
        if not chosen[i]:
            continue
        row_maxima = maxima[i]
        top, top_group = np.int32(-(1 << 31)), 0
        for group in range(row_maxima.shape[0]):
            if row_maxima[group] > top:
                top, top_group = row_maxima[group], group
        highest, place = best[i], index[i]
        limit = _limit(highest, reach[i], scale)
        for turn in range(-1, row_maxima.shape[0]):
            # The group of the largest sum comes first: it makes the limit high.
            group = top_group if turn < 0 else turn
            if row_maxima[group] < limit or (turn >= 0 and group == top_group):
                continue
            counts[0] += 1
            first = group // lanes * 16 * lanes + group % lanes
            for member in range(16):
                test = first + member * lanes
                if test >= size:
                    break
                counts[1] += 1
                total = _whole_product(whole[i], whole_tests[group, member]) + bias[test]
                if total < limit:
                    continue
                counts[2] += 1
                value = exact_product(rows[i], tests[test])
                if value > highest or (value == highest and test < place):
                    highest, place = value, test
                    limit = _limit(highest, reach[i], scale)
        best[i], index[i] = highest, place


@compiled
def _limit(value: float, reach: float, scale: float) -> int:
    """Return the smallest sum that may still belong to a product of ``value`` or more."""
    limit = np.floor((value - reach) / scale) - 1.0
    whole: int = np.int32(max(min(limit, 1073741824.0), -1073741824.0))
    return whole


@compiled
def above_of_maxima(
    rows: F32,
    whole: I8,
    chosen: Flags,
    maxima: I32,
    lanes: int,
    reach: F64,
    scale: float,
    bias: I32,
    tests: F32,
    whole_tests: I8,
    thresholds: F64,
    above: Flags,
    counts: I64,
) -> None:
    """Mark each chosen row whose product with some test row is larger than that row's threshold.

    As :func:`nearest_of_maxima`, with the thresholds taken off in ``bias``.
    """
    size = tests.shape[0]
    for i in range(rows.shape[0]):
        if not chosen[i]:
            continue
        row_maxima = maxima[i]
        limit = _limit(0.0, reach[i], scale)
        top, top_group = np.int32(-(1 << 31)), 0
        for group in range(row_maxima.shape[0]):
            if row_maxima[group] > top:
                top, top_group = row_maxima[group], group
        if top < limit:
            continue
        for turn in range(-1, row_maxima.shape[0]):
            group = top_group if turn < 0 else turn
            if row_maxima[group] < limit or (turn >= 0 and group == top_group):
                continue
            counts[0] += 1
            first = group // lanes * 16 * lanes + group % lanes
            for member in range(16):
                test = first + member * lanes
                if test >= size:
                    break
                counts[1] += 1
                if _whole_product(whole[i], whole_tests[group, member]) + bias[test] < limit:
                    continue
                counts[2] += 1
                if exact_product(rows[i], tests[test]) > thresholds[test]:
                    above[i] = True
                    break
            if above[i]:
                break


@compiled
def top_of_maxima(
    rows: F32,
    whole: I8,
    chosen: Flags,
    maxima: I32,
    lanes: int,
    reach: F64,
    scale: float,
    bias: I32,
    tests: F32,
    whole_tests: I8,
    first_row: int,
    values: F64,
    indices: I64,
    counts: I64,
) -> None:
    """Enter each chosen row into the lists of the test rows that it is close enough to.

    As :func:`nearest_of_maxima`, with each test row's last listed value taken off in ``bias``.
    ``values`` and ``indices`` ``(m, k)``, best first.
    """
    size = tests.shape[0]
    for i in range(rows.shape[0]):
        if not chosen[i]:
            continue
        row_maxima = maxima[i]
        limit = _limit(0.0, reach[i], scale)
        for group in range(row_maxima.shape[0]):
            if row_maxima[group] < limit:
                continue
            counts[0] += 1
            first = group // lanes * 16 * lanes + group % lanes
            for member in range(16):
                test = first + member * lanes
                if test >= size:
                    break
                counts[1] += 1
                if _whole_product(whole[i], whole_tests[group, member]) + bias[test] < limit:
                    continue
                counts[2] += 1
                value = exact_product(rows[i], tests[test])
                enter(values[test], indices[test], value, first_row + i)


@compiled
def enter(values: F64, indices: I64, value: float, index: int) -> None:
    """Put an entry into a list, best first, equal values by index; the last one drops out."""
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


# ---------------------------------------------------------------- what becomes of float32 products


@compiled
def _largest(scores: F32) -> float:
    """Return the largest of finite values, through whole numbers, for which vectors are used."""
    whole = scores.view(np.int32)
    largest = np.int32(-2147483648)
    for j in range(whole.shape[0]):
        # Negative floats as whole numbers run the other way round.
        turned = np.int32(np.int32(whole[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))
        largest = max(largest, np.int32(whole[j] ^ turned))
    turned = np.int32(np.int32(largest >> np.int32(31)) & np.int32(0x7FFFFFFF))
    out = np.empty(1, np.int32)
    out[0] = largest ^ turned
    value: float = out.view(np.float32)[0]
    return value


@compiled
def nearest_of_scores(
    scores: F32,
    columns: int,
    rows: F32,
    chosen: Flags,
    tests: F32,
    first_test: int,
    slack: F64,
    best: F64,
    index: I64,
    counts: I64,
) -> None:
    """Find each chosen row's nearest test row from float32 products that err by ``slack[row]``.

    ``scores`` ``(n, c)`` with the test rows from ``first_test`` on, of which ``columns`` count.
    """
    for i in range(scores.shape[0]):
        if not chosen[i]:
            continue
        row_scores = scores[i][:columns]
        top = np.float64(_largest(row_scores))
        if top + slack[i] < best[i]:
            continue
        # The largest product is at least this.
        limit = max(best[i], top - slack[i]) - slack[i]
        for j in range(row_scores.shape[0]):
            if row_scores[j] >= limit:
                counts[2] += 1
                value = exact_product(rows[i], tests[first_test + j])
                test = first_test + j
                if value > best[i] or (value == best[i] and test < index[i]):
                    best[i], index[i] = value, test


@compiled
def above_of_scores(
    scores: F32,
    columns: int,
    rows: F32,
    chosen: Flags,
    tests: F32,
    first_test: int,
    slack: F64,
    thresholds: F64,
    above: Flags,
    counts: I64,
) -> None:
    """Mark each chosen row whose product with some test row is larger than that row's threshold."""
    low = thresholds[first_test : first_test + columns].astype(np.float32)
    for i in range(scores.shape[0]):
        if not chosen[i] or above[i]:
            continue
        row_scores = scores[i][:columns]
        # The threshold itself is rounded to float32, by less than 1e-7.
        limit = np.float32(-slack[i] - 1e-6)
        found = 0
        for j in range(row_scores.shape[0]):
            found += np.int32(row_scores[j] - low[j] > limit)
        if found == 0:
            continue
        for j in range(row_scores.shape[0]):
            if row_scores[j] - low[j] > limit:
                counts[2] += 1
                test = first_test + j
                if exact_product(rows[i], tests[test]) > thresholds[test]:
                    above[i] = True
                    break


@compiled
def top_of_scores(
    scores: F32,
    columns: int,
    rows: F32,
    chosen: Flags,
    tests: F32,
    first_test: int,
    slack: F64,
    first_row: I64,
    values: F64,
    indices: I64,
    counts: I64,
) -> None:
    """Enter each chosen row into the lists of the test rows that it is close enough to."""
    last = values.shape[1] - 1
    low = np.empty(columns, np.float32)
    for j in range(low.shape[0]):
        low[j] = max(values[first_test + j, last], -4.0)
    for i in range(scores.shape[0]):
        if not chosen[i]:
            continue
        row_scores = scores[i][:columns]
        limit = np.float32(-slack[i] - 1e-6)
        found = 0
        for j in range(row_scores.shape[0]):
            found += np.int32(row_scores[j] - low[j] > limit)
        if found == 0:
            continue
        for j in range(row_scores.shape[0]):
            if row_scores[j] - low[j] > limit:
                counts[2] += 1
                test = first_test + j
                value = exact_product(rows[i], tests[test])
                enter(values[test], indices[test], value, first_row[i])
                low[j] = max(values[test, last], -4.0)


# ---------------------------------------------------------------- pairs within one source


@compiled
def pairs_of_maxima(
    rows: F32,
    whole: I8,
    chosen: Flags,
    maxima: I32,
    lanes: int,
    reach: F64,
    scale: float,
    bias: I32,
    tests: F32,
    whole_tests: I8,
    threshold: float,
    row_places: I64,
    first_test: int,
    pairs: I64,
    values: F64,
    counts: I64,
) -> int:
    """Write the pairs of a row and an earlier one whose similarity is above the threshold.

    ``pairs`` ``(room, 2)``, the earlier row first. Returns their number; those that find no room are
    counted and not written.
    """
    size, found = tests.shape[0], 0
    for i in range(rows.shape[0]):
        if not chosen[i]:
            continue
        row_maxima = maxima[i]
        limit = _limit(0.0, reach[i], scale)
        for group in range(row_maxima.shape[0]):
            if row_maxima[group] < limit:
                continue
            counts[0] += 1
            first = group // lanes * 16 * lanes + group % lanes
            for member in range(16):
                test = first + member * lanes
                if test >= size or first_test + test >= row_places[i]:
                    break
                counts[1] += 1
                if _whole_product(whole[i], whole_tests[group, member]) + bias[test] < limit:
                    continue
                counts[2] += 1
                value = exact_product(rows[i], tests[test])
                if value > threshold:
                    if found < pairs.shape[0]:
                        pairs[found, 0], pairs[found, 1] = first_test + test, row_places[i]
                        values[found] = value
                    found += 1
    return found


@compiled
def pairs_of_scores(
    scores: F32,
    columns: int,
    rows: F32,
    tests: F32,
    start: int,
    slack: float,
    threshold: float,
    row_places: I64,
    first_test: int,
    pairs: I64,
    values: F64,
    found: int,
    counts: I64,
) -> int:
    """Write pairs as :func:`pairs_of_maxima` does, after the ``found`` that are there."""
    limit = np.float32(threshold - slack - 1e-6)
    for i in range(scores.shape[0]):
        row_scores = scores[i][:columns]
        hits = 0
        for j in range(row_scores.shape[0]):
            hits += np.int32(row_scores[j] > limit)
        if hits == 0:
            continue
        for j in range(row_scores.shape[0]):
            test = start + j
            if row_scores[j] > limit and first_test + test < row_places[i]:
                counts[2] += 1
                value = exact_product(rows[i], tests[test])
                if value > threshold:
                    if found < pairs.shape[0]:
                        pairs[found, 0], pairs[found, 1] = first_test + test, row_places[i]
                        values[found] = value
                    found += 1
    return found
