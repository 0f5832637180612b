"""Figures of the corruption grid.

CE and mCE are by Hendrycks & Dietterich 2019 (arXiv 1903.12261), mPC and rPC by Michaelis et al.
2019 (arXiv 1907.07484). All are in fractions (0.25 is 25 %), all are keyed by the corruption's
name, and none is claimed from a partial grid. The functions of arrays are the definitions; those
of tables check what a person hands in, and call them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.corruptions import COMMON, GROUPS, HOLDOUT
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.types import F64

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
"""AlexNet's top-1 error on ImageNet-C, mean of the five severities.

From the authors' repository (github.com/hendrycks/robustness). Keyed by name, since copies without
names exist in two different orders.
"""

ALEXNET_CLEAN_ERROR = 0.4348
"""AlexNet's top-1 error on the clean ImageNet validation set, from the same source."""


def corruption_errors(errors: ArrayLike, names: Sequence[str]) -> F64:
    """Return ``(..., C)`` CE of ``(..., C, 5)`` errors over corruptions and severities.

    CE_c = sum_s err(c, s) / sum_s err_AlexNet(c, s) (Hendrycks & Dietterich 2019, section 4).
    Leading axes are for models or the resamples of a bootstrap; the values are not checked.

    Args:
        errors: ``(..., C, 5)`` top-1 errors in fractions.
        names: the C corruptions in the order of the axis.

    Raises:
        InputError: another shape.
        UnknownNameError: AlexNet's error under a corruption is unknown.
    """
    # Of AlexNet's five errors only the mean is published, and only their sum is needed.
    table = _check_grid(errors, names)
    return np.asarray(table.sum(axis=-1) / (len(SEVERITIES) * _read_alexnet(names)))


def relative_corruption_errors(errors: ArrayLike, clean: ArrayLike, names: Sequence[str]) -> F64:
    """Return ``(..., C)`` relative CE of ``(..., C, 5)`` errors and ``(...)`` clean errors.

    Relative CE_c = sum_s (err(c, s) - err_clean) / sum_s (err_AlexNet(c, s) - err_AlexNet,clean)
    (Hendrycks & Dietterich 2019, section 4). Arguments and errors as for :func:`corruption_errors`.
    """
    table = _check_grid(errors, names)
    loss = table - np.asarray(clean, dtype=np.float64)[..., None, None]
    return np.asarray(
        loss.sum(axis=-1) / (len(SEVERITIES) * (_read_alexnet(names) - ALEXNET_CLEAN_ERROR))
    )


def _check_grid(errors: ArrayLike, names: Sequence[str]) -> F64:
    table = np.asarray(errors, dtype=np.float64)
    if table.shape[-2:] != (len(names), len(SEVERITIES)):
        raise InputError(
            f"Expected errors of shape (..., {len(names)}, {len(SEVERITIES)}), over the named "
            f"corruptions and the five severities, got {table.shape}."
        )
    return table


def _read_alexnet(names: Sequence[str]) -> F64:
    for name in names:
        if name not in ALEXNET_ERROR:
            raise UnknownNameError.of("corruption", name, ALEXNET_ERROR)
    return np.array([ALEXNET_ERROR[name] for name in names])


def corruption_error(name: str, errors: Sequence[float]) -> float:
    """Return CE of one corruption: AlexNet has 1.

    Args:
        name: one of the 15 or of the 4 holdout corruptions.
        errors: top-1 errors at severities 1 to 5, in fractions.

    Raises:
        InputError: not five errors, or not in fractions.
        UnknownNameError: no such corruption.
    """
    return float(corruption_errors([_check_five(name, errors)], [name])[0])


def relative_corruption_error(name: str, errors: Sequence[float], clean: float) -> float:
    """Return relative CE of one corruption: the loss from clean, in proportion to AlexNet's.

    Args:
        name: one of the 15 or of the 4 holdout corruptions.
        errors: top-1 errors at severities 1 to 5, in fractions.
        clean: the clean top-1 error, a fraction.

    Returns:
        A fraction: 1 for AlexNet, below 0 where the corruption helps.

    Raises:
        InputError: not five errors, or not in fractions.
        UnknownNameError: no such corruption.
    """
    table = [_check_five(name, errors)]
    return float(relative_corruption_errors(table, _check_fraction("clean", clean), [name])[0])


def mean_corruption_error(errors: Mapping[str, Sequence[float]]) -> float:
    """Return mCE: the mean of CE over the 15 corruptions (Hendrycks & Dietterich 2019, eq. 1).

    Args:
        errors: name to the five top-1 errors at severities 1 to 5, in fractions. Exactly the 15:
            the holdout corruptions are for choosing hyperparameters and are not part of mCE. They are
            refused instead of ignored, so that their absence is noticed.

    Returns:
        A fraction: the published 76.7 of ResNet-50 is 0.767.

    Raises:
        InputError: a corruption is missing or a holdout one, or a value is not a fraction.
        UnknownNameError: no such corruption.

    >>> mean_corruption_error({name: [ALEXNET_ERROR[name]] * 5 for name in COMMON})
    1.0
    """
    _check_names(errors)
    table = [_check_five(name, errors[name]) for name in COMMON]
    return float(corruption_errors(table, COMMON).mean())


