"""MNIST-C: the published pixels at 28 x 28, and what other sizes get."""

from pathlib import Path

import numpy as np
import pytest

from shiftproof.corruptions import CORRUPTIONS, corrupt, find_function, mnist_c

FILE = Path(__file__).parent.parent / "reference" / "corruptions" / "mnist-c.npz"
NEW = [name for name, entry in CORRUPTIONS.items() if entry.family in ("geometry", "stroke")]


@pytest.fixture(scope="module")
def published():
    with np.load(FILE) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", [*(n for n in mnist_c.FUNCTIONS if n != "motion_blur"), *NEW])
def test_pixels_are_those_of_the_published_code(published, name):
    """Legacy draws are the published ones: one level apart at one value in two hundred."""
    function = find_function(name, "mnist-c" if name in mnist_c.FUNCTIONS else None)
    cells = [key for key in published if key.startswith(f"{name}-")]
    assert cells
    for cell in cells:
        rng = np.random.RandomState(int(published["seed"]))
        result = function(published["image"], int(cell[-1]), rng)
        apart = np.abs(result.astype(int) - published[cell])
        assert apart.max() <= 1, cell
        assert np.mean(apart > 0) <= 0.005, cell


def test_half_of_the_pixels_stay_behind_the_glass():
    rng = np.random.default_rng(0)
    stayed = np.mean(mnist_c._draw_offsets(rng, 4, 1000, 40_000) == 0)
    # And of those that move, one in 8 x 8 to its own place.
    assert stayed == pytest.approx(0.5 + 0.5 / 64, abs=0.01)


@pytest.mark.parametrize("name", ["stripe", "dotted_line", "zigzag"])
def test_strokes_grow_with_the_image(name):
    """At twice the size every second pixel is what it was."""
    small = np.full((28, 28), 40, np.uint8)
    large = np.full((56, 56), 40, np.uint8)
    first, second = (corrupt(image, name, severity=1, key="a") for image in (small, large))
    assert np.array_equal(second[::2, ::2], first)


def test_affine_maps_by_hand():
    image = np.zeros((29, 29), np.uint8)
    image[14, 14] = image[4, 14] = 200
    # The centre stays; what is ten above it comes to five above it at half the size.
    shrunk = corrupt(image, "scale", severity=5)
    assert shrunk[14, 14] == 200
    assert shrunk[9, 14] == 200
    for key in "abcd":
        turned = corrupt(image, "rotate", severity=5, key=key)
        # One radian to either side: eight and a half across, five and a half up.
        assert turned[14, 14] == 200
        assert turned[7:11, [4, 5, 6, 22, 23, 24]].max() > 40
    moved = {
        tuple(np.argwhere(corrupt(image, "translate", severity=5, key=k) > 90)[-1])
        for k in "abcdefgh"
    }
    assert moved <= {(y, x) for y in (9, 19) for x in (9, 19)}
    assert len(moved) > 1
