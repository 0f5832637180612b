"""Mean and variance of the columns of a table in one pass over it, compiled.

``statistics.py`` imports this inside its function: numba takes half a second to import.
"""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.types import F32, F64

ROWS = 64
"""Rows that are summed in float32 before they go into the float64 sums."""


@compiled
def _moments(table: F32, start: F32, sums: F64, squares: F64) -> None:
    rows, columns = table.shape
    part = np.empty(columns, np.float32)
    part_squared = np.empty(columns, np.float32)
    for first in range(0, rows, ROWS):
        part[:] = 0
        part_squared[:] = 0
        for row in range(first, min(first + ROWS, rows)):
            for column in range(columns):
                step = table[row, column] - start[column]
                part[column] += step
                part_squared[column] += step * step
        for column in range(columns):
            sums[column] += part[column]
            squares[column] += part_squared[column]


def column_moments(table: F32) -> tuple[F64, F64]:
    """Return mean and biased variance of each column of ``(M, C)`` float32, M above 0, as float64.

    The values are taken relative to the first row, so that a mean far from 0 costs no digits.
    """
    columns = table.shape[1]
    start = np.array(table[0])
    sums, squares = np.zeros(columns), np.zeros(columns)
    _moments(table, start, sums, squares)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is not finite here
        step = sums / len(table)
        return start + step, np.maximum(squares / len(table) - step * step, 0)
