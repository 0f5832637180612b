"""Folders of images: what is found, in which order, with which labels; and what is refused."""

import os
import pickle
import shutil
import sys

import numpy as np
import pytest

from shiftproof.classes import imagenet, name_classes, number_classes
from shiftproof.data import ImageFolder, read_class_map
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.types import Sample

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")


def ids(data):
    return [sample.id for sample in data.samples]


def labels(data):
    return {sample.id: sample.label for sample in data.samples}


# ---------------------------------------------------------------- labels


def test_class_folders_go_by_wordnet_id_name_synonym_and_index(tmp_path, photo):
    for folder in ("n02123045", "goldfish", "Great White Shark", "carcharodon_carcharias", "999"):
        photo(tmp_path / folder / "a.png")
    data = ImageFolder(tmp_path, imagenet())
    # torchvision's and everybody's order: 281 tabby, 1 goldfish, 2 great white shark.
    assert labels(data) == {
        "n02123045/a.png": 281, "goldfish/a.png": 1, "Great White Shark/a.png": 2,
        "carcharodon_carcharias/a.png": 2, "999/a.png": 999,
    }  # fmt: skip
    assert data.is_labeled
    assert data.classes is imagenet()


def test_an_image_lies_at_any_depth_below_its_class_folder(tmp_path, photo, classes):
    photo(tmp_path / "dog" / "2023" / "cat" / "a.png")
    assert labels(ImageFolder(tmp_path, classes)) == {"dog/2023/cat/a.png": 1}


def test_images_in_the_root_have_no_labels(tmp_path, photo, classes):
    photo(tmp_path / "a.png")
    data = ImageFolder(tmp_path, classes)
    assert not data.is_labeled
    assert data.classes is None
    assert data.samples == (Sample("a.png", None),)


def test_without_classes_there_are_no_labels(tmp_path, photo):
    photo(tmp_path / "holiday" / "a.png")
    assert not ImageFolder(tmp_path).is_labeled


