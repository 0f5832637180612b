"""Bootstrap replicates of metrics, and their conversion to intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.metrics.intervals import Interval, percentile_interval
from shiftproof.types import F64

Replicates: TypeAlias = NDArray[np.float64]
"""``(1 + R,)``: the observed value, then that of each resample."""

Key: TypeAlias = tuple[Any, ...]
"""Identifies a value: for classifiers ``("cell", Cell, metric)``, ``("corruption", name, metric)``
or ``("summary", metric)``, for detectors the same without a metric if AP is the only one."""


def difference(
    those: Mapping[Key, Replicates], these: Mapping[Key, Replicates]
) -> dict[Key, Replicates]:
    """Return ``those`` minus ``these`` by resample, for all keys that both have."""
    return {key: those[key] - these[key] for key in those if key in these}


def divide(above: F64, below: F64) -> F64:
    """Divide, NaN where there is nothing to divide by: a resample without a readable image."""
    result = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result


def round_figure(value: float) -> float:
    """Round to ten digits, so that files do not differ by rounding errors."""
    return float(f"{value:.10g}")


def make_interval(values: Replicates | None) -> Interval | None:
    """Return a rounded value with its interval; None if it is undefined."""
    if values is None or not np.isfinite(values[0]):
        return None
    if len(values) == 1:
        return Interval(round_figure(values[0]))
    found = percentile_interval(values)
    if found is None:
        return None
    return Interval(round_figure(found.value), round_figure(found.lower), round_figure(found.upper))


def group_of(corruption: str) -> str:
    """Return the group of a corruption; "other" for those outside the benchmark."""
    from shiftproof.corruptions import GROUPS  # with all that computes them

    return next((group for group, members in GROUPS.items() if corruption in members), "other")
