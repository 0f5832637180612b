"""Products of rows in 16 bits, by torch on a GPU or a processor, with a proven bound on their
error.

For a training row x, a test row q, and any two vectors m and n, with ``x' = x - n`` and
``q' = q - m``:

    <x, q> = <x, m> + <n, q'> + <x', q'>

The first two terms are computed in float64. Rounded to 16 bits, ``x'`` and ``q'`` become X and Q,
and by the Cauchy-Schwarz inequality

    |<x', q'> - <X, Q>| <= |x' - X| |q'| + |X| |q' - Q|

where the lengths are computed for each row. ``<X, Q>`` is summed in float32 and rounded to 16 bits,
each with an error of at most a share of ``|X| |Q|``. With m and n near the means of the two sides
all these lengths are small.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from shiftproof.compute.held_settings import HeldSettings, Setting
from shiftproof.errors import InputError, RunError, UnknownNameError
from shiftproof.similarity.search.certificate import BROKEN, CANDIDATES, RECHECKED, Tally
from shiftproof.similarity.search.engine import Reduction
from shiftproof.similarity.search.options import PRECISIONS
from shiftproof.similarity.search.tiles import ROWS, Candidates
from shiftproof.types import F32, F64, Flags

if TYPE_CHECKING:
    import torch


SCALES = {"fp16": 64.0, "bf16": 1.0}
"""Scale factor of rows, a power of two, which is exact. The smallest normal number of fp16, 6e-5,
is large relative to the values of a row of length 1; scaled it is 1e-6, and no product of rows
comes near 65,504, the largest.
"""

SUM_ERROR = 2.0**-22
"""Error of a float32 sum of n products, divided by n and by the sum of their absolute values. Sums
in any order err by 2**-24 (N. Higham, Accuracy and Stability of Numerical Algorithms, 3.1); the
tensor cores of NVIDIA's GPUs truncate when they add several products at once (Fasi, Higham,
Mikaitis and Pranesh 2021, Numerical behavior of NVIDIA tensor cores), which is less than four times
as much.
"""

SLACK = 4e-6
"""Upper bound of the float32 rounding in comparisons of products, each below 11, with thresholds.
"""

CANDIDATES_HELD = 1 << 18
"""Maximum number of candidates of a tile in memory, 10 MB."""

COLUMNS = {"cpu": 1024, "cuda": 8192}
"""Test rows per matrix product; few enough that all pairs may be candidates, while lists are empty,
without exhausting memory.
"""


@dataclass(frozen=True)
class Half:
    """Precision and device of 16-bit products.

    Attributes:
        precision: "fp16" or "bf16".
        device: torch's name of the device, such as "cpu" or "cuda:0".
    """

    precision: Literal["fp16", "bf16"]
    device: str

    @property
    def kind(self) -> str:
        """The device type."""
        return self.device.partition(":")[0]

    @property
    def scale(self) -> float:
        """Factor of the rows before rounding."""
        return SCALES[self.precision]

    def dtype(self) -> torch.dtype:
        """Return the dtype of torch."""
        import torch

        return torch.float16 if self.precision == "fp16" else torch.bfloat16


def choose_half(precision: str, device: str) -> Half | None:
    """Return precision and device of torch's products, or None to compute without torch.

    ``precision`` is one of :data:`PRECISIONS`; "auto" is fp16 on a GPU, and no precision of torch
    on the CPU.

    Raises:
        UnknownNameError: an unknown precision or device.
        InputError: "int8" or "fp32" on a GPU, or a device that is not available.
        MissingExtraError: torch is needed and not installed.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError.of("precision", precision, PRECISIONS)
    kind, colon, index = device.partition(":")
    if kind not in COLUMNS or (colon and (kind == "cpu" or not index.isdecimal())):
        raise UnknownNameError.of("device", device, ["cpu", "cuda", "cuda:1"])
    if kind == "cpu" and precision not in SCALES:
        return None
    if precision in ("int8", "fp32"):
        raise InputError(
            f"The products of {precision} are the processor's. With device {device!r} take 'auto', "
            "'fp16' or 'bf16': what comes out is the same."
        )
    from shiftproof.models.structure import find_device, require_torch

    require_torch()
    return Half("bf16" if precision == "bf16" else "fp16", str(find_device(device)))