def test_labels_can_be_ignored(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.png")
    photo(tmp_path / "b.png")
    assert not ImageFolder(tmp_path, classes, labeled=False).is_labeled


def test_unknown_class_folders_are_named_and_it_is_said_what_to_do(tmp_path, photo, classes):
    for number in range(8):
        photo(tmp_path / f"thing{number}" / "a.png")
    with pytest.raises(LabelError, match="knows none of the 8 class folders") as caught:
        ImageFolder(tmp_path, classes)
    for words in ("thing0, thing1", "and 3 more", "class map", "labeled=False", "cat, dog"):
        assert words in str(caught.value)


def test_who_has_numbered_classes_is_told_to_name_them(tmp_path, photo):
    photo(tmp_path / "cat" / "a.png")
    with pytest.raises(LabelError, match=r"--classes FILE.*, give a class map"):
        ImageFolder(tmp_path, number_classes(2))


def test_one_unknown_class_folder_is_not_dropped_in_silence(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.png")
    photo(tmp_path / "hamster" / "a.png")
    with pytest.raises(LabelError, match=r"only 1 of the 2 class folders. Unknown: hamster\."):
        ImageFolder(tmp_path, classes)


def test_a_folder_given_one_too_high_is_recognised(tmp_path, photo, classes):
    photo(tmp_path / "val" / "cat" / "a.png")
    with pytest.raises(LabelError, match=r"one level deeper: give \S+val\."):
        ImageFolder(tmp_path, classes)


def test_images_beside_class_folders_are_refused(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.png")
    photo(tmp_path / "stray.png")
    with pytest.raises(LabelError, match=r"1 of 2 images are not in a class folder \(first: stray"):
        ImageFolder(tmp_path, classes)


def test_labels_that_are_insisted_on_must_be_there(tmp_path, photo, classes):
    photo(tmp_path / "a.png")
    with pytest.raises(LabelError, match="not in a class folder"):
        ImageFolder(tmp_path, classes, labeled=True)
    with pytest.raises(LabelError, match="labels need classes; none were given"):
        ImageFolder(tmp_path, labeled=True)


def test_a_class_folder_without_images_is_no_matter(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.png")
    (tmp_path / "unknown").mkdir()
    (tmp_path / "dog").mkdir()
    assert ids(ImageFolder(tmp_path, classes)) == ["cat/a.png"]


# ---------------------------------------------------------------- class maps


def test_a_class_map_translates_folder_names(tmp_path, photo, classes):
    photo(tmp_path / "Katze" / "a.png")
    photo(tmp_path / "Meerschweinchen" / "a.png")
    photo(tmp_path / "dog" / "a.png")
    class_map = {"Katze": "cat", "Meerschweinchen": "2", "Hamster": "nothing"}
    data = ImageFolder(tmp_path, classes, class_map=class_map)
    assert labels(data) == {"Katze/a.png": 0, "Meerschweinchen/a.png": 2, "dog/a.png": 1}


def test_a_class_map_goes_before_the_models_names(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.png")
    assert labels(ImageFolder(tmp_path, classes, class_map={"cat": "dog"})) == {"cat/a.png": 1}


def test_a_class_map_to_no_class_is_refused(tmp_path, photo, classes):
    photo(tmp_path / "Katze" / "a.png")
    with pytest.raises(LabelError, match=r"class map, folder 'Katze'.*Did you mean 'cat'"):
        ImageFolder(tmp_path, classes, class_map={"Katze": "cta"})
    with pytest.raises(LabelError, match=r"class map, folder 'Katze'.*expected 0 to 2"):
        ImageFolder(tmp_path, classes, class_map={"Katze": "3"})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("map.csv", "folder,class\nKatze,cat\n\nHund , dog\n"),
        ("map.csv", "Katze,cat\r\nHund,dog\r\n"),
        ("map.csv", "\ufeffFolder,Class\nKatze,cat\n\"Hund\",dog"),
        ("map.json", '{"Katze": "cat", "Hund": "dog"}'),
    ],
)  # fmt: skip
def test_class_maps_are_read_from_csv_and_json(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_class_map(path) == {"Katze": "cat", "Hund": "dog"}


def test_a_json_class_map_may_give_indices(tmp_path):
    path = tmp_path / "map.json"
    path.write_text('{"Katze": 0}')
    assert read_class_map(path) == {"Katze": "0"}


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("map.csv", "a,b,c\n", BrokenFileError, "line 1: expected folder,class"),
        ("map.csv", "x,cat\n\na\n", BrokenFileError, "line 3: expected folder,class"),
        ("map.csv", "a,\n", BrokenFileError, "line 1: expected folder,class"),
        ("map.csv", "a,cat\na,dog\n", LabelError, "line 2: the folder 'a' is given twice"),
        ("map.csv", "", BrokenFileError, "got none"),
        ("map.csv", "folder,class\n", BrokenFileError, "got none"),
        ("map.csv", 'a,"cat\n', BrokenFileError, "not valid CSV"),
        ("map.csv", b"\xff\xfe\x00", BrokenFileError, "UTF-8"),
        ("map.csv", b"a\0,b", BrokenFileError, "zero bytes"),
        ("map.json", "[1]", BrokenFileError, "JSON object"),
        ("map.json", "{", BrokenFileError, "not valid JSON"),
        ("map.json", "{}", BrokenFileError, "got none"),
        ("map.json", '{"0": ["n01440764", "tench"]}', BrokenFileError, "folder '0'"),
        ("map.json", '{"a": true}', BrokenFileError, "folder 'a'"),
    ],
)
def test_a_class_map_that_is_none_is_refused(tmp_path, name, content, error, says):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=says):
        read_class_map(path)


def test_a_class_map_that_is_missing_is_refused(tmp_path):
    for name in ("map.csv", "map.json"):
        with pytest.raises(BrokenFileError, match="cannot be read"):
            read_class_map(tmp_path / name)


# ---------------------------------------------------------------- what is found


def test_the_order_is_that_of_the_ids_whatever_the_disk_gives(tmp_path, photo):
    for name in ("b.png", "B.png", "a/z.png", "a.png", "ä.png", "10.png", "9.png"):
        photo(tmp_path / name)
    assert ids(ImageFolder(tmp_path)) == [
        "10.png", "9.png", "B.png", "a.png", "a/z.png", "b.png", "ä.png",
    ]  # fmt: skip


def test_hidden_files_do_not_count_and_others_are_counted(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.JPG")
    photo(tmp_path / "cat" / ".b.png")
    photo(tmp_path / ".thumbnails" / "c.png")
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "README").write_text("x")
    data = ImageFolder(tmp_path, classes)
    assert ids(data) == ["cat/a.JPG"]
    assert data.settings()["files that are no images"] == 2


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no images \(\.avif, \.bmp, "):
        ImageFolder(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no images"):
        ImageFolder(tmp_path)


def test_a_folder_that_is_missing_or_a_file_is_refused(tmp_path, photo):
    with pytest.raises(InputError, match="does not exist"):
        ImageFolder(tmp_path / "nothing")
    with pytest.raises(InputError, match="is a file; expected a folder"):
        ImageFolder(photo(tmp_path / "a.png"))


@needs_links
def test_links_that_lead_back_end(tmp_path, photo, classes):
    photo(tmp_path / "data" / "cat" / "a.png")
    root = tmp_path / "data"
    (root / "cat" / "loop").symlink_to(root / "cat", target_is_directory=True)
    (root / "cat" / "home").symlink_to(root, target_is_directory=True)
    (root / "above").symlink_to(tmp_path, target_is_directory=True)
    (root / "itself").symlink_to(root / "itself")
    data = ImageFolder(root, classes)
    assert ids(data) == ["cat/a.png"]
    assert data.settings()["links to images that are there already"] == [
        "above", "cat/home", "cat/loop",
    ]  # fmt: skip


@needs_links
def test_a_linked_class_folder_is_read_and_a_second_name_of_a_real_one_is_not(
    tmp_path, photo, classes
):
    photo(tmp_path / "elsewhere" / "a.png")
    photo(tmp_path / "data" / "dog" / "a.png")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    # Sorted before the folder that it leads to: the real one counts all the same.
    (tmp_path / "data" / "1").symlink_to(tmp_path / "data" / "dog", target_is_directory=True)
    data = ImageFolder(tmp_path / "data", classes)
    assert labels(data) == {"cat/a.png": 0, "dog/a.png": 1}
    assert data.links == ("1",)


@needs_links
def test_two_folders_outside_that_link_to_each_other_end(tmp_path, photo):
    photo(tmp_path / "x" / "a.png")
    photo(tmp_path / "y" / "b.png")
    (tmp_path / "x" / "to_y").symlink_to(tmp_path / "y", target_is_directory=True)
    (tmp_path / "y" / "to_x").symlink_to(tmp_path / "x", target_is_directory=True)
    photo(tmp_path / "data" / "c.png")
    (tmp_path / "data" / "x").symlink_to(tmp_path / "x", target_is_directory=True)
    assert ids(ImageFolder(tmp_path / "data")) == ["c.png", "x/a.png", "x/to_y/b.png"]


@needs_links
def test_a_link_to_nowhere_is_a_broken_file_and_not_dropped(tmp_path, photo):
    photo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    data = ImageFolder(tmp_path)
    assert ids(data) == ["a.png", "b.png"]
    with pytest.raises(BrokenFileError, match=r"^b\.png: cannot be read"):
        data.read(data.samples[1])
    assert len(data.fingerprint()) == 32


@needs_links
def test_a_pipe_called_like_an_image_does_not_hang(tmp_path, photo):
    photo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "b.png")
    data = ImageFolder(tmp_path)
    assert ids(data) == ["a.png", "c.png"]
    with pytest.raises(BrokenFileError, match=r"c\.png: not a regular file"):
        data.read(data.samples[1])
    assert len(data.fingerprint()) == 32


def test_a_folder_that_may_not_be_read_is_named(tmp_path, photo, monkeypatch):
    photo(tmp_path / "cat" / "a.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"cat cannot be read \(Permission denied\)"):
        ImageFolder(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_name_that_is_no_text_is_refused_before_any_work(tmp_path, photo):
    shutil.copy(photo(tmp_path / "a.png"), os.fsencode(tmp_path) + b"/caf\xe9.png")
    with pytest.raises(InputError, match=r"caf\\udce9.png is not UTF-8; rename"):
        ImageFolder(tmp_path)


# ---------------------------------------------------------------- reading, fingerprint, pickling


def test_reading_gives_rgb_and_names_what_is_broken_by_its_id(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.png", level=17, size=(6, 5))
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "b.jpg").write_text("no image")
    data = ImageFolder(tmp_path, classes)
    image = data.read(data.samples[0])
    assert image.shape == (5, 6, 3)
    assert image.dtype == np.uint8
    assert (image == 17).all()
    with pytest.raises(BrokenFileError, match=r"^dog/b\.jpg: not an image"):
        data.read(data.samples[1])


def test_the_fingerprint_moves_with_content_id_and_label_alone(tmp_path, photo, classes):
    root = tmp_path / "data"
    photo(root / "cat" / "a.png", 1)
    photo(root / "dog" / "b.png", 2)
    first = ImageFolder(root, classes).fingerprint()
    copy = shutil.copytree(root, tmp_path / "copy")
    assert ImageFolder(copy, classes).fingerprint() == first
    assert ImageFolder(root, name_classes(["dog", "cat"])).fingerprint() != first
    assert ImageFolder(root).fingerprint() != first
    photo(copy / "dog" / "b.png", 3)
    assert ImageFolder(copy, classes).fingerprint() != first
    (root / "dog" / "b.png").rename(root / "dog" / "c.png")
    assert ImageFolder(root, classes).fingerprint() != first


def test_settings_say_what_it_is_and_not_where(tmp_path, photo, classes):
    photo(tmp_path / "pets" / "cat" / "a.png")
    settings = ImageFolder(tmp_path / "pets", classes).settings()
    assert settings["name"] == "pets"
    assert settings["images"] == 1
    assert settings["labeled"] is True
    assert str(tmp_path) not in str(settings)


def test_it_is_sent_to_workers_without_pixels(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.png", size=(400, 400))
    data = ImageFolder(tmp_path, classes)
    sent = pickle.dumps(data)
    assert len(sent) < 2000
    loaded = pickle.loads(sent)
    assert loaded.samples == data.samples
    np.testing.assert_array_equal(loaded.read(loaded.samples[0]), data.read(data.samples[0]))


def test_the_current_folder_has_a_name(tmp_path, photo, monkeypatch):
    photo(tmp_path / "pets" / "a.png")
    monkeypatch.chdir(tmp_path / "pets")
    assert ImageFolder(".").name == "pets"


def test_its_text_says_what_it_is(tmp_path, photo, classes):
    photo(tmp_path / "pets" / "cat" / "a.png")
    data = ImageFolder(tmp_path / "pets", classes)
    assert repr(data) == "ImageFolder('pets', 1 labeled image)"
    assert len(data) == 1
