"""Figures of the corruption grid: CE and mCE (Hendrycks & Dietterich 2019), mPC and rPC (Michaelis 2019).

All in fractions (0.25 is 25 %), all keyed by the corruption's name, and none from a partial grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.errors import InputError, UnknownNameError

SEVERITIES = (1, 2, 3, 4, 5)

ALEXNET_ERROR: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
    "speckle_noise": 0.845388,
    "saturate": 0.658248,
    "gaussian_blur": 0.787108,
    "spatter": 0.717512,
}
"""AlexNet's top-1 error on ImageNet-C, mean of the five severities (Hendrycks & Dietterich 2019)."""

ALEXNET_CLEAN_ERROR = 0.4348
"""AlexNet's top-1 error on the clean ImageNet validation set (same source)."""


def corruption_errors(errors: ArrayLike, names: Sequence[str]) -> NDArray[np.float64]:
    """Return CE for arrays: ``(..., C, 5)`` errors over corruptions and severities to ``(..., C)``.

    CE_c = sum_s err(c, s) / sum_s err_AlexNet(c, s) (Hendrycks & Dietterich 2019, section 4).
    ``names`` are the C corruptions in the order of the axis. Only the mean of AlexNet's five errors
    is published, and only their sum is needed.
    """
    table = np.asarray(errors, dtype=np.float64)
    return np.asarray(table.sum(axis=-1) / (len(SEVERITIES) * _alexnet(names)))


def relative_corruption_errors(
    errors: ArrayLike, clean: ArrayLike, names: Sequence[str]
) -> NDArray[np.float64]:
    """Return relative CE for arrays: ``(..., C, 5)`` errors and ``(...)`` clean errors to ``(..., C)``.

    Relative CE_c = sum_s (err(c, s) - err_clean) / sum_s (err_AlexNet(c, s) - err_AlexNet,clean).
    """
    table = np.asarray(errors, dtype=np.float64)
    loss = table - np.asarray(clean, dtype=np.float64)[..., None, None]
    return np.asarray(
        loss.sum(axis=-1) / (len(SEVERITIES) * (_alexnet(names) - ALEXNET_CLEAN_ERROR))
    )


def _alexnet(names: Sequence[str]) -> NDArray[np.float64]:
    for name in names:
        if name not in ALEXNET_ERROR:
            raise UnknownNameError.of("corruption", name, ALEXNET_ERROR)
    return np.array([ALEXNET_ERROR[name] for name in names])


def corruption_error(name: str, errors: Sequence[float]) -> float:
    """Return CE of one corruption: AlexNet has 1.

    Args:
        name: one of the 15 or of the 4 hold-out corruptions.
        errors: top-1 errors at severities 1 to 5, in fractions.

    Raises:
        InputError: not five errors, or not in fractions.
        UnknownNameError: no such corruption.
    """
    return float(corruption_errors([_five(name, errors)], [name])[0])


def relative_corruption_error(name: str, errors: Sequence[float], clean: float) -> float:
    """Return relative CE of one corruption: how much is lost from clean, in proportion to AlexNet's loss.

    Args and errors as for :func:`corruption_error`; ``clean`` is the clean top-1 error, a fraction.
    """
    table = [_five(name, errors)]
    return float(relative_corruption_errors(table, _fraction("clean", clean), [name])[0])


def mean_corruption_error(errors: Mapping[str, Sequence[float]]) -> float:
    """Return mCE: the mean of CE over the 15 corruptions (Hendrycks & Dietterich 2019, eq. 1).

    Args:
        errors: name to the five top-1 errors at severities 1 to 5, in fractions. Exactly the 15:
            the hold-out corruptions are for choosing hyper-parameters and never enter.

    Returns:
        A fraction: the published 76.7 of ResNet-50 is 0.767.

    Raises:
        InputError: a corruption is missing or not of the 15, or a value is not a fraction.

    >>> mean_corruption_error({name: [ALEXNET_ERROR[name]] * 5 for name in COMMON})
    1.0
    """
    _check_names(errors)
    table = [_five(name, errors[name]) for name in COMMON]
    return float(corruption_errors(table, COMMON).mean())


def relative_mean_corruption_error(errors: Mapping[str, Sequence[float]], clean: float) -> float:
    """Return relative mCE: the mean of relative CE over the 15 corruptions.

    Args:
        errors: as for :func:`mean_corruption_error`.
        clean: the clean top-1 error, a fraction.

    Raises:
        InputError: as for :func:`mean_corruption_error`.
    """
    _check_names(errors)
    table = [_five(name, errors[name]) for name in COMMON]
    relative = relative_corruption_errors(table, _fraction("clean", clean), COMMON)
    return float(relative.mean())


def mean_performance_under_corruption(table: Mapping[str, Mapping[int, float]]) -> float:
    """Return mPC: the mean of P(c, s) over the 15 corruptions and 5 severities (Michaelis 2019, eq. 1).

    Args:
        table: name to severity to performance (AP, accuracy: higher is better), in fractions.

    Raises:
        InputError: a corruption or severity is missing or not of the benchmark, or a value is not a
            fraction.
    """
    _check_names(table)
    values = []
    for name in COMMON:
        row = table[name]
        if set(row) != set(SEVERITIES):
            raise InputError(
                f"{name}: expected the severities 1 to 5, got {sorted(row)}. A partial grid has no "
                "mPC: average what there is under another name."
            )
        values.append([_fraction(f"{name}, severity {s}", row[s]) for s in SEVERITIES])
    return float(np.mean(values))


def relative_performance_under_corruption(
    table: Mapping[str, Mapping[int, float]], clean: float
) -> float:
    """Return rPC = mPC / P_clean (Michaelis 2019, eq. 2): the ratio of the means.

    Args:
        table: as for :func:`mean_performance_under_corruption`.
        clean: the performance on clean images, a fraction above 0.

    Raises:
        InputError: as there, or nothing is right on the clean images.
    """
    reference = _fraction("clean", clean)
    if reference == 0:
        raise InputError("Expected a clean performance above 0: rPC is a proportion of it.")
    return mean_performance_under_corruption(table) / reference


def _check_names(table: Mapping[str, object]) -> None:
    for name in table:
        if name in HOLDOUT:
            raise InputError(
                f"{name} is a hold-out corruption and never enters the mean over the 15; leave it "
                "out, or use corruption_error for it alone."
            )
        if name not in COMMON:
            raise UnknownNameError.of("corruption", name, COMMON)
    missing = [name for name in COMMON if name not in table]
    if missing:
        raise InputError(
            f"Expected all 15 corruptions; {len(missing)} are missing: {', '.join(missing)}. "
            "A partial grid has no such mean: average what there is under another name."
        )


def _five(name: str, errors: Sequence[float]) -> list[float]:
    if isinstance(errors, (str, Mapping)) or np.ndim(errors) != 1 or len(errors) != len(SEVERITIES):
        raise InputError(
            f"{name}: expected five errors, for severities 1 to 5, got {np.size(errors)}. "
            "A partial grid has no CE."
        )
    return [_fraction(f"{name}, severity {s}", e) for s, e in zip(SEVERITIES, errors, strict=True)]


def _fraction(what: str, value: float) -> float:
    number = float(value)
    if not 0 <= number <= 1:  # NaN, too
        raise InputError(f"{what}: expected a fraction from 0 to 1, not per cent, got {value}.")
    return number