@dataclass(frozen=True, eq=False)
class HalfTests:
    """Rounded test rows on the device, and the terms of the bound.

    Attributes:
        half: their precision and device.
        center: ``(width,)`` float32, m.
        shift: ``(width,)`` float32 on the device, n.
        rows: ``(count, width)`` of 16 bits on the device, Q times the scale.
        known: ``(count,)`` float64, ``<n, q'>``.
        longest: the largest length of ``q'``.
        longest_rounded: the largest length of Q.
        largest_rest: the largest length of a rounding residual.
    """

    half: Half
    center: F32
    shift: torch.Tensor
    rows: torch.Tensor
    known: F64
    longest: float
    longest_rounded: float
    largest_rest: float


def round_tests(tests: F32, sample: F32, half: Half) -> HalfTests:
    """Bring test rows ``(m, width)`` to the device; ``sample`` are some training rows."""
    import torch

    center = tests.mean(axis=0, dtype=np.float64).astype(np.float32)
    shift = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    known = np.empty(len(tests))
    rows = torch.empty(tests.shape, dtype=half.dtype(), device=half.device)
    longest = longest_rounded = largest_rest = 0.0
    exact = shift.astype(np.float64)
    for start in range(0, len(tests), 4096):
        here = slice(start, start + 4096)
        known[here] = (tests[here].astype(np.float64) - center) @ exact
        moved = torch.from_numpy(tests[here] - center).to(half.device)
        rows[here], lengths, rests = _round(moved, half)
        longest = max(longest, float((lengths + rests).max()))
        longest_rounded = max(longest_rounded, float(lengths.max()))
        largest_rest = max(largest_rest, float(rests.max()))
    return HalfTests(
        half=half,
        center=center,
        shift=torch.from_numpy(shift).to(half.device),
        rows=rows,
        known=known,
        longest=longest,
        longest_rounded=longest_rounded,
        largest_rest=largest_rest,
    )


def _round(moved: torch.Tensor, half: Half) -> tuple[torch.Tensor, F64, F64]:
    rounded, *lengths = round_rows(moved, half)
    of_rounded, of_rests = (length.cpu().numpy() for length in lengths)
    return rounded, of_rounded, of_rests


