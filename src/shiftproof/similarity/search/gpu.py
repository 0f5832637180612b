"""The search on a GPU: 16-bit products exclude most pairs, and float64 products on the GPU most
others.

The bound is that of :mod:`~shiftproof.similarity.search.fp16`. On a GPU a matrix product costs
little more than writing it, so it is written in 16 bits and read once, for the maxima of groups of
test rows; ``<n, q'>`` is included as two extra columns of each row. Products of groups that may
matter are checked individually, their pairs multiplied in float64, and only pairs that float64
cannot distinguish are sent to the CPU: about one per row.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shiftproof.errors import RunError
from shiftproof.similarity.search.certificate import CANDIDATES, Tally
from shiftproof.similarity.search.engine import Reduction
from shiftproof.similarity.search.fp16 import (
    FULL_SUMS,
    SLACK,
    SUM_ERROR,
    Half,
    HalfTests,
    convert_memory_errors,
    round_rows,
    round_tests,
)
from shiftproof.similarity.search.tiles import Candidates
from shiftproof.similarity.sources import NORM_TOLERANCE
from shiftproof.types import F32, Flags

if TYPE_CHECKING:
    import torch

GROUP = 64
"""Test rows of a group, whose largest product is checked first."""

COLUMNS = 1 << 15
"""Test rows per matrix product."""

PRODUCTS = 1 << 28
"""Products per matrix product: 512 MB."""

PAIRS = 1 << 16
"""Pairs that are multiplied in float64 at a time: 1 GB at a width of 1,024."""

BLOCK_ROWS = 1 << 14
"""Training rows per block: fewer leave a GPU idle between products."""

GPU_THREADS = 4
"""Maximum number of threads with products on the device: enough to keep it busy within its
memory.
"""

EXTRA_COLUMNS = 8
"""Columns added to each row: two for ``<n, q'>``, and padding for tensor cores."""


