"""Trees that somebody else corrupted: layouts, pairing, what is missing, the clean twin."""

import pickle
import shutil

import numpy as np
import pytest

from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.data import CorruptedTree, ImageFolder, export_corrupted, open_data
from shiftproof.data.images import cells, corrupted
from shiftproof.data.images.opening import check_data, find_copies
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.types import CLEAN, Cell

IDS = ["cat/a.png", "cat/b.png", "dog/c.png"]


def fill(photo, folder, level=100, names=IDS):
    for place, name in enumerate(names):
        photo(folder / name, level + place)


@pytest.fixture
def tree(tmp_path, photo):
    """Two corruptions, two severities, three images; the level of grey says which cell it is."""
    root = tmp_path / "pets-c"
    for place, corruption in enumerate(("snow", "fog")):
        for severity in (1, 3):
            fill(photo, root / corruption / str(severity), 40 * place + 10 * severity)
    return root


def ids(data):
    return [sample.id for sample in data.samples]


def test_cells_and_samples(tree, classes):
    data = CorruptedTree(tree, classes)
    assert data.cells == (Cell("snow", 1), Cell("snow", 3), Cell("fog", 1), Cell("fog", 3))
    assert ids(data) == IDS
    assert [sample.label for sample in data.samples] == [0, 0, 1]
    assert not data.has_clean
    assert data.missing == {}
    assert data.other_corruptions == ()
    assert data.cell_samples(Cell("fog", 3)) == data.samples
    for cell, level in zip(data.cells, (10, 30, 50, 70), strict=True):
        read = [int(data.read_cell(sample, cell)[0, 0, 0]) for sample in data.samples]
        assert read == [level, level + 1, level + 2]


def test_all_nineteen_in_the_order_of_the_table(tmp_path, photo):
    for name in (*COMMON, *HOLDOUT):
        photo(tmp_path / name / "5" / "a.png")
    data = CorruptedTree(tmp_path)
    assert [cell.corruption for cell in data.cells] == [*COMMON, *HOLDOUT]


def test_clean_images_in_folders_named_by_numbers_are_no_cells(tree, photo, classes):
    photo(tree / "originals" / "7" / "a.png")
    with pytest.raises(InputError, match="expected severities 1 to 5"):
        find_copies(tree)
    cells = [str(cell) for cell in find_copies(tree, tree / "originals")]
    assert cells == ["snow-1", "snow-3", "fog-1", "fog-3"]
    assert find_copies(tree / "fog" / "1") is None


@pytest.mark.parametrize(
    "layout",
    [
        ["snow/severity_1", "snow/severity_3", "fog/severity_1", "fog/severity_3"],
        ["weather/snow/1", "weather/snow/3", "weather/fog/1", "weather/fog/3"],
        ["Snow/1", "Snow/3", "fog/1", "fog/3"],
    ],
)
def test_other_layouts_are_the_same_data(tree, tmp_path, classes, layout):
    plain = CorruptedTree(tree, classes)
    root = tmp_path / "other" / tree.name
    for cell, folder in zip(plain.cells, layout, strict=True):
        shutil.copytree(tree / cell.corruption / str(cell.severity), root / folder)
    other = open_data(root, classes=classes)
    assert other.cells == plain.cells
    assert other.samples == plain.samples
    assert other.fingerprint() == plain.fingerprint()


def test_the_published_groups_and_a_corruption_that_is_called_like_one(tmp_path, photo):
    for folder in ("noise/gaussian_noise/1", "extra/speckle_noise/1", "digital/jpeg_compression/2",
                   "blur/1"):  # fmt: skip
        photo(tmp_path / folder / "a.png")
    data = CorruptedTree(tmp_path)
    assert set(data.cells) == {
        Cell("gaussian_noise", 1), Cell("speckle_noise", 1), Cell("jpeg_compression", 2),
        Cell("blur", 1),
    }  # fmt: skip
    assert data.other_corruptions == ("blur",)
    assert find_copies(data.root) == data.cells


def test_other_names_are_listed_and_can_be_read(tree, photo, classes):
    fill(photo, tree / "sea_spray" / "2", 200)
    (tree / "logs" / "x").mkdir(parents=True)
    data = CorruptedTree(tree, classes)
    assert data.other_corruptions == ("sea_spray",)
    assert data.cells[-1] == Cell("sea_spray", 2)
    assert (data.read_cell(data.samples[0], data.cells[-1]) == 200).all()
    settings = data.settings()
    assert settings["corruptions not in the table"] == ["sea_spray"]
    assert settings["folders that are no corruption"] == ["logs"]


