"""The corruptions of 3D common corruptions without depth, against Pillow and numpy's own draws."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from shiftproof import cli
from shiftproof.corruptions import corrupt, suite
from shiftproof.testing import check_corruption

CAMERA = suite("3d-camera")


def simulate(share, photons, readout):
    """What the paper's supplement says: Poisson counts, clipped, then normal noise, clipped."""
    rng = np.random.default_rng(5)
    counted = np.clip(rng.poisson(share * photons, 400_000) / photons, 0, 1)
    return np.floor(255 * np.clip(counted + rng.normal(0, readout, counted.shape), 0, 1))


@pytest.mark.parametrize("name", CAMERA)
def test_contract(name):
    check_corruption(CAMERA[name])


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_quantization_is_pillows_posterize(severity):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    expected = np.asarray(ImageOps.posterize(Image.fromarray(image), 6 - severity))
    result = corrupt(image, CAMERA["color_quant.3dcc"], severity=severity)
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(("severity", "readout"), [(1, 0.7 * 0.08), (5, 0.7 * 0.38)])
@pytest.mark.parametrize("level", [0, 40, 200])
def test_iso_noise_has_the_moments_of_its_definition(severity, readout, level):
    image = np.full((300, 300, 3), level, np.uint8)
    result = corrupt(image, CAMERA["iso_noise.3dcc"], severity=severity)
    expected = simulate(level / 255, 25, readout)
    assert result.mean() == pytest.approx(expected.mean(), abs=0.5)
    assert result.std() == pytest.approx(expected.std(), rel=0.02)


@pytest.mark.parametrize(("severity", "light"), [(1, 0.6), (5, 0.2)])
def test_low_light_squares_and_scales_between_darkest_and_brightest(severity, light):
    image = np.full((300, 300, 3), 140, np.uint8)
    image[0, 0], image[0, 1] = 20, 220
    result = corrupt(image, CAMERA["low_light.3dcc"], severity=severity)[1:]
    expected = simulate(light * 0.6**2, 120, 0.1 * 0.18)
    assert result.mean() == pytest.approx(expected.mean(), abs=0.6)
    assert result.std() == pytest.approx(expected.std(), rel=0.03)


def test_an_image_of_one_value_stays_dark():
    image = np.full((8, 8), 200, np.uint8)
    assert corrupt(image, CAMERA["low_light.3dcc"], severity=1).max() < 60


def test_the_command_takes_them_without_depth(tmp_path):
    Image.fromarray(np.full((8, 9, 3), 90, np.uint8)).save(tmp_path / "a.png")
    command = ["corrupt", str(tmp_path / "a.png"), str(tmp_path / "out"), "-c", "3d-camera"]
    assert cli.run([*command, "-s", "2", "-w", "0"]) == 0
    found = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert found == ["color_quant.3dcc", "iso_noise.3dcc", "low_light.3dcc"]
