"""Small datasets with label maps in published layouts: a sky over grass with a ball."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("sky", "grass", "ball")
COLORS = np.array([(150, 190, 230), (90, 120, 60), (220, 60, 40)], np.float32)


def scene(number: int, size: tuple[int, int] = (24, 36)) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its label map; the line between sky and grass is void (255)."""
    height, width = size
    labels = np.zeros(size, np.uint8)
    labels[height // 2 :] = 1
    rows, columns = np.mgrid[:height, :width]
    middle = 6 + 3 * number % (width - 12)
    labels[(rows - height // 2) ** 2 + (columns - middle) ** 2 < 25] = 2
    noise = np.random.default_rng(number).normal(0, 4, (height, width, 3))
    image = np.clip(COLORS[labels] + noise, 0, 255).astype(np.uint8)
    labels[height // 2, : middle // 2] = 255
    return image, labels


def save(path: Path, pixels: np.ndarray, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture = Image.fromarray(pixels, "P") if pixels.ndim == 2 else picture
        picture.putpalette(list(range(256)) * 3)
    picture.save(path)
    return path


def write_folders(root: Path, count: int = 4) -> Path:
    """Write ``images/N.png`` and ``masks/N.png``."""
    for number in range(count):
        image, labels = scene(number)
        save(root / f"images/{number}.png", image)
        save(root / f"masks/{number}.png", labels)
    return root


def write_names(path: Path) -> Path:
    path.write_text("\n".join(NAMES) + "\n")
    return path


def nearest_color(images):
    """Return logits: minus the squared distance to the color of each class."""
    return [
        -((image[None].astype(np.float32) - COLORS[:, None, None]) ** 2).sum(-1) for image in images
    ]
