"""Preprocessing in two steps, between which an image can be corrupted.

``geometry`` resizes and crops 8-bit images; ``normalize`` scales them for the network. ImageNet-C
corrupts between the two, so they are two functions.

This module needs only numpy and Pillow: worker processes import it without loading a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from shiftproof.errors import ImageError, InputError, UnknownNameError
from shiftproof.io.function_code import identify_function
from shiftproof.io.images import MAX_PIXELS
from shiftproof.types import F32, U8, Image, Images, Settings

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "lanczos", "nearest"]
"""Pillow's resampling: with antialiasing for smaller images, except ``nearest``."""

ModelInput: TypeAlias = NDArray[np.float32]
"""``(N, C, H, W)`` float32: normalized images, the input of a network."""

_RESAMPLING = {
    "bilinear": PillowImage.Resampling.BILINEAR,
    "bicubic": PillowImage.Resampling.BICUBIC,
    "lanczos": PillowImage.Resampling.LANCZOS,
    "nearest": PillowImage.Resampling.NEAREST,
}


class Preprocessing(Protocol):
    """The preprocessing of images for a network; ``Preprocess`` is the usual one."""

    @property
    def size(self) -> tuple[int, int] | None:
        """``(height, width)`` that ``geometry`` returns; None if it depends on the image."""

    def geometry(self, image: Image) -> Image:
        """Resize and crop one ``(H, W, 3)`` uint8 RGB image of any size; it stays uint8."""

    def normalize(self, images: Images | Sequence[Image]) -> ModelInput:
        """Convert images processed by ``geometry`` to ``(N, C, H, W)`` float32."""

    def settings(self) -> Settings:
        """Return the settings that reproduce this preprocessing."""


class _Preprocessed(Protocol):
    @property
    def preprocess(self) -> Preprocessing: ...


Model = TypeVar("Model", bound=_Preprocessed)


