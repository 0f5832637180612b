"""Choosing the engine of a search, and the number of test rows per chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from shiftproof.errors import InputError
from shiftproof.similarity.search.engine import Engine
from shiftproof.similarity.search.float32 import Float32
from shiftproof.similarity.search.fp16 import Fp16, choose_half
from shiftproof.similarity.search.gpu import Gpu
from shiftproof.similarity.search.int8 import MAX_WIDTH, Int8
from shiftproof.similarity.search.options import (
    Precision,
    SearchOptions,
    count_rows_in_memory,
    parse_memory,
)
from shiftproof.similarity.sources import Embeddings
from shiftproof.types import F32

MIN_TESTS_PER_DIMENSION = 4
"""Minimum ratio of test rows to dimensions for which 8 bits are chosen.

Training rows are rotated and rounded once for each test set, and the test rows are prepared once;
many products are needed to save that cost. Measured on one core with AVX2, rows in clusters, ratio
of CPU times, int8 to float32, for the nearest test row and for pruning: with 2,560 test rows of
width 1,280, 3.4 for 10,000 training rows, 1.3 for 40,000, and 0.6 for all further rows; with 5,120,
0.85 for 40,000, then 0.4; with 1,024 of width 512, 1.1 however many follow; with 2,000 of width
128, 0.9 for 20,000. The nearest ten of 4,000 test rows of width 512 take 1.3 for 25,000 training
rows, 1 for 100,000, and 0.6 for all further rows.
"""

_SAVED_PER_PRODUCT = 0.016
"""Nanoseconds saved by 8 bits per pair and dimension, with AVX2 on a core of 2.6 GHz, as below."""

_COST_PER_SQUARED_WIDTH = 0.035
"""Nanoseconds to rotate and round a training row, per squared width."""

_COST_PER_ROW = 7000.0
"""Nanoseconds per training row, independent of its width: with VNNI on a core of 2.6 GHz, 6,000 at
width 128 and 8,500 at width 512 (benchmarks/results/search_kinds.json).
"""

_MARGIN = 1.5
"""Required ratio of saved time to preparation. That table has preparation times of up to 2.5 times
those here, and a wrong choice of float32 costs less than a wrong choice of 8 bits.
"""

_COST_PER_LIST_PAIR = 3.0
"""Extra nanoseconds per pair to keep a list from bounds instead of float32 products."""

_PREPARATION = (1.0, 0.6, 0.11)
"""Nanoseconds of preparation: per cubed width (directions), then per squared width for each of the
2,048 test rows on which numbers of dimensions are tried, and for each test row.
"""

_TUNING_TESTS = 2048


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some test rows of a set, prepared by an engine."""

    name: str
    engine: Engine


def choose_kind(
    precision: Precision, width: int, tests: int, train: int | None = None, k: int = 0
) -> str | None:
    """Return the kind of 8-bit tile to use, or None for float32.

    Args:
        precision: "int8", "fp32", or "auto": 8 bits if the processor has a tile for them, there are
            at least :data:`MIN_TESTS_PER_DIMENSION` times as many test rows as dimensions, and
            enough training rows to save more time than preparing the test rows takes.
        width: width of the rows.
        tests: number of rows of the whole test set, so that the choice is the same in all parts of
            a search.
        train: number of training rows; None for many.
        k: number of training rows that each test row keeps.

    Raises:
        InputError: "int8" for rows that are too wide.
    """
    if precision == "int8" and width > MAX_WIDTH:
        raise InputError(f"Expected rows of at most {MAX_WIDTH} for int8, got {width}; use 'fp32'.")
    few = precision == "auto" and not _saves_time(width, tests, train, k)
    if precision == "fp32" or width > MAX_WIDTH or few:
        return None
    from shiftproof.similarity.search import kernels

    return kernels.fastest_kind() or ("plain" if precision == "int8" else None)


def _saves_time(width: int, tests: int, train: int | None, k: int) -> bool:
    """Return whether 8 bits save more time than they cost."""
    if tests < MIN_TESTS_PER_DIMENSION * width:
        return False
    spent = (
        _COST_PER_SQUARED_WIDTH * width**2
        + _COST_PER_ROW
        + (_COST_PER_LIST_PAIR * tests if k else 0)
    )
    saved = _SAVED_PER_PRODUCT * tests * width - spent
    if train is None:
        return saved > 0
    directions, trying, rounding = _PREPARATION
    ready = width**2 * (directions * width + trying * min(tests, _TUNING_TESTS) + rounding * tests)
    return train * saved > _MARGIN * ready


def choose_engine(
    options: SearchOptions,
    width: int,
    tests: int,
    sample: F32,
    train: int | None = None,
    k: int = 0,
) -> Callable[[F32, int], Engine]:
    """Return a factory of engines from test rows and the index of the first one.

    ``tests`` and ``train`` are numbers of rows, as for :func:`choose_kind`; ``sample`` are some
    training rows.

    Raises:
        UnknownNameError: no such precision or device.
        InputError: a precision that the device or the width does not support, or a device that is
            not available.
        MissingExtraError: torch is needed and not installed.
    """
    half = choose_half(options.precision, options.device)
    if half is not None and half.kind == "cuda":
        return lambda rows, first: Gpu(rows, first, half, sample)
    if half is not None:
        return lambda rows, first: Fp16(rows, first, half, sample)
    kind = choose_kind(options.precision, width, tests, train, k)
    if kind is not None:
        return lambda rows, first: Int8(rows, first, kind, sample)
    return Float32


def prepare_passes(
    train: Embeddings,
    tests: Mapping[str, Embeddings],
    options: SearchOptions,
    threads: int,
    sample: F32,
    *,
    k: int = 0,
    compared: int | None = None,
    skip_unusable: bool = False,
) -> Iterator[list[Chunk]]:
    """Yield lists of prepared chunks of test rows that fit into memory together.

    All chunks of one list are compared in one pass over the training rows.

    ``threads`` replaces that of the options, ``sample`` are some training rows
    (:func:`~shiftproof.similarity.search.in_memory.sample_rows`), each test row keeps ``k`` training
    rows, and ``compared`` training rows are compared, all by default. ``skip_unusable`` accepts
    unusable test rows, which are 0 and match nothing.
    """
    room = count_rows_in_memory(parse_memory(options.memory), train.width, threads, k)
    compared = len(train) if compared is None else compared
    chunks: list[Chunk] = []
    held = 0
    for name, rows in tests.items():
        start = 0
        make_engine = choose_engine(options, train.width, len(rows), sample, compared, k)
        while start < len(rows):
            count = min(len(rows) - start, room - held)
            values = rows.read(start, start + count)
            if not skip_unusable:
                _check_usable(name, values, start)
            chunks.append(Chunk(name, make_engine(values, start)))
            start += count
            held += count
            if held >= room:
                yield chunks
                chunks, held = [], 0
    if chunks:
        yield chunks


def _check_usable(name: str, values: F32, start: int) -> None:
    there = values.any(axis=1)
    if not there.all():
        bad = start + int(np.flatnonzero(~there)[0])
        raise InputError(f"Row {bad} of test set {name} cannot be used; leave it out.")
