"""The monotone envelope of many precision curves, compiled.

``curves.py`` imports this inside its function, as numba takes half a second to import.
"""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.types import F64, I64


@compiled
def compute_envelope(start: I64, hits: I64, precision: F64, needed: I64) -> F64:
    """Return ``(C, R)`` the interpolated precision of each curve: its maximum at or beyond each
    recall.

    Args:
        start: ``(C + 1,)`` start of each curve's events.
        hits: ``(E + 1,)`` cumulative true positives before each event and after the last, over all
            curves.
        precision: ``(E,)`` after each event.
        needed: ``(K, R)``, ascending along R; curve c uses row ``c % K``. If a curve never reaches
            that number, or has no event, the precision is 0.
    """
    rows, columns = needed.shape
    envelope = np.zeros((len(start) - 1, columns), np.float64)
    for curve in range(len(start) - 1):
        first, event, best = start[curve], start[curve + 1], 0.0
        if first == event:
            continue
        last = hits[event]
        for column in range(columns - 1, -1, -1):
            goal = hits[first] + needed[curve % rows, column]
            if last < goal:
                continue
            while event > first and hits[event] >= goal:
                event -= 1
                best = max(best, precision[event])
            envelope[curve, column] = best
    return envelope
