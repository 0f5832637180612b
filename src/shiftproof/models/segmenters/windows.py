"""Resizing and sliding windows for segmentation, and merging the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from shiftproof.errors import InputError, ModelError
from shiftproof.types import F32, F64, Image, LabelMap, Settings

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Framing:
    """How an image is resized and cut into windows.

    Attributes:
        resize: length of the shorter side in pixels, or (height, width); None does not resize.
        window: height and width of the sliding window; None uses the whole image.
        stride: step of the window, down and across, in pixels.
    """

    resize: int | Size | None = None
    window: Size | None = None
    stride: Size | None = None

    def scale(self, image: Image) -> Image:
        """Return the image resized for the network."""
        return resize_image(image, self.target(image.shape[:2]))

    def target(self, size: Sequence[int]) -> Size:
        """Return the resized (height, width) of an image of ``size``."""
        height, width = size
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        # As in torchvision, the longer side is truncated to an integer.
        if height <= width:
            return self.resize, max(1, int(self.resize * width / height))
        return max(1, int(self.resize * height / width)), self.resize

    def settings(self) -> Settings:
        """Return the settings, for JSON."""
        return {
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "window": None if self.window is None else list(self.window),
            "stride": None if self.stride is None else list(self.stride),
        }

    def describe(self) -> str:
        """Return a description of the resizing and windows."""
        if self.resize is None:
            text = "images at their size"
        elif isinstance(self.resize, int):
            text = f"shorter side resized to {self.resize}"
        else:
            text = f"resized to {self.resize[0]}x{self.resize[1]}"
        if self.window is None or self.stride is None:
            return text
        window, stride = ("x".join(map(str, one)) for one in (self.window, self.stride))
        return f"{text}, windows of {window} every {stride} pixels"


def resize_image(image: Image, size: Size) -> Image:
    """Resize bilinearly with antialiasing (Pillow), as torchvision and transformers do."""
    if image.shape[:2] == size:
        return image
    picture = PillowImage.fromarray(np.ascontiguousarray(image))
    height, width = size
    return np.asarray(picture.resize((width, height), PillowImage.Resampling.BILINEAR))


def window_spans(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return (start, end) of the windows along a side; the last is moved back to end with it.

    As in mmsegmentation's ``slide_inference``; a side shorter than the window has one window.

    >>> window_spans(10, 4, 3)
    [(0, 4), (3, 7), (6, 10)]
    >>> window_spans(9, 4, 3)
    [(0, 4), (3, 7), (5, 9)]
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = [min(place * stride + window, length) for place in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def slide(image: Image, framing: Framing, score: Callable[[list[Image]], Sequence[Any]]) -> F32:
    """Return each pixel's logits, averaged over all windows that contain it.

    ``image`` is resized already, ``framing`` has a window and a stride, and ``score`` returns ``(K,
    h, w)`` logits for each image of a list, which are resized to the window. Returns ``(K, H, W)``
    float32.

    Raises:
        ModelError: the model returns label maps, which cannot be averaged.
    """
    assert framing.window is not None
    assert framing.stride is not None
    height, width = image.shape[:2]
    rows = window_spans(height, framing.window[0], framing.stride[0])
    columns = window_spans(width, framing.window[1], framing.stride[1])
    total: F32 | None = None
    count = np.zeros((height, width), np.float32)
    for top, bottom in rows:
        for left, right in columns:
            (answer,) = score([np.ascontiguousarray(image[top:bottom, left:right])])
            logits = _to_array(answer)
            if logits.ndim != 3:
                raise ModelError(
                    "it gives label maps, which cannot be averaged over windows; leave the window "
                    "out, or have it give logits (K, H, W)."
                )
            if total is None:
                total = np.zeros((len(logits), height, width), np.float32)
            total[:, top:bottom, left:right] += resize_logits(logits, (bottom - top, right - left))
            count[top:bottom, left:right] += 1
    assert total is not None
    return total / count


def resize_logits(logits: F32, size: Size) -> F32:
    """Resize ``(K, h, w)`` logits bilinearly to height and width (``align_corners`` false)."""
    import cv2

    height, width = size
    if logits.shape[1:] == size:
        return logits
    planes = [
        cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in logits
    ]
    return np.stack(planes).astype(np.float32, copy=False)


def to_labels(answer: Any, size: Size) -> LabelMap:
    """Return the argmax class of each pixel of an image of ``size``; ties go to the first class.

    Logits are resized bilinearly to the image's size before the argmax, without antialiasing and
    with ``align_corners`` false, as in torchvision and transformers; label maps are resized to the
    nearest pixel.

    Args:
        answer: ``(K, h, w)`` logits or ``(h, w)`` integers; numpy or torch.
        size: height and width of the image.

    Raises:
        ModelError: another shape or dtype.
    """
    shape = tuple(getattr(answer, "shape", ()))
    if len(shape) == 3 and _is_tensor(answer):
        return _classify_tensor(answer, size)
    array = _to_array(answer)
    if array.ndim == 3 and array.dtype.kind == "f" and len(array):
        return _classify_array(array.astype(np.float32, copy=False), size)
    if array.ndim == 2 and array.dtype.kind in "iu" and array.size:
        return _resize_labels(array, size)
    raise ModelError(
        "expected logits (K, H, W) in floating point or a label map (H, W) of integers, got "
        f"{array.dtype} {array.shape}."
    )


def sum_probabilities(answer: Any, pixels: int) -> F64:
    """Return sums over an image's pixels for label-free estimates of the mean IoU.

    Args:
        answer: ``(K, h, w)`` logits, numpy or torch.
        pixels: number of the image's pixels; sums over fewer logits are scaled to it.

    Returns:
        ``(3, K)``: per class the sum of its probabilities over the pixels predicted as this class,
            the sum over all pixels, and the number of pixels predicted as this class.

    >>> logits = np.log([[[0.75, 0.5]], [[0.25, 0.5]]])
    >>> sum_probabilities(logits, pixels=4)
    array([[2.5, 0. ],
           [2.5, 1.5],
           [4. , 0. ]])
    """
    logits = _to_array(answer).astype(np.float64).reshape(len(answer), -1)
    probabilities = np.exp(logits - logits.max(0))
    probabilities /= probabilities.sum(0)
    best, classes = probabilities.argmax(0), len(probabilities)
    sums = np.stack(
        [
            np.bincount(best, probabilities.max(0), classes),
            probabilities.sum(1),
            np.bincount(best, minlength=classes),
        ]
    )
    return np.asarray(sums * (pixels / logits.shape[1]))


def _classify_tensor(logits: Any, size: Size) -> LabelMap:
    import torch

    if not logits.is_floating_point():
        raise ModelError(f"expected logits (K, H, W) in floating point, got {logits.dtype}.")
    if tuple(logits.shape[1:]) != size:
        logits = torch.nn.functional.interpolate(
            logits[None].float(), size=size, mode="bilinear", align_corners=False
        )[0]
    labels: LabelMap = logits.argmax(0).to(torch.int16).cpu().numpy()
    return labels


def _classify_array(logits: F32, size: Size) -> LabelMap:
    """Return the argmax, class by class: all logits at the image's size may not fit into memory."""
    best = resize_logits(logits[:1], size)[0].copy()
    labels = np.zeros(size, np.int16)
    for place in range(1, len(logits)):
        plane = resize_logits(logits[place : place + 1], size)[0]
        better = plane > best
        labels[better] = place
        np.maximum(best, plane, out=best)
    return labels