def round_rows(moved: torch.Tensor, half: Half) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return rows scaled and rounded to 16 bits, and upper bounds of their lengths and of the
    residuals.

    All are on the device; the lengths are ``(n,)`` float64.
    """
    import torch

    rounded = (moved * half.scale).to(half.dtype())
    back = rounded.float() / half.scale
    # Covers the float32 rounding of the lengths.
    margin = 1 + moved.shape[1] * SUM_ERROR
    lengths, rests = (
        torch.linalg.vector_norm(values, dim=1).double() * margin for values in (back, moved - back)
    )
    # A device may flush subnormal numbers to 0.
    lost = math.sqrt(moved.shape[1]) * torch.finfo(half.dtype()).tiny / half.scale
    return rounded, lengths, rests + lost


def find_candidates(
    tests: HalfTests, rows: F32, usable: Flags, thresholds: F64 | float | None
) -> Iterator[Candidates]:
    """Yield candidate pairs, by tiles of the test rows.

    ``rows`` are ``(n, width)`` float32; unusable ones are in no pair. ``thresholds`` are ``(m,)``
    or one for all, in -4..4, and candidates are the pairs that may reach their test row's; with
    None, those that may be their training row's largest so far.
    """
    import torch

    half = tests.half
    largest = thresholds is None
    rounded, known, error = _round_block(tests, rows)
    limits = np.broadcast_to(
        np.asarray(0.0 if largest else thresholds, dtype=np.float64), tests.known.shape
    )
    lowest = np.where(usable, -np.inf if largest else -(known + error), np.inf)

    def to_device(values: F64) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(half.device)

    floor, window, taken = to_device(lowest), to_device(2 * error), to_device(limits - tests.known)
    step = COLUMNS[half.kind]
    for start in range(0, len(tests.known), step):
        columns = tests.rows[start : start + step]
        with FULL_SUMS:
            products = torch.mm(rounded, columns.T)
        values = products.float() / half.scale**2 - taken[start : start + step]
        top = values.amax(dim=1)
        if largest:
            floor = torch.maximum(floor, top - window)
        # Most rows have no candidate in most tiles, and a maximum is faster than finding positions.
        near = (top >= floor).nonzero()[:, 0]
        found = (values[near] >= floor[near, None]).nonzero()
        row, column = near[found[:, 0]], found[:, 1]
        estimate = values[row, column].cpu().numpy().astype(np.float64)
        row_, test = row.cpu().numpy(), column.cpu().numpy() + start
        yield Candidates(row_, test, estimate + known[row_] + limits[test], error)


def _round_block(tests: HalfTests, rows: F32) -> tuple[torch.Tensor, F64, F64]:
    """Return training rows in 16 bits on the device, ``<x, m>``, and the error bounds of their
    products.
    """
    import torch

    from shiftproof.similarity.search import kernels

    half = tests.half
    moved = torch.from_numpy(np.ascontiguousarray(rows)).to(half.device) - tests.shift
    rounded, lengths, rests = _round(moved, half)
    # Each further float32 rounding, including that of the differences, counts like a product.
    share = (rows.shape[1] + 4) * SUM_ERROR + torch.finfo(half.dtype()).eps / 2
    error = rests * tests.longest + lengths * tests.largest_rest
    error = (error + share * lengths * tests.longest_rounded) * (1 + 1e-6) + SLACK
    known = np.empty(len(rows))
    kernels.products_with(rows, tests.center, known)
    return rounded, known, error


# ---------------------------------------------------------------- the engine


class Fp16:
    """The engine of torch's products in 16 bits."""

    wide_block_rows = ROWS

    def __init__(self, rows: F32, first: int, half: Half, sample: F32) -> None:
        """Round test rows on the device; ``sample`` is a sample of training rows."""
        self.precision: str = half.precision
        self.device = half.kind
        self.rows = rows
        self.first = first
        self.block_rows = max(1, CANDIDATES_HELD // COLUMNS[half.kind])
        self._half = half
        with convert_memory_errors(half):
            self._tests = round_tests(rows, sample, half)

    def emit(
        self, rows: F32, usable: Flags, reduction: Reduction, tally: Tally
    ) -> Iterator[Candidates]:
        """Yield the pairs that 16 bits cannot rule out.

        Raises:
            RunError: a product violates its error bound, or memory is full.
        """
        thresholds = reduction.thresholds
        if thresholds is not None:
            thresholds = np.clip(thresholds, -4, 4)
        found = find_candidates(self._tests, rows, usable, thresholds)
        while True:
            with convert_memory_errors(self._half):
                tile = next(found, None)
            if tile is None:
                return
            tally.bound = max(tally.bound, float(tile.error.max(where=usable, initial=0.0)))
            tally.counts[CANDIDATES] += len(tile.row)
            before = int(tally.counts[RECHECKED])
            yield tile
            if broken := int(tally.counts[BROKEN]):
                rechecked = int(tally.counts[RECHECKED]) - before
                raise RunError(
                    f"{broken} of {rechecked} products that torch made in {self.precision} on "
                    f"{self._half.device} are farther off than their rounding allows: it does not add "
                    "up in float32 there. Search with precision='auto' and device='cpu'."
                )


@contextlib.contextmanager
def convert_memory_errors(half: Half) -> Iterator[None]:
    """Convert out-of-memory errors of the device to a RunError with advice."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise RunError(
            f"The memory of {half.device} is full. Allow less memory (memory='1GB'), so that fewer test "
            "rows lie there at a time, or use fewer workers."
        ) from error


# ---------------------------------------------------------------- torch's settings


def _list_full_sums() -> list[Setting]:
    import torch

    flags = torch.backends.cuda.matmul
    return [
        Setting(flags, "allow_fp16_reduced_precision_reduction", False),
        Setting(flags, "allow_bf16_reduced_precision_reduction", False),
        Setting(flags, "allow_fp16_accumulation", False),
    ]


FULL_SUMS = HeldSettings(_list_full_sums)
"""Context in which torch sums 16-bit products in float32."""
