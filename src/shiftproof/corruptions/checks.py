"""The type of a corruption, and the checks of its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import PurePath
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import ImageError, InputError
from shiftproof.types import Image

Random: TypeAlias = np.random.Generator | np.random.RandomState
"""The random generator of a corruption.

Usually a ``Generator``. A legacy ``RandomState`` is for comparisons: the published code draws from
numpy's global ``RandomState``, and a corruption that gets a ``RandomState`` draws the same numbers
in the same order, so its pixels equal those of the published code after ``np.random.seed``.
"""

CorruptionFunction: TypeAlias = Callable[[Image, float, np.random.Generator], Image]
"""``(image, severity, rng) -> image`` of the same shape: pure, uint8, severity from 1 to 5."""

SEVERITIES = (1, 2, 3, 4, 5)

Row = TypeVar("Row")


@dataclass(frozen=True)
class Corruption:
    """An entry of the table of corruptions."""

    name: str
    function: CorruptionFunction
    family: str
    """Kind of corruption: ``noise``, ``blur``, ``weather``, ``digital``, ``pattern``, ..."""
    description: str
    """One line of text, for lists."""
    is_random: bool
    """Whether the result depends on the generator."""
    variants: Mapping[str, CorruptionFunction] = field(default_factory=dict)
    """Further variants by name; ``function`` is the variant called ``published``."""

    def _repr_png_(self) -> bytes:
        """Show a small scene, clean and at severities 1 to 5, in a notebook."""
        from shiftproof.corruptions.strips import draw_strip

        return draw_strip(self.name, self.function)

    def _repr_html_(self) -> str:
        """Show family, description and the scene in a notebook."""
        from shiftproof.corruptions.strips import embed_png
        from shiftproof.display import write_table

        rows = [("family", self.family), ("what it does", self.description)]
        rows += [("random", "yes" if self.is_random else "no")]
        rows += [("variants", ", ".join(self.variants))] if self.variants else []
        image = embed_png(self._repr_png_(), "a scene, clean and at severities 1 to 5")
        return write_table(self.name, ["", ""], rows) + image


def get_constants(table: Sequence[Row], severity: float) -> Row:
    """Return the row of ``table`` (five rows) for ``severity``.

    Between two whole severities constants are interpolated linearly; integers (a radius, a count)
    are rounded, and a choice switches half-way.
    """
    lower = int(severity)
    if severity == lower:
        return table[lower - 1]
    return cast(Row, _interpolate(table[lower - 1], table[lower], severity - lower))


def _interpolate(low: object, high: object, share: float) -> object:
    if isinstance(low, tuple) and isinstance(high, tuple):
        return tuple(_interpolate(a, b, share) for a, b in zip(low, high, strict=True))
    if isinstance(low, bool):
        return high if share >= 0.5 else low
    if isinstance(low, int) and isinstance(high, int):
        return math.floor(low + (high - low) * share + 0.5)
    first, second = cast(float, low), cast(float, high)
    return first + (second - first) * share


def to_uint8(values: NDArray[np.floating]) -> Image:
    """Clip ``values`` to 0..1 and scale to 0..255; fractions are truncated, as published."""
    return np.asarray((np.clip(values, 0, 1) * 255).astype(np.uint8))


def check_severity(severity: object) -> float:
    """Return ``severity``, a number from 1 to 5, as an int where it is whole.

    Raises:
        InputError: not a number from 1 to 5.
    """
    expected = "Severity is a number from 1 to 5"
    if isinstance(severity, bool | np.bool_) or not isinstance(severity, Real):
        raise InputError(f"{expected}; got {severity!r} of type {type(severity).__name__}.")
    value = float(severity)
    if value == 0:
        raise InputError(
            f"{expected}; got {severity!r}. "
            "No corruption at all is the clean image: use it as it is."
        )
    if not SEVERITIES[0] <= value <= SEVERITIES[-1]:
        raise InputError(f"{expected}; got {severity!r}.")
    return int(value) if value.is_integer() else value


def check_image(image: object) -> Image:
    """Return ``image`` as a C-contiguous, writable array, copied only if necessary.

    Raises:
        ImageError: it is not a uint8 array ``(H, W, 3)`` or ``(H, W)`` with at least one pixel.
    """
    expected = "An image is a uint8 array (height, width, 3) in RGB or (height, width) in gray"
    if not isinstance(image, np.ndarray):
        hint = (
            "Open the file: PIL.Image.open(path)."
            if isinstance(image, str | PurePath)
            else "Convert it with numpy.asarray(image)."
        )
        raise ImageError(f"{expected}; got {type(image).__name__}. {hint}")
    if image.dtype != np.uint8:
        raise ImageError(f"{expected}; got dtype {image.dtype}. {_suggest_conversion(image)}")
    if image.ndim == 3 and image.shape[2] == 1:
        hint = "Drop the last axis: image[..., 0]."
    elif image.ndim == 3 and image.shape[2] == 4:
        hint = "Drop the alpha channel: image[..., :3]."
    elif image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] != 3:
        hint = "Move the channels to the end: numpy.moveaxis(image, 0, -1)."
    elif image.ndim == 4:
        hint = "Pass the images of a batch one by one."
    elif image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        hint = "Give one image, with three channels or with none."
    elif image.size == 0:
        hint = "It has no pixel."
    else:
        # The kernels are compiled for this layout alone; compiling them for read-only or strided
        # arrays, too, would cost more than the copy.
        return np.require(image, requirements=["C", "W"])
    raise ImageError(f"{expected}; got shape {image.shape}. {hint}")


def check_same_shape(result: object, image: Image, expected: str) -> Image:
    """Check that a function's result has the dtype and shape of its image, and return it.

    Raises:
        ImageError: it does not; the message is ``expected`` with the result's form in ``{}``.
    """
    if not isinstance(result, np.ndarray):
        raise ImageError(expected.format(type(result).__name__))
    if result.dtype != np.uint8 or result.shape != image.shape:
        raise ImageError(expected.format(f"{result.dtype} {result.shape}"))
    return result


def _suggest_conversion(image: NDArray[np.generic]) -> str:
    if image.dtype == np.bool_:
        return "Convert it with image.astype(numpy.uint8) * 255."
    if np.issubdtype(image.dtype, np.floating):
        return (
            "Values in 0..1: (image * 255).round().astype(numpy.uint8); "
            "values in 0..255: image.round().astype(numpy.uint8)."
        )
    if image.dtype == np.uint16:
        return "Convert 16 bits with (image // 257).astype(numpy.uint8)."
    return "Convert values in 0..255 with image.astype(numpy.uint8)."
