"""The preprocessing of an image processor of transformers, in the two halves of ours.

What a processor says of itself is expressed, and then held against what it does to two pictures: a
processor with a step that it does not say, or that we do not have, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from shiftproof.errors import InputError, ModelError
from shiftproof.models.preprocess import Interpolation, Preprocess
from shiftproof.types import Image

_RESAMPLING: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers, which processors keep."""

_LEVELS = 2.5
"""Of 255, that a pixel may differ by: the two libraries round in other places when they resample."""

_CONVNEXT_WARPS = 384
"""From this size on processors with ``crop_pct`` do not crop (ConvNeXT, Liu et al. 2022)."""


def preprocess_of_processor(processor: Any, name: str) -> Preprocess:
    """Return the ``Preprocess`` that does what an image processor does.

    Raises:
        ModelError: it does something that ``Preprocess`` cannot express.
    """
    kind = type(processor).__name__
    told: dict[str, Any] = processor.to_dict()
    try:
        preprocess = _express(told)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise _refusal(name, kind, str(error)) from error
    for picture in _pictures():
        off = _difference(processor, preprocess, picture)
        if off > _LEVELS:
            height, width = picture.shape[:2]
            raise _refusal(
                name, kind, f"a picture of {height} x {width} pixels comes out otherwise"
            )
    return preprocess


def _refusal(name: str, kind: str, reason: str) -> ModelError:
    return ModelError(
        f"{name}: its {kind} cannot be expressed as a resize, a crop and a normalization ({reason}). "
        "Build the model yourself and wrap it: Classifier(model, CallablePreprocess(function))."
    )


def _express(told: Mapping[str, Any]) -> Preprocess:
    """Return what a processor says of itself.

    Raises:
        ValueError: something that ``Preprocess`` has not.
    """
    resize, size = _sizes(told)
    number = told.get("resample")
    if told.get("do_resize") and number is not None and int(number) not in _RESAMPLING:
        raise ValueError(f"it resamples by Pillow's number {int(number)}")
    mean, std = _normalization(told)
    return Preprocess(
        size,
        resize,
        _RESAMPLING[2 if number is None else int(number)],
        mean=mean,
        std=std,
        odd_margin="down",
    )


def _sizes(told: Mapping[str, Any]) -> tuple[int | tuple[int, int] | None, tuple[int, int]]:
    """Return what images are resized to, and the size that comes out."""
    resize = _resize(told["size"]) if told.get("do_resize") else None
    if told.get("do_pad"):
        raise ValueError("it pads")
    share = told.get("crop_pct")
    if share and isinstance(resize, int):
        if resize >= _CONVNEXT_WARPS:
            return (resize, resize), (resize, resize)
        return int(resize / share), (resize, resize)
    if told.get("do_center_crop"):
        crop = _resize(told["crop_size"])
        return resize, (crop, crop) if isinstance(crop, int) else crop
    if not isinstance(resize, tuple):
        raise ValueError("images keep their own shapes")
    return resize, resize


def _resize(size: Any) -> int | tuple[int, int]:
    if isinstance(size, int):
        return size
    known = {name: value for name, value in dict(size).items() if value is not None}
    if set(known) == {"height", "width"}:
        return int(known["height"]), int(known["width"])
    if set(known) == {"shortest_edge"}:
        return int(known["shortest_edge"])
    raise ValueError(f"it has sizes by {', '.join(sorted(known)) or 'nothing'}")


def _normalization(told: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation in units of an image in 0..1."""
    unit = 255 * float(told["rescale_factor"]) if told.get("do_rescale") else 255.0
    if not told.get("do_normalize"):
        return (0.0,) * 3, (1 / unit,) * 3
    mean, std = (_three(told[name]) for name in ("image_mean", "image_std"))
    return tuple(value / unit for value in mean), tuple(value / unit for value in std)


def _three(values: Any) -> tuple[float, ...]:
    if isinstance(values, int | float):
        return (float(values),) * 3
    return tuple(float(value) for value in values)


# ---------------------------------------------------------------- held against what it does


def _pictures() -> list[Image]:
    """Return two pictures of odd sizes, lying and standing, of smooth ramps and a texture."""
    found = []
    for height, width in ((301, 467), (389, 260)):
        y, x = np.mgrid[:height, :width]
        planes = (255 * x / width, 255 * y / height, 128 + 90 * np.sin(x / 9) * np.cos(y / 7))
        found.append(np.stack(planes, axis=2).astype(np.uint8))
    return found


def _difference(processor: Any, preprocess: Preprocess, picture: Image) -> float:
    """Return by how many levels of 255 a pixel differs at most; infinity where the shape does."""
    theirs = processor(images=[picture], return_tensors="np", input_data_format="channels_last")
    [expected] = np.asarray(theirs["pixel_values"], dtype=np.float64)
    [found] = preprocess.normalize([preprocess.geometry(picture)])
    if expected.shape != found.shape:
        return float("inf")
    levels = np.abs(found - expected) * 255 * np.array(preprocess.std)[:, None, None]
    return float(cast("np.floating[Any]", levels.max()))
