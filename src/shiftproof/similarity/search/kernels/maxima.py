"""Products of quantized rows, a tile at a time: the maxima of groups of test rows.

They are integer sums, so they are exact and identical on every processor; only the instructions
that add four products differ:

- ``vnni``: 16 lanes, one instruction for four products a lane.
- ``avx2``: 8 lanes; ``vpmaddubsw`` adds two products into 16 bits, and 16-bit sums of
  :data:`WINDOW` steps are widened together. What must hold so that none overflows is checked when
  the rows are quantized (``int8.py``).
- ``plain``: the arithmetic of ``vnni`` without its instruction, for any processor.

numba has no functions for these instructions, so the inner loops are written in LLVM IR, and the
outer loops in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shiftproof.compute.compiled import compiled
from shiftproof.similarity.search.kernels.llvm import BYTE, INT, LONG, SHORT, declare
from shiftproof.types import I8, I16, I32, U8

STEP = 4
"""Dimensions that one instruction multiplies and adds per lane."""

WINDOW = 8
"""Steps that are summed in 16 bits before they are widened."""

MEMBERS = 16
"""Test rows that share one maximum: the lane of a few neighboring tiles."""

FAR = -(1 << 30)
"""A value below all sums."""


@dataclass(frozen=True)
class TileShape:
    """The size of a tile, whose sums are kept in registers.

    Attributes:
        rows: number of training rows.
        vectors: number of vectors of test rows.
        lanes: test rows per vector.
        narrow: whether a window's sums are computed in 16 bits.
    """

    rows: int
    vectors: int
    lanes: int
    narrow: bool

    @property
    def width(self) -> int:
        """Number of test rows in a tile."""
        return self.vectors * self.lanes

    @property
    def span(self) -> int:
        """Number of test rows whose maxima form one vector."""
        return MEMBERS * self.lanes

    @property
    def tiles(self) -> int:
        """Number of tiles in a span."""
        return MEMBERS // self.vectors


TILES = {
    "vnni": TileShape(rows=6, vectors=4, lanes=16, narrow=False),
    "avx2": TileShape(rows=4, vectors=2, lanes=8, narrow=True),
    "plain": TileShape(rows=2, vectors=1, lanes=8, narrow=False),
}


class _Emitter:
    """Emits the loads, stores and products of one kind of tile."""

    def __init__(self, builder: ir.IRBuilder, tile: TileShape, kind: str) -> None:
        self.builder = builder
        self.kind = kind
        self.lanes = tile.lanes
        self.bytes = ir.VectorType(BYTE, STEP * tile.lanes)
        self.shorts = ir.VectorType(SHORT, 2 * tile.lanes)
        self.ints = ir.VectorType(INT, tile.lanes)

    def load(self, address: Any, offset: int, type_: Any) -> Any:
        offset_by = self.builder.add(address, ir.Constant(LONG, offset))
        return self.builder.load(self.builder.inttoptr(offset_by, type_.as_pointer()), align=4)

    def store(self, value: Any, address: Any, offset: int) -> None:
        offset_by = self.builder.add(address, ir.Constant(LONG, offset))
        pointer = self.builder.inttoptr(offset_by, value.type.as_pointer())
        self.builder.store(value, pointer, align=4)

    def broadcast(self, address: Any, offset: int) -> Any:
        """Load four bytes and repeat them in every lane."""
        undefined = ir.Constant(self.ints, ir.Undefined)
        word = self.load(address, offset, INT)
        first = self.builder.insert_element(undefined, word, ir.Constant(INT, 0))
        lanes = ir.Constant(ir.VectorType(INT, self.lanes), [0] * self.lanes)
        return self.builder.bitcast(
            self.builder.shuffle_vector(first, undefined, lanes), self.bytes
        )

    def larger(self, first: Any, second: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", first, second), first, second)

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(declare(self.builder.module, signature, name), arguments)

    def multiply_add(self, sums: Any, unsigned: Any, signed: Any) -> Any:
        """Add the products of four neighboring bytes to each lane's sum."""
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
        chosen = ir.Constant(ir.VectorType(INT, self.lanes), lanes)
        return self.builder.shuffle_vector(values, values, chosen)

    def widen(self, sums: Any) -> Any:
        ones = ir.Constant(self.shorts, [1] * (2 * self.lanes))
        return self.call("llvm.x86.avx2.pmadd.wd", self.ints, [sums, ones])


