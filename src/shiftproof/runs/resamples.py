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


def subtract(
    replicates: Mapping[Key, Replicates], subtrahend: Mapping[Key, Replicates]
) -> dict[Key, Replicates]:
    """Return the differences by resample, for all keys that both have."""
    return {key: replicates[key] - subtrahend[key] for key in replicates if key in subtrahend}


def divide(numerator: F64, denominator: F64) -> F64:
    """Divide; NaN where the denominator is 0: a resample without a readable image."""
    result = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
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
    return None if found is None else round_interval(found)


def round_interval(interval: Interval) -> Interval:
    """Round a value and its bounds, if it has any."""
    bounds = () if interval.bare else (interval.lower, interval.upper)
    return Interval(round_figure(interval.value), *map(round_figure, bounds))


def find_group(corruption: str) -> str:
    """Return the group of a corruption; "other" for those outside the benchmark."""
    from shiftproof.corruptions import GROUPS  # imports all corruptions

    return next((group for group, members in GROUPS.items() if corruption in members), "other")
