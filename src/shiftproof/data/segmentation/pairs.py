"""Pairing images with their label maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from shiftproof.counts import pluralize
from shiftproof.errors import InputError

ENDINGS = (
    "_mask", "_masks", "_seg", "_label", "_labels", "_gt", "-mask", "_labelTrainIds", "_labelIds",
)  # fmt: skip
"""Suffixes that label maps may have after the stem of their image."""


def pair_masks(
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
    unpaired = [image for image, key in images.items() if key not in masks]
    if unpaired:
        raise InputError(
            f"{where}: {pluralize(len(unpaired), 'image has', 'images have')} no label map (first: "
            f"{unpaired[0]}). Add what is missing, or remove the images."
        )
    unused = sorted(set(masks) - set(images.values()))
    if unused and not subset:
        raise InputError(
            f"{where}: {pluralize(len(unused), 'label map has', 'label maps have')} no image (first: "
            f"{masks[unused[0]]}). Add what is missing, or remove the label maps."
        )
    return {image: masks[key] for image, key in images.items()}


def pair_by_stem(
    images: Mapping[str, str], masks: Mapping[str, str], *, where: str
) -> dict[str, str]:
    """Return the label map of each image by their names without suffix.

    Both map the path below the folder of images or label maps to the path below the root.

    Raises:
        InputError: as for :func:`pair_masks`, or two paths that differ only by their suffix.
    """
    images_by_stem = map_stems(images)
    masks_by_stem = strip_endings(map_stems(masks), images_by_stem)
    return pair_masks(
        {name: stem for stem, name in images_by_stem.items()}, masks_by_stem, where=where
    )


def map_stems(names: Mapping[str, str]) -> dict[str, str]:
    """Map the stem of each path, ``a/b`` for ``a/b.png``, to its path below the root.

    Raises:
        InputError: two paths have the same stem.
    """
    found: dict[str, str] = {}
    for inner, name in names.items():
        stem = str(PurePosixPath(inner).with_suffix(""))
        if stem in found:
            raise InputError(f"{found[stem]} and {name} differ only by their suffix; rename one.")
        found[stem] = name
    return found


def strip_endings(masks: Mapping[str, str], images: Mapping[str, str]) -> dict[str, str]:
    """Return label maps by the stems of their images: ``a`` for ``a_mask``.

    A name stays if an image has it, or if none has the name without the ending.
    """
    found: dict[str, str] = {}
    for stem, name in masks.items():
        stripped = next((stem.removesuffix(end) for end in ENDINGS if stem.endswith(end)), stem)
        found[stripped if stem not in images and stripped in images else stem] = name
    return found
