"""The scale of CIFAR-10-C: hand calculations, its door, and what a record says of it."""

import pickle

import numpy as np
import pytest
from scipy import stats

from shiftproof.corruptions import (
    COMMON,
    HOLDOUT,
    corrupt,
    digital,
    find_function,
    noise,
    scale,
    weather,
)
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.errors import UnknownNameError

CIFAR = "cifar-10-c"


def gray(value, side=256):
    return np.full((side, side), value, np.uint8)


def test_a_scale_is_the_benchmarks_corruptions_in_order():
    assert tuple(scale(CIFAR)) == COMMON + HOLDOUT
    assert scale("published") == {name: find_function(name) for name in COMMON + HOLDOUT}
    with pytest.raises(UnknownNameError, match=r"'cifar-10-c'\? Known: published, cifar-10-c"):
        scale("cifar10c")


@pytest.mark.parametrize("name", COMMON + HOLDOUT)
def test_its_functions_are_the_variants(name):
    """By name and variant, as a function, and after a journey to a worker: the same pixels."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    by_name = corrupt(image, name, severity=3, seed=1, key="a", variant=CIFAR)
    travelled = pickle.loads(pickle.dumps(scale(CIFAR)[name]))
    for function in (find_function(name, CIFAR), scale(CIFAR)[name], travelled):
        assert np.array_equal(corrupt(image, function, severity=3, seed=1, key="a"), by_name)
    assert not np.array_equal(corrupt(image, name, severity=3, seed=1, key="a"), by_name)


def test_a_record_names_the_scale():
    assert identify_corruption(find_function("fog", CIFAR)) == "fog (cifar-10-c)"
    assert identify_corruption(find_function("frost", CIFAR)).startswith("frost (cifar-10-c) with ")
    assert identify_corruption(scale("published")["fog"]) != identify_corruption(
        scale(CIFAR)["fog"]
    )


@pytest.mark.parametrize(("severity", "gain"), [(1, 12), (1.5, 19), (2, 25), (3, 38), (5, 76)])
def test_brightness_by_hand(severity, gain):
    """0.05, 0.1, 0.15, 0.2, 0.3 of 255, cut off; between severities the mean."""
    result = corrupt(gray(100, 4), "brightness", severity=severity, variant=CIFAR)
    assert np.all(result == 100 + gain)


def test_contrast_by_hand():
    """At severity 2 half of the distance to the mean, 100, is left."""
    image = np.array([[0, 50, 250]], np.uint8)
    assert corrupt(image, "contrast", severity=2, variant=CIFAR).tolist() == [[50, 75, 175]]


def test_pixelate_by_hand():
    """At severity 4 three pixels are left of four: each covers the middle of one, or parts."""
    image = np.array([[0, 40, 80, 120]] * 4, np.uint8)
    # The middles of the boxes are 2/3, 2 and 10/3; each takes the pixels whose middles it holds.
    assert corrupt(image, "pixelate", severity=4, variant=CIFAR)[0].tolist() == [0, 60, 60, 120]


@pytest.mark.parametrize(
    ("name", "deviations"),
    [
        ("gaussian_noise", (10.2, 15.3, 20.4, 22.95, 25.5)),
        ("speckle_noise", (7.68, 12.8, 15.36, 20.48, 25.6)),
        # Of counts with mean 128 / 255 of 500, 250, 100, 75 and 50 photons.
        ("shot_noise", tuple(255 * np.sqrt(128 / 255 / n) for n in (500, 250, 100, 75, 50))),
        # Half of the changed share goes up by 127, half down by 128.
        ("impulse_noise", tuple(127.5 * np.sqrt(p) for p in (0.01, 0.02, 0.03, 0.05, 0.07))),
    ],
)
def test_noise_by_hand(name, deviations):
    for severity, deviation in enumerate(deviations, start=1):
        result = corrupt(gray(128), name, severity=severity, variant=CIFAR)
        assert result.std() == pytest.approx(
            deviation, rel=0.04 if name == "impulse_noise" else 0.02
        )


@pytest.mark.parametrize("photons", [50, 75, 100, 250, 500])
def test_photons_are_poisson(photons):
    """What the alias table gives each grey level is scipy's share of it."""
    table = noise._make_photon_table(photons)
    slots = table.shape[1]
    for value in (0, 1, 60, 128, 200, 255):
        kept = (table[value] >> np.uint64(32)).astype(float) * slots / 2**32
        shares = np.bincount(table[value] & np.uint64(255), kept / slots, minlength=256)
        other = (table[value] >> np.uint64(8)) & np.uint64(255)
        shares += np.bincount(other.astype(int), (1 - kept) / slots, minlength=256)
        counts = np.arange(photons + 200)
        chances = stats.poisson(value / 255 * photons).pmf(counts)
        levels = (np.minimum(counts / photons, 1) * 255).astype(int)
        assert np.abs(shares - np.bincount(levels, chances, minlength=256)).max() < 1e-6


def test_defocus_of_a_point_is_a_disk_of_five_pixels():
    """Severity 4: radius 1, all but sharp."""
    image = np.zeros((9, 9), np.uint8)
    image[4, 4] = 255
    result = corrupt(image, "defocus_blur", severity=4, variant=CIFAR)
    expected = np.zeros((9, 9), int)
    expected[4, 3:6] = expected[3:6, 4] = 51
    assert np.abs(result - expected).max() <= 1


def test_elastic_follows_the_shorter_side(monkeypatch):
    rows = []
    monkeypatch.setattr(
        digital, "_skew_and_displace", lambda image, row, rng: rows.append(row) or image
    )
    for shape in ((32, 32), (64, 100), (100, 64)):
        corrupt(np.zeros(shape, np.uint8), "elastic_transform", severity=2, variant=CIFAR)
    # 0.05, 0.2 and 0.07 of the side.
    assert rows[0] == pytest.approx((1.6, 6.4, 2.24))
    assert rows[1] == rows[2] == pytest.approx((3.2, 12.8, 4.48))


def test_frost_is_cut_from_a_fifth_of_the_textures(monkeypatch):
    shapes = set()
    monkeypatch.setattr(
        weather,
        "_blend",
        lambda image, severity, texture, *_: shapes.add(texture.shape[:2]) or image,
    )
    for side in (32, 100):
        for key in range(40):
            image = np.zeros((side, side, 3), np.uint8)
            find_function("frost", CIFAR)(image, 3, np.random.default_rng(key))
    # A fifth of 600 x 900, 315 x 560, 350 x 527 and 495 x 660; the middle two enlarged to 100 rows,
    # and the last, a row short of it, too.
    assert shapes == {
        (120, 180), (63, 112), (70, 105), (99, 132), (100, 178), (100, 150), (100, 134),
    }  # fmt: skip
