"""Write what the published code of MNIST-C makes of a digit; see README.md.

python make_mnist_c.py CHECKOUT FOLDER
"""

import os
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import scipy.ndimage
import skimage.filters
import skimage.transform
import skimage.util.noise
from PIL import Image

SEED = 7
SEVERITIES = {"impulse_noise": (1, 4), "brightness": (1, 5), "glass_blur": (1, 2, 3, 4, 5)}
NAMES = (
    "shot_noise", "impulse_noise", "glass_blur", "shear", "scale", "rotate", "brightness",
    "translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
)  # fmt: skip
PLAIN = ("stripe", "dotted_line", "zigzag", "canny_edges")


def digit():
    """Draw a five with soft edges and some grain."""
    canvas = np.zeros((112, 112), np.uint8)
    corners = np.array([[80, 20], [40, 22], [36, 54], [70, 58], [74, 80], [50, 94], [30, 84]])
    cv2.polylines(canvas, [corners], False, 255, 11, cv2.LINE_AA)
    small = cv2.resize(canvas, (28, 28), interpolation=cv2.INTER_AREA).astype(int)
    grain = np.random.RandomState(1).randint(0, 9, small.shape)
    return np.clip(small - grain, 0, 255).astype(np.uint8)


def affine(scale=1.0, rotation=0.0, shear=0.0, translation=(0, 0)):
    """Return a transform as scikit-image composed it up to 0.18."""
    sx, sy = scale if np.iterable(scale) else (scale, scale)
    matrix = np.eye(3)
    matrix[:2, :2] = [
        [sx * np.cos(rotation), -sy * np.sin(rotation + shear)],
        [sx * np.sin(rotation), sy * np.cos(rotation + shear)],
    ]
    matrix[:2, 2] = translation
    return skimage.transform.ProjectiveTransform(matrix)


def gaussian(image, sigma, multichannel=False, **others):
    """Smooth as scikit-image did up to 0.18: with channels, not along the last axis."""
    return skimage.filters.gaussian(image, (sigma, 0) if multichannel else sigma, **others)


def load(checkout):
    """Import the published file on today's libraries; motion_blur alone needs ImageMagick."""
    modules = ["wand", "wand.image", "wand.api", "wand.color", "pkg_resources"]
    sys.modules.update({name: types.ModuleType(name) for name in modules})
    sys.modules["wand.image"].Image = object
    sys.modules["wand.api"].library = types.SimpleNamespace(
        MagickMotionBlurImage=types.SimpleNamespace()
    )
    sys.modules["pkg_resources"].resource_filename = os.path.join
    sys.modules["scipy.ndimage.interpolation"] = scipy.ndimage
    np.int, np.float_ = int, np.float64  # noqa: NPY001, NPY201
    skimage.util.noise.np.random.default_rng = lambda seed=None: np.random.mtrand._rand
    os.chdir(checkout)
    sys.path.insert(0, str(checkout))
    import corruptions

    corruptions.gaussian = gaussian
    corruptions.transform = types.SimpleNamespace(
        AffineTransform=affine, warp=skimage.transform.warp
    )
    return corruptions


def main(checkout, target):
    published = load(checkout)
    image = digit()
    arrays = {}
    for name in NAMES:
        for severity in (3,) if name in PLAIN else SEVERITIES.get(name, (1, 3, 5)):
            np.random.seed(SEED)  # noqa: NPY002
            arguments = () if name in PLAIN else (severity,)
            result = getattr(published, name)(Image.fromarray(image), *arguments)
            arrays[f"{name}-{severity}"] = np.clip(result + 1e-4, 0, 255).astype(np.uint8)
    np.savez_compressed(target / "mnist-c.npz", image=image, seed=SEED, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve())
