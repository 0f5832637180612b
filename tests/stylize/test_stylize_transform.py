"""Stylised images in a training loop."""

import numpy as np
import pytest
import torch
from PIL import Image

from shiftproof.errors import ImageError, InputError
from shiftproof.stylize import Stylize, stylize_keyed


def test_kinds_go_in_and_come_out(photograph, few):
    transform = Stylize(styles=few, probability=1, seed=3)
    expected, _ = stylize_keyed(photograph, few, key="a", seed=3)
    np.testing.assert_array_equal(transform(photograph, "a"), expected)
    picture = transform(Image.fromarray(photograph), "a")
    assert isinstance(picture, Image.Image)
    np.testing.assert_array_equal(np.asarray(picture), expected)
    tensor = transform(torch.from_numpy(photograph).permute(2, 0, 1), "a")
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), expected)


def test_without_a_key_the_content_is_it(photograph, few):
    transform = Stylize(styles=few, probability=1)
    np.testing.assert_array_equal(transform(photograph), transform(photograph.copy()))
    transform.probability = 0.5
    images = [np.full((4, 4, 3), level, np.uint8) for level in range(40)]
    changed = [transform(image) is not image for image in images]
    assert 8 < sum(changed) < 32


def test_epochs_are_the_turns_of_a_copy(photograph, few):
    transform = Stylize(styles=few, probability=1)
    transform.epoch = 2
    expected, _ = stylize_keyed(photograph, few, key="a", turn=2)
    np.testing.assert_array_equal(transform(photograph, "a"), expected)


def test_the_share_of_images_is_the_probability(few):
    image = np.full((4, 4, 3), 7, np.uint8)
    transform = Stylize(styles=few, probability=0.3)
    same = [transform(image, str(number)) is image for number in range(400)]
    # Three deviations of a binomial count of 400 at 0.7.
    assert abs(sum(same) - 280) < 3 * (400 * 0.3 * 0.7) ** 0.5
    assert same == [transform(image, str(number)) is image for number in range(400)]
    transform.epoch = 1
    assert same != [transform(image, str(number)) is image for number in range(400)]
    assert not any(Stylize(styles=few, probability=1)(image, str(n)) is image for n in range(50))
    assert all(Stylize(styles=few, probability=0)(image, str(n)) is image for n in range(50))


def test_wrong_input(few, photograph):
    with pytest.raises(InputError, match="probability is a number from 0 to 1; got 2"):
        Stylize(styles=few, probability=2)
    with pytest.raises(ImageError, match="a picture in color"):
        Stylize(styles=few, probability=1)(Image.fromarray(photograph[..., 0]))
    assert repr(Stylize(styles=few)) == "Stylize(4 styles, alpha=1.0, probability=0.5, seed=0)"
