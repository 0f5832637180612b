"""Stability of predictions over sequences of frames (Hendrycks & Dietterich 2019, section 4.2).

Results are per sequence; the caller averages over sequences. A class of -1 is no prediction, such as
one from logits that are NaN; it differs from everything, also from another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.errors import InputError
from shiftproof.metrics.estimation import find_differences
from shiftproof.types import F64

TOP = 5
"""Number of top classes that the distance compares."""


def _pair_frames(frames: int, is_noise: bool, step: int) -> tuple[list[int], list[int]]:
    """Return the pairs of compared frames: each with the one ``step`` before, or the first."""
    if step < 1 or frames <= step:
        raise InputError(f"Expected more than {step} frames in steps of 1 or more, got {frames}.")
    if is_noise:
        return [0] * (frames - 1), list(range(1, frames))
    return list(range(frames - step)), list(range(step, frames))


def flips(predictions: ArrayLike, *, is_noise: bool = False, step: int = 1) -> F64:
    """Return ``(N,)`` the share of frames at which the prediction changes, in 0..1.

    The mean over the sequences is the flip probability FP of the paper.

    Args:
        predictions: ``(N, F)``, the predicted class of each frame, -1 without a prediction.
        is_noise: compare every frame with the first, as for noise, which has no order; otherwise
            with the frame before.
        step: distance of compared frames: the difficulty, if frames are ordered.

    Raises:
        InputError: another shape, or too few frames.

    >>> flips([[1, 1, 2, 1]])
    array([0.66666667])
    >>> flips([[1, 1, 2, 1]], is_noise=True)
    array([0.33333333])
    >>> flips([[1, -1, -1, 1]])
    array([1.])
    """
    table = np.asarray(predictions)
    if table.ndim != 2:
        raise InputError(f"Expected predictions (N, F), got shape {table.shape}.")
    before, after = _pair_frames(table.shape[1], is_noise, step)
    return np.asarray(find_differences(table[:, before], table[:, after]).mean(axis=1))


def top5_distances(rankings: ArrayLike, *, is_noise: bool = False, step: int = 1) -> F64:
    """Return ``(N,)`` the mean top-5 distance along each sequence, 0 to 15.

    For two frames: the sum over the first frame's five classes of the ranks that a class has moved,
    where all ranks beyond the fifth count as the sixth. The mean over the sequences is the
    unnormalized top-5 distance uT5D of the paper.

    Args:
        rankings: ``(N, F, 5)``, top classes of each frame, the most likely first; -1 without a
            prediction, whose distance from any frame is 15.
        is_noise: as for ``flips``.
        step: as for ``flips``.

    Raises:
        InputError: another shape, or too few frames.

    >>> swapped = [[[0, 1, 2, 3, 4], [1, 0, 2, 3, 4]]]
    >>> top5_distances(swapped)
    array([2.])
    """
    table = np.asarray(rankings)
    if table.ndim != 3 or table.shape[2] != TOP:
        raise InputError(f"Expected rankings (N, F, {TOP}), got shape {table.shape}.")
    before, after = _pair_frames(table.shape[1], is_noise, step)
    same = (table[:, before, :, None] == table[:, after, None, :]) & (
        table[:, before, :, None] >= 0
    )
    places = np.where(same.any(axis=3), same.argmax(axis=3), TOP)
    return np.asarray(np.abs(places - np.arange(TOP)).sum(axis=2).mean(axis=1))


def flip_rate(probability: float, reference: float) -> float:
    """Return a flip probability, or distance, divided by that of a reference on the same sequences.

    In the paper the reference is AlexNet.

    Raises:
        InputError: a reference that never flips.
    """
    if reference <= 0:
        raise InputError(f"Expected a reference above 0, got {reference!r}.")
    return probability / reference


def mean_flip_rate(probabilities: Mapping[str, float], references: Mapping[str, float]) -> float:
    """Return the mean over the perturbations of the flip rate: mFR, or mT5D of distances.

    Args:
        probabilities: from perturbation to flip probability or unnormalized distance.
        references: those of the reference, AlexNet in the paper, on the same sequences.

    Raises:
        InputError: no perturbations, or some that the reference lacks.
    """
    if not probabilities or set(probabilities) - set(references):
        missing: Sequence[str] = sorted(set(probabilities) - set(references)) or ["any"]
        raise InputError(f"The reference has no figure for {', '.join(missing)}.")
    rates = [flip_rate(value, references[name]) for name, value in probabilities.items()]
    return float(np.mean(rates))
