"""CCC: pairs of corruptions along walks of constant difficulty (Press et al. 2023, arXiv
2306.05401).

Two corruptions are applied one after the other at severities from 0 to 5 in steps of 0.25. A walk
starts with the second at severity 0 and ends with the first at 0; in between it follows the
severities at which a model's accuracy is near a target. Those severities are measured once, with
any model: the published table (of a ResNet-50) is not shipped.

Constants and steps from make_imagenet_c.py and generate.py of their repository (oripress/CCC).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.corruptions import blur, digital, noise, weather
from shiftproof.corruptions.chains import Chain, Link
from shiftproof.corruptions.checks import CorruptionFunction, Random, to_uint8
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.types import F64, Image

STEP = 0.25
"""Difference of severity between neighboring steps of a walk."""

SEVERITIES = tuple(step * STEP for step in range(21))
"""Severities of either corruption: 0 to 5."""

Row = Sequence[float]
Form = Callable[[Image, Row, Random], Image]


def blur_disk(image: Image, constants: Row, rng: Random) -> Image:
    """Defocus with a fractional radius, on the grid of the published code."""
    import cv2

    radius, alias = constants
    offsets = np.arange(-8.0, 9.0) if radius <= 8 else np.arange(-radius, radius + 1)
    size = (3, 3) if radius <= 8 else (5, 5)
    disk = (offsets[:, np.newaxis] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / max(float(disk.sum()), 1.0), size, max(alias, 1e-6))
    values = np.asarray(cv2.filter2D(image / 255.0, -1, kernel), dtype=np.float64)
    return to_uint8(values.reshape(image.shape))


def _bind(form: Callable[..., Image], prepare: Callable[..., Any] = tuple) -> Form:
    """Return a function that takes one row of constants, converted by ``prepare``."""

    def call(image: Image, row: Row, rng: Random) -> Image:
        return form(image, 1, rng, (prepare(row),))

    return call


def _get_first(row: Row) -> float:
    return row[0]


def _convert_glass_row(row: Row) -> tuple[float, int, int]:
    return row[0], round(max(row[1], 1)), round(row[2])


def _convert_motion_row(row: Row) -> tuple[int, float]:
    # ImageMagick's kernel reaches to the next whole radius.
    return math.ceil(row[0]), row[1]


def _convert_snow_row(row: Row) -> tuple[float, float, float, float, int, float, float]:
    mean, deviation, zoom, threshold, radius, sigma, share = row
    return mean, deviation, zoom, threshold, math.ceil(radius), sigma, share


def _count_photons(row: Row) -> int:
    return round(1 / row[0])


def _skew_elastic(image: Image, row: Row, rng: Random) -> Image:
    shares = tuple(value / min(image.shape[:2]) for value in row)
    return digital.elastic_transform_skewed(
        image, 1, rng, (cast("tuple[float, float, float]", shares),)
    )


def _stack_rows(table: Sequence[Any], nothing: Row) -> F64:
    """Put the row of severity 0 before the published five; ``(6, n)``."""
    return np.array([nothing, *(np.atleast_1d(np.array(row, float)) for row in table)])


_SCHEME: dict[str, tuple[Form, F64]] = {
    "gaussian_noise": (
        _bind(noise.gaussian_noise, _get_first), _stack_rows(noise.GAUSSIAN_NOISE, [0.0])
    ),
    # The reciprocal of the number of photons is interpolated.
    "shot_noise": (
        _bind(noise.shot_noise, _count_photons), _stack_rows([1 / n for n in noise.SHOT_NOISE], [0.0])
    ),
    "impulse_noise": (_bind(noise.impulse_noise, _get_first), _stack_rows(noise.IMPULSE_NOISE, [0.0])),
    "defocus_blur": (blur_disk, _stack_rows(blur.DEFOCUS_BLUR, [0.0, 0.0])),
    "glass_blur": (_bind(blur.glass_blur, _convert_glass_row), _stack_rows(blur.GLASS_BLUR, [0.0, 0.0, 0.0])),
    "motion_blur": (
        _bind(blur.motion_blur_rounded, _convert_motion_row), _stack_rows(blur.MOTION_BLUR, [0.0, 0.0])
    ),
    "zoom_blur": (_bind(blur.zoom_blur), _stack_rows(blur.ZOOM_BLUR, [1.0, 0.01])),
    "snow": (
        _bind(weather.snow_imagenet_c, _convert_snow_row),
        _stack_rows(weather.SNOW, [0.1, 0.3, 3.0, 1.0, 10, 4, 1.0]),
    ),
    "frost": (_bind(weather.frost_imagenet_c), _stack_rows(weather.FROST, [1.0, 0.0])),
    "fog": (_bind(weather.fog), _stack_rows(weather.FOG, [0.0, 2.0])),
    "brightness": (_bind(weather.brightness, _get_first), _stack_rows(weather.BRIGHTNESS, [0.0])),
    "contrast": (_bind(digital.contrast, _get_first), _stack_rows(digital.CONTRAST, [1.0])),
    "elastic_transform": (_skew_elastic, _stack_rows(digital.ELASTIC_IMAGENET_C, [0.0, 999.0, 0.0])),
    "pixelate": (_bind(digital.pixelate, _get_first), _stack_rows(digital.PIXELATE, [1.0])),
    "jpeg_compression": (
        _bind(digital.jpeg_compression, lambda row: round(row[0])),
        _stack_rows(digital.JPEG_COMPRESSION, [85]),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class FromZero:
    """A corruption at severities from 0 to 5; at 0 its constants leave the image unchanged."""

    name: str

    def __call__(self, image: Image, severity: float, rng: Random) -> Image:
        """Return a corrupted copy; constants are interpolated between whole severities."""
        if severity == 0:
            return np.asarray(image.copy())
        form, rows = _SCHEME[self.name]
        row = [float(np.interp(severity, range(6), column)) for column in rows.T]
        return form(image, row, rng)

    @property
    def __name__(self) -> str:
        """The corruption's own name: the key of its random draws."""
        return self.name


