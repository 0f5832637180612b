"""The small pictures that a run keeps for its page."""

from __future__ import annotations

import io

from PIL import Image as PillowImage

from shiftproof.types import Image


def small_jpeg(image: Image, long_side: int, quality: int) -> bytes:
    """Return an image as JPEG, its longer side at most ``long_side`` pixels.

    Args:
        image: ``(H, W, 3)`` uint8 RGB; not changed.
        long_side: in pixels; a smaller image keeps its size.
        quality: as Pillow counts it, 1..95.
    """
    picture = PillowImage.fromarray(image)
    picture.thumbnail((long_side, long_side), PillowImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
