"""Float32 products by compiled loops, each on the calling thread only.

A linear algebra library would start its own threads in each of ours, unless disabled for the whole
process; it may be configured to lower precision, which invalidates the bound; and its sums depend
on the number of rows in a product, so that the counts of a part would not be reproducible byte for
byte.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from shiftproof.similarity.search.certificate import Tally
from shiftproof.similarity.search.engine import Reduction
from shiftproof.similarity.search.tiles import ALL_TESTS, ROWS, ProductTile
from shiftproof.similarity.sources import NORM_TOLERANCE
from shiftproof.types import F32, Flags

COLUMNS = 1008
"""Test rows per product, so that products stay in the cache until they are read."""


class Float32:
    """The engine of float32 products."""

    precision = "fp32"
    device = "cpu"
    block_rows = ALL_TESTS
    wide_block_rows = ROWS

    def __init__(self, rows: F32, first: int) -> None:
        """Create the engine of some test rows; their layout is computed at first use."""
        self.rows = rows
        self.first = first
        width = rows.shape[1]
        # N. Higham, Accuracy and Stability of Numerical Algorithms, 3.1: any order of summation.
        rounding = width * 2.0**-24 / (1 - width * 2.0**-24)
        self._slack = rounding * (1 + NORM_TOLERANCE) ** 2 + 1e-12
        self._panels: F32 | None = None
        self._lock = threading.Lock()

    def emit(
        self, rows: F32, usable: Flags, reduction: Reduction, tally: Tally
    ) -> Iterator[ProductTile]:
        """Yield the products, a tile of test rows at a time."""
        from shiftproof.similarity.search import kernels

        places = np.flatnonzero(usable)
        if not len(places):
            return
        some = rows[places]
        tally.bound = max(tally.bound, self._slack)
        with self._lock:
            if self._panels is None:
                self._panels = pack_panels(self.rows)
            panels = self._panels
        step = COLUMNS // kernels.FLOAT_COLUMNS
        for panel in range(0, len(panels), step):
            first = panel * kernels.FLOAT_COLUMNS
            yield ProductTile(
                scores=multiply_floats(some, panels[panel : panel + step]),
                places=places,
                first=first,
                columns=min(step * kernels.FLOAT_COLUMNS, len(self.rows) - first),
                slack=self._slack,
                largest=reduction.thresholds is None,
            )


def pack_panels(columns: F32) -> F32:
    """Return columns, given as rows ``(m, width)``, in the panels of :func:`multiply_floats`."""
    from shiftproof.similarity.search import kernels

    count, width = columns.shape
    panels = np.empty(
        (-(-count // kernels.FLOAT_COLUMNS), width, kernels.FLOAT_COLUMNS), dtype=np.float32
    )
    kernels.pack_panels(columns, panels)
    return panels


def multiply_floats(rows: F32, panels: F32) -> F32:
    """Return the float32 products ``(n, 24 p)`` of rows and panels, computed on this thread."""
    from shiftproof.similarity.search import kernels

    count = len(rows)
    left = -count % kernels.FLOAT_ROWS
    if left:
        rows = np.concatenate([rows, np.zeros((left, rows.shape[1]), dtype=np.float32)])
    out = np.empty((len(rows), len(panels) * kernels.FLOAT_COLUMNS), dtype=np.float32)
    kernels.multiply_floats(np.ascontiguousarray(rows), panels, out)
    return out[:count]
