"""The corruptions on batches of torch tensors, on the device where they are.

They are defined as for arrays; random numbers are drawn by the device's generator, so the pixels
differ, but not their distribution. No image is copied to the host. Tensors on the CPU are corrupted as
arrays, which is faster there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shiftproof.corruptions.checks import check_severity
from shiftproof.corruptions.table import COMMON, HOLDOUT, corrupt
from shiftproof.corruptions.torch import blur, digital, jpeg, noise, weather
from shiftproof.corruptions.torch.filters import FLOAT_SLACK, Draws, Function, use_float32_products
from shiftproof.counts import pluralize
from shiftproof.errors import ImageError, InputError, UnknownNameError
from shiftproof.rng import check_seed, generator


def corrupt_tensor(
    images: Tensor, name: str, *, severity: float, keys: Sequence[str], seed: int = 0
) -> Tensor:
    """Return corrupted copies of a batch, on its device.

    Args:
        images: ``(N, 3, H, W)`` or ``(N, 1, H, W)`` uint8 in 0..255, RGB.
        name: one with a form for devices, as the 15 common corruptions and the 4 holdout ones have.
        severity: 1 to 5; between whole severities the constants are interpolated.
        keys: one for each image; an image's pixels depend on seed, name, its key and the kind of
            device, not on the batch.
        seed: any integer.

    Returns:
        uint8 of the same shape and device.

    Raises:
        UnknownNameError: no such corruption, or one without a version for devices.
        InputError: no such severity, or not one key for each image.
        ImageError: not such a tensor.
    """
    if name not in FUNCTIONS:
        raise UnknownNameError.of("corruption", name, FUNCTIONS)
    level, seed = check_severity(severity), check_seed(seed)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ImageError(
            "A batch is a uint8 tensor (N, 3, height, width) or (N, 1, height, width); "
            f"got {images.dtype} {tuple(images.shape)}."
        )
    if images.numel() == 0:
        raise ImageError(f"A batch has at least one image of one pixel; got {tuple(images.shape)}.")
    if len(keys) != len(images):
        raise InputError(
            f"Each image needs a key: got {pluralize(len(images), 'image')} and "
            f"{pluralize(len(keys), 'key')}."
        )
    if images.device.type == "cpu":
        return _corrupt_on_cpu(images, name, level, keys, seed)
    return corrupt_on_device(images, name, level, keys, seed)


def _corrupt_on_cpu(
    images: Tensor, name: str, severity: float, keys: Sequence[str], seed: int
) -> Tensor:
    import cv2

    planes = images.contiguous().numpy()
    out = np.empty_like(planes)
    # A buffer for one image at a time, whose memory stays in the cache.
    image = np.empty((*planes.shape[2:], 3), np.uint8)
    for source, target, key in zip(planes, out, keys, strict=True):
        if len(source) == 1:
            target[0] = corrupt(source[0], name, severity=severity, seed=seed, key=key)
        else:
            # OpenCV interleaves planes several times faster than a strided copy does.
            cv2.merge((source[0], source[1], source[2]), image)
            result = corrupt(image, name, severity=severity, seed=seed, key=key)
            cv2.split(result, (target[0], target[1], target[2]))
    return torch.from_numpy(out)


def corrupt_on_device(
    images: Tensor, name: str, severity: float, keys: Sequence[str], seed: int
) -> Tensor:
    """Corrupt a batch in torch on any device, also on the CPU; arguments as for ``corrupt_tensor``."""
    sources = []
    for key in keys:
        host = generator(seed, name, key)
        fields = torch.Generator(device=images.device)
        fields.manual_seed(int(host.integers(2**63)))
        sources.append(Draws(host, fields))
    with use_float32_products(images.device):
        result = FUNCTIONS[name](images.float(), severity, sources)
    return (result + FLOAT_SLACK).clamp(0, 255).to(torch.uint8)


FUNCTIONS: dict[str, Function] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": jpeg.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": weather.spatter,
    "saturate": digital.saturate,
}
"""The corruptions that have a form in torch, by name: the published ones first."""

assert tuple(FUNCTIONS)[: len(COMMON) + len(HOLDOUT)] == (*COMMON, *HOLDOUT), (
    "A further corruption stands behind the published ones."
)
