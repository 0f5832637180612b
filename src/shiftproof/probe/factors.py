"""The table of factors: transforms of images, their ranges, and the sampling of values.

Factors that are set together, such as the three numbers of a crop, form a family and share images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.corruptions import COMMON, CORRUPTIONS, HOLDOUT, corrupt
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.probe import changes
from shiftproof.rng import generator
from shiftproof.runs.scores.probe import GROUPS, Factor, Group
from shiftproof.types import F64, Image

Values = tuple[float, ...]
Change = Callable[[Image, Values, int, str], Image]
"""``(image, values, seed, key) -> image``: one value for each factor of the family; seed and key
determine random draws.
"""


@dataclass(frozen=True)
class Family:
    """Factors that one change of the image sets together.

    ``place`` maps shares of each range, 0 to 1, to values. ``before_resize`` means that the image
    is changed before it is resized for the model, as for crops.
    """

    name: str
    factors: tuple[Factor, ...]
    change: Change
    place: Callable[[Sequence[float]], Values]
    before_resize: bool = False

    @property
    def is_binary(self) -> bool:
        """Whether the factor has two values."""
        return self.factors[0].binary


SIZES = (0.4, 0.8)
"""Range of a crop's side, as a share of the image's."""


_SMALL_CROP = (0.8, 0.95)


def _crop(image: Image, values: Values, seed: int, key: str) -> Image:
    return changes.crop(image, *values)


def _place_crop(shares: Sequence[float]) -> Values:
    size = SIZES[0] + shares[2] * (SIZES[1] - SIZES[0])
    room = 1 - size
    return room * (2 * shares[0] - 1), room * (2 * shares[1] - 1), size


def _make_family(factor: Factor, change: Callable[[Image, float], Image]) -> Family:
    """Return the family of one deterministic factor."""
    return Family(
        factor.name, (factor,), lambda image, values, seed, key: change(image, values[0]),
        _make_range(factor),
    )  # fmt: skip


def _make_binary_family(factor: Factor, change: Callable[[Image, float], Image]) -> Family:
    """Return the family of one binary factor; each version has its own small crop.

    Otherwise versions without the change would be identical to the unchanged image.
    """

    def crop_and_change(image: Image, values: Values, seed: int, key: str) -> Image:
        random = generator(seed, "probe crop", key)
        size = random.uniform(*_SMALL_CROP)
        x, y = (1 - size) * random.uniform(-1, 1, 2)
        return change(changes.crop(image, float(x), float(y), float(size)), values[0])

    return Family(
        factor.name, (factor,), crop_and_change, lambda shares: (float(round(shares[0])),),
        before_resize=True,
    )  # fmt: skip


def _add_noise(image: Image, values: Values, seed: int, key: str) -> Image:
    return changes.add_noise(image, values[0], generator(seed, "probe noise", key))


def _make_range(factor: Factor) -> Callable[[Sequence[float]], Values]:
    return lambda shares: (factor.low + shares[0] * (factor.high - factor.low),)


_CORRUPTED_GROUPS: dict[str, Group] = {
    "brightness": "color", "contrast": "color", "saturate": "color",
    "elastic_transform": "geometry",
    "snow": "weather", "frost": "weather", "fog": "weather", "spatter": "weather",
}  # fmt: skip
"""The others are texture."""


def _make_corruption_family(name: str) -> Family:
    """Return the severity of a corruption as a factor; each version has its own noise."""
    words = name.replace("_", " ")
    title = words[:1].upper() + words[1:]
    if name in ("brightness", "contrast"):
        title += " corruption"
    factor = Factor(
        f"{name}_severity",
        title.replace("Jpeg", "JPEG"),
        _CORRUPTED_GROUPS.get(name, "texture"),
        1.0,
        5.0,
        "severity",
    )

    def change(image: Image, values: Values, seed: int, key: str) -> Image:
        return corrupt(image, name, severity=values[0], seed=seed, key=key)

    return Family(factor.name, (factor,), change, _make_range(factor))


_NOISE = Factor("noise", "Noise", "texture", 0.0, 0.15, "deviation, share of the range of values")

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "crop",
            (
                Factor("crop_x", "Crop, left to right", "geometry", -0.6, 0.6, "center, -1 to 1"),
                Factor("crop_y", "Crop, top to bottom", "geometry", -0.6, 0.6, "center, -1 to 1"),
                Factor("crop_size", "Crop, size", "geometry", *SIZES, "side, share of the image's"),
            ),
            _crop,
            _place_crop,
            before_resize=True,
        ),
        _make_binary_family(
            Factor("flip", "Flip", "geometry", 0, 1, "no or yes", binary=True), changes.flip
        ),
        _make_family(
            Factor(
                "rotation", "Rotation", "geometry", -changes.MAX_ROTATION, changes.MAX_ROTATION,
                "degrees, anticlockwise",
            ),
            changes.rotate,
        ),
        _make_family(
            Factor("brightness", "Brightness", "color", 0.4, 1.6, "factor"),
            changes.scale_brightness,
        ),
        _make_family(Factor("contrast", "Contrast", "color", 0.4, 1.6, "factor"), changes.scale_contrast),
        _make_family(
            Factor("saturation", "Saturation", "color", 0.0, 2.0, "factor"),
            changes.scale_saturation,
        ),
        _make_family(Factor("hue", "Hue", "color", -0.2, 0.2, "turns"), changes.shift_hue),
        _make_binary_family(
            Factor("grey", "Grey", "color", 0, 1, "no or yes", binary=True), changes.drop_color
        ),
        _make_family(
            Factor("blur", "Blur", "texture", 0.0, 0.02, "deviation, share of the shorter side"),
            changes.blur,
        ),
        Family("noise", (_NOISE,), _add_noise, _make_range(_NOISE)),
        *(_make_corruption_family(name) for name in (*COMMON, *HOLDOUT)),
    )
}  # fmt: skip
"""Every family by its name: the augmentations, then the 19 corruptions."""

FACTORS: dict[str, Factor] = {
    factor.name: factor for family in FAMILIES.values() for factor in family.factors
}
"""Every factor by its name."""

AUGMENTATIONS: tuple[str, ...] = tuple(
    name for name, factor in FACTORS.items() if factor.unit != "severity"
)
SEVERITIES: tuple[str, ...] = tuple(name for name in FACTORS if name not in AUGMENTATIONS)

SETS: dict[str, tuple[str, ...]] = {
    "all": tuple(FACTORS),
    "augmentations": AUGMENTATIONS,
    "corruptions": SEVERITIES,
    **{
        group: tuple(name for name, factor in FACTORS.items() if factor.group == group)
        for group in GROUPS
    },
}
"""Named sets of factors."""

assert {name.removesuffix("_severity") for name in SEVERITIES} <= set(CORRUPTIONS)


def choose_factors(names: Sequence[str] | str) -> tuple[Factor, ...]:
    """Return the named factors, in the table's order.

    Args:
        names: names of factors, or of ``SETS``.

    Raises:
        UnknownNameError: no such factor; says the nearest.
        InputError: no names.

    >>> [factor.title for factor in choose_factors(["hue", "fog_severity"])]
    ['Hue', 'Fog']
    """
    wanted: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        if name in SETS:
            wanted.update(SETS[name])
        elif name in FACTORS:
            wanted.add(name)
        else:
            raise UnknownNameError.of("factor", name, [*FACTORS, *SETS])
    if not wanted:
        raise InputError(f"Expected at least one factor, got none. Known: {', '.join(FACTORS)}.")
    return tuple(factor for name, factor in FACTORS.items() if name in wanted)


def find_families(factors: Sequence[Factor]) -> tuple[Family, ...]:
    """Return the families of the factors."""
    names = {factor.name for factor in factors}
    return tuple(
        family
        for family in FAMILIES.values()
        if any(factor.name in names for factor in family.factors)
    )


def draw_values(family: Family, key: str, *, versions: int, seed: int) -> F64:
    """Return ``(V, F)`` values for the versions of one image.

    Stratified sampling: each factor's range is split into ``versions`` equal parts with one version
    each, in random order, so that the mean does not differ between images. A binary factor is set
    in half of the versions; if their number is odd, one is dropped.
    """
    if family.is_binary:
        return np.tile([[0.0], [1.0]], (versions // 2, 1))
    random = generator(seed, "probe", family.name, key)
    shares = np.stack(
        [
            (random.permutation(versions) + random.random(versions)) / versions
            for _ in family.factors
        ],
        axis=1,
    )
    return np.array([family.place(row.tolist()) for row in shares])
