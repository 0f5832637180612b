"""Trees of corrupted tars and tables have the images, labels and ids of their source."""

import io
import pickle
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shiftproof import Classes, bench, corrupt
from shiftproof.data import (
    CorruptedTree,
    PackedTree,
    TarData,
    export_corrupted,
    find_dataset,
    open_data,
)
from shiftproof.data.images import cells
from shiftproof.data.images.opening import check_data, find_copies
from shiftproof.embed import TarPictures, open_pictures
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.types import CLEAN, Cell
from support import tiny
from support.coloured_images import write_saved_dataset, write_tar
from support.photos_by_class import write_photos_by_class

CELLS = {"corruptions": ["fog", "contrast"], "severities": [1, 3]}
CLASSES = Classes(tiny.NAMES)


def make_picture(number, side=24):
    """Return noise that is mostly of one of three colors, in the tiny model's size."""
    pixels = np.random.default_rng(number).normal(110, 40, (side, side, 3))
    pixels[..., number % 3] += 6
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encode(pixels, suffix="png"):
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "JPEG" if suffix == "jpg" else suffix)
    return target.getvalue()


def write_tars(folder, suffix="png", count=12):
    """Write two tars of labeled samples; 2.tar comes first but sorts after 10.tar as text."""
    for tar, numbers in (("2.tar", range(count // 2)), ("10.tar", range(count // 2, count))):
        members = []
        for number in numbers:
            members.append((f"{number:02}.{suffix}", encode(make_picture(number), suffix)))
            members.append((f"{number:02}.cls", str(number % 3).encode()))
        write_tar(folder / tar, members)
    return folder


def copy(source, target, **options):
    export_corrupted(source, target, workers=0, show_progress=False, **CELLS | options)
    return target


def list_ids(data):
    return [sample.id for sample in data.samples]


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tars")
    copy(write_tars(folder / "clean"), folder / "copies")
    return folder


def test_a_copy_of_tars_is_opened_as_the_tars(tars):
    clean = open_data(tars / "clean", classes=CLASSES)
    data = open_data(tars / "copies", classes=CLASSES, clean=tars / "clean")
    assert type(data) is PackedTree
    assert data.samples == clean.samples
    assert data.cells == tuple(
        Cell(name, level) for name in ("fog", "contrast") for level in (1, 3)
    )
    assert (data.missing, data.unpaired_clean) == ({}, 0)
    unpickled = pickle.loads(pickle.dumps(data))
    for sample in (clean.samples[0], clean.samples[-1]):
        image = clean.read(sample)
        np.testing.assert_array_equal(unpickled.read(sample), image)
        for cell in data.cells:
            np.testing.assert_array_equal(
                unpickled.read_cell(sample, cell),
                corrupt(image, cell.corruption, severity=cell.severity, key=sample.id),
            )


@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_run_on_the_copy_has_the_figures_of_a_run_on_the_source(tars, tmp_path, with_manifest):
    root = shutil.copytree(tars / "copies", tmp_path / "copies")
    if not with_manifest:
        (root / "manifest.json").unlink()
    model = tiny.make_model()
    grid = {"workers": 0, "show_progress": False, **CELLS}
    fly = bench.run(model, open_data(tars / "clean", classes=CLASSES), out=tmp_path / "fly", **grid)
    data = open_data(root, classes=CLASSES, clean=tars / "clean")
    disk = bench.run(model, data, out=tmp_path / "disk", **grid)
    for name in ("clean-0", "fog-1", "fog-3", "contrast-1", "contrast-3"):
        path = f"records/source/{name.removesuffix('-0')}.parquet"
        assert pq.read_table(fly.path / path).equals(pq.read_table(disk.path / path)), name
    assert disk.scores == fly.scores
    # The same call resumes the run.
    again = bench.run(model, data, out=tmp_path / "disk", **grid)
    assert again.scores == disk.scores


def test_the_ids_are_those_of_clean_tars_in_another_format(tmp_path):
    clean = open_data(write_tars(tmp_path / "clean", "jpg"), classes=CLASSES)
    copy(tmp_path / "clean", tmp_path / "copies")
    data = open_data(tmp_path / "copies", classes=CLASSES, clean=tmp_path / "clean")
    assert data.samples == clean.samples
    assert data.read_cell(data.samples[0], Cell("fog", 3)).shape == (24, 24, 3)
    alone = open_data(tmp_path / "copies", classes=CLASSES)
    assert list_ids(alone)[0] == "2.tar/00.png"
    assert not alone.has_clean
    assert [sample.label for sample in alone.samples] == [sample.label for sample in clean.samples]


def test_clean_tars_in_the_tree_or_by_a_pattern_or_one_alone(tars, tmp_path):
    inside = shutil.copytree(tars / "copies", tmp_path / "copies")
    shutil.copytree(tars / "clean", inside / "clean")
    for data in (
        open_data(inside, classes=CLASSES),
        open_data(tars / "copies", classes=CLASSES, clean=f"{tars}/clean/{{2,10}}.tar"),
    ):
        assert data.has_clean
        assert len(data) == 12
        assert (data.read(data.samples[0]) == make_picture(0)).all()
    copy(tars / "clean" / "2.tar", tmp_path / "of one")
    one = open_data(tmp_path / "of one", classes=CLASSES, clean=tars / "clean" / "2.tar")
    assert list_ids(one) == [f"2.tar/{number:02}.png" for number in range(6)]


def test_an_image_that_a_cell_lacks_is_named(tars, tmp_path):
    root = shutil.copytree(tars / "copies", tmp_path / "copies")
    path = root / "fog" / "1" / "2.tar"
    with tarfile.open(path) as source:
        kept = [(m.name, source.extractfile(m).read()) for m in source if "03" not in m.name]
    path.unlink()
    write_tar(path, kept)
    for clean in (None, tars / "clean"):
        data = open_data(root, classes=CLASSES, clean=clean)
        assert data.missing == {Cell("fog", 1): ("2.tar/03.png",)}
        assert len(data.cell_samples(Cell("fog", 1))) == 11
        gone = next(sample for sample in data.samples if sample.id == "2.tar/03.png")
        # The first cell lacks it, so its label is read from another cell.
        assert gone.label == 0
        with pytest.raises(BrokenFileError, match=r"fog-1: 2\.tar/03\.png: the cell does not"):
            data.read_cell(gone, Cell("fog", 1))
    narrowed = data.narrow([data.samples[0]], "the first")
    assert narrowed.missing == {}


def test_images_without_a_clean_twin_are_named_and_the_other_way_counted(tars, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(tars / "clean" / "2.tar", few)
    data = open_data(tars / "copies", classes=CLASSES, clean=few)
    unpaired = tuple(f"10.tar/{number:02}.png" for number in range(6, 12))
    assert data.missing == {CLEAN: unpaired}
    assert list_ids(data) == [*(f"2.tar/{number:02}.png" for number in range(6)), *unpaired]
    more = shutil.copytree(tars / "clean", tmp_path / "more")
    write_tar(more / "11.tar", [("12.png", encode(make_picture(12))), ("12.cls", b"0")])
    data = open_data(tars / "copies", classes=CLASSES, clean=more)
    assert (data.missing, data.unpaired_clean, len(data)) == ({}, 1, 12)


def test_the_fingerprint_changes_with_a_tar_of_any_cell(tars, tmp_path, monkeypatch):
    root = shutil.copytree(tars / "copies", tmp_path / "copies")
    shutil.copytree(tars / "clean", root / "clean")
    first = open_data(root, classes=CLASSES).fingerprint()
    assert open_data(root, classes=CLASSES).fingerprint() == first
    for limit in (10**9, 0):
        monkeypatch.setattr(cells, "FINGERPRINT_BYTES", limit)
        seen = {open_data(root, classes=CLASSES).fingerprint()}
        for cell in ("fog/3", "clean"):
            write_tar(
                root / cell / "10.tar", [("06.png", encode(make_picture(99))), ("06.cls", b"0")]
            )
            seen.add(open_data(root, classes=CLASSES).fingerprint())
        assert len(seen) == 3
        shutil.copy(tars / "copies" / "fog" / "3" / "10.tar", root / "fog" / "3")
        shutil.copy(tars / "clean" / "10.tar", root / "clean")


def test_errors_name_the_cell(tars, tmp_path):
    root = shutil.copytree(tars / "copies", tmp_path / "copies")
    whole = (root / "fog" / "3" / "2.tar").read_bytes()
    (root / "fog" / "3" / "2.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenFileError, match=r"^fog-3: 2\.tar: the tar is damaged"):
        open_data(root, classes=CLASSES)
    shutil.rmtree(root / "fog" / "3")
    (root / "fog" / "3").mkdir()
    with pytest.raises(InputError, match=r"^fog-3: .*holds none"):
        open_data(root, classes=CLASSES)
    with pytest.raises(LabelError, match=r"^contrast-1: .*no sample has a member \.txt"):
        open_data(tars / "copies", classes=CLASSES, label_key="txt")
    write_tar(tmp_path / "others" / "a.tar", [("a.png", encode(make_picture(0)))])
    with pytest.raises(InputError, match="none of the 12 images of the tree has a clean twin"):
        open_data(tars / "copies", classes=CLASSES, clean=tmp_path / "others")
    with pytest.raises(InputError, match="holds tars, which have no splits"):
        open_data(tars / "copies", classes=CLASSES, split="val")


def test_a_tree_of_tars_is_described_embedded_and_corrupted_whole(tars, tmp_path):
    found = find_dataset(tars / "copies")
    assert (found.layout, len(found.images)) == ("packed tree", 8)
    assert found.sentences[0].startswith("a -C tree of tars or tables, tars, 8 files")
    pictures = open_pictures(tars / "copies")
    assert type(pictures) is TarPictures
    assert pictures.parts == 8
    copy(tars / "copies", tmp_path / "twice", corruptions=["snow"], severities=[2])
    assert (tmp_path / "twice" / "snow" / "2" / "fog" / "3" / "10.tar").is_file()
    assert find_copies(tars / "copies") == find_copies(tars / "copies", tars / "clean")


def test_corruptions_of_any_name_are_known_by_the_manifest(tmp_path):
    def invert(image, severity, rng):
        return 255 - image

    write_tars(tmp_path / "clean")
    for number in range(2):
        folder = tmp_path / "photos" / tiny.NAMES[number]
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encode(make_picture(number)))
    for source, kind in (("clean", PackedTree), ("photos", CorruptedTree)):
        root = copy(tmp_path / source, tmp_path / f"{source}-c", corruptions={"invert": invert})
        data = open_data(root, classes=CLASSES)
        assert type(data) is kind
        assert data.cells == (Cell("invert", 1), Cell("invert", 3))
        (root / "manifest.json").unlink()
        assert not isinstance(open_data(root, classes=None), kind)


def write_parquet(path, count=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": encode(make_picture(number)), "path": None} for number in range(count)]
    labels = [tiny.NAMES[number % 3] for number in range(count)]
    pq.write_table(pa.table({"image": pa.array(images, kind), "label": labels}), path)
    return path


@pytest.mark.parametrize("kind", ["file", "folder", "splits"])
def test_a_copy_of_parquet_is_opened_as_the_tables(kind, tmp_path):
    source = write_parquet(tmp_path / "hub" / "test-00000-of-00001.parquet")
    source = source if kind == "file" else source.parent
    split = None
    if kind == "splits":
        write_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet", 3)
        split = "test"
    clean = open_data(source, classes=CLASSES, split=split)
    root = copy(source, tmp_path / "copies")
    data = open_data(root, classes=CLASSES, clean=source, split=split)
    assert type(data) is PackedTree
    assert data.samples == clean.samples
    cell = Cell("contrast", 3)
    for sample in clean.samples:
        np.testing.assert_array_equal(
            data.read_cell(sample, cell),
            corrupt(clean.read(sample), "contrast", severity=3, key=sample.id),
        )
    with pytest.raises(InputError, match=r"corrupted copies in tables; give one of its cells"):
        open_pictures(root)
    if kind == "splits":
        with pytest.raises(InputError, match="holds the splits test, train"):
            open_data(root, classes=CLASSES, clean=source)


def test_a_copy_of_a_saved_dataset_is_opened_as_the_dataset(tmp_path):
    rows = np.arange(15).reshape(5, 3) * 10
    write_saved_dataset(tmp_path / "saved", rows, labels=[0, 1, 0, 1, 0])
    classes = Classes(("dog", "cat"))
    clean = open_data(tmp_path / "saved", classes=classes)
    root = copy(tmp_path / "saved", tmp_path / "copies")
    data = open_data(root, classes=classes, clean=tmp_path / "saved")
    assert data.samples == clean.samples
    assert [sample.label for sample in data.samples] == [1, 0, 1, 0, 1]


def test_tables_with_other_row_counts_are_refused(tmp_path):
    source = write_parquet(tmp_path / "hub" / "test.parquet")
    root = copy(source.parent, tmp_path / "copies")
    write_parquet(tmp_path / "other" / "test.parquet", 5)
    with pytest.raises(InputError, match=r"has 5 rows, and each cell of the tree has 6"):
        open_data(root, classes=CLASSES, clean=tmp_path / "other")
    write_parquet(root / "fog" / "3" / "test.parquet", 5)
    with pytest.raises(InputError, match=r"^fog-3: it has 5 rows, and other cells have 6"):
        open_data(root, classes=CLASSES)


def test_tars_without_labels_and_of_the_clean_cell(tars):
    data = open_data(tars / "copies", classes=None, labeled=False, clean=tars / "clean")
    assert not data.is_labeled
    assert (data.read_cell(data.samples[3], CLEAN) == make_picture(3)).all()
    assert type(open_data(tars / "copies" / "fog" / "1", classes=None)) is TarData


# ---------------------------------------------------------------- before a model is loaded


def test_options_that_a_tree_of_tars_does_not_have_are_seen_without_classes(tars, tmp_path):
    check_data(tars / "copies", clean=tars / "clean")
    write_photos_by_class(tmp_path / "photos", 1)
    with pytest.raises(InputError, match="holds tars, which have no splits"):
        check_data(tars / "copies", split="val")
    with pytest.raises(InputError, match="is not a tar and holds none"):
        check_data(tars / "copies", clean=tmp_path / "photos")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "nowhere"}, InputError, "contrast-1: Unknown split of .*'nowhere'"),
        ({"images": "nowhere"}, InputError, "contrast-1: .*no images in a column nowhere"),
        ({"label_key": "nowhere"}, LabelError, "contrast-1: .*no column 'nowhere'"),
        ({"clean": "tars"}, InputError, "holds no Parquet files"),
    ],
)
def test_options_that_a_tree_of_tables_does_not_have_are_seen_without_classes(
    tars, tmp_path, options, error, message
):
    rows = [{"bytes": encode(make_picture(number)), "path": None} for number in range(3)]
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.table({"image": rows, "label": [0, 1, 2]}), tmp_path / "tables/test.parquet")
    copy(tmp_path / "tables", tmp_path / "copies")
    check_data(tmp_path / "copies", clean=tmp_path / "tables", split="test", label_key="label")
    if "clean" in options:
        options = {"clean": tars / "clean"}
    with pytest.raises(error, match=message):
        check_data(tmp_path / "copies", **options)


def test_a_label_column_that_tables_do_not_have_is_seen_without_classes(tmp_path):
    rows = [{"bytes": encode(make_picture(0)), "path": None}]
    pq.write_table(pa.table({"image": rows, "label": [0]}), tmp_path / "test.parquet")
    check_data(tmp_path, label_key="label")
    check_data(tmp_path, label_key="nowhere", labeled=False)
    with pytest.raises(LabelError, match="has no column 'nowhere'; it has image, label"):
        check_data(tmp_path, label_key="nowhere")
