"""Converting PIL images and torch tensors to arrays and back."""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np
from PIL import Image as PillowImage

from shiftproof.corruptions.checks import check_image
from shiftproof.errors import ImageError
from shiftproof.types import Image


def to_array(image: object) -> Image:
    """Return a PIL image, a torch tensor ``(C, H, W)`` or an array as an array."""
    if isinstance(image, PillowImage.Image):
        if image.mode not in ("RGB", "L"):
            raise ImageError(
                f"A PIL image is of mode RGB or L; got {image.mode}. "
                'Convert it with image.convert("RGB").'
            )
        return np.asarray(image)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(image, torch.Tensor):
        tensor: Any = image
        if tensor.dtype != torch.uint8 or tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
            raise ImageError(
                "A tensor is a uint8 image (3, height, width) or (1, height, width); "
                f"got {tensor.dtype} {tuple(tensor.shape)}. Put the transform before those that "
                "scale to floats."
            )
        array = tensor.detach().cpu().numpy()
        return cast(Image, array[0] if len(array) == 1 else np.moveaxis(array, 0, -1))
    return check_image(image)


def convert_like(array: Image, image: object) -> object:
    """Convert an array to the type of ``image``."""
    if isinstance(image, PillowImage.Image):
        return PillowImage.fromarray(array)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(image, torch.Tensor):
        channels = array[np.newaxis] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        tensor: Any = image
        converted = torch.from_numpy(np.ascontiguousarray(channels)).to(tensor.device)
        tv_tensors = sys.modules.get("torchvision.tv_tensors")
        if tv_tensors is not None and isinstance(tensor, tv_tensors.Image):
            return cast(object, tv_tensors.Image(converted))
        return converted
    return array