def test_an_image_that_a_cell_lacks_is_named_and_kept(tree, classes):
    (tree / "fog" / "3" / "cat" / "b.png").unlink()
    (tree / "snow" / "1" / "dog" / "c.png").unlink()
    data = CorruptedTree(tree, classes)
    assert ids(data) == IDS
    assert data.missing == {Cell("fog", 3): ("cat/b.png",), Cell("snow", 1): ("dog/c.png",)}
    assert [s.id for s in data.cell_samples(Cell("fog", 3))] == ["cat/a.png", "dog/c.png"]
    with pytest.raises(BrokenFileError, match=r"^fog-3: cat/b\.png: cannot be read"):
        data.read_cell(data.samples[1], Cell("fog", 3))
    assert data.settings()["missing"] == {"fog-3": 1, "snow-1": 1}


@pytest.mark.parametrize("cell", [Cell("fog", 1), Cell("snow", 1), Cell("snow", 3)])
def test_an_image_that_one_cell_alone_has_is_missing_in_all_others(tree, photo, classes, cell):
    photo(tree / cell.corruption / str(cell.severity) / "dog" / "new.png")
    data = CorruptedTree(tree, classes)
    assert ids(data) == [*IDS, "dog/new.png"]
    assert data.missing == {other: ("dog/new.png",) for other in data.cells if other != cell}


# ---------------------------------------------------------------- the clean twin


def test_the_clean_twin_lies_in_the_tree_or_where_it_is_said(tree, photo, classes, tmp_path):
    fill(photo, tmp_path / "pets", 200)
    elsewhere = CorruptedTree(tree, classes, clean=tmp_path / "pets")
    fill(photo, tree / "clean", 220)
    inside = CorruptedTree(tree, classes)
    both = CorruptedTree(tree, classes, clean=tmp_path / "pets")
    for data, level in ((elsewhere, 200), (inside, 220), (both, 200)):
        assert data.has_clean
        assert len(data.cells) == 4
        assert (data.read(data.samples[0]) == level).all()
        assert (data.read_cell(data.samples[0], CLEAN) == level).all()


def test_clean_images_that_the_tree_does_not_have_are_left_aside(tree, photo, classes, tmp_path):
    fill(photo, tmp_path / "pets", 200, [*IDS, "cat/x.png", "guinea pig/y.png"])
    data = CorruptedTree(tree, classes, clean=tmp_path / "pets")
    assert ids(data) == IDS
    assert data.missing == {}
    assert data.settings()["clean images without a corrupted twin"] == 2


def test_an_image_without_a_clean_twin_is_named(tree, photo, classes, tmp_path):
    fill(photo, tmp_path / "pets", 200, IDS[:2])
    data = CorruptedTree(tree, classes, clean=tmp_path / "pets")
    assert data.missing == {CLEAN: ("dog/c.png",)}
    with pytest.raises(BrokenFileError, match=r"^clean: dog/c\.png: cannot be read"):
        data.read(data.samples[2])


def test_twins_may_differ_in_format(tree, photo, classes, tmp_path):
    fill(photo, tmp_path / "pets", 200, ["cat/a.bmp", "cat/b.png", "dog/c.tif", "dog/c.v2.png"])
    data = CorruptedTree(tree, classes, clean=tmp_path / "pets")
    assert data.missing == {}
    assert [int(data.read(sample)[0, 0, 0]) for sample in data.samples] == [200, 201, 202]
    loaded = pickle.loads(pickle.dumps(data))
    assert (loaded.read(loaded.samples[2]) == 202).all()


def test_a_twin_that_could_be_two_is_none(tree, photo, classes, tmp_path):
    fill(photo, tmp_path / "pets", 200, ["cat/a.png", "cat/b.png", "dog/c.bmp", "dog/c.tif"])
    data = CorruptedTree(tree, classes, clean=tmp_path / "pets")
    assert data.missing == {CLEAN: ("dog/c.png",)}


