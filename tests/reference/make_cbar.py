"""Write what the published code of ImageNet-C-bar makes of two images; see README.md.

python make_cbar.py CHECKOUT FOLDER
"""

import csv
import sys
from pathlib import Path

import numpy as np

# NumPy has dropped this name since.
np.int = int  # noqa: NPY001

SEED = 7

# Which part of an image of the other references, and which severities.
PARTS = {"picture": (32, (1, 3, 5)), "patches": (24, (2, 4))}


def levels(folder):
    """Return the five levels of each corruption, ImageNet-C-bar's where it has it."""
    found = {}
    for name in ("cifar10_c_bar.csv", "imagenet_c_bar.csv"):
        with (folder / name).open() as file:
            found.update({row[0]: [float(level) for level in row[1:]] for row in csv.reader(file)})
    return found


def main(folder, target):
    sys.path.insert(0, str(folder))
    from transform_finder import transform_dict

    for name, (size, severities) in PARTS.items():
        image = np.load(target / f"{name}.npz")["image"][8 : 8 + size, 8 : 8 + size]
        arrays = {}
        for corruption, rows in levels(folder).items():
            for severity in severities:
                np.random.seed(SEED)  # noqa: NPY002
                transform = transform_dict[corruption](rows[severity - 1], len(image))
                arrays[f"{corruption}-{severity}"] = transform(image)
        np.savez_compressed(target / f"cbar-{name}.npz", image=image, seed=SEED, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "imagenet_c_bar", Path(sys.argv[2]))
