"""Pairing images with their label maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from shiftproof.errors import InputError

ENDINGS = (
    "_mask", "_masks", "_seg", "_label", "_labels", "_gt", "-mask", "_labelTrainIds", "_labelIds",
)  # fmt: skip
"""Suffixes that label maps may have after the stem of their image."""


def pair(
    images: Mapping[str, str],
    masks: Mapping[str, str],
    *,
    where: str,
    subset: bool = False,
) -> dict[str, str]:
    """Return the label map of each image.

    Args:
        images: from each image's path to its key, usually the stem.
        masks: from key to path of the label maps.
        where: the dataset, for errors.
        subset: whether there may be label maps without an image.

    Raises:
        InputError: an image without a label map, or a label map without an image.
    """
    without = [image for image, key in images.items() if key not in masks]
    if without:
        raise InputError(
            f"{where}: {_count(without, 'image has', 'images have')} no label map (first: "
            f"{without[0]}). Add what is missing, or take the images away."
        )
    unused = sorted(set(masks) - set(images.values()))
    if unused and not subset:
        raise InputError(
            f"{where}: {_count(unused, 'label map has', 'label maps have')} no image (first: "
            f"{masks[unused[0]]}). Add what is missing, or take the label maps away."
        )
    return {image: masks[key] for image, key in images.items()}


def pair_by_stem(
    images: Mapping[str, str], masks: Mapping[str, str], *, where: str
) -> dict[str, str]:
    """Return the label map of each image by their names without suffix.

    Both are mapped from the path below the folder of their kind to that below the root.

    Raises:
        InputError: as :func:`pair`, or two paths that differ by their suffix alone.
    """
    pictures = stems(images)
    maps = without_ending(stems(masks), pictures)
    return pair({name: stem for stem, name in pictures.items()}, maps, where=where)


def stems(names: Mapping[str, str]) -> dict[str, str]:
    """Map the stem of each path, ``a/b`` for ``a/b.png``, to its path below the root.

    Raises:
        InputError: two paths have the same stem.
    """
    found: dict[str, str] = {}
    for inner, name in names.items():
        stem = str(PurePosixPath(inner).with_suffix(""))
        if stem in found:
            raise InputError(f"{found[stem]} and {name} differ by their suffix alone; rename one.")
        found[stem] = name
    return found


def without_ending(masks: Mapping[str, str], images: Mapping[str, str]) -> dict[str, str]:
    """Return label maps by the stem of their image: ``a`` for ``a_mask``, unless an image has that
    name.
    """
    found: dict[str, str] = {}
    for stem, name in masks.items():
        plain = next((stem.removesuffix(end) for end in ENDINGS if stem.endswith(end)), stem)
        found[plain if stem not in images and plain in images else stem] = name
    return found


def _count(names: list[str], one: str, many: str) -> str:
    return f"{len(names):,} {one if len(names) == 1 else many}"
