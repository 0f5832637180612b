"""Lists of the best so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.compiled import compiled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@compiled
def enter(values: F64, indices: I64, value: float, index: int) -> None:
    """Put an entry into a list, best first, equal values by index; the last one drops out."""
    place = values.shape[0]
    while place > 0 and (
        value > values[place - 1] or (value == values[place - 1] and index < indices[place - 1])
    ):
        place -= 1
    if place == values.shape[0]:
        return
    for i in range(values.shape[0] - 1, place, -1):
        values[i], indices[i] = values[i - 1], indices[i - 1]
    values[place], indices[place] = value, index
