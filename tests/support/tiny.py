"""A tiny dataset and a tiny model without torch: the mean color decides the class."""

import numpy as np
from PIL import Image

from shiftproof import Classes, Classifier, Preprocess

NAMES = ("red", "green", "blue")


def mean_colour(batch):
    """Return the mean of each normalized channel as logits: (N, 3, H, W) -> (N, 3)."""
    return np.ascontiguousarray(batch.mean(axis=(2, 3))).astype(np.float32)


def make_model():
    preprocess = Preprocess((24, 24), 24, mean=(0.5, 0.5, 0.5), std=(0.1, 0.1, 0.1))
    return Classifier(mean_colour, preprocess, Classes(NAMES), name="mean colour")


def write_photos(root, per_class=4, side=32):
    """Write class folders of noisy colored squares; some are almost gray and so almost wrong."""
    rng = np.random.default_rng(7)
    for index, name in enumerate(NAMES):
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.normal(110, 40, (side, side + 5, 3))
            pixels[..., index] += 1 + number
            path = folder / f"{number}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return root