FUNCTIONS: Mapping[str, CorruptionFunction] = {name: FromZero(name) for name in _SCHEME}
"""The corruptions at severities from 0 to 5."""

EASY = tuple(name for name in _SCHEME if name != "brightness")
"""Corruptions of walks at a target accuracy of 40 % and more."""

MEDIUM = tuple(name for name in EASY if name != "jpeg_compression")
"""Corruptions of walks at a target accuracy of 20 %."""

HARD = ("gaussian_noise", "shot_noise", "impulse_noise", "contrast")
"""Corruptions of walks at a target accuracy of 0 %."""


def pair(
    first: str,
    second: str,
    first_severity: float | None = None,
    second_severity: float | None = None,
) -> Chain:
    """Return a pair of CCC: ``first``, then ``second``, at severities from 0 to 5.

    A severity of None is the severity that the pair is called with.

    Raises:
        UnknownNameError: not one of CCC's corruptions.
        InputError: one corruption twice, or a severity outside 0 to 5.
    """
    for name in (first, second):
        if name not in FUNCTIONS:
            raise UnknownNameError.of("corruption of CCC", name, FUNCTIONS)
    if first == second:
        raise InputError(f"A pair has two corruptions; got {first!r} twice.")
    for severity in (first_severity, second_severity):
        if severity is not None and not 0 <= severity <= 5:
            raise InputError(f"A severity of CCC is a number from 0 to 5; got {severity!r}.")
    links = (
        Link(first, FUNCTIONS[first], first_severity),
        Link(second, FUNCTIONS[second], second_severity),
    )
    return Chain(links, "ccc")


def pairs(names: Sequence[str]) -> dict[str, Chain]:
    """Return all ordered pairs by their specs, both corruptions at the severity of the call."""
    chains = [pair(first, second) for first, second in permutations(names, 2)]
    return {chain.spec: chain for chain in chains}


def find_walk(accuracy: ArrayLike, target: float) -> list[tuple[float, float]]:
    """Return the severities of a walk from the first corruption alone to the second alone.

    Every step lowers the first severity by 0.25 or raises the second by 0.25, whichever brings the
    accuracy averaged over the rest of the walk nearer to the target. Among the walks from each
    severity of the first corruption, the one with the nearest average is returned.

    Args:
        accuracy: ``(21, 21)``, at severity ``0.25 i`` of the first corruption and ``0.25 j`` of the
            second.
        target: target accuracy, in the unit of ``accuracy``.

    Returns:
        (first severity, second severity) of each step, in order.

    Raises:
        InputError: not such a table, or not finite.
    """
    table = np.asarray(accuracy, dtype=np.float64)
    count = len(SEVERITIES)
    if table.shape != (count, count) or not np.isfinite(table).all():
        raise InputError(
            f"Expected accuracies as a finite ({count}, {count}) table over severities 0 to 5 in steps "
            f"of {STEP}; got {table.shape}."
        )
    sums, steps = table[0].copy(), np.ones(count)
    is_from_above = np.zeros((count, count), bool)
    first_column = []
    for i in range(1, count):
        for j in range(count - 1, -1, -1):
            # The next step is up in the table, or to the right.
            up = (sums[j] + table[i, j]) / (steps[j] + 1)
            right = math.inf if j + 1 == count else (sums[j + 1] + table[i, j]) / (steps[j + 1] + 1)
            is_from_above[i, j] = abs(up - target) < abs(right - target)
            source = j if is_from_above[i, j] else j + 1
            if source < count:
                sums[j], steps[j] = sums[source] + table[i, j], steps[source] + 1
        first_column.append(abs(sums[0] / steps[0] - target))
    i, j = 1 + int(np.argmin(first_column)), 0
    walk = [(SEVERITIES[i], SEVERITIES[j])]
    while i > 0:
        i, j = (i - 1, j) if is_from_above[i, j] else (i, j + 1)
        walk.append((SEVERITIES[i], SEVERITIES[j]))
    return walk


def walk(first: str, second: str, accuracy: ArrayLike, target: float) -> dict[str, Chain]:
    """Return the steps of a walk in order, as ``bench.run(corruptions=..., severities=[1])`` takes
    them.

    With ``protocol="online:reset=never"`` an adapter is not reset between the steps.

    Accuracy and target are as for ``find_walk``.
    """
    chains = [pair(first, second, a, b) for a, b in find_walk(accuracy, target)]
    return {chain.spec: chain for chain in chains}
