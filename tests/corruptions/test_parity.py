"""The published pixels: arrays that other code made, see tests/reference/README.md."""

from pathlib import Path

import numpy as np
import pytest

from shiftproof.corruptions import COMMON, CORRUPTIONS, HOLDOUT, find_function, frost_with, weather
from shiftproof.corruptions.textures import Texture

FOLDER = Path(__file__).parent.parent / "reference" / "corruptions"

# What may differ: one grey level, at one value in a thousand.
LEVELS = 1
SHARE = 0.001


@pytest.fixture(scope="module")
def textures():
    with np.load(FOLDER / "frost.npz") as arrays:
        return [Texture(name, arrays[name]) for name in sorted(arrays)]


@pytest.mark.parametrize("name", COMMON + HOLDOUT)
@pytest.mark.parametrize("picture", ["picture", "odd", "patches", "large"])
def test_pixels_are_the_published_ones(picture, name, textures):
    function = frost_with(textures) if name == "frost" else find_function(name)
    with np.load(FOLDER / f"{picture}.npz") as arrays:
        image, step, seed = arrays["image"], int(arrays["step"]), int(arrays["seed"])
        for severity in range(1, 6):
            expected = arrays[f"{name}-{severity}"].astype(int)
            result = function(image, severity, np.random.RandomState(seed))
            difference = np.abs(result[::step, ::step] - expected)
            off = (
                f"severity {severity}: {np.mean(difference > 0):.3%} off, {difference.max()} levels"
            )
            assert difference.max() <= LEVELS, off
            assert np.mean(difference > 0) <= SHARE, off


@pytest.mark.parametrize("name", COMMON + HOLDOUT)
@pytest.mark.parametrize("picture", ["cifar-picture", "cifar-patches"])
def test_pixels_at_the_scale_of_cifar_are_the_published_ones(picture, name, textures, monkeypatch):
    # A fifth of a texture's sides has to be more than the image's.
    enlarged = [
        Texture(texture.name, np.kron(texture.pixels, np.ones((7, 7, 1), np.uint8)))
        for texture in textures
    ]
    monkeypatch.setattr(weather.textures, "find_texture", enlarged.__getitem__)
    with np.load(FOLDER / f"{picture}.npz") as arrays:
        image, step, seed = arrays["image"], int(arrays["step"]), int(arrays["seed"])
        expected = arrays[name].astype(int)
    for severity in range(1, 6):
        result = find_function(name, "cifar-10-c")(image, severity, np.random.RandomState(seed))
        difference = np.abs(result[::step, ::step] - expected[severity - 1])
        off = f"severity {severity}: {np.mean(difference > 0):.3%} off, {difference.max()} levels"
        assert difference.max() <= LEVELS, off
        assert np.mean(difference > 0) <= SHARE, off


@pytest.mark.parametrize(
    "name", [name for name in COMMON + HOLDOUT if not CORRUPTIONS[name].is_random]
)
def test_grey_is_a_channel_of_the_published_result(name):
    """The published code makes three equal channels of grey; so the result has to be one of them."""
    with np.load(FOLDER / "picture.npz") as arrays:
        gray = np.ascontiguousarray(arrays["image"][..., 0])
    color = np.repeat(gray[..., np.newaxis], 3, axis=2)
    for severity in range(1, 6):
        rng = np.random.default_rng(0)
        expected = find_function(name)(color, severity, rng)[..., 0].astype(int)
        if name == "saturate":
            # Severities 4 and 5 color a grey image red; grey stays what its largest channel is.
            expected = find_function(name)(color, severity, rng).max(axis=2).astype(int)
        result = find_function(name)(gray, severity, rng)
        difference = np.abs(result - expected)
        assert difference.max() <= LEVELS
        assert np.mean(difference > 0) <= SHARE
