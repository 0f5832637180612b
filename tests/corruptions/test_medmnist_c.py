"""MedMNIST-C: forms against other libraries and by hand, and every set runs."""

import numpy as np
import pytest

from shiftproof.corruptions import corrupt, medmnist_c, suite
from shiftproof.testing import check_corruption


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)


def test_sets_have_the_published_corruptions():
    """The counts of the published registry."""
    assert {name: len(table) for name, table in medmnist_c.TABLES.items()} == {
        "pathmnist": 11, "bloodmnist": 11, "dermamnist": 15, "retinamnist": 8, "tissuemnist": 8,
        "octmnist": 6, "breastmnist": 7, "chestmnist": 13, "pneumoniamnist": 13, "organamnist": 13,
        "organcmnist": 13, "organsmnist": 13,
    }  # fmt: skip


@pytest.mark.parametrize("dataset", medmnist_c.TABLES)
def test_every_corruption_of_a_set_runs_at_every_severity(image, dataset):
    for name, function in suite(dataset).items():
        assert name.endswith(f".{dataset}")
        for severity in (1, 2, 3.5, 5):
            assert corrupt(image, function, severity=severity).shape == image.shape


@pytest.mark.parametrize(
    "name",
    [
        "bubble.pathmnist",
        "stain_deposit.pathmnist",
        "saturate.pathmnist",
        "contrast_up.pathmnist",
        "defocus_blur.pathmnist",
    ],
)
def test_contract_of_slides(name):
    check_corruption(suite("pathmnist")[name])


@pytest.mark.parametrize("name", ["gaussian_blur", "gamma_corr_up", "brightness_down"])
def test_contract_of_organs(name):
    check_corruption(suite("organamnist")[f"{name}.organamnist"])


@pytest.mark.parametrize("name", ["black_corner", "characters"])
def test_contract_of_skin(name):
    check_corruption(suite("dermamnist")[f"{name}.dermamnist"])


def test_blur_and_gamma_are_torchvisions(image):
    import torchvision.transforms.functional as published
    from PIL import Image

    picture = Image.fromarray(image)
    organs = suite("organamnist")
    for severity, size in ((1, 11), (5, 21)):
        expected = np.asarray(published.gaussian_blur(picture, [size, size]))
        result = corrupt(image, organs["gaussian_blur.organamnist"], severity=severity)
        assert np.abs(result.astype(int) - expected).max() <= 1
    for severity, power in ((1, 1.3), (5, 2.0)):
        expected = np.asarray(published.adjust_gamma(picture, power))
        result = corrupt(image, organs["gamma_corr_up.organamnist"], severity=severity)
        assert np.array_equal(result, expected)


def test_corners_are_black_and_the_centre_is_not(image):
    result = corrupt(image, suite("dermamnist")["black_corner.dermamnist"], severity=1)
    assert not result[0, 0].any()
    assert np.array_equal(result[24, 30], image[24, 30])


def test_brightness_by_hand():
    grey = np.full((4, 4), 100, np.uint8)
    up = suite("tissuemnist")["brightness_up.tissuemnist"]
    assert corrupt(grey, up, severity=5)[0, 0] == 170


def test_stains_are_black_and_as_large_as_the_published_pictures():
    """Their squares have 24 pixels a side, at severity 5 have 32; 62 and 54 % of them are black."""
    stain = suite("pathmnist")["stain_deposit.pathmnist"]
    white = np.full((224, 224, 3), 255, np.uint8)
    for severity, side, share in ((1, 24, 0.62), (5, 32, 0.54)):
        areas = []
        for number in range(40):
            black = ~corrupt(white, stain, severity=severity, key=str(number)).any(axis=2)
            assert not black[:10].any()
            assert not black[:, -10:].any()
            areas.append(black.sum() / side**2)
        # One stain at severity 1; at severity 5 from one to five, three on average.
        assert np.mean(areas) == pytest.approx(share * (1 if severity == 1 else 3), rel=0.2)
    assert (corrupt(white[:, :, 0], stain, severity=1) == 0).sum() == pytest.approx(346, rel=0.3)


def test_characters_are_thin_and_more_with_severity():
    skin = suite("dermamnist")["characters.dermamnist"]
    gray = np.full((224, 224, 3), 128, np.uint8)
    changed = [
        np.mean([(corrupt(gray, skin, severity=s, key=str(n)) != gray).mean() for n in range(20)])
        for s in (1, 3, 5)
    ]
    assert 0 < changed[0] < changed[1] < changed[2] < 0.05
    assert corrupt(gray[:20, :12], skin, severity=5).shape == (20, 12, 3)
    assert (corrupt(gray[:, :, 0], skin, severity=5) != 128).any()
