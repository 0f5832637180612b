"""CSV files of images: headers, ids, labels, and lines that are wrong."""

import os
import shutil
import sys

import pytest

from shiftproof.classes import imagenet
from shiftproof.data import ImageTable
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.types import Sample


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "list.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def samples(data):
    return [(sample.id, sample.label) for sample in data.samples]


@pytest.mark.parametrize(
    "text",
    [
        "z.png,cat\na.png,dog\n",
        "path,label\nz.png,cat\na.png,dog\n",
        "\ufeffPath, Label\r\nz.png , Cat\r\n\r\na.png,1\r\n",
        "label,path\ncat,z.png\ndog,a.png\n",
        "filename,width,class\nz.png,640,tabby\na.png,480,dog\n",
        '"z.png","cat"\n"a.png","dog"',
    ],
)
def test_rows_are_read_in_their_order(table, classes, text):
    data = ImageTable(table(text), classes)
    assert samples(data) == [("z.png", 0), ("a.png", 1)]
    assert data.is_labeled
    assert data.name == "list.csv"


@pytest.mark.parametrize("text", ["a.png\nb.png\n", "path\na.png\nb.png\n", "a.png,\nb.png,\n"])
def test_paths_alone_have_no_labels(table, classes, text):
    data = ImageTable(table(text), classes)
    assert samples(data) == [("a.png", None), ("b.png", None)]
    assert data.classes is None


def test_labels_can_be_passed_over(table, classes):
    path = table("a.png,hamster\nb.png\n")
    assert samples(ImageTable(path, classes, labeled=False)) == [("a.png", None), ("b.png", None)]
    assert not ImageTable(path).is_labeled


def test_labels_of_imagenet_go_by_id_name_and_index(table):
    data = ImageTable(table("a.png,n01443537\nb.png,great white shark\nc.png,3\n"), imagenet())
    assert [label for _, label in samples(data)] == [1, 2, 3]


def test_a_class_map_translates_labels(table, classes):
    data = ImageTable(table("a.png,Katze\nb.png,dog\n"), classes, class_map={"Katze": "cat"})
    assert samples(data) == [("a.png", 0), ("b.png", 1)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.png,cat\n\nb.png,hamster\n", "line 3: Unknown class 'hamster'"),
        ("path,label\na.png,kat\n", r"line 2: Unknown class 'kat'\. Did you mean 'cat'"),
        ("a.png,3\n", r"line 1: Label 3 is outside the model's classes.*expected 0 to 2"),
        ("a.png,cat\nb.png\nc.png\n", r"line 2: .*2 of 3 rows have no label, this one first"),
    ],
)
def test_a_label_that_is_no_class_is_named_with_its_line(table, classes, text, says):
    with pytest.raises(LabelError, match=says):
        ImageTable(table(text), classes)


def test_labels_that_are_insisted_on_must_be_there(table, classes):
    with pytest.raises(LabelError, match=r"line 1: .*1 of 1 row has no label"):
        ImageTable(table("a.png\n"), classes, labeled=True)
    with pytest.raises(LabelError, match="labels need classes; none were given"):
        ImageTable(table("a.png,cat\n"), labeled=True)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", InputError, "names no images"),
        ("\n\n", InputError, "names no images"),
        ("path,label\n", InputError, "names no images"),
        ("a.png,cat,extra\n", BrokenFileError, "line 1: expected path,label"),
        ("a.png,cat\nb.png,dog,x\n", BrokenFileError, "line 2: expected path,label"),
        ("path,label\na.png,cat,x\n", BrokenFileError, "line 2: expected path,label"),
        (",cat\n", BrokenFileError, "line 1: expected path,label"),
        ("label,path\ncat\n", BrokenFileError, "line 2: expected path,label"),
        ("a.png;cat\nb.png;dog\n", BrokenFileError, "line 1: expected commas"),
        (".,cat\n", BrokenFileError, "line 1: expected the path of an image"),
        ('a.png,"cat\n', BrokenFileError, "not valid CSV"),
        ('a.png,cat\n"b.png,dog\n', BrokenFileError, "line 2: not valid CSV"),
        (b"\xff\xd8\xff\xe0", BrokenFileError, "line 1, column 1: .*UTF-8"),
        (b"a.png,cat\nb\0.png,cat", BrokenFileError, "line 2: .*zero bytes"),
        (
            "path\nhttps://u:p@host/a.png\n",
            InputError,
            r"line 2: .*URL 'https://\*\*\*@host/a.png'",
        ),
        ("s3://photos/a.png,cat\n", InputError, "line 1: .*a store: put this file there"),
        ("file:///photos/a.png,cat\n", InputError, "line 1: .*without file://"),
        ("C:\\photos\\a.png,cat\n", InputError, "line 1: .*one of Windows"),
        ("\\\\server\\photos\\a.png,cat\n", InputError, "line 1: .*one of Windows"),
        ("~/photos/a.png,cat\n", InputError, "line 1: '~/photos/a.png' begins with ~"),
    ],
)
def test_what_is_no_table_is_refused(table, classes, text, error, says):
    with pytest.raises(error, match=says):
        ImageTable(table(text), classes)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(BrokenFileError, match=r"none\.csv: cannot be read"):
        ImageTable(tmp_path / "none.csv")