@dataclass(frozen=True)
class Preprocess:
    """Resize, center crop, normalize: the evaluation preprocessing of nearly all image classifiers.

    Args:
        size: ``(height, width)`` of the network's input in pixels.
        resize: an int makes the shorter side that long and keeps the aspect ratio (the longer side
            is truncated to a whole pixel, as in torchvision); ``(height, width)`` gives exactly
            that size; None does not resize.
        interpolation: how to resample.
        mean: one number per channel, in units of an image that is scaled to 0..1.
        std: likewise; the result is ``(image / 255 - mean) / std``.
        channels: 3 for RGB; 1 for a network of gray images: luminosity by ITU-R 601-2 as
            Pillow's ``convert("L")``, computed after the corruption.
        odd_margin: the position of the crop if an odd number of pixels is cut off: ``"even"``
            rounds half of it to the even number, as torchvision; ``"down"`` cuts less at the top
            and left, as transformers.

    Raises:
        InputError: an invalid setting.

    >>> preprocess = Preprocess((224, 224), 256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> preprocess.geometry(np.zeros((300, 400, 3), np.uint8)).shape
    (224, 224, 3)
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    channels: Literal[1, 3] = 3
    odd_margin: Literal["even", "down"] = "even"

    def __post_init__(self) -> None:
        # Lists (from a JSON file, or torchvision's presets) are accepted, but are not hashable.
        for field in ("size", "mean", "std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if self.resize is not None and not isinstance(self.resize, int):
            object.__setattr__(self, "resize", tuple(self.resize))
        _check_pixels("size", self.size, 2)
        if isinstance(self.resize, tuple):
            _check_pixels("resize", self.resize, 2)
        elif self.resize is not None:
            _check_pixels("resize", (self.resize,), 1)
        if self.interpolation not in get_args(Interpolation):
            raise UnknownNameError.of("interpolation", self.interpolation, get_args(Interpolation))
        if self.odd_margin not in ("even", "down"):
            raise UnknownNameError.of("odd_margin", self.odd_margin, ["even", "down"])
        if self.channels not in (1, 3):
            raise InputError(f"channels: expected 1 (gray) or 3 (RGB), got {self.channels!r}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not np.isfinite(values).all():
                raise InputError(
                    f"{name}: expected {self.channels} finite numbers, one per channel, "
                    f"got {values}."
                )
        if min(self.std) <= 0:
            raise InputError(f"std: expected numbers above 0, got {self.std}.")

    def geometry(self, image: Image) -> Image:
        """Resize and center-crop one image; one smaller than the crop is padded with black.

        Args:
            image: ``(H, W, 3)`` uint8 RGB, any size from 1 pixel up; not changed.

        Returns:
            ``(*size, 3)`` uint8 RGB; with ``odd_margin="even"`` equal, pixel for pixel, to
            torchvision's ``Resize`` and ``CenterCrop`` on a Pillow image.

        Raises:
            ImageError: another shape or dtype.
        """
        check_image(image)
        resized = _resize(
            image, self._size_after_resize(image.shape[0], image.shape[1]), self.interpolation
        )
        return _center_crop(resized, self.size, self.odd_margin)

    def _size_after_resize(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize."""
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize

    def normalize(self, images: Images | Sequence[Image]) -> ModelInput:
        """Scale and normalize a batch: ``(image / 255 - mean) / std``.

        Args:
            images: ``(N, H, W, 3)`` uint8 RGB.

        Returns:
            ``(N, channels, H, W)`` float32, contiguous.

        Raises:
            ImageError: another shape or dtype.
        """
        batch = to_batch(images)
        planes = batch if self.channels == 3 else to_luminosity(batch)[..., None]
        values: ModelInput = planes.transpose(0, 3, 1, 2).astype(np.float32, order="C")
        # float32 in the order of torchvision's ToTensor and Normalize, for the same bits.
        values /= np.float32(255)
        values -= np.asarray(self.mean, np.float32)[:, None, None]
        values /= np.asarray(self.std, np.float32)[:, None, None]
        return values

    def settings(self) -> Settings:
        """Return the settings that reproduce this preprocessing, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            # Omitted if it is the default, so that runs of earlier versions can be resumed.
            if (name, value) != ("odd_margin", "even")
        }


@dataclass(frozen=True)
class CallablePreprocess:
    """Any function from an image to a network's input.

    For models whose preprocessing ``Preprocess`` cannot express. Corruptions then apply to the
    image as loaded, at full size, and the whole function runs after them, one image at a time in
    the process of the model.

    Args:
        function: from one ``(H, W, 3)`` uint8 RGB image to ``(C, h, w)`` float32, an array or a
            torch tensor on the CPU, of one shape for all images of a batch.
    """

    function: Callable[[Image], Any]

    @property
    def size(self) -> None:
        """None: images keep their own size until the function runs."""
        return None

    def geometry(self, image: Image) -> Image:
        """Return the image unchanged."""
        check_image(image)
        return image

    def normalize(self, images: Images | Sequence[Image]) -> ModelInput:
        """Call the function on each image.

        Args:
            images: ``(N, H, W, 3)`` uint8 RGB, or a sequence of ``(H, W, 3)`` of any sizes.

        Returns:
            ``(N, C, h, w)`` float32.

        Raises:
            ImageError: an image of another shape or dtype, or a result that is not ``(C, h, w)``
                or not of one shape.
        """
        inputs: list[F32] = []
        for image in images:
            check_image(image)
            result = np.asarray(self.function(image), dtype=np.float32)
            if result.ndim != 3:
                raise ImageError(
                    "The preprocessing function must return one array (C, H, W), "
                    f"got shape {result.shape}."
                )
            if inputs and result.shape != inputs[0].shape:
                raise ImageError(
                    "The preprocessing function must return one shape for all images of a batch, "
                    f"got {inputs[0].shape} and {result.shape}."
                )
            inputs.append(result)
        if not inputs:
            return np.zeros((0, 3, 1, 1), np.float32)
        return np.stack(inputs)

    def settings(self) -> Settings:
        """Return the function's name, with a fingerprint of its code and of what it binds."""
        return {"function": identify_function(self.function)}


def check_preprocess(preprocess: object) -> None:
    """Refuse what has not the methods of a preprocessing, such as a library's transform.

    Raises:
        InputError: neither ``Preprocess`` nor ``CallablePreprocess`` nor one like them.
    """
    if not all(hasattr(preprocess, name) for name in ("size", "geometry", "normalize", "settings")):
        raise InputError(
            f"preprocess: expected Preprocess(size, resize, ...), got {type(preprocess).__name__}. A "
            "function from one uint8 image (H, W, 3) to a float array (C, h, w) is "
            "CallablePreprocess(function); transforms of PIL images need "
            "PIL.Image.fromarray(image) in it."
        )


def group_by_geometry(models: Mapping[str, Model]) -> list[dict[str, Model]]:
    """Group models whose ``geometry`` returns the same image, so that it runs once for each
    group.
    """
    groups: dict[str, dict[str, Model]] = {}
    for name, model in models.items():
        # Functions can only be compared by name; mean and deviation are applied later.
        settings = model.preprocess.settings()
        shared = {key: value for key, value in settings.items() if key not in ("mean", "std")}
        key = name if model.preprocess.size is None else repr(shared)
        groups.setdefault(key, {})[name] = model
    return list(groups.values())


def check_image(image: Image) -> None:
    """Raise an ImageError unless ``image`` is ``(H, W, 3)`` uint8 with at least one pixel."""
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"Expected an image as a numpy array (H, W, 3) uint8, RGB, got {type(image).__name__}."
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(
            "Expected an image (H, W, 3) uint8, RGB, "
            f"got shape {image.shape}, {image.dtype}. {_advise(image, 3)}".rstrip()
        )


