"""The thumbnails that a run stores for its page."""

from __future__ import annotations

import io

from PIL import Image as PillowImage

from shiftproof.types import Image


def encode_thumbnail(image: Image, long_side: int, quality: int) -> bytes:
    """Return an image as JPEG, its longer side at most ``long_side`` pixels.

    Args:
        image: ``(H, W, 3)`` uint8 RGB; not changed.
        long_side: in pixels; a smaller image keeps its size.
        quality: JPEG quality in Pillow's scale, 1..95.
    """
    thumbnail = PillowImage.fromarray(image)
    thumbnail.thumbnail((long_side, long_side), PillowImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
