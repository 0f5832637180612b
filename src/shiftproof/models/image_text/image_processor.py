"""Conversion of transformers' image processors to ``Preprocess``.

The configuration of a processor is converted, and the result compared with the processor on two
pictures: a processor with a further or unsupported step is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from shiftproof.errors import InputError, ModelError
from shiftproof.models.preprocess import Interpolation, Preprocess
from shiftproof.types import Image

_RESAMPLING: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Interpolations by Pillow's numbers, which are in the configuration."""

_LEVELS = 2.5
"""Maximum difference of a pixel in 0..255: the two libraries round at different steps of the
resampling.
"""

_CONVNEXT_WARPS = 384
"""From this size on processors with ``crop_pct`` do not crop (ConvNeXT, Liu et al. 2022)."""


def convert_processor(processor: Any, name: str) -> Preprocess:
    """Return the ``Preprocess`` that is equivalent to an image processor.

    Raises:
        ModelError: there is none.
    """
    kind = type(processor).__name__
    config: dict[str, Any] = processor.to_dict()
    try:
        preprocess = _convert_config(config)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise _make_error(name, kind, str(error)) from error
    for picture in _make_pictures():
        off = _measure_difference(processor, preprocess, picture)
        if off > _LEVELS:
            height, width = picture.shape[:2]
            raise _make_error(
                name, kind, f"a picture of {height} x {width} pixels comes out otherwise"
            )
    return preprocess


def _make_error(name: str, kind: str, reason: str) -> ModelError:
    return ModelError(
        f"{name}: its {kind} cannot be expressed as a resize, a crop and a normalization ({reason}). "
        "Build the model yourself and wrap it: Classifier(model, CallablePreprocess(function))."
    )


def _convert_config(config: Mapping[str, Any]) -> Preprocess:
    """Convert a processor's configuration.

    Raises:
        ValueError: ``Preprocess`` does not support it.
    """
    resize, size = _convert_sizes(config)
    number = config.get("resample")
    if config.get("do_resize") and number is not None and int(number) not in _RESAMPLING:
        raise ValueError(f"it resamples by Pillow's number {int(number)}")
    mean, std = _convert_normalization(config)
    return Preprocess(
        size,
        resize,
        _RESAMPLING[2 if number is None else int(number)],
        mean=mean,
        std=std,
        odd_margin="down",
    )


def _convert_sizes(
    config: Mapping[str, Any],
) -> tuple[int | tuple[int, int] | None, tuple[int, int]]:
    """Return the resize, and the size of the result."""
    resize = _resize(config["size"]) if config.get("do_resize") else None
    if config.get("do_pad"):
        raise ValueError("it pads")
    share = config.get("crop_pct")
    if share and isinstance(resize, int):
        if resize >= _CONVNEXT_WARPS:
            return (resize, resize), (resize, resize)
        return int(resize / share), (resize, resize)
    if config.get("do_center_crop"):
        crop = _resize(config["crop_size"])
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


def _convert_normalization(
    config: Mapping[str, Any],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation in units of an image in 0..1."""
    unit = 255 * float(config["rescale_factor"]) if config.get("do_rescale") else 255.0
    if not config.get("do_normalize"):
        return (0.0,) * 3, (1 / unit,) * 3
    mean, std = (_repeat(config[name]) for name in ("image_mean", "image_std"))
    return tuple(value / unit for value in mean), tuple(value / unit for value in std)


def _repeat(values: Any) -> tuple[float, ...]:
    if isinstance(values, int | float):
        return (float(values),) * 3
    return tuple(float(value) for value in values)


# ---------------------------------------------------------------- comparison with the processor


def _make_pictures() -> list[Image]:
    """Return two pictures of odd sizes, landscape and portrait, of smooth ramps and a texture."""
    found = []
    for height, width in ((301, 467), (389, 260)):
        y, x = np.mgrid[:height, :width]
        planes = (255 * x / width, 255 * y / height, 128 + 90 * np.sin(x / 9) * np.cos(y / 7))
        found.append(np.stack(planes, axis=2).astype(np.uint8))
    return found


def _measure_difference(processor: Any, preprocess: Preprocess, picture: Image) -> float:
    """Return the maximum difference of a pixel in 0..255; infinity if the shapes differ."""
    theirs = processor(images=[picture], return_tensors="np", input_data_format="channels_last")
    [expected] = np.asarray(theirs["pixel_values"], dtype=np.float64)
    [found] = preprocess.normalize([preprocess.geometry(picture)])
    if expected.shape != found.shape:
        return float("inf")
    levels = np.abs(found - expected) * 255 * np.array(preprocess.std)[:, None, None]
    return float(cast("np.floating[Any]", levels.max()))
