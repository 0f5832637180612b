"""The letters: what classes there are, and that each image is a function of its key."""

import itertools

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.rng import generator
from shiftproof_reproduce import glyphs
from shiftproof_reproduce.glyphs import CLASSES, FONTS, LETTERS


@pytest.fixture(scope="module")
def fonts():
    try:
        return glyphs.find_fonts()
    except InputError as error:
        pytest.skip(str(error))


def test_there_are_many_classes_and_none_twice():
    letters = "".join(LETTERS.values())
    assert len(letters) == len(set(letters)) == len(CLASSES) >= 200
    assert len(set(CLASSES.names)) == len(CLASSES)
    assert CLASSES.names[10] == "latin capital letter a"
    for alike in "ΑАОРСВНԼ":  # Greek, Cyrillic and Armenian letters that look like Latin ones
        assert alike not in letters


def test_no_font_family_is_in_both_parts():
    def family(font):
        return font.file.partition("-")[0].rstrip("0123456789")[:6]

    train, test = ({family(f) for f in FONTS if f.part == part} for part in ("train", "test"))
    assert not train & test
    for script, part in itertools.product(LETTERS, ("train", "test")):
        assert len([f for f in FONTS if f.part == part and script in f.scripts]) >= 2


def test_missing_fonts_are_named_by_their_packages(tmp_path):
    with pytest.raises(InputError, match=r"apt install fonts-dejavu-core .*fonts-vlgothic$"):
        glyphs.load(1, 1, places=[tmp_path])


def test_letters_that_look_alike_are_seen():
    """Squares of two sizes are one shape; a bar through one of them makes it another."""
    square = np.full((20, 20), 255, np.uint8)
    small = np.full((10, 10), 255, np.uint8)
    barred = square.copy()
    barred[5:15] = 0
    shapes = [glyphs._resize_shape(shape) for shape in (square, small, barred)]
    assert np.array_equal(shapes[0], shapes[1])
    assert np.abs(shapes[0] - shapes[2]).sum() / shapes[0].sum() == pytest.approx(0.5)


def test_no_class_looks_like_another(fonts):
    assert glyphs.find_lookalikes() == []


def test_every_font_has_every_letter_of_its_scripts(fonts):
    for font in FONTS:
        missing = glyphs.render_letter(fonts[font.file], "\U0010fffe")
        for script in font.scripts:
            for letter in LETTERS[script]:
                ink = glyphs.render_letter(fonts[font.file], letter)
                assert ink.size
                assert ink.shape != missing.shape or not np.array_equal(ink, missing), letter


def test_an_image_is_a_function_of_its_key(fonts):
    few = glyphs.load(2, 1, classes=3)
    more = glyphs.load(3, 1, classes=4)
    assert few.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(few.train_images[3:6], more.train_images[4:7])
    assert not np.array_equal(few.train_images[0], few.train_images[3])
    other = glyphs.load(2, 1, classes=3, seed=1)
    assert not np.array_equal(few.train_images, other.train_images)
    assert few.test_images.shape == (3, 32, 32, 3)


def test_ink_and_ground_can_be_told_apart():
    for number in range(20):
        ground, ink = glyphs._draw_colors(generator(0, str(number))) @ (0.299, 0.587, 0.114)
        assert abs(ground - ink) >= glyphs.MIN_CONTRAST