def compute_mce_weights(names: Sequence[str]) -> F64:
    """Return the weights for which the weighted sum of the cells' errors is mCE.

    Args:
        names: the corruption of each of the C cells.

    Returns:
        ``(C,)``: 1 / (number of corruptions x severities of this one x its mean error of AlexNet).

    Raises:
        UnknownNameError: AlexNet's error under a corruption is unknown.
    """
    counts = {name: names.count(name) for name in names}
    return np.array([1 / (len(counts) * counts[name]) for name in names]) / _read_alexnet(names)


def relative_mean_corruption_error(errors: Mapping[str, Sequence[float]], clean: float) -> float:
    """Return relative mCE: the mean of relative CE over the 15 corruptions.

    Args:
        errors: as for :func:`mean_corruption_error`.
        clean: the clean top-1 error, a fraction.

    Raises:
        InputError: as for :func:`mean_corruption_error`.
    """
    _check_names(errors)
    table = [_check_five(name, errors[name]) for name in COMMON]
    relative = relative_corruption_errors(table, _check_fraction("clean", clean), COMMON)
    return float(relative.mean())


def mean_performance_under_corruption(table: Mapping[str, Mapping[int, float]]) -> float:
    """Return mPC: the mean performance over the 15 corruptions and 5 severities.

    mPC = 1/15 sum_c 1/5 sum_s P(c, s) (Michaelis et al. 2019, eq. 1).

    Args:
        table: name to severity to performance (AP, accuracy: higher is better), in fractions.

    Raises:
        InputError: a corruption or severity is missing, a corruption is a holdout one, or a value
            is not a fraction.
        UnknownNameError: no such corruption.
    """
    return float(_read_performance(table).mean())


def mean_performance_by_group(table: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Return the mean performance over each of the four groups: noise, blur, weather, digital.

    The groups have 3, 4, 4 and 4 of the 15 corruptions, so the mean of the four is not mPC.

    Args:
        table: as for :func:`mean_performance_under_corruption`.

    Raises:
        InputError: as there.
        UnknownNameError: no such corruption.
    """
    means = dict(zip(COMMON, _read_performance(table).mean(axis=1), strict=True))
    return {
        group: float(np.mean([means[name] for name in names])) for group, names in GROUPS.items()
    }


def _read_performance(table: Mapping[str, Mapping[int, float]]) -> F64:
    """Return ``(15, 5)`` performances, after checking that none is missing and all are fractions."""
    _check_names(table)
    for name in COMMON:
        row = table[name]
        if not isinstance(row, Mapping) or set(row) - set(SEVERITIES):
            raise InputError(
                f"{name}: expected one value for each severity from 1 to 5, got {row!r:.80}. The "
                "clean cell is not a severity."
            )
    missing = [f"{name}-{s}" for name in COMMON for s in SEVERITIES if s not in table[name]]
    if missing:
        raise InputError(
            f"{missing[0][:-2]}: expected one value for each severity from 1 to 5; of the 75 cells "
            f"{len(missing)} are missing: {', '.join(missing)}. "
            "A partial grid has no mPC: average what there is under another name."
        )
    return np.array(
        [
            [_check_fraction(f"{name}, severity {s}", table[name][s]) for s in SEVERITIES]
            for name in COMMON
        ]
    )


def relative_performance_under_corruption(
    table: Mapping[str, Mapping[int, float]], clean: float
) -> float:
    """Return rPC = mPC / P_clean: how much of the performance stays (Michaelis et al., eq. 2).

    Args:
        table: as for :func:`mean_performance_under_corruption`.
        clean: the performance on clean images, a fraction above 0.

    Raises:
        InputError: as there, or nothing is right on the clean images.
    """
    reference = _check_fraction("clean", clean)
    if reference == 0:
        raise InputError("Expected a clean performance above 0: rPC is a proportion of it.")
    return mean_performance_under_corruption(table) / reference


def _check_names(table: Mapping[str, object]) -> None:
    for name in table:
        if name in HOLDOUT:
            raise InputError(
                f"{name} is a hold-out corruption and never enters the mean over the 15; omit it, "
                "or use corruption_error for it alone."
            )
        if name not in COMMON:
            raise UnknownNameError.of("corruption", name, COMMON)
    missing = [name for name in COMMON if name not in table]
    if missing:
        raise InputError(
            f"Expected all 15 corruptions; {len(missing)} are missing: {', '.join(missing)}. "
            "A partial grid has no such mean: average what there is under another name."
        )


def _check_five(name: str, errors: Sequence[float]) -> list[float]:
    if isinstance(errors, (str, Mapping)) or np.ndim(errors) != 1 or len(errors) != len(SEVERITIES):
        raise InputError(
            f"{name}: expected five errors, for severities 1 to 5, got {errors!r:.80}. "
            "A partial grid has no CE."
        )
    return [
        _check_fraction(f"{name}, severity {s}", e) for s, e in zip(SEVERITIES, errors, strict=True)
    ]


def _check_fraction(what: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= 1:  # NaN, too
        raise InputError(
            f"{what}: expected a value in fractions, not per cent (0 to 1), got {value!r}."
        )
    return number
