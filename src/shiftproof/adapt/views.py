"""Views of one image: itself, and random crops of it that are mirrored by chance."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageOps

from shiftproof.adapt.augmix import draw_crop
from shiftproof.adapt.losses import entropy
from shiftproof.adapt.pixels import PixelSpace
from shiftproof.rng import generator
from shiftproof.types import Image


def crop_views(image: Image, count: int, rng: np.random.Generator) -> Image:
    """Return ``(count, H, W, 3)`` uint8: the image, and crops of 8 to 100 % of its area.

    Each crop is resized to the image's size, bilinearly, and mirrored by chance, as TPT's and
    ZERO's published code has it.

    Args:
        image: ``(H, W, 3)`` uint8.
        count: of all views, 1 or more.
        rng: of the image.
    """
    picture = PillowImage.fromarray(image)
    views = [image]
    for _ in range(count - 1):
        box = draw_crop(rng, *picture.size)
        view = picture.resize(picture.size, PillowImage.Resampling.BILINEAR, box=box)
        views.append(np.asarray(ImageOps.mirror(view) if rng.random() < 0.5 else view))
    return cast("Image", np.stack(views))


def view_inputs(
    pixels: PixelSpace, image: torch.Tensor, count: int, *, seed: int, method: str
) -> torch.Tensor:
    """Return the views ``(count, C, H, W)`` of one prepared image ``(1, C, H, W)``, prepared
    likewise.

    The crops are a function of the seed and of the image's pixels, so that its answer is the same
    wherever it stands.
    """
    shown = pixels.to_pixels(image)[0].permute(1, 2, 0).cpu().numpy()
    shown = np.rint(shown * 255).astype(np.uint8)
    key = hashlib.blake2b(shown.tobytes(), digest_size=16).hexdigest()
    rng = generator(seed, method, "x".join(map(str, shown.shape)), key)
    cut = torch.from_numpy(crop_views(shown, count, rng)[1:]).permute(0, 3, 1, 2)
    return torch.cat([image.float(), pixels.to_inputs(cut.float() / 255).to(image.device)])


def order_by_confidence(logits: torch.Tensor) -> torch.Tensor:
    """Return the places of rows ``(N, K)``, that of the least entropy first."""
    return entropy(logits).sort(stable=True).indices


def count_kept(share: float, views: int) -> int:
    """Return how many views a share of them is: rounded down, and one at least."""
    return max(1, int(share * views))
