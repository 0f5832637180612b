"""Products in float32, by loops of our own: each runs on the thread that calls it alone.

A library of linear algebra would start threads of its own in each of ours, unless the whole process
were told not to; it may round to fewer bits where somebody has set it so, and the bound with it would
be none; and its sums depend on how many rows are multiplied together, and with them what is counted in
the parts of a search, which are to be equal byte for byte whoever makes them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from shiftproof.similarity.search.certificate import Tally
from shiftproof.similarity.search.engine import Reduction
from shiftproof.similarity.search.tiles import EVERY, ROWS, ProductTile
from shiftproof.similarity.sources import NORM_TOLERANCE
from shiftproof.types import F32, Flags

COLUMNS = 1008
"""Test rows whose products are made at a time: they stay in the cache until they are read."""


class Float32:
    """The engine of float32 products.

    Attributes:
        precision: "fp32".
        device: "cpu".
        rows: ``(m, width)`` float32, the test rows.
        first: the first one's place in the test set.
        block_rows: training rows that may be compared at a time: any number.
        stretch: training rows of a block where few pairs are candidates.
    """

    precision = "fp32"
    device = "cpu"
    block_rows = EVERY
    stretch = ROWS

    def __init__(self, rows: F32, first: int) -> None:
        """Take test rows; they are laid out when they are first compared."""
        self.rows = rows
        self.first = first
        width = rows.shape[1]
        # N. Higham, Accuracy and Stability of Numerical Algorithms, 3.1: any order of adding up.
        rounding = width * 2.0**-24 / (1 - width * 2.0**-24)
        self._slack = rounding * (1 + NORM_TOLERANCE) ** 2 + 1e-12
        self._panels: F32 | None = None
        self._lock = threading.Lock()

    def emit(
        self, rows: F32, usable: Flags, reduction: Reduction, tally: Tally
    ) -> Iterator[ProductTile]:
        """Yield the products with some test rows after the other."""
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
    """Return the float32 products ``(n, 24 p)`` of rows and panels, on this thread alone."""
    from shiftproof.similarity.search import kernels

    count = len(rows)
    left = -count % kernels.FLOAT_ROWS
    if left:
        rows = np.concatenate([rows, np.zeros((left, rows.shape[1]), dtype=np.float32)])
    out = np.empty((len(rows), len(panels) * kernels.FLOAT_COLUMNS), dtype=np.float32)
    kernels.multiply_floats(np.ascontiguousarray(rows), panels, out)
    return out[:count]