def _build_tile(kind: str, arithmetic: str | None = None) -> Any:
    """Build the function that multiplies one tile and raises the maxima of its rows.

    ``(rows, tests, starts, bias, maxima, stride, windows)``: addresses of the training rows
    ``(steps, rows, 4)`` uint8, the test rows ``(steps, width, 4)`` int8, the first values of the
    16-bit sums ``(windows, width, 2)`` int16 (narrow tiles), the first values of all sums
    ``(width,)`` int32, the first row's maxima ``(lanes,)`` int32; bytes from one row's maxima to
    the next; and the number of windows. ``arithmetic`` is that of another kind, for the same
    layout.
    """
    tile = TILES[kind]

    @intrinsic
    def multiply(
        typing_context: Any,
        rows: Any,
        tests: Any,
        starts: Any,
        bias: Any,
        maxima: Any,
        stride: Any,
        windows: Any,
    ) -> Any:
        signature = types.void(*[types.int64] * 7)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _write_tile(builder, tile, arithmetic or kind, arguments)
            return context.get_dummy_value()

        return signature, generate

    return multiply


def _write_tile(builder: ir.IRBuilder, tile: TileShape, kind: str, arguments: list[Any]) -> None:
    rows, tests, starts, bias, maxima, stride, windows = arguments
    emit = _Emitter(builder, tile, kind)
    vector = 4 * tile.lanes
    pairs = [(row, column) for row in range(tile.rows) for column in range(tile.vectors)]
    first = [emit.load(bias, vector * column, emit.ints) for column in range(tile.vectors)]

    before = builder.block
    loop, after = builder.append_basic_block("window"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    window = builder.phi(LONG)
    window.add_incoming(ir.Constant(LONG, 0), before)
    sums = []
    for _, column in pairs:
        value = builder.phi(emit.ints)
        value.add_incoming(first[column], before)
        sums.append(value)

    def offset_by(address: Any, size: int) -> Any:
        return builder.add(address, builder.mul(window, ir.Constant(LONG, size)))

    rows_here = offset_by(rows, WINDOW * tile.rows * STEP)
    tests_here = offset_by(tests, WINDOW * tile.width * STEP)
    if tile.narrow:
        starts_here = offset_by(starts, tile.width * STEP)
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
    following = builder.add(window, ir.Constant(LONG, 1))
    window.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, windows), loop, after)

    builder.position_at_end(after)
    for row in range(tile.rows):
        best = emit.load(maxima, 0, emit.ints)
        for column in range(tile.vectors):
            best = emit.larger(best, running[row * tile.vectors + column])
        emit.store(best, maxima, 0)
        maxima = builder.add(maxima, stride)


def _multiply(*addresses: int) -> None:
    """Placeholder for the tile's function."""


def _raise_maxima(rows: U8, tests: I8, starts: I16, bias: I32, maxima: I32) -> None:
    panels, windows = rows.shape[0], tests.shape[2] // 8
    for span in range(tests.shape[0]):
        for tile in range(tests.shape[1]):
            for panel in range(panels):
                _multiply(
                    rows[panel].ctypes.data,
                    tests[span, tile].ctypes.data,
                    starts[span, tile].ctypes.data,
                    bias[span, tile].ctypes.data,
                    maxima[panel, 0, span].ctypes.data,
                    maxima.strides[1],
                    windows,
                )


def _compile(kind: str) -> Callable[[U8, I8, I16, I32, I32], None]:
    """Return the outer loop for one kind of tile; numba does not cache closures over an intrinsic."""
    around = {**globals(), "_multiply": _build_tile(kind)}
    loop = FunctionType(_raise_maxima.__code__, around, f"maxima_{kind}")
    loop.__qualname__ = loop.__name__
    return compiled(loop)


MAXIMA = {kind: _compile(kind) for kind in TILES}
"""For each kind of tile: raise the maxima of groups of test rows, for every training row.

``rows`` ``(panels, steps, rows, 4)`` uint8; ``tests`` ``(spans, tiles, steps, width, 4)`` int8;
``starts`` ``(spans, tiles, windows, width, 2)`` int16; ``bias`` ``(spans, tiles, width)`` int32,
what each test row's sum begins with; ``maxima`` ``(panels, rows, spans, lanes)`` int32. Test row
``span * 16 * lanes + member * lanes + lane`` belongs to the maximum ``span, lane``.
"""


def fastest_kind() -> str | None:
    """Return the kind of tile that is faster than float32 on this processor, or None."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512vnni") and features.get("avx512bw"):
        return "vnni"
    return "avx2" if features.get("avx2") else None
