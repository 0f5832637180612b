"""The engine without weights: what it keeps of the content and what it takes from the style."""

import cv2
import numpy as np
import pytest
import skimage.data
from skimage.registration import phase_cross_correlation

from shiftproof.stylize import free, stylize
from shiftproof.stylize.drawings import draw_style
from shiftproof.stylize.free import smooth_texture, transfer_colors

SIZES = [(1, 1), (1, 7), (3, 2), (8, 8), (9, 31), (17, 200), (64, 48)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("style_size", [(1, 1), (5, 300), (40, 40)])
def test_any_size_comes_back(size, style_size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    style = rng.integers(0, 256, (*style_size, 3), np.uint8)
    result = stylize(image, style, key="a")
    assert result.shape == image.shape
    assert result.dtype == np.uint8


def test_what_was_handed_in_stays_and_shares_nothing(photograph, painting):
    image, style = photograph.copy(), painting.copy()
    image.setflags(write=False)
    style.setflags(write=False)
    result = stylize(image, style)
    np.testing.assert_array_equal(image, photograph)
    np.testing.assert_array_equal(style, painting)
    assert not np.shares_memory(result, image)


def test_the_key_and_the_seed_decide_and_nothing_else(photograph, painting):
    first = stylize(photograph, painting, key="a", seed=1)
    np.random.default_rng().random(3)
    np.testing.assert_array_equal(first, stylize(photograph, painting, key="a", seed=1))
    assert not np.array_equal(first, stylize(photograph, painting, key="b", seed=1))
    assert not np.array_equal(first, stylize(photograph, painting, key="a", seed=2))


def test_threads_of_opencv_change_no_pixel(photograph, painting):
    threads = cv2.getNumThreads()
    try:
        results = []
        for count in (1, 4):
            cv2.setNumThreads(count)
            results.append(stylize(photograph, painting, key="a"))
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*results)


def test_alpha_goes_from_the_image_to_the_style(photograph, painting):
    none = stylize(photograph, painting, alpha=0)
    half = stylize(photograph, painting, alpha=0.5)
    whole = stylize(photograph, painting, alpha=1)
    np.testing.assert_array_equal(none, photograph)
    assert not np.shares_memory(none, photograph)
    # Where the full style is clipped the half of it need not be.
    inside = (whole > 0) & (whole < 255)
    middle = (photograph.astype(float) + whole) / 2
    assert np.abs(half - middle)[inside].max() <= 1


def edges(picture):
    grey = cv2.GaussianBlur(picture.astype(np.float64).mean(axis=2), (0, 0), 1.5)
    return np.hypot(*np.gradient(grey))


def displacement(first, second):
    found = phase_cross_correlation(
        edges(first), edges(second), upsample_factor=50, normalization=None
    )
    return found[0]


@pytest.mark.parametrize("number", range(10))
def test_edges_stay_where_they_are(number):
    image = cv2.resize(skimage.data.astronaut(), (192, 180), interpolation=cv2.INTER_AREA)
    result = stylize(image, draw_style(number), key=str(number))
    assert np.abs(displacement(image, result)).max() < 0.15
    # The measure itself sees a part of a pixel.
    moved = cv2.warpAffine(image, np.array([[1, 0, 0.2], [0, 1, 0]]), (192, 180))
    assert displacement(image, moved) == pytest.approx([0, -0.2], abs=0.04)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_step_is_crossed_at_the_same_place(axis):
    step = np.full((96, 96, 3), 60, np.uint8)
    step[:, 41:] = 190
    step = step if axis == 1 else step.swapaxes(0, 1).copy()
    results = [stylize(step, draw_style(number), key=str(number)) for number in range(10)]
    profile = np.mean(results, axis=(0, 3)).mean(axis=1 - axis)
    low, high = profile[8:34].mean(), profile[48:88].mean()
    middle = (low + high) / 2
    place = int(np.flatnonzero(np.diff(np.sign(profile[30:52] - middle)))[0]) + 30
    crossing = place + (middle - profile[place]) / (profile[place + 1] - profile[place])
    # Between the last dark pixel, 40, and the first light one.
    assert crossing == pytest.approx(40.5, abs=0.4)


def test_colours_are_the_styles():
    rng = np.random.default_rng(0)
    mix = np.array([[0.16, 0.10, 0.0], [0.0, 0.12, 0.06], [0.04, 0.0, 0.14]])
    content = (0.5 + 0.1 * rng.standard_normal((96, 96, 3))).astype(np.float32)
    example = (np.array([0.6, 0.4, 0.3]) + rng.standard_normal((96, 96, 3)) @ mix).astype(
        np.float32
    )
    result = transfer_colors(content, example).reshape(-1, 3)
    wanted = example.reshape(-1, 3)
    np.testing.assert_allclose(result.mean(axis=0), wanted.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(np.cov(result.T), np.cov(wanted.T), atol=0.002)


def test_a_style_of_one_shade_still_shows_the_content(photograph):
    flat = np.full((30, 30, 3), (90, 40, 160), np.uint8)
    result = stylize(photograph, flat).astype(float)
    inside, outside = result[40:56, 52:68].mean(), result[:12, :40].mean()
    assert abs(inside - outside) > 20


def test_the_texture_is_the_styles():
    content = np.full((128, 128, 3), 120, np.uint8)
    fine = np.indices((128, 128)).sum(axis=0) % 4 < 2
    diagonal = np.repeat((40 + 170 * fine)[..., np.newaxis], 3, axis=2).astype(np.uint8)
    power = np.abs(np.fft.fft2(stylize(content, diagonal).astype(float).mean(axis=2))) ** 2
    power[0, 0] = 0
    # A period of 4 pixels along both axes: 32 waves in 128 pixels, rising together.
    assert np.unravel_index(power[:64, :64].argmax(), (64, 64)) == (32, 32)
    assert power[32, 32] > 100 * power[32, 128 - 32]
    plain = stylize(content, np.full_like(content, 77))
    assert plain.astype(float).std() < 1


def test_shapes_are_stronger_than_the_texture():
    step = np.full((96, 96, 3), 60, np.uint8)
    step[:, 48:] = 190
    checks = 255 * np.random.default_rng(0).integers(0, 2, (48, 48, 1))
    style = checks.repeat(2, axis=0).repeat(2, axis=1).repeat(3, axis=2).astype(np.uint8)
    grey = stylize(step, style).astype(float).mean(axis=2)
    halves = grey[:, 4:44], grey[:, 52:92]
    contrast = (halves[1].mean() - halves[0].mean()) / 2
    # The texture of the style by itself has all of its contrast, a deviation of 127.
    assert 0.2 * contrast < halves[0].std() < 0.5 * contrast


def test_smoothing_keeps_edges_and_takes_grain():
    rng = np.random.default_rng(0)
    clean = np.full((60, 60, 3), 0.3, np.float32)
    clean[:, 30:] = 0.7
    noisy = clean + 0.03 * rng.standard_normal(clean.shape).astype(np.float32)
    smooth = smooth_texture(noisy, 4)
    assert (smooth - clean)[5:-5, 5:25].std() < 0.4 * 0.03
    # A blur of the same width would leave a slope of several pixels.
    assert np.abs(smooth[5:-5, 29] - 0.3).max() < 0.06
    assert np.abs(smooth[5:-5, 30] - 0.7).max() < 0.06


def test_a_strange_engine_is_told(photograph, painting):
    def halves(content, style, alpha, rng):
        return content[::2]

    with pytest.raises(ValueError, match="returns a uint8 picture of the content's shape"):
        stylize(photograph, painting, engine=halves)
    seen = []

    def watches(content, style, alpha, rng):
        seen.append((alpha, rng.random()))
        return content

    stylize(photograph, painting, engine=watches, alpha=0.3, key="a")
    stylize(photograph, painting, engine=watches, alpha=0.3, key="a")
    assert seen[0] == seen[1]
    assert seen[0][0] == 0.3
    assert free(photograph, painting, 0.5, np.random.default_rng(0)).shape == photograph.shape
