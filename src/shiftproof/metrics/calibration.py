"""Whether a confidence of 80 % is right in 80 of 100 cases."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.errors import InputError

BINS = 15
"""Bins of equal width over 0..1, as in Guo et al. 2017."""


def bin_index(confidence: ArrayLike, bins: int = BINS) -> NDArray[np.intp]:
    """Return ``(N,)`` the bin of each confidence: bin m is ``(m / bins, (m + 1) / bins]``.

    0 itself falls into the first bin.
    """
    values = np.asarray(confidence, dtype=np.float64)
    return np.clip(np.ceil(values * bins).astype(np.intp) - 1, 0, bins - 1)


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = BINS
) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3), in 0..1.

    The sum over bins of ``|accuracy - mean confidence|``, weighted by the share of samples; which
    is the sum of ``|sum of (confidence - correct)|`` over the bins, divided by the samples.

    Args:
        confidence: ``(N,)`` in 0..1.
        correct: ``(N,)`` bool.
        bins: bins of equal width, closed on the right.

    Raises:
        InputError: no samples, shapes that differ, or a confidence outside 0..1.

    >>> expected_calibration_error([0.8, 0.8], [True, False])
    0.30000000000000004
    """
    values = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(correct, dtype=bool)
    if values.ndim != 1 or values.shape != right.shape or len(values) == 0:
        raise InputError(
            f"Expected one confidence and one answer per sample, got {values.shape} and "
            f"{right.shape}."
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("Expected confidences in 0..1.")
    surplus = np.bincount(bin_index(values, bins), weights=values - right, minlength=bins)
    return float(np.abs(surplus).sum() / len(values))
