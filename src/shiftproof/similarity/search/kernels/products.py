"""Inner products that are identical on every processor, and fast ones in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shiftproof.compute.compiled import compiled
from shiftproof.similarity.search.kernels.llvm import BYTE, INT, LONG, SHORT, declare
from shiftproof.types import F32, F64, I8

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
        narrow, middle, wide = (ir.VectorType(kind, 32) for kind in (BYTE, SHORT, INT))

        def product(one: Any, other: Any) -> Any:
            # 127 * 127 has 14 bits.
            short = builder.mul(builder.sext(one, middle), builder.sext(other, middle))
            return builder.sext(short, wide)

        if llvmlite.binding.get_host_cpu_features().get("avx2"):
            pairs = ir.VectorType(INT, 16)
            total = _sum_over(
                builder, arguments, narrow, pairs, _multiply_pairs(builder), builder.add
            )
        else:
            total = _sum_over(builder, arguments, narrow, wide, product, builder.add)
        return _fold(builder, total, builder.add)

    return signature, generate


def _multiply_pairs(builder: Any) -> Callable[[Any, Any], Any]:
    """Return a function that emits sums of two adjacent products, with half as many
    instructions.
    """
    shorts, ints = ir.VectorType(SHORT, 16), ir.VectorType(INT, 8)
    signature = ir.FunctionType(ints, [shorts, shorts])
    multiply = declare(builder.module, signature, "llvm.x86.avx2.pmadd.wd")

    def take(value: Any, start: int, count: int) -> Any:
        places = ir.Constant(ir.VectorType(INT, count), list(range(start, start + count)))
        return builder.shuffle_vector(value, value, places)

    def product(one: Any, other: Any) -> Any:
        halves = [
            builder.call(
                multiply,
                [builder.sext(take(value, start, 16), shorts) for value in (one, other)],
            )
            for start in (0, 16)
        ]
        joined = ir.Constant(ir.VectorType(INT, 16), list(range(16)))
        return builder.shuffle_vector(*halves, joined)

    return product


def _sum_over(
    builder: ir.IRBuilder,
    arguments: list[Any],
    loaded: Any,
    summed: Any,
    product: Callable[[Any, Any], Any],
    add: Callable[[Any, Any], Any],
) -> Any:
    """Emit the loop over two addresses, with a vector of partial sums."""
    first, second, chunks = arguments
    size = loaded.count * (4 if isinstance(loaded.element, ir.FloatType) else 1)
    before = builder.block
    check, body, after = (builder.append_basic_block(name) for name in ("check", "body", "after"))
    builder.branch(check)
    builder.position_at_end(check)
    chunk, total = builder.phi(LONG), builder.phi(summed)
    chunk.add_incoming(ir.Constant(LONG, 0), before)
    total.add_incoming(ir.Constant(summed, [0] * summed.count), before)
    builder.cbranch(builder.icmp_signed("<", chunk, chunks), body, after)
    builder.position_at_end(body)
    offset = builder.mul(chunk, ir.Constant(LONG, size))
    values = [
        builder.load(builder.inttoptr(builder.add(address, offset), loaded.as_pointer()), align=1)
        for address in (first, second)
    ]
    total.add_incoming(add(total, product(*values)), body)
    chunk.add_incoming(builder.add(chunk, ir.Constant(LONG, 1)), body)
    builder.branch(check)
    builder.position_at_end(after)
    return total


def _fold(builder: ir.IRBuilder, total: Any, add: Callable[[Any, Any], Any]) -> Any:
    """Sum the lanes by repeatedly adding the two halves."""
    count = total.type.count
    while count > 1:
        count //= 2
        halves = [
            builder.shuffle_vector(
                total,
                total,
                ir.Constant(ir.VectorType(INT, count), list(range(start, start + count))),
            )
            for start in (0, count)
        ]
        total = add(*halves)
    return builder.extract_element(total, ir.Constant(INT, 0))


_float_products: Any = intrinsic(_multiply_floats)
_byte_products: Any = intrinsic(_multiply_bytes)


@compiled
def exact_product(first: F32, second: F32) -> float:
    """Return the inner product, summed in float64 in a fixed order.

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
def whole_product(first: I8, second: I8) -> int:
    """Return the inner product of int8 rows, whose width is a multiple of 32."""
    total: int = _byte_products(first.ctypes.data, second.ctypes.data, first.shape[0] // 32)
    return total


# ---------------------------------------------------------------- float32 products

FLOAT_ROWS = 4
FLOAT_LANES = 8
FLOAT_VECTORS = 3
FLOAT_COLUMNS = FLOAT_LANES * FLOAT_VECTORS
"""Tile size that fits in the registers of a processor with AVX2."""


def _write_float_tile(
    typing_context: Any, rows: Any, stride: Any, panel: Any, out: Any, out_stride: Any, width: Any
) -> Any:
    """Emit the products of four rows and a panel of 24 columns, stored to ``out``."""
    signature = types.void(*[types.int64] * 6)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, stride, panel, out, out_stride, width = arguments
        single = ir.FloatType()
        vector = ir.VectorType(single, FLOAT_LANES)
        signature_of_fma = ir.FunctionType(vector, [vector] * 3)
        fma = declare(builder.module, signature_of_fma, f"llvm.fmuladd.v{FLOAT_LANES}f32")

        def pointer(address: Any, type_: Any) -> Any:
            return builder.inttoptr(address, type_.as_pointer())

        def times(value: Any, factor: int) -> Any:
            return builder.mul(value, ir.Constant(LONG, factor))

        starts = [builder.add(rows, times(stride, row)) for row in range(FLOAT_ROWS)]
        before = builder.block
        loop, after = builder.append_basic_block("dimension"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        place = builder.phi(LONG)
        place.add_incoming(ir.Constant(LONG, 0), before)
        sums = []
        for _ in range(FLOAT_ROWS * FLOAT_VECTORS):
            value = builder.phi(vector)
            value.add_incoming(ir.Constant(vector, [0.0] * FLOAT_LANES), before)
            sums.append(value)
        here = builder.add(panel, times(place, 4 * FLOAT_COLUMNS))
        columns = [
            builder.load(
                pointer(builder.add(here, ir.Constant(LONG, 4 * FLOAT_LANES * number)), vector),
                align=4,
            )
            for number in range(FLOAT_VECTORS)
        ]
        everywhere = ir.Constant(ir.VectorType(INT, FLOAT_LANES), [0] * FLOAT_LANES)
        undefined = ir.Constant(vector, ir.Undefined)
        for row in range(FLOAT_ROWS):
            value = builder.load(
                pointer(builder.add(starts[row], times(place, 4)), single), align=4
            )
            first = builder.insert_element(undefined, value, ir.Constant(INT, 0))
            repeated = builder.shuffle_vector(first, undefined, everywhere)
            for number in range(FLOAT_VECTORS):
                total = sums[row * FLOAT_VECTORS + number]
                total.add_incoming(builder.call(fma, [repeated, columns[number], total]), loop)
        following = builder.add(place, ir.Constant(LONG, 1))
        place.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, width), loop, after)
        builder.position_at_end(after)
        for row in range(FLOAT_ROWS):
            line = builder.add(out, times(out_stride, row))
            for number in range(FLOAT_VECTORS):
                grown = sums[row * FLOAT_VECTORS + number].incomings[1][0]
                target = builder.add(line, ir.Constant(LONG, 4 * FLOAT_LANES * number))
                builder.store(grown, pointer(target, vector), align=4)
        return context.get_dummy_value()

    return signature, generate


_float_tile: Any = intrinsic(_write_float_tile)


@compiled
def multiply_floats(rows: F32, panels: F32, out: F32) -> None:
    """Write the float32 products of rows and columns, on this thread.

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
    """Lay out columns, given as rows ``(m, width)``, in panels of 24, padded with 0."""
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
