"""The table of corruptions, and functions that apply one by name.

A new corruption is a row at the end of ``_EXTRA`` (``_COMMON`` and ``_HOLDOUT`` are the
benchmark's, over which means are taken), and a name in ``names.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import overload

from numpy.typing import ArrayLike
from PIL import Image as PillowImage

from shiftproof.corruptions import (
    affine,
    blur,
    digital,
    mnist_c,
    noise,
    patterns,
    scales,
    strokes,
    warps,
    weather,
)
from shiftproof.corruptions import depth as depths
from shiftproof.corruptions.checks import (
    Corruption,
    CorruptionFunction,
    check_image,
    check_same_shape,
    check_severity,
)
from shiftproof.corruptions.conversion import to_array
from shiftproof.corruptions.names import FAMILIES, CorruptionName
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.rng import check_seed, generator
from shiftproof.types import Image

PUBLISHED = "published"
"""The variant of the published benchmark numbers, the default."""


def _add(
    function: CorruptionFunction,
    family: str,
    description: str,
    variants: Mapping[str, CorruptionFunction] | None = None,
    *,
    is_random: bool,
) -> Corruption:
    """Return the row of a function; the corruption has its name."""
    return Corruption(
        function.__name__, function, family, description, is_random, dict(variants or {})
    )


_random, _fixed = partial(_add, is_random=True), partial(_add, is_random=False)

_COMMON = (
    _random(noise.gaussian_noise, "noise", "normal noise on every value"),
    _random(noise.shot_noise, "noise", "photon counts where light is scarce"),
    _random(noise.impulse_noise, "noise", "values turned black or white"),
    _fixed(
        blur.defocus_blur, "blur", "a lens out of focus", {"corrected": blur.defocus_blur_corrected}
    ),
    _random(
        blur.glass_blur,
        "blur",
        "pixels shuffled as by frosted glass",
        {"corrected": blur.glass_blur_corrected},
    ),
    _random(blur.motion_blur, "blur", "a camera moved during the exposure"),
    _fixed(
        blur.zoom_blur,
        "blur",
        "a lens zoomed during the exposure",
        {"corrected": blur.zoom_blur_corrected},
    ),
    _random(
        weather.snow,
        "weather",
        "streaks of snow over a paler image",
        {"imagenet-c": weather.snow_imagenet_c},
    ),
    _random(
        weather.frost,
        "weather",
        "ice crystals on a cold pane",
        {
            "corrected": weather.frost_corrected,
            "drawn": weather.frost_drawn,
            "imagenet-c": weather.frost_imagenet_c,
            "photographs": weather.frost_photographs,
        },
    ),
    _random(
        weather.fog,
        "weather",
        "a fractal cloud that takes the contrast",
        {"corrected": weather.fog_corrected},
    ),
    _fixed(weather.brightness, "weather", "too much light"),
    _fixed(digital.contrast, "digital", "values pulled towards the mean"),
    _random(
        digital.elastic_transform,
        "digital",
        "small smooth displacements",
        {
            "corrected": digital.elastic_transform_corrected,
            "imagenet-c": digital.elastic_transform_imagenet_c,
        },
    ),
    _fixed(digital.pixelate, "digital", "shrunk and enlarged again"),
    _fixed(digital.jpeg_compression, "digital", "a JPEG file of low quality"),
)

_HOLDOUT = (
    _random(noise.speckle_noise, "noise", "normal noise in proportion to the value"),
    _fixed(blur.gaussian_blur, "blur", "a Gaussian blur"),
    _random(weather.spatter, "weather", "drops of water or mud on the lens"),
    _fixed(digital.saturate, "digital", "colors drained or overdone"),
)

_EXTRA = (
    _random(noise.low_light, "noise", "little light on a noisy sensor"),
    _random(weather.rain, "weather", "slanting streaks over a darker scene"),
    _random(weather.lens_dirt, "weather", "specks of dirt on the lens"),
    _random(digital.color_cast, "digital", "a wrong white balance"),
    _fixed(digital.vignette, "digital", "dark corners"),
    _random(digital.block_loss, "digital", "macroblocks lost from a video stream"),
    _fixed(digital.webp_compression, "digital", "a WebP file of low quality"),
    _fixed(digital.jpeg2000_compression, "digital", "a JPEG 2000 file of a small size"),
)

_IN_FURTHER_BENCHMARKS = (
    _random(patterns.blue_noise_sample, "noise", "pixels turned black, evenly spread"),
    _random(patterns.brownish_noise, "noise", "slow stains of color"),
    _random(warps.caustic_refraction, "warp", "refraction by moving water"),
    _random(patterns.checkerboard_cutout, "pattern", "gray squares of a turned checkerboard"),
    _random(patterns.cocentric_sine_waves, "pattern", "swaying rings about a point"),
    _random(patterns.inverse_sparkles, "pattern", "a white cover with a star-shaped hole"),
    _random(patterns.perlin_noise, "pattern", "pale marble"),
    _random(patterns.plasma_noise, "pattern", "colored plasma of phase-modulated waves"),
    _random(patterns.single_frequency_greyscale, "pattern", "one plane wave"),
    _random(patterns.sparkles, "pattern", "white stars in front"),
    _fixed(warps.circular_motion_blur, "blur", "a camera turned during the exposure"),
    _random(patterns.lines, "pattern", "gray scratches"),
    _random(warps.pinch_and_twirl, "warp", "pinched and twirled blocks"),
    _random(warps.ripple, "warp", "rows and columns moved by waves"),
    _random(
        warps.transverse_chromatic_abberation, "warp", "channels enlarged differently by a lens"
    ),
    _random(affine.shear, "geometry", "slanted"),
    _fixed(affine.scale, "geometry", "shrunk on a black ground"),
    _random(affine.rotate, "geometry", "turned by 11 to 57 degrees"),
    _random(affine.translate, "geometry", "moved along both sides"),
    _fixed(strokes.stripe, "stroke", "the outer quarters as negatives; one severity"),
    _random(strokes.dotted_line, "stroke", "a dotted line across; one severity"),
    _random(strokes.zigzag, "stroke", "a zigzag line across; one severity"),
    _fixed(strokes.canny_edges, "stroke", "the edges alone; one severity"),
)


_SCALES = {
    scales.CIFAR_10_C: scales.FUNCTIONS,
    scales.CIFAR_10_C_BAR: scales.C_BAR_FUNCTIONS,
    mnist_c.MNIST_C: mnist_c.FUNCTIONS,
}


def _add_scales(entry: Corruption) -> Corruption:
    further = {
        name: functions[entry.name]
        for name, functions in _SCALES.items()
        if entry.name in functions
    }
    return replace(entry, variants={**entry.variants, **further})


CORRUPTIONS: dict[str, Corruption] = {
    entry.name: _add_scales(entry)
    for entry in (*_COMMON, *_HOLDOUT, *_EXTRA, *_IN_FURTHER_BENCHMARKS)
}
"""Every corruption by its name."""

COMMON: tuple[str, ...] = tuple(entry.name for entry in _COMMON)
"""The 15 corruptions of the benchmark, in the paper's order."""

