"""What a probe does to images: against torchvision, by hand, and how its numbers are draw_values."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as reference

from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.probe import changes
from shiftproof.probe.factors import (
    FACTORS,
    FAMILIES,
    GROUPS,
    SETS,
    choose_factors,
    draw_values,
    find_families,
)


def picture(height=40, width=50):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.6])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (changes.scale_brightness, "adjust_brightness"),
        (changes.scale_contrast, "adjust_contrast"),
        (changes.scale_saturation, "adjust_saturation"),
    ],
)
def test_colours_change_as_in_torchvision(change, name, factor):
    image = picture()
    tensor = torch.from_numpy(np.moveaxis(image, -1, 0).copy())
    expected = np.moveaxis(getattr(reference, name)(tensor, factor).numpy(), 0, -1)
    # torchvision cuts fractions off where this rounds.
    assert np.abs(change(image, factor).astype(int) - expected).max() <= 1 + (factor > 1)


def test_the_hue_turns_as_in_torchvision():
    image = picture()
    tensor = torch.from_numpy(np.moveaxis(image, -1, 0).copy()).double() / 255
    expected = 255 * np.moveaxis(reference.adjust_hue(tensor, 0.15).numpy(), 0, -1)
    assert np.abs(changes.shift_hue(image, 0.15) - expected).max() <= 1


def test_grey_and_flip_are_done_or_left():
    image = picture()
    np.testing.assert_array_equal(changes.flip(image, 0), image)
    np.testing.assert_array_equal(changes.flip(image, 1)[:, 0], image[:, -1])
    np.testing.assert_array_equal(changes.drop_color(image, 0), image)
    grey = changes.drop_color(image, 1)
    weighted = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 2] - weighted).max() <= 1


def test_a_turn_is_anticlockwise_and_shows_no_corner(monkeypatch):
    image = np.full((101, 101, 3), 200, np.uint8)
    image[45:56, 75:86] = 0
    rows, columns = np.nonzero(changes.rotate(image, 20.0)[..., 0] < 100)
    # The zoom of a square is cos 30° + sin 30°.
    distance = 30 * (np.cos(np.pi / 6) + np.sin(np.pi / 6))
    assert 50 - rows.mean() == pytest.approx(distance * np.sin(np.deg2rad(20)), abs=1)
    assert columns.mean() - 50 == pytest.approx(distance * np.cos(np.deg2rad(20)), abs=1)
    # What lies beyond would be black.
    monkeypatch.setattr(changes.cv2, "BORDER_REFLECT_101", changes.cv2.BORDER_CONSTANT)
    for degrees in (-30, 0, 30):
        assert changes.rotate(np.full((60, 101, 3), 200, np.uint8), degrees).min() > 190


def test_a_crop_is_where_it_is_said_to_be():
    image = picture(40, 60)
    np.testing.assert_array_equal(changes.crop(image, 0, 0, 1), image[:, 10:50])
    np.testing.assert_array_equal(changes.crop(image, -0.5, 0.5, 0.5), image[20:40, 10:30])
    np.testing.assert_array_equal(changes.crop(image, 0.5, -0.5, 0.5), image[:20, 30:50])
    assert changes.crop(picture(1, 1), 0, 0, 0.4).shape == (1, 1, 3)


def test_blur_and_noise_have_the_deviation_they_say():
    dot = np.zeros((101, 101, 3), np.uint8)
    dot[40:61, 40:61] = 255
    blurred = changes.blur(dot, 0.05)[..., 0].astype(float)
    places = np.arange(101) - 50
    share = blurred.sum(axis=0) / blurred.sum()
    # A box of 21 pixels has the variance (21² - 1) / 12.
    variance = (share * places**2).sum() - (21**2 - 1) / 12
    assert np.sqrt(variance) == pytest.approx(5.05, abs=0.1)
    np.testing.assert_array_equal(changes.blur(dot, 0.0), dot)
    plain = np.full((100, 100, 3), 128, np.uint8)
    noised = changes.add_noise(plain, 0.1, np.random.default_rng(0)).astype(float)
    assert noised.std() == pytest.approx(25.5, rel=0.02)
    assert noised.mean() == pytest.approx(128, abs=0.5)


# ---------------------------------------------------------------- the table


def test_the_table_holds_what_it_should():
    assert {name for name in FACTORS if name.endswith("_severity")} == {
        f"{name}_severity" for name in (*COMMON, *HOLDOUT)
    }
    assert SETS["augmentations"] == (
        "crop_x", "crop_y", "crop_size", "flip", "rotation", "brightness", "contrast",
        "saturation", "hue", "grey", "blur", "noise",
    )  # fmt: skip
    assert {factor.group for factor in FACTORS.values()} == set(GROUPS)
    assert len({factor.title for factor in FACTORS.values()}) == len(FACTORS)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_change_keeps_its_hands_off_what_it_was_given(name):
    family, image = FAMILIES[name], picture(32, 32)
    before = image.copy()
    values = family.place([0.7] * len(family.factors))
    changed = family.change(image, values, 0, "a")
    np.testing.assert_array_equal(image, before)
    assert changed.dtype == np.uint8
    assert family.before_resize or changed.shape == image.shape
    assert not np.shares_memory(changed, image)
    np.testing.assert_array_equal(family.change(image, values, 0, "a"), changed)
    assert changed.shape != image.shape or not np.array_equal(changed, image)


@pytest.mark.parametrize("name", ["hue", "fog_severity", "crop"])
def test_every_part_of_the_range_has_one_version(name):
    family = FAMILIES[name]
    values = draw_values(family, "cat.jpg", versions=6, seed=0)
    assert values.shape == (6, len(family.factors))
    place = len(family.factors) - 1
    factor = family.factors[place]
    shares = (values[:, place] - factor.low) / (factor.high - factor.low)
    assert sorted(np.floor(6 * shares)) == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(values, draw_values(family, "cat.jpg", versions=6, seed=0))
    for key, seed in (("dog.jpg", 0), ("cat.jpg", 1)):
        assert not np.array_equal(values, draw_values(family, key, versions=6, seed=seed))


def test_a_crop_stays_inside():
    values = np.concatenate(
        [draw_values(FAMILIES["crop"], str(n), versions=6, seed=0) for n in range(50)]
    )
    assert (np.abs(values[:, :2]) + values[:, 2:] <= 1 + 1e-12).all()
    assert np.abs(values[:, :2]).max() > 0.5


@pytest.mark.parametrize(("versions", "expected"), [(2, 2), (6, 6), (5, 4)])
def test_half_of_the_versions_have_a_yes(versions, expected):
    values = draw_values(FAMILIES["flip"], "cat.jpg", versions=versions, seed=0)
    assert values.shape == (expected, 1)
    assert values.mean() == 0.5


def test_without_the_change_a_version_is_not_the_image_itself():
    image = picture()
    for name in ("flip", "grey"):
        shapes = {FAMILIES[name].change(image, (0.0,), 0, str(n)).shape for n in range(8)}
        assert len(shapes) > 2
        assert image.shape not in shapes


def test_factors_are_named_one_by_one_or_as_a_set():
    assert [factor.name for factor in choose_factors(["weather", "hue"])] == [
        "hue", "snow_severity", "frost_severity", "fog_severity", "spatter_severity",
    ]  # fmt: skip
    assert len(choose_factors("all")) == 31
    assert [f.name for f in find_families(choose_factors(["crop_y", "crop_size"]))] == ["crop"]
    with pytest.raises(UnknownNameError, match="Did you mean 'rotation'"):
        choose_factors(["rotatoin"])
    with pytest.raises(InputError, match="at least one factor"):
        choose_factors([])
