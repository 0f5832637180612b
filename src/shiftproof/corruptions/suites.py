"""Named sets of corruptions, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from shiftproof.corruptions import camera, ccc, depth, medmnist_c, mnist_c, scales
from shiftproof.corruptions.checks import CorruptionFunction
from shiftproof.corruptions.table import (
    COMMON,
    CORRUPTIONS,
    EXTRA,
    GROUPS,
    HOLDOUT,
    find_function,
)
from shiftproof.errors import InputError, UnknownNameError

Named = Mapping[str, "str | CorruptionFunction"]
"""From the name in a run to a name of the table, or a function."""

IMAGENET_C = "Hendrycks & Dietterich 2019 (arXiv 1903.12261)"
C_BAR = "Mintun et al. 2021 (arXiv 2102.11273)"
MNIST_C = "Mu & Gilmer 2019 (arXiv 1906.02337)"
THREE_D = "Kar et al. 2022 (arXiv 2203.01441)"
MEDMNIST_C = "Di Salvo et al. 2024 (arXiv 2406.17536)"
CCC = "Press et al. 2023 (arXiv 2306.05401)"
OURS = "no benchmark"

C_BAR_NAMES = (
    "blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout",
    "cocentric_sine_waves", "inverse_sparkles", "perlin_noise", "plasma_noise",
    "single_frequency_greyscale", "sparkles",
)  # fmt: skip
"""The ten corruptions of ImageNet-C-bar."""

MNIST_C_NAMES = (
    "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate",
    "brightness", "translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
)  # fmt: skip
"""The 15 corruptions of MNIST-C."""


@dataclass(frozen=True)
class Suite:
    """A named set of corruptions.

    Attributes:
        name: name of the set, as for ``suite``.
        title: one line of description.
        source: the paper.
        make: function that returns the corruptions, in order.
    """

    name: str
    title: str
    source: str
    make: Callable[[], Named]

    @cached_property
    def corruptions(self) -> Named:
        """From the name in a run to its corruption, in order."""
        return self.make()


def _list_names(names: Sequence[str]) -> Callable[[], Named]:
    return lambda: {name: name for name in names}


def _make_mnist_c() -> Named:
    """Add a suffix to the functions that share a name with the benchmark's but differ."""
    own = mnist_c.FUNCTIONS
    return {
        f"{name}.{mnist_c.MNIST_C}" if name in own else name: own.get(name, name)
        for name in MNIST_C_NAMES
    }


def _make_cifar_10_c() -> Named:
    return {name: find_function(name, scales.CIFAR_10_C) for name in COMMON}


_ALL = (
    Suite("common", "the 15 of ImageNet-C, over which means are taken", IMAGENET_C, _list_names(COMMON)),
    Suite("holdout", "4 for choosing hyperparameters", IMAGENET_C, _list_names(HOLDOUT)),
    Suite("all", "common and holdout", IMAGENET_C, _list_names((*COMMON, *HOLDOUT))),
    *(
        Suite(group, f"the {len(names)} of the family {group}", IMAGENET_C, _list_names(names))
        for group, names in GROUPS.items()
    ),
    Suite("further", f"{len(EXTRA)} more, such as rain and low light", OURS, _list_names(EXTRA)),
    Suite("cifar-10-c", "the 15 with the constants for 32 x 32 pixels", IMAGENET_C, _make_cifar_10_c),
    Suite("c-bar", "the 10 of ImageNet-C-bar", C_BAR, _list_names(C_BAR_NAMES)),
    Suite(
        "cifar-10-c-bar", "the 10 of CIFAR-10-C-bar, for 32 x 32 pixels", C_BAR,
        lambda: dict(scales.C_BAR_FUNCTIONS),
    ),
    Suite("mnist-c", "the 15 of MNIST-C, for digits", MNIST_C, _make_mnist_c),
    Suite(
        "3d", "the 6 that need depth maps: --depth", THREE_D, lambda: {n: n for n in depth.FUNCTIONS}
    ),
    Suite(
        "3d-camera", "the 3 of 3D common corruptions that need none", THREE_D,
        lambda: {f"{name}.{camera.THREE_D}": one for name, one in camera.FUNCTIONS.items()},
    ),
    Suite("ccc-easy", "pairs of 14, one after the other", CCC, lambda: ccc.pairs(ccc.EASY)),
    Suite("ccc", "pairs of 13, one after the other", CCC, lambda: ccc.pairs(ccc.MEDIUM)),
    *(
        Suite(
            dataset,
            f"the {len(tables)} of {dataset} in MedMNIST-C",
            MEDMNIST_C,
            partial(medmnist_c.list_corruptions, dataset),
        )
        for dataset, tables in medmnist_c.TABLES.items()
    ),
    Suite("ccc-hard", "pairs of 4, one after the other", CCC, lambda: ccc.pairs(ccc.HARD)),
)  # fmt: skip

SUITES: dict[str, Suite] = {suite.name: suite for suite in _ALL}
"""Every named set by its name."""


def suite(name: str) -> Named:
    """Return the corruptions of a named set, as ``bench.run(corruptions=...)`` takes them.

    Raises:
        UnknownNameError: no such set.

    >>> list(suite("holdout"))
    ['speckle_noise', 'gaussian_blur', 'spatter', 'saturate']
    """
    if name not in SUITES:
        raise UnknownNameError.of("set of corruptions", name, SUITES)
    return SUITES[name].corruptions


def find_suite(name: str) -> Suite:
    """Return the first set that has a corruption of the table.

    >>> find_suite("sparkles").name
    'c-bar'
    """
    return next(entry for entry in _ALL if name in entry.corruptions)


def merge(parts: Sequence[Named]) -> dict[str, str | CorruptionFunction]:
    """Join sets in order, each name once.

    Raises:
        InputError: two sets have one name for two different corruptions.
    """
    merged: dict[str, str | CorruptionFunction] = {}
    for part in parts:
        for name, corruption in part.items():
            if merged.setdefault(name, corruption) is not corruption:
                if merged[name] == corruption:
                    continue
                raise InputError(
                    f"{name!r} has different constants in two of the sets; run the sets one by one."
                )
    return merged


_UNLISTED = [name for name in CORRUPTIONS if not any(name in one.corruptions for one in _ALL)]
assert not _UNLISTED, f"{_UNLISTED}: add them to the Suite of their paper"