HOLDOUT: tuple[str, ...] = tuple(entry.name for entry in _HOLDOUT)
"""The 4 holdout corruptions, for choosing hyperparameters."""

EXTRA: tuple[str, ...] = tuple(entry.name for entry in _EXTRA)
"""Further corruptions that are in no benchmark."""

GROUPS: dict[str, tuple[str, ...]] = {
    family: tuple(name for name in COMMON if CORRUPTIONS[name].family == family)
    for family in FAMILIES
}
"""The benchmark's corruptions by family."""


def find_function(name: str, variant: str | None = None) -> CorruptionFunction:
    """Return a corruption's function, the published one or a named variant.

    Raises:
        UnknownNameError: no such corruption, or no such variant of it.
    """
    if name in depths.FUNCTIONS:
        raise InputError(
            f"{name} needs a depth map: corrupt(..., depth=...), or with_depth({name!r}, source)."
        )
    if name not in CORRUPTIONS:
        raise UnknownNameError.of("corruption", name, [*CORRUPTIONS, *depths.FUNCTIONS])
    entry = CORRUPTIONS[name]
    if variant is None or variant == PUBLISHED:
        return entry.function
    if variant not in entry.variants:
        raise UnknownNameError.of(f"variant of {name}", variant, [PUBLISHED, *entry.variants])
    return entry.variants[variant]


