"""What images can lie in."""

import contextlib
import io
import json
import os
import shutil
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof.embed import SavedDataset, TarPictures, embed, open_pictures
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.similarity import open_embeddings
from support.coloured_images import (
    colours,
    contents,
    encoder,
    png,
    unit,
    write_folder,
    write_saved_dataset,
    write_tar,
)


def table(folder, number=0):
    return pq.read_table(folder / "metadata" / f"metadata_{number}.parquet").to_pydict()


def names(source, **options):
    return [picture.name for picture in open_pictures(source, **options).part(0).pictures]


class TestTars:
    @pytest.fixture
    def tars(self, tmp_path):
        rows = colours(6)
        members = [
            ("a.png", png(rows[0])),
            ("a.txt", b"a cat"),
            ("a.json", json.dumps({"uid": "0a", "caption": "no cat", "size": 3}).encode()),
            ("b/c.d.png", png(rows[5])),
            ("b/e.JPG.txt", b"not of an image"),
            ("b/e.png", png(rows[1])),
            ("b/e.json", b'{"uid": "0b", "caption": "a dog", "url": "u"}'),
        ]
        write_tar(tmp_path / "tars" / "2.tar", members)
        write_tar(tmp_path / "tars" / "10.tar", [("f.png", png(rows[2])), ("g.png", b"none")])
        return tmp_path / "tars"

    def test_each_is_a_shard_in_the_order_of_their_numbers(self, tars, tmp_path):
        done = embed(encoder(), tars, tmp_path / "out", workers=0)
        assert (done.written, done.rows) == (2, 3)
        assert list(done.broken) == ["2.tar/b/c.d.png", "10.tar/g.png"]
        assert "'d.png' of the sample 'b/c', not its image" in done.broken["2.tar/b/c.d.png"]
        opened = open_embeddings(tmp_path / "out")
        np.testing.assert_allclose(opened.read(), unit(colours(6)[:3]), atol=5e-4)
        assert table(tmp_path / "out") == {
            "image_path": ["2.tar/a.png", "2.tar/b/e.png"],
            "caption": ["a cat", "a dog"],
            "key": ["a", "b/e"],
            "tar": ["2.tar", "2.tar"],
            "uid": ["0a", "0b"],
            "url": [None, "u"],
            "height": [9, 9],
            "width": [12, 12],
        }
        assert opened.keys(0) == ["0a", "0b"]
        assert opened.keys(1) == ["f"]

    def test_workers_change_nothing(self, tars, tmp_path):
        for workers in (0, 1):
            embed(encoder(), tars, tmp_path / f"out{workers}", workers=workers)
        assert contents(tmp_path / "out0") == contents(tmp_path / "out1")

    def test_one_alone(self, tars):
        assert names(tars / "2.tar") == ["2.tar/a.png", "2.tar/b/e.png"]
        assert TarPictures(tars / "2.tar").parts == 1

    def test_the_images_before_a_damage_are_kept_and_the_damage_is_named(self, tars, tmp_path):
        whole = (tars / "2.tar").read_bytes()
        (tars / "2.tar").write_bytes(whole[: whole.index(b"b/c.d.png") + 30])
        done = embed(encoder(), tars, tmp_path / "out", workers=0)
        assert set(done.broken) == {"2.tar", "10.tar/g.png"}
        assert "2.tar: the tar is damaged" in done.broken["2.tar"]
        assert done.rows == 2

    def test_dots_in_names_leave_no_image_unsaid(self, tmp_path):
        rows = colours(5)
        called = ["photo.v2.jpg", "22.05.png", "S.input.jpg", "x.jpg", "x.seg.png"]
        write_tar(tmp_path / "a.tar", [(n, png(row)) for n, row in zip(called, rows, strict=True)])
        done = embed(encoder(), tmp_path / "a.tar", tmp_path / "out", workers=0)
        assert done.rows == 1
        assert set(done.broken) == {f"a.tar/{name}" for name in called if name != "x.jpg"}

    def test_tars_without_any_image_are_refused(self, tmp_path):
        write_tar(tmp_path / "a.tar", [("a.txt", b"a")])
        with pytest.raises(InputError, match=r"a\.tar holds no images"):
            embed(encoder(), tmp_path / "a.tar", tmp_path / "out", workers=0)

    def test_a_name_that_is_not_utf8_is_named_and_passed_over(self, tmp_path):
        rows = colours(2)
        with tarfile.open(
            tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT
        ) as target:
            for name, row in (("é0.jpg", rows[0]), ("b.jpg", rows[1])):
                entry = tarfile.TarInfo(name)
                entry.size = len(png(row))
                target.addfile(entry, io.BytesIO(png(row)))
        done = embed(encoder(), tmp_path / "a.tar", tmp_path / "out", workers=0)
        assert (done.rows, len(done.broken)) == (1, 1)
        (reason,) = done.broken.values()
        assert reason == r"a.tar/\udce90.jpg: its name is not UTF-8; rename it."
        assert table(tmp_path / "out")["key"] == ["b"]

    def test_a_tar_whose_own_name_is_not_utf8_is_refused_by_name(self, tmp_path):
        write_tar(tmp_path / "a.tar", [("a.png", png(colours(1)[0]))])
        (tmp_path / "a.tar").rename(tmp_path / os.fsdecode(b"\xe9.tar"))
        with pytest.raises(InputError, match=r"udce9\.tar is not UTF-8"):
            open_pictures(tmp_path)

    def test_of_a_member_that_is_there_twice_the_first_counts(self, tmp_path):
        one, other = map(png, colours(2))
        write_tar(tmp_path / "a.tar", [("a.jpg", one), ("b.jpg", one), ("a.jpg", other)])
        done = embed(encoder(), tmp_path / "a.tar", tmp_path / "out", workers=0)
        assert done.broken == {"a.tar/a.jpg (2)": "a.tar/a.jpg (2): it occurs twice."}
        assert table(tmp_path / "out")["key"] == ["a", "b"]
        np.testing.assert_allclose(
            open_embeddings(tmp_path / "out").read()[0], unit(colours(2))[0], atol=5e-4
        )

    def test_half_a_surrogate_pair_in_json_becomes_the_sign_for_it(self, tmp_path):
        facts = b'{"uid": "\\ud800", "caption": "a \\udfff", "url": 7}'
        write_tar(tmp_path / "a.tar", [("a.jpg", png(colours(1)[0])), ("a.json", facts)])
        embed(encoder(), tmp_path / "a.tar", tmp_path / "out", workers=0)
        found = table(tmp_path / "out")
        assert set(found["uid"][0]) == {"\ufffd"}
        assert found["caption"][0].startswith("a \ufffd")

    def test_a_tar_without_images_is_an_empty_shard(self, tars, tmp_path):
        write_tar(tars / "3.tar", [("a.txt", b"a")])
        done = embed(encoder(), tars, tmp_path / "out", workers=0)
        assert (done.written, done.rows) == (3, 3)
        assert np.load(tmp_path / "out" / "img_emb" / "img_emb_1.npy").shape == (0, 3)

    def test_an_option_without_effect(self, tars):
        with pytest.raises(InputError, match="leave out the shard size"):
            open_pictures(tars, shard_size=5)

    def test_a_tar_that_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match="is not a tar and holds none"):
            open_pictures(tmp_path / "a.tar")


