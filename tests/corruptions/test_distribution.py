"""The keyed generator draws from the published distributions.

The other side of each comparison is the same corruption with numpy's own draws in the published
order, which test_parity.py holds against the published pixels.
"""

import functools
from pathlib import Path

import numpy as np
import pytest

from shiftproof.corruptions import (
    COMMON,
    CORRUPTIONS,
    HOLDOUT,
    blur,
    digital,
    draws,
    find_function,
    frost_with,
    noise,
    textures,
    weather,
)
from shiftproof.rng import generator

FOLDER = Path(__file__).parent.parent / "reference" / "corruptions"
RANDOM = [name for name in COMMON + HOLDOUT if CORRUPTIONS[name].is_random]
DRAWS = 200

# Standard errors. With some 30 statistics for each of some 30 comparisons, chance alone exceeds
# this once in 150 runs; the seeds are fixed.
LIMIT = 4.5


@pytest.fixture(scope="module")
def image():
    with np.load(FOLDER / "picture.npz") as arrays:
        return arrays["image"]


EDGES = [0, 1, 40, 80, 110, 140, 170, 200, 230, 255]
SHAPE = (48, 64)
FREQUENCY = np.hypot(np.fft.fftfreq(SHAPE[0])[:, np.newaxis], np.fft.rfftfreq(SHAPE[1]))
BAND = np.digitize(FREQUENCY, [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5]).ravel()


def center(image):
    """Return the values about their mean in each channel, float32, and these means."""
    values = image.reshape(-1, 3).astype(np.float32)
    means = np.ones(len(values), np.float32) @ values / len(values)
    return (values - means).reshape(image.shape), means


def step_right(values):
    return (values[:, 1:] - values[:, :-1]).ravel()


class Source:
    """What the statistics of corrupted images need of the image."""

    def __init__(self, image):
        self.values = center(image)[0]
        self.steps = step_right(self.values)
        self.square = np.vdot(self.values, self.values)
        self.step_square = np.vdot(self.steps, self.steps)


BAND_SIZES = np.bincount(BAND, minlength=8)[1:8]


def statistics(result, source):
    """Mean, variance, histogram, share of the image in it, and of the rest neighbours and spectrum."""
    # Sums of products, which take a quarter of the time of means: there are 15,000 images.
    histogram = np.add.reduceat(np.bincount(result.ravel(), minlength=256), EDGES)
    centered, means = center(result)
    size, width = result.size, result[0].size
    share = np.vdot(centered, source.values) / source.square
    fine_share = np.vdot(step_right(centered), source.steps) / source.step_square
    rest = centered - share * source.values
    lines, flat = rest.reshape(-1, width), rest.ravel()
    along = np.einsum("ij,ij", lines[:, 3:], lines[:, :-3]) / lines[:, 3:].size
    down = np.vdot(flat[width:], flat[:-width]) / (size - width)
    red, green, blue = np.ascontiguousarray(rest.reshape(-1, 3).T)
    across = np.vdot(red, green) / red.size
    transformed = np.fft.rfft2(((red + green + blue) / 3).reshape(result.shape[:2])).ravel()
    power = transformed.real**2 + transformed.imag**2
    spectrum = np.bincount(BAND, power, minlength=8)[1:8] / BAND_SIZES
    variance = np.vdot(centered, centered) / size + means.var()
    rest_variance = np.vdot(flat, flat) / size
    return np.concatenate(
        [
            means,
            [variance, rest_variance, share, fine_share, along, down, across],
            histogram / size,
            np.log(spectrum + 1e-9),
        ]
    )


def distance(first, second):
    """Return the largest difference of two samples' means, in standard errors, over statistics."""
    error = np.sqrt(first.var(axis=0) / len(first) + second.var(axis=0) / len(second))
    moved = np.abs(first.mean(axis=0) - second.mean(axis=0))
    # A statistic that never varies, for example the share of black in a fog, has to be equal.
    return np.max(np.where(error > 1e-9, moved / np.maximum(error, 1e-12), moved * 1e6))


def sample(name, severity, image, generators):
    # The textures of frost differ so much that one of them has to do for telling constants apart.
    function = frost_with([textures.draw_texture(1)]) if name == "frost" else find_function(name)
    return measure(function, severity, image, generators)


def measure(function, severity, image, generators):
    source = Source(image)
    return np.array([statistics(function(image, severity, rng), source) for rng in generators])


