"""Styles that are drawn: many, different, and the same every time."""

import numpy as np
import pytest

from shiftproof.stylize.drawings import TECHNIQUES, draw_style, name_technique


def test_a_number_is_a_picture():
    first = np.array(draw_style(1))
    draw_style.cache_clear()
    np.testing.assert_array_equal(draw_style(1), first)
    assert first.shape == (384, 384, 3)
    assert first.dtype == np.uint8
    assert not draw_style(1).flags.writeable


@pytest.mark.parametrize("number", range(len(TECHNIQUES)))
def test_every_way_gives_colours_contrast_and_texture(number):
    picture = draw_style(number).astype(float)
    other = draw_style(number + len(TECHNIQUES)).astype(float)
    assert name_technique(number) == name_technique(number + len(TECHNIQUES))
    assert np.abs(picture - other).mean() > 10
    grey = picture.mean(axis=2)
    assert grey.std() > 10
    # Texture: neighbours differ, and yet they are more alike than pixels far away.
    near = np.abs(np.diff(grey, axis=1)).mean()
    far = np.abs(grey[:, 100:] - grey[:, :-100]).mean()
    assert 1 < near < far


def test_ways_are_named():
    names = {name_technique(number) for number in range(20)}
    assert len(names) == 10
    assert "short strokes" in names