def test_what_export_wrote_finds_its_originals(photo, classes, tmp_path):
    photos = tmp_path / "pets"
    for place, name in enumerate(("cat/a.bmp", "cat/a.png", "dog/c.bmp")):
        photo(photos / name, 50 * place, size=(40, 40))
    export_corrupted(
        photos, tmp_path / "pets-c", corruptions=["fog"], severities=[1, 2], workers=0,
        show_progress=False,
    )  # fmt: skip
    data = open_data(tmp_path / "pets-c", classes=classes, clean=photos)
    assert isinstance(data, CorruptedTree)
    assert data.missing == {}
    assert [int(data.read(sample)[0, 0, 0]) for sample in data.samples] == [0, 50, 100]
    original = ImageFolder(photos, classes)
    assert [s.label for s in data.samples] == [s.label for s in original.samples]


def test_class_folders_with_numbers_in_clean_are_no_severities(tree, photo, classes):
    for folder in ("1", "2"):
        photo(tree / "clean" / folder / "a.png")
    shutil.rmtree(tree / "fog")
    shutil.rmtree(tree / "snow")
    photo(tree / "fog" / "1" / "1" / "a.png")
    photo(tree / "fog" / "1" / "2" / "a.png")
    data = CorruptedTree(tree, classes)
    assert data.cells == (Cell("fog", 1),)
    assert [(s.id, s.label) for s in data.samples] == [("1/a.png", 1), ("2/a.png", 2)]


def test_a_clean_folder_of_other_images_is_refused(tree, photo, classes, tmp_path):
    photo(tmp_path / "others" / "cat" / "x.png")
    with pytest.raises(InputError, match=r"none of the 3 images .* such as cat/a\.png"):
        CorruptedTree(tree, classes, clean=tmp_path / "others")


