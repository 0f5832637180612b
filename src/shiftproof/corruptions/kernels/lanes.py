"""Loops that keep their sums in vector registers, written as LLVM instructions.

They read and write through addresses, a fixed number of values at a time. For the same loops in
Python, the compiler generates several versions and checks whether the arrays overlap: compilation
takes ten times as long, and they are not faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

FLOATS = 64
"""Number of float32 values per vector operation."""

_LONG, _FLOAT = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, FLOATS)


def load(builder: Any, address: Any, kind: Any) -> Any:
    """Load a value of LLVM's type ``kind`` from an unaligned address."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def store(builder: Any, value: Any, address: Any) -> None:
    """Store a value at an unaligned address."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def load_entry(builder: Any, table: Any, n: Any, kind: Any) -> Any:
    """Load entry ``n`` of the table of ``kind`` at an address."""
    return builder.load(builder.gep(builder.inttoptr(table, kind.as_pointer()), [n]))


def fill_lanes(builder: Any, value: Any, kind: Any) -> Any:
    """Return a vector of the type ``kind`` whose lanes are all ``value``."""
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(single, single, lanes)


def build_sum(
    builder: Any, first: Any, count: Any, step: int, start: Any, add: Callable[[Any, Any], Any]
) -> Any:
    """Return ``start`` after ``add(sum, n)`` for n from ``first`` to ``count`` in steps."""
    before = builder.block
    check, body, after = (builder.append_basic_block(n) for n in ("check", "body", "after"))
    builder.branch(check)
    builder.position_at_end(check)
    n, total = builder.phi(_LONG), builder.phi(start.type)
    n.add_incoming(first, before)
    total.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<", n, count), body, after)
    builder.position_at_end(body)
    following = add(total, n)
    total.add_incoming(following, builder.block)
    n.add_incoming(builder.add(n, _LONG(step)), builder.block)
    builder.branch(check)
    builder.position_at_end(after)
    return total


def _write_pairs(
    typing_context: Any, rows: Any, weights: Any, pairs: Any, offset: Any, out: Any
) -> Any:
    """Write the sum of a weighted value and weighted pairs, in order.

    ``rows`` is the address of ``1 + 2 pairs`` addresses of float32, ``weights`` that of
    ``1 + pairs`` weights; ``offset`` is added to each of the former.
    """
    signature = types.void(*[types.int64] * 5)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, weights, pairs, offset, out = arguments

        def read(n: Any) -> Any:
            return load(builder, builder.add(load_entry(builder, rows, n, _LONG), offset), _VECTOR)

        def weigh(value: Any, n: Any) -> Any:
            weight = load_entry(builder, weights, n, _FLOAT)
            return builder.fmul(value, fill_lanes(builder, weight, _VECTOR))

        def add(total: Any, n: Any) -> Any:
            index = builder.mul(n, _LONG(2))
            pair = builder.fadd(read(builder.sub(index, _LONG(1))), read(index))
            return builder.fadd(total, weigh(pair, n))

        last = builder.add(pairs, _LONG(1))
        total = build_sum(builder, _LONG(1), last, 1, weigh(read(_LONG(0)), _LONG(0)), add)
        store(builder, total, out)
        return context.get_dummy_value()

    return signature, generate


sum_pairs: Any = intrinsic(_write_pairs)


def _write_copies(
    typing_context: Any, rows: Any, weights: Any, count: Any, offset: Any, out: Any
) -> Any:
    """Write the sum of weighted values in groups of eight, each as ``((a+b)+(c+d)) +
    ((e+f)+(g+h))``.

    This order has the fewest roundings of large sums. ``rows`` is the address of ``count``
    addresses of float32, a multiple of eight, ``weights`` that of as many; ``offset`` is added to
    the former.
    """
    signature = types.void(*[types.int64] * 5)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, weights, count, offset, out = arguments

        def weigh(n: Any) -> Any:
            address = builder.add(load_entry(builder, rows, n, _LONG), offset)
            weight = fill_lanes(builder, load_entry(builder, weights, n, _FLOAT), _VECTOR)
            return builder.fmul(load(builder, address, _VECTOR), weight)

        def add(total: Any, n: Any) -> Any:
            terms = [weigh(builder.add(n, _LONG(k))) for k in range(8)]
            while len(terms) > 1:
                pairs = zip(terms[::2], terms[1::2], strict=True)
                terms = [builder.fadd(one, other) for one, other in pairs]
            return builder.fadd(total, terms[0])

        zeros = ir.Constant(_VECTOR, [0.0] * FLOATS)
        store(builder, build_sum(builder, _LONG(0), count, 8, zeros, add), out)
        return context.get_dummy_value()

    return signature, generate


sum_eights: Any = intrinsic(_write_copies)


def _write_differences(
    typing_context: Any, rows: Any, count: Any, center: Any, offset: Any, out: Any
) -> Any:
    """Write the bits in which any of ``count`` rows differs from ``center``, for ``FLOATS`` bytes.

    ``rows`` is the address of their addresses; ``offset`` is added to them and to ``center``.

    Returns:
        A bit for each byte, from the lowest on: whether any bit is set.
    """
    signature = types.int64(*[types.int64] * 5)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, count, center, offset, out = arguments
        small = ir.VectorType(ir.IntType(8), FLOATS)
        zeros = ir.Constant(small, [0] * FLOATS)
        middle = load(builder, builder.add(center, offset), small)

        def add(total: Any, n: Any) -> Any:
            address = builder.add(load_entry(builder, rows, n, _LONG), offset)
            return builder.or_(total, builder.xor(load(builder, address, small), middle))

        total = build_sum(builder, _LONG(0), count, 1, zeros, add)
        store(builder, total, out)
        return builder.bitcast(builder.icmp_unsigned("!=", total, zeros), ir.IntType(FLOATS))

    return signature, generate


find_differences: Any = intrinsic(_write_differences)


def _write_bytes(typing_context: Any, sums: Any, tolerance: Any, out: Any) -> Any:
    """Truncate ``FLOATS`` nonnegative sums, clipped at 255, to bytes.

    Returns:
        A bit for each sum, from the lowest on: whether it is within ``tolerance`` of an integer.
    """
    signature = types.int64(types.int64, types.float32, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, tolerance, out = arguments
        whole = ir.VectorType(ir.IntType(32), FLOATS)
        values = load(builder, sums, _VECTOR)
        half, white = (ir.Constant(_VECTOR, [value] * FLOATS) for value in (0.5, 255.0))
        nearest = builder.sitofp(builder.fptosi(builder.fadd(values, half), whole), _VECTOR)
        distance = builder.fsub(values, nearest)
        limit = fill_lanes(builder, tolerance, _VECTOR)
        above = builder.fcmp_ordered("<", builder.fneg(limit), distance)
        close = builder.and_(above, builder.fcmp_ordered("<", distance, limit))
        clipped = builder.select(builder.fcmp_ordered("<", values, white), values, white)
        truncated = builder.fptosi(clipped, whole)
        store(builder, builder.trunc(truncated, ir.VectorType(ir.IntType(8), FLOATS)), out)
        return builder.bitcast(close, ir.IntType(FLOATS))

    return signature, generate


truncate_sums: Any = intrinsic(_write_bytes)


def _write_lowest(typing_context: Any, bits: Any) -> Any:
    """Return the index of the lowest set bit of a nonzero number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


find_lowest: Any = intrinsic(_write_lowest)


def _write_floats(typing_context: Any, source: Any, out: Any) -> Any:
    """Write the ``FLOATS`` bytes at the address ``source`` as float32."""
    signature = types.void(types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, out = arguments
        values = load(builder, source, ir.VectorType(ir.IntType(8), FLOATS))
        store(builder, builder.uitofp(values, _VECTOR), out)
        return context.get_dummy_value()

    return signature, generate


convert_bytes: Any = intrinsic(_write_floats)


def _mark_small(typing_context: Any) -> Any:
    """Mark the calling function to be optimized for size, which halves its compile time.

    LLVM then generates no alternative versions of a loop. For functions that spend their time in
    the loops above.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("optsize")
        return context.get_dummy_value()

    return types.void(), generate


optimize_for_size: Any = intrinsic(_mark_small)