class Gpu:
    """The engine of 16-bit products on a GPU; runs on a processor too, for its tests."""

    wide_block_rows = BLOCK_ROWS

    def __init__(self, rows: F32, first: int, half: Half, sample: F32) -> None:
        """Copy test rows to the device; ``sample`` is a sample of training rows."""
        self.precision: str = half.precision
        self.device = half.kind
        self.rows = rows
        self.first = first
        self.block_rows = max(1, PRODUCTS // 16 // COLUMNS)
        self._half = half
        self._semaphore = threading.Semaphore(GPU_THREADS)
        with convert_memory_errors(half):
            self._tests = copy_tests(rows, sample, half)
        # Error of the sum on the CPU plus that on the device: N. Higham, Accuracy and Stability,
        # 3.1.
        self._rest = 2 * rows.shape[1] * 2.0**-53 * (1 + NORM_TOLERANCE) ** 2 * 1.01 + 1e-15

    def emit(
        self, rows: F32, usable: Flags, reduction: Reduction, tally: Tally
    ) -> Iterator[Candidates]:
        """Yield the pairs that float64 on the device cannot rule out.

        Raises:
            RunError: a product violates its error bound, or memory is full.
        """
        error = np.full(len(rows), self._rest)
        step = max(1, PRODUCTS // min(COLUMNS, len(self.rows) + GROUP))
        for start in range(0, len(rows), step):
            here = slice(start, start + step)
            with self._semaphore:
                found = self._find(rows[here], usable[here], reduction, tally)
                while True:
                    with convert_memory_errors(self._half):
                        pairs = next(found, None)
                    if pairs is None:
                        break
                    row, test, value = (one.cpu().numpy() for one in pairs)
                    yield Candidates(row + start, test, value, error)

    def _find(
        self, rows: F32, usable: Flags, reduction: Reduction, tally: Tally
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield rows, test rows and similarities in float64 of pairs that may matter."""
        import torch

        tests = self._tests
        block = copy_rows(rows, usable, tests)
        if not usable.any():
            return
        tally.bound = max(tally.bound, float(block.error[block.usable].amax()))
        limits = None
        if reduction.thresholds is not None:
            every = np.full(len(self.rows), 0.0)
            every[:] = np.clip(reduction.thresholds, -4, 4)
            limits = torch.from_numpy(every).to(self._half.device)
        best = torch.full_like(block.error, -torch.inf)
        floor = best.clone()
        for start in range(0, len(self.rows), COLUMNS):
            for row, test, estimate in _list_pairs(block, tests, start, limits, floor):
                tally.counts[CANDIDATES] += len(row)
                value = (block.exact[row].double() * tests.exact[test].double()).sum(1)
                self._check(block, row, estimate, value)
                if limits is None:
                    best.scatter_reduce_(0, row, value, "amax")
                    near = value >= best[row] - self._rest
                else:
                    near = value >= limits[test] - self._rest
                yield row[near], test[near], value[near]

    def _check(
        self, block: _Block, row: torch.Tensor, estimate: torch.Tensor, value: torch.Tensor
    ) -> None:
        broken = int(((estimate - value).abs() > block.error[row]).sum())
        if broken:
            raise RunError(
                f"{broken} of {len(row)} products that torch made in {self.precision} on "
                f"{self._half.device} are farther off than their rounding allows: it does not add "
                "up in float32 there. Search with precision='auto' and device='cpu'."
            )


# ---------------------------------------------------------------- the two sides, on the device


@dataclass(frozen=True, eq=False)
class _Tests:
    """The test side.

    Attributes:
        half: result of :func:`~shiftproof.similarity.search.fp16.round_tests`.
        wide: ``(padded m, width + EXTRA_COLUMNS)`` of 16 bits, scaled; the last row is repeated to
            fill the last group.
        exact: ``(m, width)`` float32.
        center: ``(width,)`` float64, m.
        largest_known: the largest absolute value of ``<n, q'>``.
        longest_wide: the largest length of a row of ``wide``, scaled back.
        known_rest: the largest error of ``<n, q'>`` as two 16-bit numbers.
    """

    half: HalfTests
    wide: torch.Tensor
    exact: torch.Tensor
    center: torch.Tensor
    largest_known: float
    longest_wide: float
    known_rest: float


@dataclass(frozen=True, eq=False)
class _Block:
    """Some training rows.

    Attributes:
        wide: ``(n, width + EXTRA_COLUMNS)`` of 16 bits, scaled.
        exact: ``(n, width)`` float32.
        known: ``(n,)`` float64, ``<x, m>``.
        error: ``(n,)`` float64, error bounds of the products.
        usable: ``(n,)`` bool.
    """

    wide: torch.Tensor
    exact: torch.Tensor
    known: torch.Tensor
    error: torch.Tensor
    usable: torch.Tensor


def copy_tests(rows: F32, sample: F32, half: Half) -> _Tests:
    """Copy test rows ``(m, width)`` to the device; ``sample`` are some training rows."""
    import torch

    rounded = round_tests(rows, sample, half)
    known = torch.from_numpy(rounded.known).to(half.device) * half.scale
    high = known.to(half.dtype())
    low = (known - high.double()).to(half.dtype())
    extra = torch.zeros((len(rows), EXTRA_COLUMNS), dtype=half.dtype(), device=half.device)
    extra[:, 0], extra[:, 1] = high, low
    wide = torch.cat([rounded.rows, extra], dim=1)
    padding = wide[-1:].expand(-len(rows) % GROUP, -1)
    rest = (known - high.double() - low.double()).abs().amax() / half.scale
    largest = float(np.abs(rounded.known).max())
    return _Tests(
        half=rounded,
        wide=torch.cat([wide, padding]),
        exact=torch.from_numpy(np.ascontiguousarray(rows)).to(half.device),
        center=torch.from_numpy(rounded.center.astype(np.float64)).to(half.device),
        largest_known=largest,
        longest_wide=float(np.hypot(rounded.longest_rounded, largest * 1.01)),
        known_rest=float(rest) + torch.finfo(half.dtype()).tiny / half.scale,
    )


def copy_rows(rows: F32, usable: Flags, tests: _Tests) -> _Block:
    """Copy training rows ``(n, width)`` to the device."""
    import torch

    half = tests.half.half
    exact = _copy_to_device(rows, half)
    rounded, lengths, rests = round_rows(exact - tests.half.shift, half)
    extra = torch.zeros((len(rows), EXTRA_COLUMNS), dtype=half.dtype(), device=half.device)
    extra[:, :2] = half.scale
    # Each further float32 rounding, including that of the differences, counts like a product.
    sums = (rows.shape[1] + EXTRA_COLUMNS + 4) * SUM_ERROR
    error = rests * tests.half.longest + lengths * tests.half.largest_rest
    error = error + sums * (lengths.square() + 2).sqrt() * tests.longest_wide
    written = lengths * tests.half.longest_rounded + tests.largest_known * 1.01
    error = error + written * (torch.finfo(half.dtype()).eps / 2 * 1.01) + tests.known_rest
    return _Block(
        wide=torch.cat([rounded, extra], dim=1),
        exact=exact,
        known=exact.double() @ tests.center,
        error=error * (1 + 1e-6) + SLACK,
        usable=_copy_to_device(usable, half),
    )


def _copy_to_device(values: F32 | Flags, half: Half) -> torch.Tensor:
    """Copy an array to the device asynchronously, through pinned memory."""
    import torch

    dtype = torch.bool if values.dtype == np.bool_ else torch.float32
    held = torch.empty(values.shape, dtype=dtype, pin_memory=half.device.startswith("cuda"))
    held.numpy()[...] = values
    return held.to(half.device, non_blocking=True)


# ---------------------------------------------------------------- which pairs may matter


def _list_pairs(
    block: _Block,
    tests: _Tests,
    start: int,
    limits: torch.Tensor | None,
    floor: torch.Tensor,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield rows, test rows and estimates of pairs with the test rows from ``start`` on.

    ``floor`` ``(n,)`` is raised to a lower bound of each row's largest product.
    """
    import torch

    half, count = tests.half.half, len(tests.exact)
    columns = tests.wide[start : start + COLUMNS]
    with FULL_SUMS:
        products = torch.mm(block.wide, columns.T)
    grouped = products.view(len(products), -1, GROUP)
    scale = half.scale**2
    maxima = grouped.amax(dim=2)
    if limits is None:
        top = maxima.amax(dim=1).double() / scale
        torch.maximum(floor, top - 2 * block.error, out=floor)
        lowest = floor[:, None].expand(maxima.shape)
    else:
        lowest = (
            _reduce_limits(limits, start, maxima.shape[1]) - (block.known + block.error)[:, None]
        )
    # The slack exceeds the rounding to float32.
    lowest = torch.where(block.usable[:, None], (lowest - SLACK) * scale, torch.inf).float()
    near = (maxima.float() >= lowest).nonzero()
    for some in torch.split(near, max(1, PAIRS // GROUP)):
        row, group = some.unbind(1)
        values = grouped[row, group].double() / scale
        test = group[:, None] * GROUP + start + torch.arange(GROUP, device=values.device)
        known, error = block.known[row, None], block.error[row, None]
        if limits is None:
            matters = values >= floor[row, None] - SLACK
        else:
            matters = values + known + error >= limits[test.clamp(max=count - 1)]
        place, member = (matters & (test < count)).nonzero().unbind(1)
        estimate = (values + known)[place, member]
        yield row[place], test[place, member], estimate


def _reduce_limits(limits: torch.Tensor, start: int, groups: int) -> torch.Tensor:
    """Return the lowest limit of each group ``(1, groups)``, ignoring the padding of the last one."""
    import torch

    some = limits[start : start + groups * GROUP]
    padding = torch.full(
        (groups * GROUP - len(some),), torch.inf, dtype=some.dtype, device=some.device
    )
    return torch.cat([some, padding]).view(1, groups, GROUP).amin(dim=2)
