"""The table of layouts: a row is all that a layout needs."""

import numpy as np
import pytest
from PIL import Image

from shiftproof.data import FoundDataset, ImageFolder, Part, find_dataset, open_data
from shiftproof.data.layouts import LAYOUTS, Layout, recognize_layout
from shiftproof.errors import InputError


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pixels").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "pixels" / "a.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "preview.png")
    (tmp_path / "pixels.txt").write_text("pixels/a.png\n")
    return tmp_path


def list_pixels(request):
    names = tuple((request.path / "pixels.txt").read_text().split())
    part = Part("pixels", "pixels.txt", ("pixels",), names)
    return FoundDataset(request.path, request.layout, request.path, (part,))


def open_pixels(found, reading):
    return ImageFolder(found.root, labeled=reading.labeled, only=list(found.images))


def test_a_layout_of_ones_own_is_one_row(pictures, monkeypatch):
    row = Layout(
        "a list of pixels",
        list_pixels,
        is_folder=lambda path: (path / "pixels.txt").is_file(),
        open_images=open_pixels,
    )
    assert recognize_layout(pictures) == "plain"
    monkeypatch.setitem(LAYOUTS, "pixels", row)
    assert recognize_layout(pictures) == "pixels"
    found = find_dataset(pictures)
    assert found.sentences == ("a list of pixels, pixels.txt, pixels, 1 image in pixels/",)
    data = open_data(pictures, classes=None, labeled=False)
    assert [sample.id for sample in data.samples] == ["pixels/a.png"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("split", "has no known splits"),
        ("images", "has no effect"),
        ("root", "has no effect"),
    ],
)
def test_options_that_a_layout_does_not_have_are_refused(pictures, monkeypatch, option, message):
    row = Layout("a list of pixels", list_pixels, is_folder=lambda path: True)
    monkeypatch.setitem(LAYOUTS, "pixels", row)
    with pytest.raises(InputError, match=message):
        find_dataset(pictures, **{option: "pixels"})


def test_a_refusal_names_the_layouts_that_have_the_option(pictures, monkeypatch):
    row = Layout("a list of pixels", list_pixels, task="detection", options=frozenset({"root"}))
    monkeypatch.setitem(LAYOUTS, "pixels", row)
    with pytest.raises(InputError, match="is not YOLO or a list of pixels data"):
        find_dataset(pictures, root="pixels")


def test_layouts_have_titles_of_their_own():
    titles = [layout.title for layout in LAYOUTS.values()]
    assert len(set(titles)) == len(titles)


def test_every_file_and_every_folder_has_a_layout(tmp_path):
    (tmp_path / "notes.bin").write_bytes(b"x")
    assert recognize_layout(tmp_path / "notes.bin") == "image"
    assert recognize_layout(tmp_path) == "plain"
