"""The prior strength N of the source's statistics: its forms and validation."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from shiftproof.errors import InputError

Prior: TypeAlias = float | Literal["auto", "measured", "layerwise"]
"""N, the strength of the source statistics in images, or how it is measured."""

MEASURED: tuple[Prior, ...] = ("auto", "measured")
"""The priors with a margin. ``"auto"`` also looks at the source's answers, where there are some."""

MARGIN = 3.0
"""How many times what chance alone gives the distance from the source must be, for ``"auto"`` and
``"measured"``, in large batches."""

FEW = 6.0
"""How much more is asked of few images: ``MARGIN (1 + FEW / (n - 1))``. What chance gives is itself
measured on n images, with n - 1 degrees of freedom, and of few it is often far too small. Both were
chosen on clean images (``benchmarks/batch_sizes.py``)."""


def margin_of(images: int) -> float:
    """Return how many times what chance gives the distance must be in a batch of so many images."""
    return MARGIN * (1 + FEW / max(images - 1, 1))


def check_prior(prior: Prior) -> Prior:
    """Return a prior strength that can be used, or raise an InputError."""
    if prior == "layerwise" or prior in MEASURED:
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
    """Return a prior strength that is a number, for methods that measure none.

    Raises:
        InputError: it is none, or below 0.
    """
    checked = check_prior(prior)
    if isinstance(checked, str):
        raise InputError(f"prior: expected a number, 0 or more, got {prior!r}.")
    return checked
