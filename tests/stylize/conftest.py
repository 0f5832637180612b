"""Pictures with clear shapes, and the trees of datasets that the tests of data have."""

import numpy as np
import pytest
from PIL import Image

from shiftproof.stylize import Styles
from shiftproof.stylize.drawings import draw_style


@pytest.fixture
def photograph():
    """A light disc before a dark ground with a soft gradient, 96 x 128."""
    down, right = np.mgrid[:96, :128]
    level = 60 + 0.4 * right + 90 * (np.hypot(down - 48, right - 60) < 28)
    pixels = np.stack([level, 0.8 * level, 200 - 0.6 * level], axis=-1)
    return pixels.astype(np.uint8)


@pytest.fixture
def painting():
    """A style with strokes, small."""
    return np.array(draw_style(3)[:120, :120])


@pytest.fixture
def paintings(tmp_path):
    """A folder of three pictures of one colour each, and two files that are none."""
    folder = tmp_path / "paintings"
    (folder / "old").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, level in (("red.png", (200, 40, 30)), ("old/blue.png", (30, 60, 190)),
                        ("green.jpg", (40, 180, 60))):  # fmt: skip
        noise = rng.integers(-20, 20, (40, 50, 3))
        Image.fromarray((np.array(level) + noise).astype(np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("none either")
    return folder


class FewStyles(Styles):
    """Four small styles, quick to make."""

    def __len__(self):
        return 4

    def title(self, number):
        return f"few {number}"

    def read(self, number):
        rng = np.random.default_rng(number)
        return rng.integers(0, 256, (24, 24, 3), np.uint8)

    def identity(self):
        return {"few": 4}


@pytest.fixture
def few():
    return FewStyles()
