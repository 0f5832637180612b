"""Chains of corruptions, CCC's pairs and walks, and the named sets."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from shiftproof.cli.corruption_choice import check_choice, read_choice, resolve_corruptions
from shiftproof.corruptions import COMMON, CORRUPTIONS, SUITES, ccc, chain, corrupt, suite
from shiftproof.corruptions.chains import parse_chain
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.corruptions.suites import find_suite
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.testing import check_corruption

REFERENCE = Path(__file__).parent.parent / "reference" / "corruptions" / "cbar-picture.npz"
WALKS = (
    (0, 5.0, "rrrrrrrrrururuururururururrururuuuuuuuuu"),
    (20, 4.25, "uuurruurrruruururururrurrurrrurruuu"),
    (40, 2.25, "uuururururururrru"),
)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)


def test_a_chain_keeps_the_contract():
    check_corruption(chain(("gaussian_noise", 1.25), "fog"))
    check_corruption(ccc.pair("defocus_blur", "snow"))


def test_links_come_in_order_at_their_severities(image):
    """Contrast and brightness draw nothing, so the chain is the one and then the other."""
    first = corrupt(image, "contrast", severity=2.5)
    expected = corrupt(first, "brightness", severity=4)
    assert np.array_equal(
        corrupt(image, chain(("contrast", 2.5), "brightness"), severity=4), expected
    )
    other = corrupt(image, chain("brightness", ("contrast", 2.5)), severity=4)
    assert not np.array_equal(other, expected)


def test_the_second_link_draws_the_same_whatever_the_first(image):
    """On a black image noise of one link cannot hide that of the other."""
    black = np.zeros((40, 40), np.uint8)
    one, two = (
        corrupt(black, chain(("contrast", s), "gaussian_noise"), severity=3, key="a")
        for s in (1, 5)
    )
    assert np.array_equal(one, two)


def test_specs_are_read_and_recorded():
    text = "gaussian_noise-1.25+fog"
    assert parse_chain(text).spec == text
    assert list(read_choice(f"{text},snow")) == [text, "snow"]
    assert identify_corruption(parse_chain(text)) == "gaussian_noise at 1.25, then fog"
    assert (
        identify_corruption(ccc.pair("fog", "contrast", 0.5, 4))
        == "fog at 0.5, then contrast at 4 (ccc)"
    )


@pytest.mark.parametrize("now", ["x = (\n", "x = '''\n", "    x\n  y\n", "x = 1\n"])
def test_a_function_whose_file_has_changed_keeps_its_name(tmp_path, now):
    file = tmp_path / "mine.py"
    names = {"__name__": "mine"}
    exec(
        compile("def invert(image, severity, rng):\n    return 255 - image\n", file, "exec"), names
    )
    file.write_text(now)
    assert identify_corruption(names["invert"]).split()[0] == "mine.invert"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("fog+gausian_noise", UnknownNameError, "Did you mean 'gaussian_noise'"),
        ("fog+", InputError, "gaussian_noise-1.25"),
        ("fog-6+snow", InputError, "from 1 to 5"),
        ("c-ba", UnknownNameError, "Did you mean 'c-bar'"),
        ("mnst-c", UnknownNameError, "Did you mean 'mnist-c'"),
        ("cifar-10-c,fog", InputError, "'fog' has different constants in two"),
    ],
)
def test_words_that_cannot_be_read_get_the_way_out(text, error, message):
    with pytest.raises(error, match=message):
        read_choice(text)


def test_equal_cells_are_refused():
    named = resolve_corruptions("fog-2+snow-3.5", None)
    with pytest.raises(InputError, match="5 cells would be the same"):
        check_choice(named, [1, 2, 3, 4, 5])
    check_choice(named, [1])


def test_frost_from_a_folder_is_not_taken_by_halves(tmp_path):
    with pytest.raises(InputError, match=r"--frost-dir: frost\+fog"):
        resolve_corruptions("frost+fog", tmp_path)


def test_ccc_starts_from_nothing_and_meets_the_published_severities(image):
    """Severity 0 changes nothing, a whole one has the published constants."""
    for name, function in ccc.FUNCTIONS.items():
        assert np.array_equal(corrupt_at(function, image, 0), image), name
    for name in ("gaussian_noise", "shot_noise", "fog", "contrast", "pixelate", "brightness"):
        for severity in (1, 5):
            expected = corrupt_at(CORRUPTIONS[name].function, image, severity)
            assert np.array_equal(corrupt_at(ccc.FUNCTIONS[name], image, severity), expected), name


def corrupt_at(function, image, severity):
    return function(image, severity, np.random.default_rng(3))


@pytest.mark.parametrize("name", ccc.FUNCTIONS)
def test_ccc_grows_between_severities(name):
    image = np.load(REFERENCE)["image"]
    few = [
        np.abs(corrupt_at(ccc.FUNCTIONS[name], image, s).astype(int) - image).mean()
        for s in (0.25, 0.5, 1)
    ]
    assert 0 < few[0] < few[2] + 1e-9
    assert few[0] <= few[1] + 0.5


def test_shot_noise_of_ccc_is_interpolated_over_one_by_the_photons():
    """Half-way between 60 and 25 photons are 35: the mean of 1/60 and 1/25 is 0.0283."""
    gray = np.full((200, 200), 128, np.uint8)
    seen = corrupt_at(ccc.FUNCTIONS["shot_noise"], gray, 1.5).std() / 255
    assert seen == pytest.approx(np.sqrt(128 / 255 / 35.3), rel=0.03)


def test_walks_are_those_of_the_published_code():
    """Steps of generate.py (oripress/CCC, commit 656dec3) over one table, u up and r right."""
    i, j = np.mgrid[:21, :21]
    table = 80 * np.exp(-0.09 * i - 0.07 * j) - 10 * np.sin(i * j / 9)
    for target, start, steps in WALKS:
        walk = ccc.find_walk(table, target)
        assert walk[0] == (start, 0)
        assert walk[-1][0] == 0
        turned = itertools.pairwise(walk)
        assert "".join("u" if b[0] < a[0] else "r" for a, b in turned) == steps


def test_walks_run_as_corruptions():
    table = np.linspace(80, 0, 21)[:, np.newaxis] + np.linspace(0, -40, 21)
    walk = ccc.walk("gaussian_noise", "snow", table, 40)
    names = list(walk)
    assert names[0].endswith("+snow-0")
    assert names[-1].startswith("gaussian_noise-0+")
    assert len(set(names)) == len(names)
    with pytest.raises(InputError, match=r"\(21, 21\)"):
        ccc.find_walk(np.zeros((3, 3)), 40)


def test_sets_have_the_papers_sizes_and_every_corruption_a_home():
    sizes = {name: len(one.corruptions) for name, one in SUITES.items()}
    assert sizes["c-bar"] == sizes["cifar-10-c-bar"] == 10
    assert sizes["mnist-c"] == sizes["common"] == sizes["cifar-10-c"] == 15
    assert (sizes["ccc-easy"], sizes["ccc"], sizes["ccc-hard"]) == (14 * 13, 13 * 12, 4 * 3)
    for name in CORRUPTIONS:
        assert "arXiv" in find_suite(name).source or find_suite(name).name == "further"
    with pytest.raises(UnknownNameError, match="Did you mean 'c-bar'"):
        suite("c_bar")


def test_no_mean_is_taken_over_a_part_of_another_set():
    """Forms of MNIST-C bear names of their own, or the mean would be over seven of fifteen."""
    assert not set(suite("mnist-c")) & set(COMMON)
