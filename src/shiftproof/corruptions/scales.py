"""The constants of CIFAR-10-C, for images of 32 x 32 pixels, and the corruptions with them.

All for severities 1 to 5, from Hendrycks & Dietterich 2019 (arXiv 1903.12261): ImageNet-C/create_c/
make_cifar_c.py of their repository. The numbers of a row are described at the table of the same name
in the file of the family.

At 32 x 32 pixels the corruptions are those of that file. At other sizes lengths in pixels are the
same, except that elastic_transform is scaled with the shorter side, and the fog's map with the longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftproof.corruptions import blur, digital, noise, patterns, textures, warps, weather
from shiftproof.corruptions.checks import CorruptionFunction, Random
from shiftproof.types import Image

CIFAR_10_C = "cifar-10-c"
"""The name of the scale."""

CIFAR_10_C_BAR = "cifar-10-c-bar"
"""The scale of CIFAR-10-C-bar (Mintun et al. 2021, arXiv 2102.11273)."""

GAUSSIAN_NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)
SHOT_NOISE = (500, 250, 100, 75, 50)
IMPULSE_NOISE = (0.01, 0.02, 0.03, 0.05, 0.07)
DEFOCUS_BLUR = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
GLASS_BLUR = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
MOTION_BLUR = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
ZOOM_BLUR = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
)
FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
ELASTIC_TRANSFORM = (
    (0.0, 0.0, 0.08),
    (0.05, 0.2, 0.07),
    (0.08, 0.06, 0.06),
    (0.1, 0.04, 0.05),
    (0.1, 0.03, 0.03),
)
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
JPEG_COMPRESSION = (80, 65, 58, 50, 40)
SPECKLE_NOISE = (0.06, 0.1, 0.12, 0.16, 0.2)
GAUSSIAN_BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)
SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5, False),
    (0.65, 0.1, 0.8, 0.7, 0.5, False),
    (0.65, 0.3, 1.0, 0.69, 0.5, False),
    (0.65, 0.1, 0.7, 0.69, 0.6, True),
    (0.65, 0.1, 0.5, 0.68, 0.6, True),
)
SATURATE = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))

# motion_blur, snow and elastic_transform have the forms of the original ImageNet-C.
_FORMS: tuple[tuple[str, Callable[..., Image], Sequence[Any]], ...] = (
    ("gaussian_noise", noise.gaussian_noise, GAUSSIAN_NOISE),
    ("shot_noise", noise.shot_noise, SHOT_NOISE),
    ("impulse_noise", noise.impulse_noise, IMPULSE_NOISE),
    ("defocus_blur", blur.defocus_blur_small, DEFOCUS_BLUR),
    ("glass_blur", blur.glass_blur, GLASS_BLUR),
    ("motion_blur", blur.motion_blur_rounded, MOTION_BLUR),
    ("zoom_blur", blur.zoom_blur, ZOOM_BLUR),
    ("snow", weather.snow_imagenet_c, SNOW),
    ("frost", weather.frost_shrunk, FROST),
    ("fog", weather.fog, FOG),
    ("brightness", weather.brightness, BRIGHTNESS),
    ("contrast", digital.contrast, CONTRAST),
    ("elastic_transform", digital.elastic_transform_skewed, ELASTIC_TRANSFORM),
    ("pixelate", digital.pixelate, PIXELATE),
    ("jpeg_compression", digital.jpeg_compression, JPEG_COMPRESSION),
    ("speckle_noise", noise.speckle_noise, SPECKLE_NOISE),
    ("gaussian_blur", blur.gaussian_blur, GAUSSIAN_BLUR),
    ("spatter", weather.spatter, SPATTER),
    ("saturate", digital.saturate, SATURATE),
)


@dataclass(frozen=True)
class AtScale:
    """A corruption with the constants of another dataset; an object that records can name and
    workers unpickle.

    Differs from the published form: in the constants; other differences are stated at ``form``.

    Attributes:
        name: name of the corruption.
        form: ``(image, severity, rng, table) -> image``.
        table: five rows of constants.
        scale: name of the scale in records.
    """

    name: str
    form: Callable[..., Image]
    table: Sequence[Any]
    scale: str = CIFAR_10_C

    def __call__(self, image: Image, severity: float, rng: Random) -> Image:
        """Return a corrupted copy."""
        return self.form(image, severity, rng, self.table)

    @property
    def __name__(self) -> str:
        """The corruption's own name: the key of its random draws."""
        return self.name

    @property
    def identity(self) -> str:
        """Its name in records."""
        suffix = f" with {textures.describe_published()}" if self.name == "frost" else ""
        return f"{self.name} ({self.scale}){suffix}"


FUNCTIONS: Mapping[str, CorruptionFunction] = {
    name: AtScale(name, form, table) for name, form, table in _FORMS
}
"""The benchmark's 15 corruptions and the 4 holdout ones at this scale, by name, in order."""

# imagenet_c_bar/cifar10_c_bar.csv of their repository (facebookresearch/augmentation-corruption),
# in its order. The tables of corruptions that are in no other dataset are those of their families.
_C_BAR_FORMS: tuple[tuple[str, Callable[..., Image], Sequence[float]], ...] = (
    ("blue_noise_sample", patterns.blue_noise_sample, (0.7, 1.4, 2.1, 3.5, 4.2)),
    ("checkerboard_cutout", patterns.checkerboard_cutout, (1.0, 2.0, 3.0, 4.0, 5.0)),
    ("inverse_sparkles", patterns.inverse_sparkles, (1.0, 1.5, 2.5, 4.5, 5.0)),
    ("pinch_and_twirl", warps.pinch_and_twirl, warps.PINCH_AND_TWIRL),
    ("ripple", warps.ripple, warps.RIPPLE),
    ("brownish_noise", patterns.brownish_noise, (2.5, 4.0, 5.5, 6.5, 7.0)),
    ("circular_motion_blur", warps.circular_motion_blur, warps.CIRCULAR_MOTION_BLUR),
    ("lines", patterns.lines, patterns.LINES),
    ("sparkles", patterns.sparkles, (0.7, 3.5, 5.6, 6.3, 7.0)),
    (
        "transverse_chromatic_abberation",
        warps.transverse_chromatic_abberation,
        warps.TRANSVERSE_CHROMATIC_ABBERATION,
    ),
)

C_BAR_FUNCTIONS: Mapping[str, CorruptionFunction] = {
    name: AtScale(name, form, table, CIFAR_10_C_BAR) for name, form, table in _C_BAR_FORMS
}
"""The ten corruptions of CIFAR-10-C-bar, by name, in its order."""
