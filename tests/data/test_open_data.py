"""What a person names is recognised, and what cannot be used says why."""

import numpy as np
import pytest

from shiftproof.data import (
    CorruptedTree,
    DemoPhotographs,
    ImageArrays,
    ImageFolder,
    ImageTable,
    open_data,
)
from shiftproof.embed import open_pictures
from shiftproof.errors import InputError, LabelError


def test_each_kind_is_recognised(tmp_path, photo, classes):
    photo(tmp_path / "pets" / "cat" / "a.png")
    photo(tmp_path / "flat" / "a.png")
    photo(tmp_path / "tree" / "fog" / "1" / "cat" / "a.png")
    photo(tmp_path / "groups" / "weather" / "fog" / "severity_2" / "cat" / "a.png")
    (tmp_path / "list.CSV").write_text("pets/cat/a.png,cat\n")
    kinds = {
        "pets": ImageFolder, "flat": ImageFolder, "tree": CorruptedTree, "groups": CorruptedTree,
        "list.CSV": ImageTable,
    }  # fmt: skip
    for name, kind in kinds.items():
        for source in (tmp_path / name, str(tmp_path / name)):
            assert type(open_data(source, classes=classes)) is kind


def test_classes_that_are_called_like_corruptions_are_no_tree(tmp_path, photo):
    from shiftproof.classes import name_classes

    weather = name_classes(["fog", "snow", "frost"])
    for name in weather.names:
        photo(tmp_path / name / "today" / "a.png")
    data = open_data(tmp_path, classes=weather)
    assert type(data) is ImageFolder
    assert [sample.label for sample in data.samples] == [0, 2, 1]


def test_demo_is_the_photographs_unless_there_is_a_folder_of_that_name(
    tmp_path, photo, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert type(open_data("demo", classes=None)) is DemoPhotographs
    photo(tmp_path / "demo" / "a.png")
    assert type(open_data("demo", classes=None)) is ImageFolder


def test_options_are_handed_on(tmp_path, photo, classes):
    photo(tmp_path / "pets" / "Katze" / "a.png")
    photo(tmp_path / "tree" / "fog" / "1" / "Katze" / "a.png")
    (tmp_path / "list.csv").write_text("pets/Katze/a.png,Katze\n")
    for name in ("pets", "tree", "list.csv"):
        data = open_data(tmp_path / name, classes=classes, class_map={"Katze": "cat"})
        assert data.samples[0].label == 0
        assert not open_data(tmp_path / name, classes=classes, labeled=False).is_labeled
    tree = open_data(tmp_path / "tree", classes=None, clean=tmp_path / "pets")
    assert tree.has_clean


def test_a_data_set_comes_back_as_it_is_if_its_labels_fit(classes):
    image = np.zeros((3, 3, 3), np.uint8)
    data = ImageArrays([image], labels=[2])
    assert open_data(data, classes=classes) is data
    assert open_data(data, classes=None) is data
    with pytest.raises(LabelError, match="000000 has the label 3, but the model has 3 classes"):
        open_data(ImageArrays([image], labels=[3]), classes=classes)
    with pytest.raises(InputError, match="open already"):
        open_data(data, classes=classes, labeled=False)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "does not exist; expected a folder of images, a .csv file"),
        ("nothing.csv", "does not exist"),
        ("a.png", r"is an image; expected a folder of images: give \S+"),
        ("a.tar", "cannot be read as a tar"),
        ("a.tar.gz", "is an archive; unpack it"),
        ("a.txt", "is a file of an unknown kind"),
        ("empty", "holds no images"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path, photo, classes, name, says):
    photo(tmp_path / "a.png")
    for file in ("a.tar", "a.tar.gz", "a.txt"):
        (tmp_path / file).write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=says):
        open_data(tmp_path / name, classes=classes)


def test_only_a_tree_has_a_clean_twin(tmp_path, photo, classes):
    photo(tmp_path / "pets" / "cat" / "a.png")
    (tmp_path / "list.csv").write_text("pets/cat/a.png,cat\n")
    for name in ("pets", "list.csv"):
        with pytest.raises(InputError, match="is not a -C tree"):
            open_data(tmp_path / name, classes=classes, clean=tmp_path / "pets")


def test_the_labels_of_the_demo_cannot_be_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="demo photographs have labels"):
        open_data("demo", classes=None, labeled=False)


@pytest.mark.parametrize("source", [np.zeros((2, 4, 4, 3), np.uint8), [1, 2], None])
def test_what_is_no_path_is_refused(source):
    kind = type(source).__name__
    with pytest.raises(InputError, match=rf"got {kind}\. .*ImageArrays"):
        open_data(source, classes=None)
    with pytest.raises(InputError, match=rf"got {kind}\. .*ImageArrays"):
        open_pictures(source)
    with pytest.raises(InputError, match=r"got bytes; write os\.fsdecode"):
        open_data(b"photos", classes=None)