def _resize_labels(labels: Any, size: Size) -> LabelMap:
    import cv2

    if labels.min() < -1 or labels.max() > np.iinfo(np.int16).max:
        raise ModelError(f"expected numbers of classes, got {labels.min()} to {labels.max()}.")
    found = np.ascontiguousarray(labels.astype(np.int16))
    if found.shape == size:
        return found
    height, width = size
    return np.asarray(
        cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.int16
    )


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "device")


def _to_array(value: Any) -> Any:
    if _is_tensor(value):
        value = value.detach().float().cpu() if value.is_floating_point() else value.cpu()
        return value.numpy()
    return np.asarray(value)


def check_framing(framing: Framing) -> None:
    """Check the sizes of a framing.

    Raises:
        InputError: a size below 1, or a stride that leaves gaps between windows.
    """
    sizes = {"resize": framing.resize, "window": framing.window, "stride": framing.stride}
    for name, size in sizes.items():
        values = size if isinstance(size, tuple) else (size,)
        if any(value is not None and not 1 <= value <= 100_000 for value in values):
            raise InputError(f"{name}: expected pixels, 1 to 100000, got {size!r}.")
    if framing.window is None and framing.stride is not None:
        raise InputError("stride: there is no window to move; give one, such as window=512.")
    pairs = zip(framing.stride or (), framing.window or (), strict=False)
    if any(stride > window for stride, window in pairs):
        raise InputError(
            f"stride: expected no more than the window {framing.window}, got {framing.stride}: there "
            "would be gaps."
        )