def scale(name: str) -> dict[str, CorruptionFunction]:
    """Return the benchmark's 15 corruptions and the 4 holdout ones with the constants of a scale,
    in order.

    Args:
        name: "published", the constants for photographs, or "cifar-10-c", those for 32 x 32 pixels.

    Raises:
        UnknownNameError: no such scale.

    >>> cifar = scale("cifar-10-c")
    >>> grid = {name: cifar[name] for name in COMMON}
    """
    known = (PUBLISHED, scales.CIFAR_10_C)
    if name not in known:
        raise UnknownNameError.of("scale", name, known)
    return {corruption: find_function(corruption, name) for corruption in (*COMMON, *HOLDOUT)}


@overload
def corrupt(
    image: Image,
    name: CorruptionName | str | CorruptionFunction,
    severity: float,
    *,
    seed: int = 0,
    key: str = "",
    variant: str | None = None,
    depth: ArrayLike | None = None,
) -> Image: ...


@overload
def corrupt(
    image: PillowImage.Image,
    name: CorruptionName | str | CorruptionFunction,
    severity: float,
    *,
    seed: int = 0,
    key: str = "",
    variant: str | None = None,
    depth: ArrayLike | None = None,
) -> PillowImage.Image: ...


def corrupt(
    image: Image | PillowImage.Image,
    name: CorruptionName | str | CorruptionFunction,
    severity: float,
    *,
    seed: int = 0,
    key: str = "",
    variant: str | None = None,
    depth: ArrayLike | None = None,
) -> Image | PillowImage.Image:
    """Return a corrupted copy of ``image``.

    The random draws depend only on ``seed``, the corruption's name and ``key``. They do not depend
    on the severity, so that the five severities of one image share their noise.

    Args:
        image: ``(H, W, 3)`` RGB or ``(H, W)`` gray, uint8, one pixel or more, or a PIL image of
            mode RGB or L; not modified.
        name: name of a corruption, or a function ``(image, severity, rng) -> image``.
        severity: 1 to 5; between whole severities the constants are interpolated.
        seed: random seed, any integer.
        key: identifies this image, for example by its file name.
        variant: name of a variant; None is the published one.
        depth: ``(H, W)`` floating, 0 at the camera and 1 at 15.6 m, for the corruptions of
            ``depth.FUNCTIONS`` ("fog_3d") only, which need it.

    Returns:
        uint8, of the same shape; a PIL image for a PIL image.

    Raises:
        UnknownNameError: no such corruption or variant.
        InputError: no such severity, or a variant of a function.
        ImageError: not such an image, or the function's result is not one of the same shape.

    >>> import numpy as np
    >>> corrupt(np.full((4, 4, 3), 100, np.uint8), "brightness", severity=2)[0, 0]
    array([151, 151, 151], dtype=uint8)
    """
    if isinstance(image, PillowImage.Image):
        array = corrupt(
            to_array(image), name, severity, seed=seed, key=key, variant=variant, depth=depth
        )
        return PillowImage.fromarray(array)
    level, seed = check_severity(severity), check_seed(seed)
    checked = check_image(image)
    if isinstance(name, str) and name in depths.FUNCTIONS:
        if variant is not None:
            raise UnknownNameError.of(f"variant of {name}", variant, [PUBLISHED])
        known = depths.check_depth(depth, checked, name)
        return depths.FUNCTIONS[name](checked, level, generator(seed, name, key), known)
    if depth is not None:
        raise InputError(
            f"depth: expected none, since {name} does not use it; it is for {', '.join(depths.FUNCTIONS)}."
        )
    if isinstance(name, str):
        return find_function(name, variant)(checked, level, generator(seed, name, key))
    if not callable(name):
        raise InputError(
            f"A corruption is a name or a function (image, severity, rng) -> image; "
            f"got {type(name).__name__}."
        )
    if variant is not None:
        raise InputError("A function has no variants; pass the function of the variant itself.")
    label = getattr(name, "__name__", type(name).__name__)
    return check_same_shape(
        name(checked, level, generator(seed, label, key)),
        checked,
        f"A corruption returns uint8 of the shape it was given, {checked.shape}; {label} returned {{}}.",
    )