def test_an_image_that_stands_there_twice_is_named_with_both_lines(table, classes, tmp_path):
    for again in ("cat/a.png", "./cat//a.png", "dog/../cat/a.png", "cat\\a.png",
                  str(tmp_path / "cat" / "a.png"), f"../{tmp_path.name}/cat/a.png"):  # fmt: skip
        path = table(f"path,label\ncat/a.png,cat\nx.png,dog\n{again},dog\n")
        with pytest.raises(InputError, match=r"line 4: cat/a\.png is already in line 2"):
            ImageTable(path, classes)


def test_a_row_without_its_file_stays_and_is_broken(table, classes, photo, tmp_path):
    photo(tmp_path / "a.png", 9)
    (tmp_path / "folder.png").mkdir()
    data = ImageTable(table("gone.png,cat\na.png,dog\nfolder.png,dog\n"), classes)
    assert len(data) == 3
    assert (data.read(data.samples[1]) == 9).all()
    with pytest.raises(BrokenFileError, match=r"^gone\.png: cannot be read"):
        data.read(data.samples[0])
    with pytest.raises(BrokenFileError, match=r"^folder\.png: not a regular file"):
        data.read(data.samples[2])
    before = data.fingerprint()
    photo(tmp_path / "gone.png")
    assert data.fingerprint() != before


def test_paths_start_from_the_folder_of_the_table_or_from_root(table, photo, tmp_path):
    photo(tmp_path / "a.png", 1)
    photo(tmp_path / "images" / "a.png", 2)
    path = table("a.png\n")
    for data, level in ((ImageTable(path), 1), (ImageTable(path, root=tmp_path / "images"), 2)):
        assert samples(data) == [("a.png", None)]
        assert (data.read(data.samples[0]) == level).all()


def test_paths_may_lead_out_and_be_absolute_and_ids_hold_no_place_of_this_machine(photo, tmp_path):
    images, lists = tmp_path / "set" / "images", tmp_path / "set" / "lists"
    photo(images / "a.png", 1)
    photo(images / "b.png", 2)
    lists.mkdir()
    (lists / "val.csv").write_text(f"../images/a.png\n{images / 'b.png'}\n")
    data = ImageTable(lists / "val.csv")
    assert samples(data) == [("../images/a.png", None), ("../images/b.png", None)]
    assert [int(data.read(sample)[0, 0, 0]) for sample in data.samples] == [1, 2]
    first = data.fingerprint()
    lists = shutil.move(tmp_path / "set", tmp_path / "moved") / "lists"
    (lists / "val.csv").write_text("../images/a.png\n../images/b.png\n")
    assert ImageTable(lists / "val.csv").fingerprint() == first


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_table_behind_a_link_finds_its_images(photo, tmp_path):
    photo(tmp_path / "real" / "deep" / "images" / "a.png", 5)
    (tmp_path / "real" / "deep" / "lists").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep" / "lists", target_is_directory=True)
    (tmp_path / "link" / "val.csv").write_text("../images/a.png\n")
    data = ImageTable(tmp_path / "link" / "val.csv")
    assert samples(data) == [("../images/a.png", None)]
    assert (data.read(data.samples[0]) == 5).all()
    photo(tmp_path / "link" / "b.png", 6)
    (tmp_path / "link" / "val.csv").write_text(f"{tmp_path / 'link' / 'b.png'}\n")
    assert samples(ImageTable(tmp_path / "link" / "val.csv")) == [("b.png", None)]


def test_a_table_in_the_current_folder(table, photo, tmp_path, monkeypatch):
    photo(tmp_path / "a.png", 7)
    table("a.png\n")
    monkeypatch.chdir(tmp_path)
    data = ImageTable("list.csv")
    assert data.samples == (Sample("a.png"),)
    os.chdir("/")  # monkeypatch goes back; the dataset must not depend on where we are
    assert (data.read(data.samples[0]) == 7).all()


@pytest.mark.skipif(os.name == "nt", reason="a colon is in no name there")
@pytest.mark.parametrize("folder", ["~", "C:", "~x"])
def test_folders_called_like_a_home_or_a_drive_are_read(table, photo, classes, tmp_path, folder):
    path = table(f"{folder}/a.png,cat\n")
    photo(path.parent / folder / "a.png")
    assert [sample.id for sample in ImageTable(path, classes).samples] == [f"{folder}/a.png"]
