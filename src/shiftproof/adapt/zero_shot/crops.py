"""Views of one image: itself, and randomly mirrored random crops."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageOps

from shiftproof.adapt.learning.augmix import draw_crop
from shiftproof.adapt.learning.losses import entropy
from shiftproof.adapt.learning.pixels import PixelSpace
from shiftproof.rng import generator
from shiftproof.types import Image


def crop_views(image: Image, count: int, rng: np.random.Generator) -> Image:
    """Return ``(count, H, W, 3)`` uint8: the image, and crops of 8 to 100 % of its area.

    Each crop is resized bilinearly to the image's size and randomly mirrored, as in the published
    code of TPT and ZERO.

    Args:
        image: ``(H, W, 3)`` uint8.
        count: number of views, 1 or more.
        rng: random generator for the image.
    """
    picture = PillowImage.fromarray(image)
    views = [image]
    for _ in range(count - 1):
        box = draw_crop(rng, *picture.size)
        view = picture.resize(picture.size, PillowImage.Resampling.BILINEAR, box=box)
        views.append(np.asarray(ImageOps.mirror(view) if rng.random() < 0.5 else view))
    return cast("Image", np.stack(views))


def make_views(
    pixels: PixelSpace, image: torch.Tensor, count: int, *, seed: int, method: str
) -> torch.Tensor:
    """Return the preprocessed views ``(count, C, H, W)`` of one preprocessed image ``(1, C, H,
    W)``.

    The crops depend only on the seed and the image's pixels, so that its prediction does not depend
    on its position in the stream.
    """
    shown = pixels.to_pixels(image)[0].permute(1, 2, 0).cpu().numpy()
    shown = np.rint(shown * 255).astype(np.uint8)
    key = hashlib.blake2b(shown.tobytes(), digest_size=16).hexdigest()
    rng = generator(seed, method, "x".join(map(str, shown.shape)), key)
    cut = torch.from_numpy(crop_views(shown, count, rng)[1:]).permute(0, 3, 1, 2)
    return torch.cat([image.float(), pixels.to_inputs(cut.float() / 255).to(image.device)])


def order_by_confidence(logits: torch.Tensor) -> torch.Tensor:
    """Return the indices of the rows of ``(N, K)`` logits by ascending entropy."""
    return entropy(logits).sort(stable=True).indices


def count_confident(share: float, views: int) -> int:
    """Return a share of the number of views, rounded down, at least one."""
    return max(1, int(share * views))
