"""The public door: names, keys, severities, and input that cannot be used."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shiftproof.corruptions import (
    COMMON,
    CORRUPTIONS,
    GROUPS,
    HOLDOUT,
    CorruptedDataset,
    corrupt,
    corrupt_video,
    find_function,
)
from shiftproof.corruptions.checks import check_image, get_constants
from shiftproof.errors import ImageError, InputError, UnknownNameError
from shiftproof.rng import generator


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)


def test_names_are_the_papers_in_its_order():
    assert COMMON == (
        "gaussian_noise", "shot_noise", "impulse_noise",
        "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
        "snow", "frost", "fog", "brightness",
        "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    )  # fmt: skip
    assert HOLDOUT == ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    assert tuple(name for family in GROUPS.values() for name in family) == COMMON
    assert list(GROUPS) == ["noise", "blur", "weather", "digital"]


def test_every_entry_says_what_it_is():
    for name, entry in CORRUPTIONS.items():
        assert entry.name == name
        assert entry.description
        assert "\n" not in entry.description
        assert entry.function.__doc__
        for variant in entry.variants.values():
            assert "Differs from" in variant.__doc__ or "Raises" in variant.__doc__


@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if CORRUPTIONS[n].is_random])
def test_seed_and_key_and_name_choose_the_draws(image, name):
    base = corrupt(image, name, severity=3, seed=1, key="a")
    assert np.array_equal(base, corrupt(image, name, severity=3, seed=1, key="a"))
    # Where left or right alone is drawn, every second key has the same.
    assert not all(
        np.array_equal(base, corrupt(image, name, severity=3, seed=seed, key="a"))
        for seed in range(2, 10)
    )
    assert not all(
        np.array_equal(base, corrupt(image, name, severity=3, seed=1, key=key))
        for key in "bcdefghi"
    )
    assert np.array_equal(base, find_function(name)(image, 3, generator(1, name, "a")))


def test_severities_share_their_noise(image):
    """A severity curve is paired: values that one severity raises, the next raises more."""
    gray = np.full((64, 64, 3), 128, np.uint8)
    first, second = (corrupt(gray, "gaussian_noise", severity=s).astype(int) for s in (1, 2))
    assert np.corrcoef((first - 128).ravel(), (second - 128).ravel())[0, 1] > 0.99


def test_a_function_stands_for_a_name(image):
    def invert(image, severity, rng):
        return 255 - image

    assert np.array_equal(corrupt(image, invert, severity=1), 255 - image)
    fog = CORRUPTIONS["fog"].function
    assert np.array_equal(
        corrupt(image, fog, severity=2, key="x"), corrupt(image, "fog", severity=2, key="x")
    )


def test_published_is_the_default_variant():
    image = np.random.default_rng(0).integers(0, 256, (10, 60, 3), dtype=np.uint8)
    default = corrupt(image, "fog", severity=3)
    assert np.array_equal(default, corrupt(image, "fog", severity=3, variant="published"))
    assert not np.array_equal(default, corrupt(image, "fog", severity=3, variant="corrected"))


@pytest.mark.parametrize("severity", [0, 6, -1, 0.5, 5.5, 0.999, True, "3", None, np.nan, [3]])
def test_severity_outside_one_to_five_is_refused(image, severity):
    with pytest.raises(InputError, match="from 1 to 5") as caught:
        corrupt(image, "fog", severity=severity)
    assert repr(severity) in str(caught.value)


def test_numpy_integers_are_severities(image):
    assert np.array_equal(
        corrupt(image, "fog", severity=np.int64(3)), corrupt(image, "fog", severity=3)
    )


def test_unknown_names_get_the_nearest(image):
    with pytest.raises(UnknownNameError, match="Did you mean 'gaussian_noise'"):
        corrupt(image, "gausian_noise", severity=3)
    with pytest.raises(UnknownNameError, match="Did you mean 'corrected'"):
        corrupt(image, "fog", severity=3, variant="correct")
    with pytest.raises(InputError, match="no variants"):
        corrupt(image, lambda image, severity, rng: image, severity=3, variant="corrected")
    with pytest.raises(InputError, match="name or a function"):
        corrupt(image, 3, severity=3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((4, 4, 3)), r"float64.*Values in 0\.\.1"),
        (np.zeros((4, 4, 3), np.float32), r"float32.*\(image \* 255\)"),
        (np.zeros((4, 4, 3), np.uint16), r"uint16.*// 257"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4), bool), r"bool.*\* 255"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\).*alpha"),
        (np.zeros((4, 4, 1), np.uint8), r"\(4, 4, 1\).*image\[\.\.\., 0\]"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((3, 40, 50), np.uint8), r"moveaxis"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\).*no pixel"),
        (np.zeros((4, 0), np.uint8), r"\(4, 0\).*no pixel"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"one by one"),
        (np.zeros(7, np.uint8), r"\(7,\)"),
        ([[1, 2], [3, 4]], r"got list\. Convert it with numpy"),
        ("cat.png", r"got str\. Open the file"),
        (Path("cat.png"), r"got .*Path\. Open the file"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_image_is_refused_with_the_way_out(wrong, message):
    with pytest.raises(ImageError, match=message):
        corrupt(wrong, "fog", severity=3)


@pytest.mark.parametrize("seed", [1.5, 1.0, "1", None])
def test_a_seed_that_is_no_whole_number_is_refused(image, seed):
    with pytest.raises(InputError, match=r"A seed is a whole number; got"):
        corrupt(image, "gaussian_noise", severity=3, seed=seed)
    with pytest.raises(InputError, match=r"A seed is a whole number; got"):
        corrupt_video([image], "fog", severity=3, seed=seed)
    with pytest.raises(InputError, match=r"A seed is a whole number; got"):
        CorruptedDataset([image], "fog", severity=3, seed=seed)
    with pytest.raises(InputError, match=r"A seed is a whole number; got"):
        generator(seed, "any method")


def test_a_seed_of_numpy_is_its_number(image):
    one, other = (corrupt(image, "fog", severity=3, seed=seed) for seed in (7, np.int64(7)))
    assert (one == other).all()


@pytest.mark.parametrize("key", [5, None, b"a"])
def test_a_key_that_is_no_text_is_refused(image, key):
    with pytest.raises(InputError, match=r"A key is a text; got .*str\(key\)"):
        corrupt(image, "fog", severity=1, key=key)


def test_an_ordinary_image_is_not_copied(image):
    assert check_image(image) is image


def test_a_function_that_returns_no_image_is_found_out(image):
    def halved(image, severity, rng):
        return image / 2

    with pytest.raises(ImageError, match=r"halved returned float64"):
        corrupt(image, halved, severity=3)


PIXELS = """
import hashlib, sys
import numpy as np
from shiftproof.corruptions import CORRUPTIONS, corrupt
image = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
for name in (list(CORRUPTIONS) if sys.argv[1] == "forward" else reversed(list(CORRUPTIONS))):
    for severity in (1, 5):
        result = corrupt(image, name, severity=severity, seed=3, key="cat.jpg")
        print(name, severity, hashlib.sha256(result.tobytes()).hexdigest())
