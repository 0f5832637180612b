"""Deterministic subsets of a dataset."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import TypeVar

from shiftproof.data.dataset import ImageData
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.types import Sample

SUBSETS = ("robustbench",)
"""Names of the published subsets."""

_VALIDATION_FILE = re.compile(r"ILSVRC2012_val_(\d{8})(?=\.|$)")

DataT = TypeVar("DataT", bound=ImageData)


def choose_images(data: DataT, images: int | str) -> DataT:
    """Return the dataset restricted to a subset of its images, in their order.

    A number of images is drawn by their ids, so the draw is the same in every run and for every
    model; with labels it is stratified by class. Draws are nested: 10,000 images contain the 5,000.

    Args:
        data: the dataset; not modified.
        images: number of images, at least 1, all if there are fewer; or the name of a list:
            "robustbench" (Croce et al. 2021) is the 5,000 ImageNet validation images of
            RobustBench.

    Raises:
        InputError: a number below 1, or a dataset without the images of a list.
        UnknownNameError: no such list.
    """
    if isinstance(images, str):
        return data.narrow(_select_list(data, images), images)
    if isinstance(images, bool) or images < 1:
        raise InputError(f"Expected 1 image or more, got {images!r}.")
    if images >= len(data):
        return data
    return data.narrow(draw_samples(data.samples, images), "drawn by id, stratified by label")


def draw_samples(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Draw ``count`` samples by their ids, stratified by class, and return them in their order.

    Within a class of n images, sorted by the digests of their ids, image i (from 0) gets the rank
    (i + 1/2) / n; the images with the lowest ranks are drawn.
    """
    classes: dict[int | None, list[tuple[bytes, int]]] = {}
    for index, sample in enumerate(samples):
        digest = hashlib.sha256(sample.id.encode("utf-8", "surrogateescape")).digest()
        classes.setdefault(sample.label, []).append((digest, index))
    ranked = [
        ((rank + 0.5) / len(members), digest, index)
        for members in classes.values()
        for rank, (digest, index) in enumerate(sorted(members))
    ]
    return [samples[index] for index in sorted(index for _, _, index in sorted(ranked)[:count])]


def _select_list(data: ImageData, name: str) -> list[Sample]:
    if name not in SUBSETS:
        raise UnknownNameError.of("list of images", name, SUBSETS)
    text = (resources.files("shiftproof.data") / "subsets" / f"{name}.txt").read_text("utf-8")
    wanted = {
        int(word) for line in text.splitlines() if not line.startswith("#") for word in line.split()
    }
    by_number = {
        int(match[1]): sample
        for sample in data.samples
        if (match := _VALIDATION_FILE.search(sample.id))
    }
    found = wanted & by_number.keys()
    if len(found) < len(wanted):
        raise InputError(
            f"{data.name} has {len(found):,} of the {len(wanted):,} images of the list {name!r}; "
            "expected ImageNet's validation images under their own names "
            "(ILSVRC2012_val_00000001.JPEG)."
        )
    chosen = {by_number[number].id for number in found}
    return [sample for sample in data.samples if sample.id in chosen]
