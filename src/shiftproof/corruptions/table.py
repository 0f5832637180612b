"""The table of corruptions, and the functions that apply one by its name.

A new corruption is a row at the end of ``_EXTRA``: the rows of ``_COMMON`` and ``_HOLDOUT`` are the
benchmark's, over which means are taken. Its name goes into ``names.py``, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import overload

import numpy as np
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
    check_severity,
)
from shiftproof.corruptions.names import FAMILIES, CorruptionName
from shiftproof.corruptions.pictures import to_array
from shiftproof.errors import ImageError, InputError, UnknownNameError
from shiftproof.rng import generator
from shiftproof.types import Image

PUBLISHED = "published"
"""The variant with which the published benchmark numbers were computed: the default."""

_COMMON = (
    Corruption(
        "gaussian_noise", noise.gaussian_noise, "noise",
        "normal noise on every value", is_random=True,
    ),
    Corruption(
        "shot_noise", noise.shot_noise, "noise",
        "photon counts where light is scarce", is_random=True,
    ),
    Corruption(
        "impulse_noise", noise.impulse_noise, "noise",
        "values turned black or white", is_random=True,
    ),
    Corruption(
        "defocus_blur", blur.defocus_blur, "blur",
        "a lens out of focus", is_random=False,
        variants={"corrected": blur.defocus_blur_corrected},
    ),
    Corruption(
        "glass_blur", blur.glass_blur, "blur",
        "pixels shuffled as by frosted glass", is_random=True,
        variants={"corrected": blur.glass_blur_corrected},
    ),
    Corruption(
        "motion_blur", blur.motion_blur, "blur",
        "a camera moved during the exposure", is_random=True,
    ),
    Corruption(
        "zoom_blur", blur.zoom_blur, "blur",
        "a lens zoomed during the exposure", is_random=False,
        variants={"corrected": blur.zoom_blur_corrected},
    ),
    Corruption(
        "snow", weather.snow, "weather",
        "streaks of snow over a paler image", is_random=True,
        variants={"imagenet-c": weather.snow_imagenet_c},
    ),
    Corruption(
        "frost", weather.frost, "weather",
        "ice crystals on a cold pane", is_random=True,
        variants={
            "corrected": weather.frost_corrected,
            "drawn": weather.frost_drawn,
            "imagenet-c": weather.frost_imagenet_c,
            "photographs": weather.frost_photographs,
        },
    ),
    Corruption(
        "fog", weather.fog, "weather",
        "a fractal cloud that takes the contrast", is_random=True,
        variants={"corrected": weather.fog_corrected},
    ),
    Corruption(
        "brightness", weather.brightness, "weather",
        "too much light", is_random=False,
    ),
    Corruption(
        "contrast", digital.contrast, "digital",
        "values pulled towards the mean", is_random=False,
    ),
    Corruption(
        "elastic_transform", digital.elastic_transform, "digital",
        "small smooth displacements", is_random=True,
        variants={
            "corrected": digital.elastic_transform_corrected,
            "imagenet-c": digital.elastic_transform_imagenet_c,
        },
    ),
    Corruption(
        "pixelate", digital.pixelate, "digital",
        "shrunk and enlarged again", is_random=False,
    ),
    Corruption(
        "jpeg_compression", digital.jpeg_compression, "digital",
        "a JPEG file of low quality", is_random=False,
    ),
)  # fmt: skip

_HOLDOUT = (
    Corruption(
        "speckle_noise", noise.speckle_noise, "noise",
        "normal noise in proportion to the value", is_random=True,
    ),
    Corruption(
        "gaussian_blur", blur.gaussian_blur, "blur",
        "a Gaussian blur", is_random=False,
    ),
    Corruption(
        "spatter", weather.spatter, "weather",
        "drops of water or mud on the lens", is_random=True,
    ),
    Corruption(
        "saturate", digital.saturate, "digital",
        "colors drained or overdone", is_random=False,
    ),
)  # fmt: skip

_EXTRA = (
    Corruption(
        "low_light", noise.low_light, "noise",
        "little light on a noisy sensor", is_random=True,
    ),
    Corruption(
        "rain", weather.rain, "weather",
        "slanting streaks over a darker scene", is_random=True,
    ),
    Corruption(
        "lens_dirt", weather.lens_dirt, "weather",
        "specks of dirt on the lens", is_random=True,
    ),
    Corruption(
        "color_cast", digital.color_cast, "digital",
        "a wrong white balance", is_random=True,
    ),
    Corruption(
        "vignette", digital.vignette, "digital",
        "dark corners", is_random=False,
    ),
    Corruption(
        "block_loss", digital.block_loss, "digital",
        "macroblocks lost from a video stream", is_random=True,
    ),
    Corruption(
        "webp_compression", digital.webp_compression, "digital",
        "a WebP file of low quality", is_random=False,
    ),
    Corruption(
        "jpeg2000_compression", digital.jpeg2000_compression, "digital",
        "a JPEG 2000 file of a small size", is_random=False,
    ),
)  # fmt: skip

_IN_FURTHER_BENCHMARKS = (
    Corruption(
        "blue_noise_sample", patterns.blue_noise_sample, "noise",
        "pixels turned black, evenly spread", is_random=True,
    ),
    Corruption(
        "brownish_noise", patterns.brownish_noise, "noise",
        "slow stains of color", is_random=True,
    ),
    Corruption(
        "caustic_refraction", warps.caustic_refraction, "warp",
        "refraction by moving water", is_random=True,
    ),
    Corruption(
        "checkerboard_cutout", patterns.checkerboard_cutout, "pattern",
        "gray squares of a turned checkerboard", is_random=True,
    ),
    Corruption(
        "cocentric_sine_waves", patterns.cocentric_sine_waves, "pattern",
        "swaying rings about a point", is_random=True,
    ),
    Corruption(
        "inverse_sparkles", patterns.inverse_sparkles, "pattern",
        "a white cover with a star-shaped hole", is_random=True,
    ),
    Corruption(
        "perlin_noise", patterns.perlin_noise, "pattern",
        "pale marble", is_random=True,
    ),
    Corruption(
        "plasma_noise", patterns.plasma_noise, "pattern",
        "colored plasma of phase-modulated waves", is_random=True,
    ),
    Corruption(
        "single_frequency_greyscale", patterns.single_frequency_greyscale, "pattern",
        "one plane wave", is_random=True,
    ),
    Corruption(
        "sparkles", patterns.sparkles, "pattern",
        "white stars in front", is_random=True,
    ),
    Corruption(
        "circular_motion_blur", warps.circular_motion_blur, "blur",
        "a camera turned during the exposure", is_random=False,
    ),
    Corruption(
        "lines", patterns.lines, "pattern",
        "gray scratches", is_random=True,
    ),
    Corruption(
        "pinch_and_twirl", warps.pinch_and_twirl, "warp",
        "pinched and twirled blocks", is_random=True,
    ),
    Corruption(
        "ripple", warps.ripple, "warp",
        "rows and columns moved by waves", is_random=True,
    ),
    Corruption(
        "transverse_chromatic_abberation", warps.transverse_chromatic_abberation, "warp",
        "channels enlarged differently by a lens", is_random=True,
    ),
    Corruption(
        "shear", affine.shear, "geometry",
        "slanted", is_random=True,
    ),
    Corruption(
        "scale", affine.scale, "geometry",
        "shrunk on a black ground", is_random=False,
    ),
    Corruption(
        "rotate", affine.rotate, "geometry",
        "turned by 11 to 57 degrees", is_random=True,
    ),
    Corruption(
        "translate", affine.translate, "geometry",
        "moved along both sides", is_random=True,
    ),
    Corruption(
        "stripe", strokes.stripe, "stroke",
        "the outer quarters as negatives; one severity", is_random=False,
    ),
    Corruption(
        "dotted_line", strokes.dotted_line, "stroke",
        "a dotted line across; one severity", is_random=True,
    ),
    Corruption(
        "zigzag", strokes.zigzag, "stroke",
        "a zigzag line across; one severity", is_random=True,
    ),
    Corruption(
        "canny_edges", strokes.canny_edges, "stroke",
        "the edges alone; one severity", is_random=False,
    ),
)  # fmt: skip


_SCALES = {
    scales.CIFAR_10_C: scales.FUNCTIONS,
    scales.CIFAR_10_C_BAR: scales.C_BAR_FUNCTIONS,
    mnist_c.MNIST_C: mnist_c.FUNCTIONS,
}


def _add_scales(entry: Corruption) -> Corruption:
    further = {name: of[entry.name] for name, of in _SCALES.items() if entry.name in of}
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


def function_of(name: str, variant: str | None = None) -> CorruptionFunction:
    """Return the function of a corruption, the published one or a named variant.

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
    return {corruption: function_of(corruption, name) for corruption in (*COMMON, *HOLDOUT)}


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
            ``depth.FUNCTIONS`` ("fog_3d"), which need it, and for no others.

    Returns:
        uint8, of the same shape; of a PIL image a PIL image.

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
    level = check_severity(severity)
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
        return function_of(name, variant)(checked, level, generator(seed, name, key))
    if not callable(name):
        raise InputError(
            f"A corruption is a name or a function (image, severity, rng) -> image; "
            f"got {type(name).__name__}."
        )
    if variant is not None:
        raise InputError("A function has no variants; pass the function of the variant itself.")
    label = getattr(name, "__name__", type(name).__name__)
    result = name(checked, level, generator(seed, label, key))
    if (
        not isinstance(result, np.ndarray)
        or result.dtype != np.uint8
        or result.shape != checked.shape
    ):
        came = (
            f"{result.dtype} {result.shape}"
            if isinstance(result, np.ndarray)
            else type(result).__name__
        )
        raise ImageError(
            f"A corruption returns uint8 of the shape it was given, {checked.shape}; "
            f"{label} returned {came}."
        )
    return result