def keyed(name, severity, image):
    return sample(name, severity, image, (generator(0, name, str(n)) for n in range(DRAWS)))


@pytest.fixture(scope="module")
def ours(image):
    return functools.cache(lambda name, severity: keyed(name, severity, image))


@pytest.fixture(scope="module")
def published(image):
    def draw(name, severity):
        return sample(name, severity, image, map(np.random.RandomState, range(DRAWS)))

    return functools.cache(draw)


# Water is spattered up to severity 3, mud from 4.
@pytest.mark.parametrize("severity", [3, 4])
@pytest.mark.parametrize("name", RANDOM)
def test_distribution_is_the_published_one(name, severity, ours, published):
    assert distance(ours(name, severity), published(name, severity)) < LIMIT


@pytest.mark.parametrize("name", RANDOM)
def test_distribution_at_the_scale_of_cifar_is_the_published_one(name, image):
    function = find_function(name, "cifar-10-c")
    keyed_draws = measure(function, 3, image, (generator(0, name, str(n)) for n in range(DRAWS)))
    expected = measure(function, 3, image, map(np.random.RandomState, range(DRAWS)))
    assert distance(keyed_draws, expected) < LIMIT


@pytest.mark.parametrize("name", RANDOM)
def test_another_severity_is_told_apart(name, ours, published):
    assert distance(ours(name, 3), published(name, 4)) > LIMIT
    assert distance(ours(name, 4), published(name, 3)) > LIMIT


def test_frost_draws_its_textures_as_often_as_published(monkeypatch):
    """Four textures, the second at double weight, anywhere within them."""
    drawn = []
    blend = weather._blend

    def spy(image, severity, texture, row, column, table):
        drawn.append((texture.shape, row, column))
        return blend(image, severity, texture, row, column, table)

    monkeypatch.setattr(weather, "_blend", spy)
    image = np.zeros((32, 32, 3), np.uint8)
    for n in range(500):
        weather.frost(image, 3, generator(0, "frost", str(n)))
    shapes = [shape for shape, _, _ in drawn]
    counts = {shape: shapes.count(shape) for shape in set(shapes)}
    assert sorted(counts.values())[:3] == pytest.approx([100] * 3, abs=4.5 * 9)
    assert max(counts.values()) == pytest.approx(200, abs=4.5 * 11)
    assert max(counts, key=counts.get) == (347, 616, 3)  # 315 x 560 enlarged by 1.1
    rows = np.array([row / (shape[0] - 32) for shape, row, _ in drawn])
    columns = np.array([column / (shape[1] - 32) for shape, _, column in drawn])
    for places in (rows, columns):
        assert places.mean() == pytest.approx(0.5, abs=4.5 * 0.29 / np.sqrt(500))
        assert places.min() < 0.05
        assert places.max() > 0.95


def scaled(table, column):
    """Return the constants with one of them 10 % larger."""
    if column is None:
        return tuple(row * 1.1 for row in table)
    return tuple((*row[:column], row[column] * 1.1, *row[column + 1 :]) for row in table)


def replace_constants(monkeypatch, module, constant, wrong):
    """Set constants of a module, where its functions read them and where they are a default."""
    right = getattr(module, constant)
    monkeypatch.setattr(module, constant, wrong)
    for function in vars(module).values():
        defaults = getattr(function, "__defaults__", None) or ()
        if any(one is right for one in defaults):
            changed = tuple(wrong if one is right else one for one in defaults)
            monkeypatch.setattr(function, "__defaults__", changed)


@pytest.mark.parametrize(
    ("name", "module", "constant", "column"),
    [
        ("gaussian_noise", noise, "GAUSSIAN_NOISE", None),
        ("shot_noise", noise, "SHOT_NOISE", "photons"),
        ("impulse_noise", noise, "IMPULSE_NOISE", None),
        ("speckle_noise", noise, "SPECKLE_NOISE", None),
        ("glass_blur", blur, "GLASS_BLUR", 0),
        ("motion_blur", blur, "MOTION_BLUR", 1),
        ("snow", weather, "SNOW", 1),
        ("frost", weather, "FROST", 1),
        ("fog", weather, "FOG", 0),
        ("fog", weather, "FOG", 1),
        ("spatter", weather, "SPATTER", 1),
        ("elastic_transform", digital, "ELASTIC_TRANSFORM", None),
    ],
)
def test_a_constant_ten_percent_off_is_told_apart(
    name, module, constant, column, image, published, monkeypatch
):
    expected = published(name, 3)
    wrong = (66, 28, 13, 6, 3) if column == "photons" else scaled(getattr(module, constant), column)
    replace_constants(monkeypatch, module, constant, wrong)
    assert distance(keyed(name, 3, image), expected) > LIMIT


