"""A chunk of test rows that torch compares with training rows in 16 bits, exactly in the end."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import RunError
from shiftproof.similarity.halfprecision import (
    COLUMNS,
    Candidates,
    Half,
    HalfTests,
    candidates,
    round_tests,
)
from shiftproof.similarity.search import PAIRS, Certificate

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


class HalfTestRows:
    """What :class:`~shiftproof.similarity.search.TestRows` is, with torch's products in 16 bits.

    Attributes:
        rows: ``(m, width)`` float32.
        first: the first row's place in the test set.
    """

    def __init__(self, rows: F32, first: int, half: Half, sample: F32) -> None:
        """Bring test rows to the device; ``sample`` are some training rows, to see how they lie."""
        self.rows = rows
        self.first = first
        self._half = half
        with _within_memory(half):
            self._tests: HalfTests = round_tests(rows, sample, half)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._bound = 0.0
        self._pairs = self._candidates = self._rechecked = 0

    def again(self) -> HalfTestRows:
        """Return the same test rows, as ready as they are, of which nothing has been compared yet."""
        other = copy.copy(self)
        other._begin()
        return other

    def certificate(self, skipped: int = 0) -> Certificate:
        """Return what has been done so far."""
        return Certificate(
            precision=self._half.precision,
            bound=self._bound,
            dimensions=self.rows.shape[1],
            products=self._pairs,
            groups=0,
            candidates=self._candidates,
            rechecked=self._rechecked,
            set_aside=0,
            skipped=skipped,
            device=self._half.kind,
        )

    def nearest(self, rows: F32, usable: Flags) -> tuple[F64, I64]:
        """Return each row's largest similarity and the first test row that has it.

        Rows that are not usable get minus infinity and -1.
        """
        from shiftproof.similarity import kernels

        best = np.full(len(rows), -np.inf)
        index = np.full(len(rows), -1, dtype=np.int64)
        for some, counts in self._some(rows, usable, 0.0, largest=True):
            kernels.nearest_of_candidates(
                rows, self.rows, some.row, some.test, some.estimate, some.error, best, index, counts
            )
        index[index >= 0] += self.first
        return best, index

    def above(self, rows: F32, usable: Flags, thresholds: F64) -> Flags:
        """Tell which rows have a similarity larger than the threshold of the test row."""
        from shiftproof.similarity import kernels

        limits = np.clip(thresholds, -4, 4)
        above = np.zeros(len(rows), dtype=bool)
        for some, counts in self._some(rows, usable, limits):
            kernels.above_of_candidates(
                rows, self.rows, some.row, some.test, some.estimate, some.error, limits, above,
                counts,
            )  # fmt: skip
        return above

    def enter(self, rows: F32, usable: Flags, first_row: int, values: F64, indices: I64) -> None:
        """Enter rows into the lists of the test rows, best first, ``(m, k)``; in place."""
        from shiftproof.similarity import kernels

        for some, counts in self._some(rows, usable, np.clip(values[:, -1], -4, 4)):
            kernels.top_of_candidates(
                rows, self.rows, some.row, some.test, some.estimate, some.error, first_row, values,
                indices, counts,
            )  # fmt: skip

    def pairs(
        self, rows: F32, usable: Flags, places: I64, threshold: float
    ) -> Iterator[tuple[I64, F64]]:
        """Yield the pairs of a row and an earlier row of the same source above the threshold.

        As :meth:`shiftproof.similarity.search.TestRows.pairs`.
        """
        from shiftproof.similarity import kernels

        step = max(1, PAIRS // COLUMNS[self._half.kind])
        for start in range(0, len(rows), step):
            here = slice(start, start + step)
            for some, counts in self._some(rows[here], usable[here], threshold):
                pairs, values = np.empty((len(some.row), 2), np.int64), np.empty(len(some.row))
                found = kernels.pairs_of_candidates(
                    rows[here], self.rows, some.row, some.test, some.estimate, some.error,
                    threshold, places[here], self.first, pairs, values, counts,
                )  # fmt: skip
                yield pairs[:found], values[:found]

    def _some(
        self, rows: F32, usable: Flags, thresholds: F64 | float, *, largest: bool = False
    ) -> Iterator[tuple[Candidates, I64]]:
        """Yield candidates, each with what the caller is to count: pairs computed, bounds broken."""
        found = candidates(self._tests, rows, usable, thresholds, largest=largest)
        while True:
            with _within_memory(self._half):
                some = next(found, None)
            if some is None:
                break
            counts = np.zeros(2, dtype=np.int64)
            yield some, counts
            rechecked, broken = counts.tolist()
            if broken:
                raise RunError(
                    f"{broken} of {rechecked} products that torch made in {self._half.precision} on "
                    f"{self._half.device} are farther off than their rounding allows: it does not add "
                    "up in float32 there. Search with precision='auto' and device='cpu'."
                )
            with self._lock:
                self._bound = max(self._bound, float(some.error.max(where=usable, initial=0.0)))
                self._candidates += len(some.row)
                self._rechecked += rechecked
        with self._lock:
            self._pairs += int(usable.sum()) * len(self.rows)


@contextlib.contextmanager
def _within_memory(half: Half) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise RunError(
            f"The memory of {half.device} is full. Allow less memory (memory='1GB'), so that fewer test "
            "rows lie there at a time, or use fewer workers."
        ) from error
