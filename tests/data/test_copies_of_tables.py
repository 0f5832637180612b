"""Corrupted copies of saved datasets and Parquet, read back by Hugging Face's own library."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shiftproof import cli, corrupt
from shiftproof.data import SavedDataset, estimate_export, export_corrupted, open_data
from shiftproof.errors import InputError, UnfinishedError
from shiftproof.shards import Scheduled
from shiftproof.stylize import export_stylized
from support.coloured_images import png, write_saved_dataset

COUNT = 5


def noise(number):
    return np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def gradient(number):
    return np.clip(np.linspace(0, 200, 24)[None, :, None] + 9 * number + noise(0) // 9, 0, 255)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same rows as a dict of saved splits, and as Parquet: an image, its mask, label and boxes."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("tables")
    features = datasets.Features(
        {
            "note": datasets.Value("string"),
            "image": datasets.Image(),
            "mask": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "boxes": datasets.Sequence(datasets.Value("float32"), length=4),
        }
    )
    rows = {
        "note": [f"row {number}" for number in range(COUNT)],
        "image": [Image.fromarray(gradient(n).astype(np.uint8)) for n in range(COUNT)],
        "mask": [Image.fromarray(noise(n)[:, :, 0] % 3) for n in range(COUNT)],
        "label": [number % 2 for number in range(COUNT)],
        "boxes": [[0.0, 1.0, 2.0, float(number)] for number in range(COUNT)],
    }
    test = datasets.Dataset.from_dict(rows, features=features)
    splits = datasets.DatasetDict({"train": test.select([0]).flatten_indices(), "test": test})
    splits.save_to_disk(folder / "saved", num_shards={"train": 1, "test": 2})
    (folder / "hub").mkdir()
    test.to_parquet(folder / "hub" / "test-00000-of-00001.parquet", batch_size=2)
    splits["train"].to_parquet(folder / "hub" / "train-00000-of-00001.parquet")
    (folder / "hub" / "README.md").write_text("about the data")
    return folder


def copy(source, target, **options):
    settings = {"corruptions": ["gaussian_noise", "contrast"], "severities": [3], "workers": 0}
    return export_corrupted(source, target, **settings | options)


def pixels(rows):
    return [np.asarray(row["image"].convert("RGB")) for row in rows]


def expected(prefix, name):
    images = [gradient(number).astype(np.uint8) for number in range(COUNT)]
    keys = [f"{prefix}{number:08}" for number in range(COUNT)]
    return [
        corrupt(image, name, severity=3, seed=0, key=key)
        for image, key in zip(images, keys, strict=True)
    ]


def test_each_cell_of_a_saved_data_set_is_one(sources, tmp_path):
    datasets = pytest.importorskip("datasets")
    done = copy(sources / "saved", tmp_path / "out")
    assert (done.written, done.broken) == (2 * (COUNT + 1), {})
    assert done.omissions == ["images in the column mask: carried over as they are"]
    before = datasets.load_from_disk(str(sources / "saved"))
    for name in ("gaussian_noise", "contrast"):
        after = datasets.load_from_disk(str(tmp_path / "out" / name / "3"))
        assert list(after) == ["train", "test"]
        assert after["test"].features == before["test"].features
        for mine, theirs in zip(pixels(after["test"]), expected("test/", name), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for column in ("note", "label", "boxes"):
            assert after["test"][column][:] == before["test"][column][:]
        masks = [np.asarray(row["mask"]) for row in after["test"]]
        np.testing.assert_array_equal(masks, [noise(n)[:, :, 0] % 3 for n in range(COUNT)])
        # Caches know a table by it.
        assert after["test"]._fingerprint != before["test"]._fingerprint


def test_each_cell_of_parquet_is_such(sources, tmp_path):
    datasets = pytest.importorskip("datasets")
    done = copy(sources / "hub", tmp_path / "out", split="test")
    assert done.written == 2 * COUNT
    cell = tmp_path / "out" / "contrast" / "3"
    assert sorted(path.name for path in cell.iterdir()) == [
        "README.md",
        "test-00000-of-00001.parquet",
    ]
    table = pq.read_table(cell / "test-00000-of-00001.parquet")
    original = pq.read_table(sources / "hub" / "test-00000-of-00001.parquet")
    assert table.schema.equals(original.schema, check_metadata=True)
    assert table.drop_columns("image").equals(original.drop_columns("image"))
    shown = datasets.Dataset.from_parquet(
        str(cell / "test-00000-of-00001.parquet"), cache_dir=str(tmp_path / "cache")
    )
    for mine, theirs in zip(pixels(shown), expected("test/", "contrast"), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_one_split_alone_is_listed_alone(sources, tmp_path):
    datasets = pytest.importorskip("datasets")
    copy(sources / "saved", tmp_path / "out", split="test")
    assert list(datasets.load_from_disk(str(tmp_path / "out" / "contrast" / "3"))) == ["test"]


def test_the_bench_of_a_cell_reads_the_ids_of_the_source(sources, tmp_path):
    copy(sources / "saved", tmp_path / "out")
    before = SavedDataset(sources / "saved", "test")
    after = open_data(tmp_path / "out" / "contrast" / "3", classes=None, split="test")
    assert [sample.id for sample in after.samples] == [sample.id for sample in before.samples]


def test_a_copy_goes_on_and_is_shared(sources, tmp_path):
    copy(sources / "saved", tmp_path / "one")
    with pytest.raises(UnfinishedError):
        copy(sources / "saved", tmp_path / "two", backend=Scheduled(0, 2))
    copy(sources / "saved", tmp_path / "two", backend=Scheduled(1, 2))
    tables = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.arrow")]
    assert len(tables) == 2 * 3
    for name in tables:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    (tmp_path / "one" / tables[0]).unlink()
    done = copy(sources / "saved", tmp_path / "one")
    assert (done.kept, done.carried) == (5, 0)
    assert (tmp_path / "one" / tables[0]).read_bytes() == (
        tmp_path / "two" / tables[0]
    ).read_bytes()


def test_a_row_that_cannot_be_read_stays_without_an_image(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [
        {"bytes": png((9, 9, 9)), "path": "a.jpg"},
        {"bytes": b"nothing", "path": "b.jpg"},
        None,
        {"bytes": None, "path": "/elsewhere/c.jpg"},
    ]
    table = pa.table({"image": pa.array(cells, kind), "label": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "a.parquet")
    done = copy(tmp_path / "a.parquet", tmp_path / "out")
    assert list(done.broken) == ["00000001", "00000002", "00000003"]
    after = pq.read_table(tmp_path / "out" / "contrast" / "3" / "a.parquet").to_pylist()
    assert [row["label"] for row in after] == [1, 2, 3, 4]
    assert [row["image"] is None for row in after] == [False, True, True, True]
    assert after[0]["image"]["path"] == "a.png"


def test_bytes_alone_and_names_of_the_source(tmp_path):
    table = pa.table({"jpg": pa.array([png((9, 9, 9)), png((8, 8, 8))])})
    pq.write_table(table, tmp_path / "a.parquet")
    copy(tmp_path / "a.parquet", tmp_path / "out", image_format="source")
    after = pq.read_table(tmp_path / "out" / "contrast" / "3" / "a.parquet")
    assert after.schema.equals(table.schema)
    assert all(data[:4] == b"\x89PNG" for data in after["jpg"].to_pylist())


def test_a_cut_table_is_named_and_nothing_of_it_is_left(tmp_path):
    saved = write_saved_dataset(tmp_path / "saved", [(9, 9, 9)] * 4)
    path = saved / "data-00001-of-00002.arrow"
    path.write_bytes(path.read_bytes()[:-200])
    assert cli.run(["corrupt", str(saved), str(tmp_path / "out"), "-c", "fog", "-s", "1"]) == 2
    assert not (tmp_path / "out").exists()


def test_an_estimate_counts_the_rows(sources, tmp_path):
    for name in ("saved", "hub"):
        settings = {"corruptions": ["contrast"], "severities": [1, 3], "workers": 0}
        estimated = estimate_export(sources / name, tmp_path / "out", **settings)
        assert (estimated.images, estimated.cells, estimated.parts) == (
            COUNT + 1,
            2,
            {"saved": 4, "hub": 3}[name],
        )
        export_corrupted(sources / name, tmp_path / name, **settings)
        size = sum(path.stat().st_size for path in (tmp_path / name).rglob("*") if path.is_file())
        assert size / 3 < estimated.bytes < 3 * size


def test_several_versions_of_an_image_need_folders_of_their_own(sources, tmp_path):
    with pytest.raises(InputError, match=r"whose copies hold every image once: leave out"):
        export_stylized(sources / "hub", tmp_path / "out", combined=True)
    assert not (tmp_path / "out").exists()


def test_a_state_file_of_another_program_is_carried_over_unchanged(sources, tmp_path):
    shutil.copytree(sources / "saved", tmp_path / "saved")
    contents = {"logs": "[1, 2]", "training": '{"epoch": 3}'}
    for folder, text in contents.items():
        (tmp_path / "saved" / folder).mkdir()
        (tmp_path / "saved" / folder / "state.json").write_text(text)
    copy(tmp_path / "saved", tmp_path / "out", corruptions=["contrast"])
    written = tmp_path / "out" / "contrast" / "3"
    assert {name: (written / name / "state.json").read_text() for name in contents} == contents
    assert json.loads((written / "test" / "state.json").read_text())["_fingerprint"] is None
