"""Wrong input to stylize: one sentence each."""

import numpy as np
import pytest

from shiftproof.errors import ImageError, InputError
from shiftproof.stylize import Stylize, stylize

COLOUR = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5), np.uint8), r"image: expected a picture in color.*numpy\.repeat"),
        (np.zeros((4, 5, 1), np.uint8), "image: .*Drop the last axis"),
        (np.zeros((4, 5, 3)), "image: .*got dtype float64"),
        (np.zeros((3, 4, 5), np.uint8), "image: .*Move the channels to the end"),
        (np.zeros((0, 5, 3), np.uint8), "image: .*It has no pixel"),
        ([[1, 2, 3]], "image: .*got list"),
    ],
)
def test_what_is_no_picture_in_colour(image, message):
    with pytest.raises(ImageError, match=message):
        stylize(image, COLOUR)
    with pytest.raises(ImageError, match=message.replace("image", "style", 1)):
        stylize(COLOUR, image)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan"), "1", True, None])
def test_alpha_outside(alpha):
    with pytest.raises(InputError, match="alpha is a number from 0"):
        stylize(COLOUR, COLOUR, alpha=alpha)
    with pytest.raises(InputError, match="alpha is a number from 0"):
        Stylize(alpha=alpha)


def test_an_engine_by_name_is_told_what_to_give():
    with pytest.raises(InputError, match=r"got 'adain'. For AdaIN give AdaIN\(WEIGHTS\)"):
        stylize(COLOUR, COLOUR, engine="adain")
