"""Draw docs/shifts.jpg: a scene of known depth under the corruptions of the further sets.

python benchmarks/shifts_picture.py
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from shiftproof.corruptions import suite, with_depth
from shiftproof.corruptions.depth import FUNCTIONS as DEPTH
from shiftproof.corruptions.depth import METERS
from shiftproof.report.sheet import TILE, write_sheet
from shiftproof.types import F32, F64, Image

DOCS = Path(__file__).parent.parent / "docs"

# Centre (right, down, ahead) and radius in metres; color.
BALLS = (
    ((-0.5, 0.35, 2.2), 0.45, (200, 60, 40)),
    ((0.55, 0.3, 3.6), 0.5, (60, 130, 200)),
    ((-0.4, 0.1, 6.5), 0.7, (230, 190, 60)),
)
FLOOR = 0.8
LIGHT = np.array([-0.5, -0.8, -0.35])


def look(height: int, width: int) -> tuple[Image, F64]:
    """Return the scene and its distances in metres."""
    y = (np.arange(height)[:, np.newaxis] - height / 2) / width
    x = (np.arange(width) - width / 2) / width
    rays = np.stack(np.broadcast_arrays(x, y + 0.12, np.ones((height, width))), axis=-1)
    far = np.full((height, width), 12.0)
    sky = np.clip(np.linspace(1.0, 0.75, height)[:, np.newaxis, np.newaxis], 0, 1)
    color = np.broadcast_to(sky * np.array([150.0, 190.0, 230.0]), (height, width, 3)).copy()
    below = rays[..., 1] > 0.02
    ahead = np.where(below, FLOOR / np.maximum(rays[..., 1], 1e-6), 1e6)
    tiles = (np.floor(rays[..., 0] * ahead * 2) + np.floor(ahead * 2)) % 2
    seen = below & (ahead < far)
    far = np.where(seen, ahead, far)
    color[seen] = np.where(tiles[..., np.newaxis] > 0, 205.0, 95.0)[seen] * np.ones(3)
    for centre, radius, paint in BALLS:
        far, color = add_ball(rays, far, color, np.array(centre), radius, np.array(paint))
    grain = np.random.default_rng(0).normal(0, 2, color.shape)
    return np.clip(color + grain, 0, 255).astype(np.uint8), far


def add_ball(
    rays: F64, far: F64, color: F64, centre: F64, radius: float, paint: NDArray[np.int64]
) -> tuple[F64, F64]:
    """Put a ball in front of what is farther."""
    along = rays @ centre
    lengths = (rays**2).sum(axis=-1)
    root = along**2 - lengths * (centre @ centre - radius**2)
    ahead = np.where(root > 0, (along - np.sqrt(np.maximum(root, 0))) / lengths, np.inf)
    seen = ahead < far
    normals = (rays * np.where(seen, ahead, 0)[..., np.newaxis] - centre) / radius
    shade = 0.3 + 0.7 * np.clip(normals @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)
    lit = shade[..., np.newaxis] * paint + 120 * shade[..., np.newaxis] ** 30
    return np.where(seen, ahead, far), np.where(seen[..., np.newaxis], lit, color)


@dataclass(frozen=True)
class Known:
    """The depth of the scene, at any size."""

    identity: str = "the scene"

    def find(self, image: Image, key: str) -> F32:
        """Return the depth of the scene."""
        return (look(*image.shape[:2])[1] / METERS).astype(np.float32)


def main() -> None:
    """Draw the picture at half the size of a sheet."""
    chosen = {
        **suite("c-bar"),
        **suite("cifar-10-c-bar"),
        **{name: with_depth(name, Known()) for name in DEPTH},
        **{name: name for name in suite("mnist-c") if "." not in name},
        "gaussian_noise+fog": suite("ccc")["gaussian_noise+fog"],
    }
    with tempfile.TemporaryDirectory() as folder:
        source, sheet = Path(folder) / "scene.png", Path(folder) / "sheet.png"
        PillowImage.fromarray(look(TILE * 3 // 4, TILE)[0]).save(source)
        write_sheet(source, sheet, corruptions=chosen, severities=(1, 3, 5))
        picture = PillowImage.open(sheet).convert("RGB")
        half = picture.resize((picture.width // 2, picture.height // 2))
        half.save(DOCS / "shifts.jpg", quality=80)


if __name__ == "__main__":
    main()
