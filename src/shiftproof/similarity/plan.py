"""What an audit of so many rows would take, from a short run on this machine."""

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
    bytes_in_memory,
    parse_memory,
    rows_in_memory,
)
from shiftproof.similarity.sharded import FEWEST
from shiftproof.types import F32

PART_SECONDS = 600.0
"""So long a part takes on one core, or longer where making ready would be more than a fifth of it: an
interruption costs no more."""

_FEW_ROWS, _TRAIN_ROWS, _TEST_ROWS = 4096, 24576, 2048
_CENTERS = 400
_NOISE = 0.7


@dataclass(frozen=True)
class Rates:
    """How fast one core of this machine is, on rows in clusters.

    Attributes:
        top_k: pairs of rows a second while each test row's nearest training rows are looked for.
        nearest: while each training row's nearest test row is.
        prune: while training rows too close to a test row are.
        preparation: seconds that a search takes for each test row before its training rows count, once
            in each process, or for each part where memory does not hold all test rows.
    """

    top_k: float
    nearest: float
    prune: float
    preparation: float


@dataclass(frozen=True)
class AuditPlan:
    """What an audit would take.

    Attributes:
        products: pairs of rows to be compared, of all searches.
        operations: multiplications and additions of these, as a plain product would need them.
        core_hours: on one core like this machine's; on so many the time is as many times shorter.
        gpu_hours: what the plain product would take on a GPU of the stated rate; None without one. It
            is arithmetic, not a measurement.
        passes: over the training rows for each search, by the memory.
        memory: bytes that are held on a machine.
        read: bytes of embeddings that are read, all passes of all searches together.
        disk: bytes that the audit writes: parts and records.
        part_rows: training rows in a part.
        parts: how many there are.
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
    """Say what an audit would take, by some ten seconds of it on this machine.

    The calibration compares rows that lie in clusters; how many pairs an 8-bit product cannot rule out
    depends on the rows, so an audit of others may take half or twice as long.

    Args:
        train_rows: rows of the training set.
        test_rows: of all test sets together.
        width: of a row.
        reference_rows: of the training set to compare with; with it, the audit prunes, too.
        sets: how many test sets.
        k: training rows that make the density.
        workers: processes on a machine, which share its memory.
        precision: see :func:`~shiftproof.similarity.nearest`.
        memory: see there.
        gpu_rate: operations a second that a GPU does, as you know it.

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
    room = rows_in_memory(parse_memory(memory) // workers, width, 1, k)
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
    ready = searches * test_rows * rates.preparation
    part_seconds = max(PART_SECONDS, 5 * ready)
    part_rows = min(max(int(part_seconds / seconds_a_row), FEWEST), train_rows)
    parts = -(-train_rows // part_rows)
    seconds += (min(workers, parts) if passes == 1 else parts) * ready
    products = searches * pairs + of_reference
    # Each training row's similarity, nearest row and mark, for each set, in a part and in a record;
    # and each test row's list in every part.
    disk = train_rows * sets * (2 * 12 + 2) + parts * test_rows * k * 16
    return AuditPlan(
        products=products,
        operations=2.0 * width * products,
        core_hours=seconds / 3600,
        gpu_hours=None if gpu_rate is None else 2.0 * width * products / gpu_rate / 3600,
        passes=passes,
        memory=workers * bytes_in_memory(min(test_rows, room), width, 1, k),
        read=passes * 2 * width * (searches * train_rows + reference_rows),
        disk=disk,
        part_rows=part_rows,
        parts=parts,
        rates=rates,
    )


def _resolve_precision(precision: Precision, width: int, tests: int, train: int) -> Precision:
    """Return what "auto" takes for so many test rows: the calibration has fewer."""
    if precision != "auto":
        return precision
    return "fp32" if choose_kind(precision, width, tests, train) is None else "int8"


def calibrate(width: int, *, precision: Precision = "auto") -> Rates:
    """Measure one core on rows in clusters: some ten seconds."""
    train, tests = (
        _draw_clusters(_TRAIN_ROWS, width, "train"),
        _draw_clusters(_TEST_ROWS, width, "tests"),
    )
    few = train[:_FEW_ROWS]
    # Where a hundredth of the training rows comes too close.
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
        search(few)  # what is compiled on first use
        small, whole = _measure_seconds(search, few), _measure_seconds(search, train)
        found[name] = (len(train) - len(few)) * len(tests) / max(whole - small, 1e-6)
        preparation = max(preparation, small / len(tests))
    return Rates(**found, preparation=preparation)


def _measure_seconds(search: Callable[[F32], object], rows: F32) -> float:
    # Of the processor, not of the clock: other work on the machine does not count.
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
    """Return a number of rows, such as of "400M", "170k" or "1.2B".

    Raises:
        InputError: it cannot be read, or is no whole number.

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
