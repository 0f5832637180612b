"""A small scene at five severities: the notebook display of a corruption."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image as PillowImage

from shiftproof.rng import generator
from shiftproof.types import Image

SIDE = 112
"""Side of the scene in pixels. The scene has edges, a fine pattern, smooth colors and round
shapes.
"""


def draw_scene() -> Image:
    """Return ``(112, 112, 3)`` uint8: a sky, a sun, a house and a fence."""
    rows = np.linspace(0, 1, SIDE)[:, None, None]
    sky = (1 - rows) * np.array([70, 130, 210]) + rows * np.array([215, 230, 245])
    scene = np.ascontiguousarray(np.broadcast_to(sky, (SIDE, SIDE, 3)).astype(np.uint8))
    cv2.circle(scene, (86, 24), 12, (250, 215, 90), -1, cv2.LINE_AA)
    cv2.rectangle(scene, (0, 82), (SIDE, SIDE), (80, 140, 60), -1)
    cv2.rectangle(scene, (24, 50), (72, 90), (190, 95, 70), -1)
    roof = np.array([[18, 50], [48, 26], [78, 50]], np.int32)
    cv2.fillPoly(scene, [roof], (110, 45, 40), cv2.LINE_AA)
    cv2.rectangle(scene, (42, 66), (54, 90), (60, 40, 30), -1)
    scene[88:104, 4:108:6] = (235, 230, 220)
    return scene


def draw_strip(name: str, function: Callable[[Image, float, np.random.Generator], Image]) -> bytes:
    """Return the scene, clean and at severities 1 to 5, side by side, as PNG."""
    scene = draw_scene()
    images = [scene] + [
        function(scene, severity, generator(0, name, "scene")) for severity in range(1, 6)
    ]
    gap = np.full((SIDE, 4, 3), 255, np.uint8)
    parts = [part for image in images for part in (image, gap)][:-1]
    target = io.BytesIO()
    PillowImage.fromarray(np.concatenate(parts, axis=1)).save(target, format="PNG")
    return target.getvalue()


def embed_png(data: bytes, text: str) -> str:
    """Return an ``img`` element with the image inline; ``text`` is its plain alternative text."""
    return (
        f'<img alt="{text}" src="data:image/png;base64,{base64.b64encode(data).decode("ascii")}">'
    )