def count_images(images: Images | Sequence[Image]) -> int:
    """Return the number of images of a batch.

    Raises:
        ImageError: neither an array nor a sequence, so that they cannot be counted.
    """
    given: Any = images
    try:
        return len(given)
    except TypeError as error:
        raise ImageError(
            "Expected images as an array (N, H, W, 3) uint8, RGB, or a list of such (H, W, 3), got "
            f"{type(given).__name__}. Of an iterator make a list."
        ) from error


def to_batch(images: Images | Sequence[Image]) -> Images:
    """Return a batch ``(N, H, W, 3)`` uint8; a sequence of images of one size is stacked.

    Raises:
        ImageError: anything else.
    """
    if not isinstance(images, np.ndarray):
        for image in images:
            check_image(image)
        shapes = {image.shape for image in images}
        if len(shapes) != 1:
            raise ImageError(
                f"Expected a batch of images of one size, got the shapes {sorted(shapes)}."
            )
        return np.stack(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ImageError(
            "Expected a batch of images (N, H, W, 3) uint8, RGB, "
            f"got shape {images.shape}, {images.dtype}. {_advise(images, 4)}".rstrip()
        )
    return images


def to_luminosity(images: Images) -> U8:
    """Return ``(..., H, W)`` uint8 from ``(..., H, W, 3)``: Pillow's ``convert("L")`` exactly."""
    wide = images.astype(np.uint32)
    # ITU-R 601-2 weights .299, .587, .114 in 16-bit fixed point: Pillow's own rounding.
    weighted = 19595 * wide[..., 0] + 38470 * wide[..., 1] + 7471 * wide[..., 2] + 0x8000
    return cast("U8", (weighted >> 16).astype(np.uint8))


def _advise(array: NDArray[Any], dimensions: int) -> str:
    if array.dtype != np.uint8:
        return "Convert it to 0..255 first."
    if array.ndim == dimensions and array.shape[-3] == 3:
        return "The channels come last here; move them with numpy.moveaxis."
    if array.ndim == dimensions - 1 and dimensions == 3:
        return "Repeat a gray image three times."
    if array.ndim == dimensions - 1 and array.shape[-1] == 3:
        return "Of one image make a batch: image[None]."
    return ""


def check_overrides(options: Mapping[str, Any]) -> None:
    """Refuse values in place of a model's own that no preprocessing takes, before it is loaded.

    Args:
        options: ``size``, ``resize``, ``interpolation``, ``mean`` and ``std``, None for the model's.

    Raises:
        InputError: an invalid value; UnknownNameError: of the interpolation.
    """
    names = ("size", "resize", "interpolation", "mean", "std")
    given = {name: options[name] for name in names if options.get(name) is not None}
    if isinstance(given.get("size"), int):
        given["size"] = (given["size"], given["size"])
    lengths = {len(given[name]) for name in ("mean", "std") if name in given}
    if lengths == {1}:  # of a model of gray images
        given = {"channels": 1, "mean": (0.0,), "std": (1.0,), **given}
    Preprocess(**{"size": (1, 1), "resize": None, **given})


def _check_pixels(name: str, values: tuple[int, ...], count: int) -> None:
    whole = all(isinstance(value, int) and value > 0 for value in values)
    if len(values) != count or not whole:
        expected = "a whole number of pixels" if count == 1 else "(height, width) in whole pixels"
        raise InputError(f"{name}: expected {expected} above 0, got {values}.")


def _resize(image: Image, size: tuple[int, int], interpolation: Interpolation) -> Image:
    if image.shape[:2] == size:
        return image
    if size[0] * size[1] > MAX_PIXELS:
        # A strip of 1 x 60,000 pixels would take gigabytes before the crop.
        raise ImageError(
            f"An image of {image.shape[0]} x {image.shape[1]} pixels would be resized to "
            f"{size[0]} x {size[1]}, which is more than the limit of "
            f"{MAX_PIXELS // 1_000_000} megapixels; cut it first."
        )
    pillow = PillowImage.fromarray(image).resize((size[1], size[0]), _RESAMPLING[interpolation])
    return np.asarray(pillow, dtype=np.uint8)


def _center_crop(image: Image, size: tuple[int, int], odd_margin: str) -> Image:
    height, width = size
    if image.shape[0] < height or image.shape[1] < width:
        above, left = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
        # An odd row or column is added at the bottom and right, as in torchvision.
        padding = ((above // 2, (above + 1) // 2), (left // 2, (left + 1) // 2), (0, 0))
        image = np.pad(image, padding)
    # round() rounds half to even, as torchvision does.
    halve = round if odd_margin == "even" else int
    top = halve((image.shape[0] - height) / 2)
    start = halve((image.shape[1] - width) / 2)
    # A copy, so that the result is writable and never the caller's own array.
    cropped: Image = image[top : top + height, start : start + width].copy()
    return cropped