"""


def test_another_process_in_another_order_gives_the_same_pixels(image):
    lines = set()
    for name in CORRUPTIONS:
        for severity in (1, 5):
            result = corrupt(image, name, severity=severity, seed=3, key="cat.jpg")
            lines.add(f"{name} {severity} {hashlib.sha256(result.tobytes()).hexdigest()}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PIXELS, "backward"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split("\n")) - {""} == lines


def test_threads_give_the_same_pixels(image):
    jobs = [(name, severity) for name in CORRUPTIONS for severity in (2, 4)]

    def run(job):
        return corrupt(image, job[0], severity=job[1], key="k")

    with ThreadPoolExecutor(8) as pool:
        for one, many in zip(map(run, jobs), pool.map(run, jobs), strict=True):
            assert np.array_equal(one, many)


def test_a_generator_may_be_shared_between_threads(image):
    """Each corruption then gets other draws, but none fails."""
    shared = np.random.default_rng(0)
    functions = [CORRUPTIONS[name].function for name in CORRUPTIONS] * 2

    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda function: function(image, 3, shared), functions):
            assert result.shape == image.shape


def test_the_list_of_names_is_there_at_once():
    """A command line that lists the names must not wait for a compiler."""
    code = (
        "import sys\n"
        "from shiftproof.corruptions import CORRUPTIONS\n"
        "print(len(CORRUPTIONS), 'numba' in sys.modules, 'cv2' in sys.modules,"
        " 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, *heavy = done.stdout.split()
    assert int(count) >= 19
    assert heavy == ["False", "False", "False"]


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300), (300, 1, 3), (2, 2), (5, 3, 3), (17, 31)])
def test_any_size(name, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for variant in (None, *CORRUPTIONS[name].variants):
        if variant == "photographs":
            continue
        for severity in range(1, 6):
            result = corrupt(image, name, severity=severity, variant=variant)
            assert result.shape == shape
            assert result.dtype == np.uint8


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_black_and_white_stay_in_range(name):
    """No warning, no value that wraps around: warnings are errors here."""
    for level in (0, 255):
        # Large enough for the longest streak: in a smaller image it is cut off and darkens.
        image = np.full((60, 60, 3), level, np.uint8)
        for severity in (1, 5):
            result = corrupt(image, name, severity=severity).astype(int)
            if name in ("defocus_blur", "motion_blur", "zoom_blur", "gaussian_blur", "glass_blur"):
                assert np.abs(result - level).max() <= 2
            if name == "brightness":
                assert result.min() >= level


@pytest.mark.parametrize("name", [*COMMON, *HOLDOUT])
def test_severity_is_continuous(name, image):
    """Every severity between two is there, and a whole one as a float is the whole one."""
    larger = np.repeat(np.repeat(image, 3, axis=0), 3, axis=1)
    for severity in (1, 3, 5):
        assert np.array_equal(
            corrupt(larger, name, severity=float(severity)),
            corrupt(larger, name, severity=severity),
        )
    for severity in (1.25, 2.5, 3.9, np.float32(4.5)):
        assert corrupt(larger, name, severity=severity).shape == larger.shape


def test_constants_are_interpolated():
    assert get_constants(((1.0, 10, False), (2.0, 13, True)) * 2, 1.5) == (1.5, 12, True)
    assert get_constants((0.1, 0.3, 0.5, 0.7, 0.9), 4.25) == pytest.approx(0.75)
    gray = np.full((100, 100), 128, np.uint8)
    spread = [corrupt(gray, "gaussian_noise", severity=s).std() for s in np.arange(1, 3.01, 0.25)]
    assert np.all(np.diff(spread) > 0)
    # Half-way between 0.08 and 0.12.
    assert spread[2] == pytest.approx(0.10 * 255, rel=0.03)
