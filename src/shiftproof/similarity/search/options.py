"""Options of a search: precision, device, memory and threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from shiftproof.compute.tuning import count_usable_cores
from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.similarity.search.float32 import COLUMNS
from shiftproof.similarity.search.tiles import ROWS

Precision: TypeAlias = Literal["auto", "int8", "fp32", "fp16", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search, as described in :func:`~shiftproof.similarity.nearest`.

    Attributes:
        precision: precision of the products that exclude pairs.
        device: device of these products.
        memory: memory limit.
        threads: number of threads; None for all cores of this process.
    """

    precision: Precision = "auto"
    device: str = "cpu"
    memory: int | str | None = None
    threads: int | None = None


def parse_memory(memory: int | str | None) -> int:
    """Parse a number of bytes, such as ``4_000_000_000``, "4GB" or "500 MB"; 4 GB if None.

    Raises:
        InputError: it is not a positive number of bytes.

    >>> parse_memory("1.5GB")
    1500000000
    """
    if memory is None:
        return 4 * 10**9
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    text = str(memory).strip().upper().replace("I", "")
    number = text.rstrip("BKMGT ")
    try:
        size = int(float(number) * units[text[len(number) :].strip()])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size <= 0:
        raise InputError(f"Expected memory such as 4GB or 500MB, got {memory!r}.")
    return size


def count_rows_in_memory(memory: int, width: int, threads: int, lists: int = 0) -> int:
    """Return the number of test rows that fit in memory.

    ``lists`` is the number of training rows in each test row's list.

    Raises:
        InputError: fewer than 1,024.
    """
    each, block = _estimate_bytes(width, threads, lists)
    rows = (memory - block) // each
    if rows < 1024:
        needed = (block + 1024 * each) / 1e6
        raise InputError(
            f"{memory / 1e6:.0f} MB of memory are too few for rows of width {width} on "
            f"{pluralize(threads, 'thread')}; at least {needed:.0f} MB are needed."
        )
    return int(rows)


def estimate_memory(rows: int, width: int, threads: int, lists: int = 0) -> int:
    """Return the approximate memory for comparing with ``rows`` test rows."""
    each, block = _estimate_bytes(width, threads, lists)
    return rows * each + block


def _estimate_bytes(width: int, threads: int, lists: int) -> tuple[int, int]:
    """Return the bytes per test row, and of the training rows in process."""
    # Per test row: float32, two 8-bit copies, and maxima, bias and lists in each thread; doubled
    # for reading and preparation.
    each = 12 * width + 3 * (width + 32) + 200 * threads + 16 * lists * (threads + 1)
    return each, ROWS * (30 * width + 8 * COLUMNS) * (threads + 1) + 100_000_000


def count_threads(threads: int | None) -> int:
    """Return the number of threads to use: by default all cores of this process."""
    if threads is not None:
        if threads < 1:
            raise InputError(f"Expected a number of threads of 1 or more, got {threads}.")
        return threads
    return count_usable_cores()
