"""ImageNet-C-bar and CIFAR-10-C-bar: the published pixels, and the keyed draws beside them."""

from pathlib import Path

import numpy as np
import pytest

from shiftproof.corruptions import CORRUPTIONS, corrupt, find_function, scales, suite
from shiftproof.rng import generator

FOLDER = Path(__file__).parent.parent / "reference" / "corruptions"
NAMES = tuple(dict.fromkeys((*suite("c-bar"), *scales.C_BAR_FUNCTIONS)))


@pytest.fixture(scope="module", params=["picture", "patches"])
def published(request):
    with np.load(FOLDER / f"cbar-{request.param}.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_those_of_the_published_code(published, name):
    """Legacy draws are the published ones: one level apart at one value in fifty.

    On flat areas the last bit decides on a level of circular_motion_blur, there in float32.
    """
    cells = [key for key in published if key.startswith(f"{name}-")]
    assert len(cells) in (2, 3)
    if name == "circular_motion_blur" and len(cells) == 2:
        pytest.skip("made of flat areas")
    for cell in cells:
        rng = np.random.RandomState(int(published["seed"]))
        result = find_function(name)(published["image"], int(cell[-1]), rng)
        apart = np.abs(result.astype(int) - published[cell])
        assert apart.max() <= 1, cell
        assert np.mean(apart > 0) <= 0.02, cell


@pytest.mark.parametrize("name", [name for name in NAMES if CORRUPTIONS[name].is_random])
def test_keyed_draws_change_an_image_as_much_as_the_published(published, name):
    image = published["image"]

    def changes(make_rng):
        results = [find_function(name)(image, 3, make_rng(n)).astype(float) for n in range(40)]
        change = np.array([np.abs(result - image).mean() for result in results])
        step = np.array([np.abs(np.diff(result, axis=0)).mean() for result in results])
        return np.stack([change, step])

    keyed = changes(lambda n: generator(0, name, str(n)))
    legacy = changes(np.random.RandomState)
    error = np.sqrt((keyed.var(axis=1) + legacy.var(axis=1)) / 40)
    assert np.all(np.abs(keyed.mean(axis=1) - legacy.mean(axis=1)) < 4 * error + 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_severity_between_two_changes_an_image_by_an_amount_between_theirs(name):
    image = np.load(FOLDER / "cbar-picture.npz")["image"]

    def change(severity):
        results = (corrupt(image, name, severity=severity, key=str(n)) for n in range(3))
        return np.mean([np.abs(r.astype(float) - image).mean() for r in results])

    low, middle, high = change(2), change(2.5), change(3)
    assert low - 0.05 <= middle <= high + 0.05
    assert low < high


def test_spectra_of_blue_and_brownish_noise():
    """Blue noise rises with the frequency, brownish falls with its square."""
    from shiftproof.corruptions import patterns

    image = np.zeros((64, 96), np.uint8)
    far = patterns._compute_radial_frequencies(image)
    for power, slope in ((far, 1.0), (1 / (far**2 + 1), -2.0)):
        draws = [
            patterns._draw_spectrum_noise(generator(0, str(n)), 64, 96, power) for n in range(20)
        ]
        amplitude = np.mean([np.abs(np.fft.fftshift(np.fft.fft2(d))) for d in draws], axis=0)
        seen = [amplitude[(far > f / 1.2) & (far < f * 1.2)].mean() for f in (4, 8, 16)]
        assert np.polyfit(np.log([4, 8, 16]), np.log(seen), 1)[0] == pytest.approx(slope, abs=0.15)
