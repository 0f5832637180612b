"""Label maps are read as they are stored, and nothing that blurs them is."""

import io

import numpy as np
import pytest
from PIL import Image

from shiftproof.errors import BrokenFileError
from shiftproof.io.images import read_indices


def stored(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_a_palette_gives_its_indices_and_not_its_colors(form):
    indices = np.arange(20, dtype=np.uint8).reshape(4, 5)
    picture = Image.fromarray(indices)
    picture = picture.convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([7] * 768)
    assert np.array_equal(read_indices(stored(picture, form)), indices)


def test_sixteen_bits_are_not_scaled():
    indices = np.array([[0, 255, 256, 65535]], np.uint16)
    assert read_indices(stored(Image.fromarray(indices))).tolist() == indices.tolist()


def test_a_bilevel_map_has_the_numbers_0_and_1():
    assert read_indices(stored(Image.new("1", (2, 1), 1))).tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (stored(Image.new("RGB", (2, 2))), "one number per pixel, got an image of mode RGB"),
        (stored(Image.new("LA", (2, 2))), "one number per pixel, got an image of mode LA"),
        (stored(Image.new("L", (8, 8)), "JPEG"), "got JPEG; save it as PNG"),
        (b"", "the file is empty"),
        (stored(Image.new("L", (200, 200)))[:60], "damaged image"),
        (b"%!PS-Adobe-3.0", "not an image that can be decoded"),
    ],
)
def test_other_files_are_refused(data, message):
    with pytest.raises(BrokenFileError, match=message):
        read_indices(data)
