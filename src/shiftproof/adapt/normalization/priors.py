"""The prior strength N of the source's statistics: its forms and validation."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from shiftproof.errors import InputError

Prior: TypeAlias = float | Literal["auto", "measured", "layerwise"]
"""N, the strength of the source statistics in images, or how it is measured."""

MARGIN_PRIORS: tuple[Prior, ...] = ("auto", "measured")
"""The priors with a margin. ``"auto"`` also checks a classifier's source predictions."""

MARGIN = 3.0
"""Minimum ratio of the distance from the source to its expected sampling error, for ``"auto"`` and
``"measured"``, in large batches.
"""

SMALL_BATCH_FACTOR = 6.0
"""Increase of the ratio for small batches: ``MARGIN (1 + SMALL_BATCH_FACTOR / (n - 1))``. The
sampling error is itself estimated from n images, with n - 1 degrees of freedom, and often far too
small for few. Both were chosen on clean images (``benchmarks/batch_sizes.py``).
"""


def compute_margin(images: int) -> float:
    """Return the minimum ratio of distance to sampling error for a batch of ``images`` images."""
    return MARGIN * (1 + SMALL_BATCH_FACTOR / max(images - 1, 1))


def check_prior(prior: Prior) -> Prior:
    """Return a valid prior strength, or raise an InputError."""
    if prior == "layerwise" or prior in MARGIN_PRIORS:
        return prior
    if isinstance(prior, bool) or not isinstance(prior, (int, float)):
        raise InputError(
            "prior: expected a number, 0 or more, or 'auto', 'measured' or 'layerwise', "
            f"got {prior!r}."
        )
    if math.isnan(prior) or prior < 0:
        raise InputError(f"prior: expected 0 or more (float('inf') does not adapt), got {prior!r}.")
    return prior


def check_numeric_prior(prior: Prior) -> float:
    """Return a numeric prior strength, for methods that do not measure it.

    Raises:
        InputError: it is not a number, or below 0.
    """
    checked = check_prior(prior)
    if isinstance(checked, str):
        raise InputError(f"prior: expected a number, 0 or more, got {prior!r}.")
    return checked
