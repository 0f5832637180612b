"""The sequences of ImageNet-P: against torchvision and by hand."""

import numpy as np
import pytest

from shiftproof.corruptions.sequences import PERTURBATIONS, crop_center, make_tilt_matrix, perturb
from shiftproof.errors import InputError, UnknownNameError


@pytest.fixture(scope="module")
def image():
    y, x = np.mgrid[:64, :80]
    waves = 120 + 60 * np.sin(x / 5) * np.cos(y / 7)
    return np.stack([waves, waves * 0.8, 255 - waves], axis=-1).astype(np.uint8)


def test_names_are_the_papers():
    assert list(PERTURBATIONS) == [
        "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow", "brightness", "translate",
        "rotate", "tilt", "scale",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_frames_depend_on_seed_and_key_alone(image, name):
    frames = perturb(image, name, size=(56, 56), key="a")
    assert frames.shape == (PERTURBATIONS[name].count, 56, 56, 3)
    assert np.array_equal(frames, perturb(image, name, size=(56, 56), key="a"))
    drawn = not np.array_equal(frames, perturb(image, name, size=(56, 56), key="b"))
    assert drawn == (name in ("gaussian_noise", "shot_noise", "snow"))
    gray = perturb(image[..., 0], name, size=(56, 70), key="a")
    assert gray.shape == (PERTURBATIONS[name].count, 56, 70)


def test_maps_are_torchvisions(image):
    import torchvision.transforms.functional as published
    from PIL import Image

    picture = Image.fromarray(np.kron(image, np.ones((4, 4, 1), np.uint8)))
    smooth = published.InterpolationMode.BILINEAR
    still = {"angle": 0, "translate": (0, 0), "scale": 1.0, "shear": 0}
    for name, frame, changes in (
        ("translate", 3, {"translate": (-17, 0)}),
        ("rotate", 0, {"angle": -15, "interpolation": smooth}),
        ("rotate", 25, {"angle": 10, "interpolation": smooth}),
        ("scale", 2, {"scale": 0.45, "interpolation": smooth}),
        ("scale", 30, {"scale": 1.15, "interpolation": smooth}),
    ):
        mapped = published.affine(picture, **{**still, **changes})
        expected = np.asarray(published.center_crop(mapped, [224, 224])).astype(int)
        result = perturb(np.asarray(picture), name)[frame]
        assert np.abs(expected - result).mean() < 1.5, (name, frame)


def test_noises_have_the_papers_strength(image):
    flat = np.full((64, 64, 3), 128, np.uint8)
    for difficulty, deviation in ((1, 0.03), (2, 0.05), (3, 0.08)):
        frames = perturb(flat, "gaussian_noise", size=(64, 64), difficulty=difficulty)
        assert np.array_equal(frames[0], flat)
        assert frames[1:].std() == pytest.approx(deviation * 255, rel=0.03)
        photons = (300, 120, 60)[difficulty - 1]
        shot = perturb(flat, "shot_noise", size=(64, 64), difficulty=difficulty)
        assert shot[1:].std() == pytest.approx(255 * np.sqrt(128 / 255 / photons), rel=0.03)


def test_brightness_by_hand():
    """HSV value from -0.3 to 0.3: the ratios of the channels stay."""
    frames = perturb(np.full((4, 4, 3), (100, 50, 0), np.uint8), "brightness", size=(4, 4))
    # 100 - 76.5 = 23.5, and 100 + 76.5 = 176.5.
    assert frames[0, 0, 0].tolist() == [23, 11, 0]
    assert frames[15, 0, 0].tolist() == [100, 50, 0]
    assert frames[30, 0, 0].tolist() == [176, 88, 0]


def test_zoom_blur_is_a_running_mean(image):
    frames = perturb(image, "zoom_blur", size=(56, 56)).astype(int)
    assert np.array_equal(frames[0], crop_center(image, (56, 56)))
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert steps[0] > 0
    assert np.abs(frames[30] - frames[0]).mean() > np.abs(frames[5] - frames[0]).mean()


def test_tilt_keeps_the_centre_and_comes_back():
    for degrees in (-15, 7):
        x, y, w = make_tilt_matrix(64, 80, degrees) @ np.array([40, 32, 1])
        assert (x / w, y / w) == pytest.approx((40, 32), abs=0.5)
    # The picture stands one pixel before the plane it is seen on: 102.4 of 103.4 of its size are left.
    level = make_tilt_matrix(64, 80, 0)
    assert (level / level[2, 2])[:2, :2] == pytest.approx(np.eye(2) * 102.449 / 103.449, rel=1e-4)


def test_what_cannot_be_is_refused(image):
    with pytest.raises(UnknownNameError, match="Did you mean 'tilt'"):
        perturb(image, "tilts")
    with pytest.raises(InputError, match="difficulty"):
        perturb(image, "tilt", difficulty=4)
    with pytest.raises(InputError, match="one pixel"):
        perturb(image, "tilt", size=(0, 3))