class TestSavedDatasets:
    def test_images_captions_and_labels(self, tmp_path):
        rows, labels = colours(5), [0, 1, 1, 0, 1]
        captions = ["a", "b", None, "d", "e"]
        saved = write_saved_dataset(tmp_path / "saved", rows, captions=captions, labels=labels)
        embed(encoder(), saved, tmp_path / "out", shard_size=3, workers=1)
        opened = open_embeddings(tmp_path / "out")
        np.testing.assert_allclose(opened.read(), unit(rows), atol=5e-4)
        assert table(tmp_path / "out")["image_path"] == ["00000000", "00000001", "00000002"]
        assert table(tmp_path / "out")["caption"] == captions[:3]
        assert table(tmp_path / "out", 1)["label"] == labels[3:]
        assert SavedDataset(saved).classes.names == ("cat", "dog")

    def test_of_several_splits_one_is_named(self, tmp_path):
        for split in ("train", "test"):
            write_saved_dataset(tmp_path / "saved" / split, colours(2))
        listed = {"splits": ["train", "test"]}
        (tmp_path / "saved" / "dataset_dict.json").write_text(json.dumps(listed))
        assert names(tmp_path / "saved", split="test") == ["test/00000000", "test/00000001"]
        with pytest.raises(InputError, match="holds the splits train, test; give one"):
            open_pictures(tmp_path / "saved")
        with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
            open_pictures(tmp_path / "saved", split="tset")

    def test_labels_that_are_kept_secret_are_none(self, tmp_path):
        saved = write_saved_dataset(tmp_path / "saved", colours(2), labels=[-1, -1])
        assert not SavedDataset(saved).is_labeled

    def test_it_says_when_an_image_changes(self, tmp_path):
        one = SavedDataset(write_saved_dataset(tmp_path / "a", colours(3)))
        other = SavedDataset(write_saved_dataset(tmp_path / "b", colours(3)[::-1]))
        assert one.fingerprint() != other.fingerprint()

    def test_what_it_cannot_read(self, tmp_path):
        saved = write_saved_dataset(tmp_path / "saved", colours(2), files=1)
        arrow = saved / "data-00000-of-00001.arrow"
        shutil.copytree(saved, tmp_path / "cut")
        (tmp_path / "cut" / arrow.name).write_bytes(arrow.read_bytes()[:100])
        with pytest.raises(BrokenFileError, match="no Arrow file that can be read"):
            open_pictures(tmp_path / "cut")
        (saved / "dataset_info.json").write_text('{"features": {"text": {"dtype": "string"}}}')
        with pytest.raises(InputError, match=r"no column of images \(found text\)"):
            open_pictures(saved)
        (saved / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
        with pytest.raises(BrokenFileError, match="names a file outside of it"):
            open_pictures(saved)

    @pytest.mark.parametrize("split", ["../other", "/other", "a/b", r"..\other", "..", "", 7, None])
    def test_a_split_outside_of_the_folder_is_refused(self, tmp_path, split):
        write_saved_dataset(tmp_path / "other", colours(2))
        write_saved_dataset(tmp_path / "saved" / "a" / "b", colours(2))
        listed = tmp_path / "saved" / "dataset_dict.json"
        listed.write_text(json.dumps({"splits": [split]}))
        with pytest.raises(BrokenFileError, match=r"dataset_dict\.json"):
            open_pictures(tmp_path / "saved")

    VALUES = (None, 7, "x", [], {}, [7], ["x"], {"x": 7}, [{}], [{"filename": 7}], 1.5, True)

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    @pytest.mark.parametrize(
        ("file", "keys"),
        [
            ("state.json", ()),
            ("state.json", ("_data_files",)),
            ("state.json", ("_indices_data_files",)),
            ("dataset_info.json", ()),
            ("dataset_info.json", ("features",)),
            ("dataset_info.json", ("features", "image")),
            ("dataset_info.json", ("features", "label")),
            ("dataset_info.json", ("features", "label", "names")),
            ("dataset_info.json", ("features", "caption")),
            ("dataset_dict.json", ()),
            ("dataset_dict.json", ("splits",)),
        ],
    )
    def test_json_of_another_type_is_one_clear_error(self, tmp_path, file, keys, value):
        saved = write_saved_dataset(
            tmp_path / "saved", colours(2), captions=["a", "b"], labels=[0, 1], files=1
        )
        content = json.loads((saved / file).read_text()) if (saved / file).exists() else {}
        place = content
        for key in keys[:-1]:
            place = place[key]
        if keys:
            place[keys[-1]] = value
        (saved / file).write_text(json.dumps(content if keys else value))
        with contextlib.suppress(InputError):
            open_pictures(saved).part(0)

    def test_columns_of_another_type_are_refused(self, tmp_path):
        saved = write_saved_dataset(tmp_path / "saved", colours(2), files=1)
        table = pa.table({"image": pa.array([1, 2])})
        with pa.ipc.new_stream(str(next(saved.glob("*.arrow"))), table.schema) as target:
            target.write_table(table)
        with pytest.raises(BrokenFileError, match="expected images in the column image"):
            open_pictures(saved)

    def test_it_needs_no_library(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "datasets", None)
        assert len(SavedDataset(write_saved_dataset(tmp_path / "saved", colours(2)))) == 2


class TestLayouts:
    def test_coco_gives_the_images_of_its_annotations(self, tmp_path):
        write_folder(tmp_path / "images", colours(3))
        value = {
            "images": [{"id": 1, "file_name": "002.png", "width": 12, "height": 9}],
            "annotations": [],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "boxes.json").write_text(json.dumps(value))
        assert names(tmp_path) == ["images/002.png"]
        assert names(tmp_path / "boxes.json") == ["images/002.png"]

    def test_voc_leaves_its_masks_aside(self, tmp_path):
        root = tmp_path / "VOC2012"
        write_folder(root / "JPEGImages", colours(1))
        write_folder(root / "SegmentationClass", colours(1))
        (root / "Annotations").mkdir()
        (root / "Annotations" / "000.xml").write_text(
            "<annotation><size><width>12</width><height>9</height><depth>3</depth></size>"
            "<filename>000.png</filename></annotation>"
        )
        assert [name.rpartition("/")[2] for name in names(root)] == ["000.png"]

    def test_a_table_of_paths(self, tmp_path):
        write_folder(tmp_path / "images", colours(3))
        (tmp_path / "some.csv").write_text("path,label\nimages/002.png,a\nimages/000.png,b\n")
        assert names(tmp_path / "some.csv") == ["images/002.png", "images/000.png"]

    def test_a_split_where_there_is_none(self, tmp_path):
        with pytest.raises(InputError, match="has no known splits"):
            open_pictures(write_folder(tmp_path / "images", colours(1)), split="train")

    def test_nothing(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            open_pictures(tmp_path / "photos")
