"""Estimating the cost of an audit from a short calibration on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shiftproof import rng
from shiftproof.errors import InputError
from shiftproof.similarity.prune import prune
from shiftproof.similarity.questions.nearest import nearest
from shiftproof.similarity.questions.top_k import top_k
from shiftproof.similarity.search.engines import choose_kind
from shiftproof.similarity.search.options import (
    Precision,
    count_rows_in_memory,
    estimate_memory,
    parse_memory,
)
from shiftproof.similarity.sharded import MIN_PART_ROWS
from shiftproof.types import F32

PART_SECONDS = 600.0
"""Seconds that a part takes on one core, which an interruption costs at most; longer if preparation
would take more than a fifth of it.
"""

_SMALL_TRAIN_ROWS, _TRAIN_ROWS, _TEST_ROWS = 4096, 24576, 2048
_CENTERS = 400
_NOISE = 0.7


@dataclass(frozen=True)
class Rates:
    """Speed of one core of this machine on clustered rows.

    Attributes:
        top_k: pairs of rows per second of the search for each test row's nearest training rows.
        nearest: the same of the search for each training row's nearest test row.
        prune: the same of the search for training rows too similar to a test row.
        preparation: seconds that a search takes to prepare a test row, once in each process, or for
            each part if the test rows do not fit in memory.
    """

    top_k: float
    nearest: float
    prune: float
    preparation: float


@dataclass(frozen=True)
class AuditPlan:
    """Estimated cost of an audit.

    Attributes:
        products: pairs of rows that all searches compare.
        operations: multiplications and additions of a plain matrix product of these.
        core_hours: time on one core like this machine's; n cores take 1/n of it.
        gpu_hours: time of the plain product on a GPU of the given rate, computed, not measured;
            None without a rate.
        passes: passes over the training rows per search, which depends on the memory.
        memory: bytes in memory on one machine.
        read: bytes of embeddings that are read in all passes of all searches.
        disk: bytes that the audit writes: parts and records.
        part_rows: training rows in a part.
        parts: number of parts.
        rates: the calibration.
    """

    products: int
    operations: float
    core_hours: float
    gpu_hours: float | None
    passes: int
    memory: int
    read: int
    disk: int
    part_rows: int
    parts: int
    rates: Rates


def plan(
    train_rows: int,
    test_rows: int,
    width: int,
    *,
    reference_rows: int = 0,
    sets: int = 1,
    k: int = 10,
    workers: int = 1,
    precision: Precision = "auto",
    memory: int | str | None = None,
    gpu_rate: float | None = None,
) -> AuditPlan:
    """Estimate the cost of an audit by a calibration of about ten seconds on this machine.

    The calibration compares clustered rows; how many pairs an 8-bit product cannot rule out depends
    on the rows, so an actual audit may take half or twice as long.

    Args:
        train_rows: number of training rows.
        test_rows: number of rows of all test sets together.
        width: length of a row.
        reference_rows: number of rows of the reference; with one, the audit also prunes.
        sets: number of test sets.
        k: number of nearest training rows whose mean similarity is the density.
        workers: processes on a machine, which share its memory.
        precision: see :func:`~shiftproof.similarity.nearest`.
        memory: see there.
        gpu_rate: operations per second of a GPU.

    Raises:
        InputError: numbers below 1, or too little memory.
    """
    for name, number in {
        "train rows": train_rows, "test rows": test_rows, "width": width, "sets": sets, "k": k,
        "workers": workers,
    }.items():  # fmt: skip
        if number < 1:
            raise InputError(f"Expected {name} of 1 or more, got {number}.")
    if reference_rows < 0 or (gpu_rate is not None and not gpu_rate > 0):
        raise InputError("Expected 0 or more reference rows, and a positive rate of the GPU.")
    room = count_rows_in_memory(parse_memory(memory) // workers, width, 1, k)
    passes = -(-test_rows // room)
    rates = calibrate(
        width, precision=_resolve_precision(precision, width, test_rows // sets, train_rows)
    )
    pairs, of_reference = train_rows * test_rows, reference_rows * test_rows
    seconds_a_row = test_rows * (1 / rates.top_k + 1 / rates.nearest)
    seconds = pairs * (1 / rates.top_k + 1 / rates.nearest) + of_reference / rates.top_k
    searches = 2
    if reference_rows:
        seconds += pairs / rates.prune
        seconds_a_row += test_rows / rates.prune
        searches = 3
    preparation_seconds = searches * test_rows * rates.preparation
    part_seconds = max(PART_SECONDS, 5 * preparation_seconds)
    part_rows = min(max(int(part_seconds / seconds_a_row), MIN_PART_ROWS), train_rows)
    parts = -(-train_rows // part_rows)
    seconds += (min(workers, parts) if passes == 1 else parts) * preparation_seconds
    products = searches * pairs + of_reference
    # For each training row and set its similarity, nearest row and mark, in a part and in a record;
    # and each test row's list in every part.
    disk = train_rows * sets * (2 * 12 + 2) + parts * test_rows * k * 16
    return AuditPlan(
        products=products,
        operations=2.0 * width * products,
        core_hours=seconds / 3600,
        gpu_hours=None if gpu_rate is None else 2.0 * width * products / gpu_rate / 3600,
        passes=passes,
        memory=workers * estimate_memory(min(test_rows, room), width, 1, k),
        read=passes * 2 * width * (searches * train_rows + reference_rows),
        disk=disk,
        part_rows=part_rows,
        parts=parts,
        rates=rates,
    )


def _resolve_precision(precision: Precision, width: int, tests: int, train: int) -> Precision:
    """Return the precision that "auto" chooses for these numbers of rows: the calibration has
    fewer.
    """
    if precision != "auto":
        return precision
    return "fp32" if choose_kind(precision, width, tests, train) is None else "int8"


def calibrate(width: int, *, precision: Precision = "auto") -> Rates:
    """Measure the speed of one core on clustered rows, in about ten seconds."""
    train, tests = (
        _draw_clusters(_TRAIN_ROWS, width, "train"),
        _draw_clusters(_TEST_ROWS, width, "tests"),
    )
    few_rows = train[:_SMALL_TRAIN_ROWS]
    # One percent of the training rows exceeds it.
    limit = float(np.quantile((train[:1024] @ tests.T).max(axis=1), 0.99))
    found: dict[str, float] = {}
    preparation = 0.0
    searches: dict[str, Callable[[F32], object]] = {
        "top_k": lambda rows: top_k(rows, tests, 10, precision=precision, threads=1),
        "nearest": lambda rows: nearest(rows, tests, precision=precision, threads=1),
        "prune": lambda rows: prune(
            rows, {"tests": tests}, thresholds={"tests": limit}, precision=precision, threads=1
        ),
    }
    for name, search in searches.items():
        search(few_rows)  # compiles on first use
        small, whole = _measure_seconds(search, few_rows), _measure_seconds(search, train)
        found[name] = (len(train) - len(few_rows)) * len(tests) / max(whole - small, 1e-6)
        preparation = max(preparation, small / len(tests))
    return Rates(**found, preparation=preparation)


def _measure_seconds(search: Callable[[F32], object], rows: F32) -> float:
    # CPU time, so that other work on the machine does not count.
    begun = time.process_time()
    search(rows)
    return time.process_time() - begun


def _draw_clusters(count: int, width: int, name: str) -> F32:
    centers = rng.generator(0, "centres").standard_normal((_CENTERS, width))
    draws = rng.generator(0, name)
    rows = centers[draws.integers(0, _CENTERS, count)]
    rows = rows + _NOISE * draws.standard_normal((count, width)) + 1
    unit: F32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def parse_count(text: str) -> int:
    """Parse a number of rows, such as "400M", "170k" or "1.2B".

    Raises:
        InputError: it is not a whole number.

    >>> parse_count("1.5k")
    1500
    """
    units = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9}
    word = text.strip().replace("_", "").replace(",", "").upper()
    number = word.rstrip("KMBG")
    try:
        value = float(number) * units[word[len(number) :]]
        count = round(value)
    except (ValueError, KeyError, OverflowError):
        count, value = 0, -1.0
    if count != value:
        raise InputError(f"Expected a number of rows such as 400M or 170k, got {text!r}.")
    return count
