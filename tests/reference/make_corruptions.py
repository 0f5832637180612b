"""Write what imagecorruptions 1.1.2 makes of a few images; see README.md for its environment.

python make_corruptions.py FOLDER
"""

import sys
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")

import imagecorruptions  # noqa: E402
import skimage.util.noise  # noqa: E402
from imagecorruptions import corruptions as published  # noqa: E402

SEED = 7


def picture(height, width, seed):
    """Waves, an edge, a bright spot, saturated corners and grain, in three differing channels."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    base = 110 + 60 * np.sin(x / 9) * np.cos(y / 6) + 70 * (x * height > y * width)
    spot = 160 * np.exp(-((x - width / 3) ** 2 + (y - height / 2) ** 2) / (0.02 * height * width))
    channels = [base + spot * k + shift for k, shift in ((1.0, 25), (0.7, 0), (0.3, -45))]
    noisy = np.stack(channels, axis=-1) + rng.normal(0, 6, size=(height, width, 3))
    noisy[: height // 6, : width // 5] = 255
    noisy[-height // 8 :, -width // 7 :] = 0
    return np.clip(noisy, 0, 255).astype(np.uint8)


def patches(height, width, seed):
    """Flat patches: what happens to values that lie on whole numbers."""
    rng = np.random.RandomState(seed)
    levels = rng.randint(0, 256, size=(-(-height // 32), -(-width // 32), 3))
    levels[0, 0], levels[0, 1], levels[1, 0] = 255, 0, (200, 200, 200)
    return np.kron(levels, np.ones((32, 32, 1)))[:height, :width].astype(np.uint8)


IMAGES = {
    "picture": picture(48, 64, 1),
    "odd": picture(33, 71, 2),
    "patches": patches(96, 128, 3),
    # Each pixel four times along both sides: it packs well.
    "large": np.kron(picture(106, 154, 4), np.ones((4, 4, 1), np.uint8))[:421, :614],
}
# Of the larger results every n-th value is kept: the files stay small.
STEP = {"picture": 1, "odd": 1, "patches": 2, "large": 11}

FROST_SIZES = ((60, 90), (35, 56), (35, 52), (49, 66), (32, 48))
FROST = [picture(height, width, 10 + i) for i, (height, width) in enumerate(FROST_SIZES)]


def results(name, image):
    for corruption in imagecorruptions.get_corruption_names("all"):
        for severity in range(1, 6):
            np.random.seed(SEED)  # noqa: NPY002
            result = imagecorruptions.corrupt(image, severity=severity, corruption_name=corruption)
            yield f"{corruption}-{severity}", result[:: STEP[name], :: STEP[name]]


def main(folder):
    # impulse_noise asks scikit-image, which since 0.19 makes an unseeded generator of its own; here
    # it gets the global one that everything else draws from.
    skimage.util.noise.np.random.default_rng = lambda seed=None: np.random.mtrand._rand
    # The published photographs are not ours to pass on; textures of our own go the same way.
    textures = {f"frost{i + 1}": texture for i, texture in enumerate(FROST)}
    published.cv2.imread = lambda path: textures[Path(path).stem][..., ::-1].copy()
    for name, image in IMAGES.items():
        arrays = dict(results(name, image))
        np.savez_compressed(
            folder / f"{name}.npz", image=image, step=STEP[name], seed=SEED, **arrays
        )
    np.savez_compressed(folder / "frost.npz", **textures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
