"""The names of the corruptions and of their families, without their code."""

from __future__ import annotations

from typing import Literal, TypeAlias

CorruptionName: TypeAlias = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
    "low_light",
    "rain",
    "lens_dirt",
    "color_cast",
    "vignette",
    "block_loss",
    "webp_compression",
    "jpeg2000_compression",
    "blue_noise_sample",
    "brownish_noise",
    "caustic_refraction",
    "checkerboard_cutout",
    "cocentric_sine_waves",
    "inverse_sparkles",
    "perlin_noise",
    "plasma_noise",
    "single_frequency_greyscale",
    "sparkles",
    "circular_motion_blur",
    "lines",
    "pinch_and_twirl",
    "ripple",
    "transverse_chromatic_abberation",
    "shear",
    "scale",
    "rotate",
    "translate",
    "stripe",
    "dotted_line",
    "zigzag",
    "canny_edges",
]
"""The keys of ``CORRUPTIONS``, in order, as a type for completion in editors."""

FAMILIES = ("noise", "blur", "weather", "digital")
"""The families of the benchmark's corruptions, in the order in which its paper shows them."""