def test_noise_is_independent_between_values(image):
    """Neighbours, channels and the two halves of a random word have nothing in common."""
    gray = np.full((256, 256, 3), 128, np.uint8)
    values = noise.gaussian_noise(gray, 1, generator(0, "independence")).astype(float).ravel()
    values -= values.mean()
    for lag in (1, 2, 3, 256 * 3, len(values) // 2, 2048, 1024):
        correlation = np.mean(values[lag:] * values[:-lag]) / values.var()
        assert abs(correlation) < 4.5 / np.sqrt(len(values) - lag)


def test_keys_that_differ_in_a_bit_share_nothing():
    gray = np.full((128, 128), 128, np.uint8)

    class Fixed(np.random.Generator):
        """Hands out two given keys."""

        def __init__(self, first, second):
            super().__init__(np.random.PCG64(0))
            self.given = np.array([first, second], dtype=np.uint32)

        def integers(self, *_, **__):
            return self.given

    base = noise.gaussian_noise(gray, 3, Fixed(1000, 2000)).astype(float)
    for bit in range(32):
        other = noise.gaussian_noise(gray, 3, Fixed(1000, 2000 ^ (1 << bit))).astype(float)
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 4.5 / np.sqrt(base.size)
        # Nor are they the same values in another order.
        assert not np.array_equal(np.sort(base.ravel()), np.sort(other.ravel()))
        other = noise.gaussian_noise(gray, 3, Fixed(1000 ^ (1 << bit), 2000)).astype(float)
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 4.5 / np.sqrt(base.size)


def test_smooth_displacements_of_large_images_are_those_of_every_pixel_drawn():
    """Above a height of 1,000 the field is made on nodes and interpolated."""
    height, width, sigma = 400, 500, (10.0, 15.0)

    def field_statistics(field):
        lags = [(field[:, k:] * field[:, :-k]).mean() for k in (1, 5, 15, 30)]
        lags += [(field[k:] * field[:-k]).mean() for k in (1, 5, 12, 24)]
        rough = np.log(np.diff(field, axis=1).var()), np.log(np.diff(field, axis=0).var())
        return np.array([field.mean(), field.var(), np.log(field.var()), *lags, *rough])

    exact = np.array(
        [
            field_statistics(
                digital._draw_displacements(np.random.RandomState(n), height, width, 30.0, sigma)
            )
            for n in range(20)
        ]
    )
    keyed_fields = np.array(
        [
            field_statistics(
                digital._draw_displacements(generator(0, str(n)), height, width, 30.0, sigma)
            )
            for n in range(20)
        ]
    )
    assert distance(keyed_fields, exact) < LIMIT


def test_plasma_of_large_images_is_that_of_the_whole_map(monkeypatch):
    """Beyond the first levels the map is made only where the image is."""
    height, width, decay = 70, 500, 1.4

    def plasma_statistics(rng):
        layer, low, high = weather.draw_heights(height, width, decay, rng)
        seen = (layer[:height, :width] - low) / (high - low)
        rough = [np.log(np.var(seen[k:] - seen[:-k])) for k in (1, 2, 8, 32)]
        edges = [np.log(np.var(np.diff(seen[0]))), np.log(np.var(np.diff(seen[:, -1])))]
        return np.array([seen.mean(), seen.std(), seen.min(), seen.max(), *rough, *edges])

    exact = np.array([plasma_statistics(np.random.RandomState(n)) for n in range(60)])
    monkeypatch.setattr(weather, "FOG_FULL_SIDE", 64)
    partial = np.array([plasma_statistics(generator(0, str(n))) for n in range(60)])
    assert distance(partial, exact) < LIMIT


def test_quantiles_have_unit_variance_and_no_skew():
    table = draws.normal_quantiles().astype(float)
    assert abs(table.mean()) < 1e-6
    assert abs(table.std() - 1) < 1e-6
    assert abs(np.mean(table**4) - 3) < 0.02