def test_a_clean_folder_that_is_not_there_or_empty_is_refused(tree, classes, tmp_path):
    with pytest.raises(
        InputError, match="is not a folder; expected the folder of the clean images"
    ):
        CorruptedTree(tree, classes, clean=tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        CorruptedTree(tree, classes, clean=tmp_path / "empty")


# ---------------------------------------------------------------- labels, and what is refused


def test_a_flat_tree_has_no_labels(tmp_path, photo, classes):
    photo(tmp_path / "fog" / "1" / "a.png")
    assert not CorruptedTree(tmp_path, classes).is_labeled


def test_labels_follow_the_class_map_and_labeled(tree, photo, classes):
    for cell in ("snow/1", "snow/3", "fog/1", "fog/3"):
        (tree / cell / "cat").rename(tree / cell / "Katze")
    with pytest.raises(LabelError, match=r"only 1 of the 2 class folders\. Unknown: Katze\."):
        CorruptedTree(tree, classes)
    data = CorruptedTree(tree, classes, class_map={"Katze": "cat"})
    assert [sample.label for sample in data.samples] == [0, 0, 1]
    assert not CorruptedTree(tree, classes, labeled=False).is_labeled


@pytest.mark.parametrize("severity", ["0", "6", "severity_7", "10"])
def test_a_severity_outside_one_to_five_is_refused(tree, photo, classes, severity):
    fill(photo, tree / "fog" / severity)
    with pytest.raises(InputError, match=f"{severity}: expected severities 1 to 5"):
        CorruptedTree(tree, classes)


def test_a_cell_that_is_there_twice_is_refused(tree, photo, classes):
    fill(photo, tree / "weather" / "fog" / "3")
    with pytest.raises(InputError, match="fog-3 occurs twice"):
        CorruptedTree(tree, classes)


def test_a_cell_without_images_is_refused(tree, classes):
    (tree / "fog" / "5").mkdir()
    with pytest.raises(InputError, match=r"5 holds no images"):
        CorruptedTree(tree, classes)


def test_what_is_no_tree_is_refused(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.png")
    with pytest.raises(
        InputError, match=r"is not a -C tree: expected <corruption>/<severity 1 to 5>"
    ):
        CorruptedTree(tmp_path, classes)
    with pytest.raises(InputError, match="is not a folder"):
        CorruptedTree(tmp_path / "nothing", classes)


def test_a_cell_that_is_not_there(tree, classes):
    data = CorruptedTree(tree, classes)
    with pytest.raises(BrokenFileError, match=r"cat/a\.png: the tree pets-c has no fog-5"):
        data.read_cell(data.samples[0], Cell("fog", 5))
    with pytest.raises(BrokenFileError, match="the tree pets-c has no clean"):
        data.read(data.samples[0])
    with pytest.raises(InputError, match="has no cell fog-5; it has snow-1, snow-3, fog-1, fog-3"):
        data.cell_samples(Cell("fog", 5))


@pytest.mark.parametrize("limit", [10**9, 0])
def test_the_fingerprint_moves_with_a_file_of_any_cell(tree, photo, classes, monkeypatch, limit):
    monkeypatch.setattr(cells, "FINGERPRINT_BYTES", limit)
    first = CorruptedTree(tree, classes).fingerprint()
    assert CorruptedTree(tree, classes).fingerprint() == first
    photo(tree / "fog" / "3" / "dog" / "c.png", 0)
    second = CorruptedTree(tree, classes).fingerprint()
    assert second != first
    (tree / "fog" / "3" / "dog" / "c.png").unlink()
    assert CorruptedTree(tree, classes).fingerprint() not in (first, second)


def test_of_a_small_tree_every_file_is_read(tmp_path, photo):
    for number in range(45):
        photo(tmp_path / "fog" / "1" / f"{number:02}.bmp")
    prints = {CorruptedTree(tmp_path).fingerprint()}
    for number in range(45):
        photo(tmp_path / "fog" / "1" / f"{number:02}.bmp", 7)  # another picture of the same size
        prints.add(CorruptedTree(tmp_path).fingerprint())
    assert len(prints) == 46


def test_of_a_large_tree_some_files_are_read_and_the_size_of_all(tmp_path, photo, monkeypatch):
    for number in range(9):
        photo(tmp_path / "fog" / "1" / f"{number}.bmp")
    monkeypatch.setattr(cells, "FINGERPRINT_BYTES", 0)
    monkeypatch.setattr(cells, "FINGERPRINT_FILES", 3)
    read = []
    whole = corrupted.fingerprint_below
    monkeypatch.setattr(
        corrupted,
        "fingerprint_below",
        lambda root, names: read.extend(names) or whole(root, names),
    )
    first = CorruptedTree(tmp_path).fingerprint()
    assert read == ["0.bmp", "3.bmp", "6.bmp"]
    photo(tmp_path / "fog" / "1" / "3.bmp", 7)
    second = CorruptedTree(tmp_path).fingerprint()
    assert second != first
    photo(tmp_path / "fog" / "1" / "4.bmp", size=(5, 5))
    assert CorruptedTree(tmp_path).fingerprint() not in (first, second)


def test_it_is_sent_to_workers_without_pixels(tree, classes):
    data = CorruptedTree(tree, classes)
    loaded = pickle.loads(pickle.dumps(data))
    cell = Cell("fog", 3)
    np.testing.assert_array_equal(
        loaded.read_cell(loaded.samples[0], cell), data.read_cell(data.samples[0], cell)
    )


# ---------------------------------------------------------------- corruptions that nobody knows


@pytest.fixture
def unknown(tmp_path, photo):
    """A tree of two corruptions of somebody's own, without a manifest, and its clean images."""
    for place, corruption in enumerate(("sea_spray", "dust")):
        for severity in (1, 3):
            fill(photo, tmp_path / "own-c" / corruption / str(severity), 40 * place + severity)
    fill(photo, tmp_path / "own", 200)
    return tmp_path / "own-c", tmp_path / "own"


def test_a_tree_of_unknown_corruptions_is_one_where_its_clean_images_are_given(unknown, classes):
    root, clean = unknown
    cells = (Cell("dust", 1), Cell("dust", 3), Cell("sea_spray", 1), Cell("sea_spray", 3))
    assert find_copies(root) is None
    assert find_copies(root, clean) == cells
    check_data(root, clean=clean)
    data = open_data(root, classes=classes, clean=clean)
    assert type(data) is CorruptedTree
    assert (data.cells, data.other_corruptions, ids(data)) == (cells, ("dust", "sea_spray"), IDS)
    assert (data.read(data.samples[0]) == 200).all()
    assert (data.read_cell(data.samples[0], Cell("dust", 3)) == 43).all()


def test_without_clean_images_the_error_says_that_it_may_be_a_tree(unknown, classes):
    root, clean = unknown
    with pytest.raises(
        LabelError, match=r"own-c is a -C tree of .* give its clean images \(--clean"
    ):
        open_data(root, classes=classes)
    (root / "notes").mkdir()
    with pytest.raises(InputError, match="not a -C tree"):
        check_data(root, clean=clean)
