"""Images to shards."""

import errno
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from shiftproof import Encoder
from shiftproof.data import ImageArrays
from shiftproof.embed import embed
from shiftproof.errors import BrokenFileError, InputError, RunError, RunMismatchError
from shiftproof.models import CallablePreprocess
from shiftproof.similarity import open_embeddings
from support.coloured_images import (
    PLAIN,
    colours,
    contents,
    encoder,
    means,
    png,
    unit,
    write_folder,
)


def metadata(folder, number=0):
    return pq.read_table(folder / "metadata" / f"metadata_{number}.parquet").to_pydict()


class TestShards:
    def test_hold_the_vectors_of_the_images_in_order(self, tmp_path):
        rows = colours(25)
        data = write_folder(tmp_path / "data", rows)
        done = embed(encoder(), data, tmp_path / "out", shard_size=2, batch_size=3, workers=0)
        assert (done.rows, done.written, done.kept, done.broken) == (25, 13, 0, {})
        found = np.load(tmp_path / "out" / "img_emb" / "img_emb_12.npy")
        assert (found.dtype, found.shape) == (np.float16, (1, 3))
        whole = np.concatenate(
            [np.load(tmp_path / "out" / "img_emb" / f"img_emb_{n}.npy") for n in range(13)]
        )
        np.testing.assert_allclose(whole, unit(rows), atol=5e-4)
        assert metadata(tmp_path / "out", 2) == {
            "image_path": ["004.png", "005.png"],
            "caption": [None, None],
            "height": [9, 9],
            "width": [12, 12],
        }

    def test_are_read_by_similarity(self, tmp_path):
        rows = colours(25)
        data = write_folder(tmp_path / "data", rows)
        embed(encoder(), data, tmp_path / "out", shard_size=2, workers=0)
        opened = open_embeddings(tmp_path / "out")
        assert (len(opened), opened.width, len(opened.shards)) == (25, 3, 13)
        np.testing.assert_allclose(opened.read(), unit(rows), atol=5e-4)
        assert opened.keys(12) == ["024.png"]

    def test_have_vectors_as_they_come_where_that_is_wanted(self, tmp_path):
        data = write_folder(tmp_path / "data", [[255, 0, 51]])
        embed(encoder(normalize=False), data, tmp_path / "out", workers=0)
        found = np.load(tmp_path / "out" / "img_emb" / "img_emb_0.npy")
        np.testing.assert_allclose(found, [[1, 0, 0.2]], atol=5e-4)

    def test_are_the_same_bytes_from_any_number_of_workers(self, tmp_path):
        data = write_folder(tmp_path / "data", colours(11))
        (data / "005.png").write_bytes(b"no image")
        for workers in (0, 2):
            embed(encoder(), data, tmp_path / f"out{workers}", shard_size=6, workers=workers)
        assert contents(tmp_path / "out0") == contents(tmp_path / "out2")

    def test_of_images_of_their_own_sizes(self, tmp_path):
        def corner(image):
            return image[:4, :4].transpose(2, 0, 1).astype(np.float32)

        own = Encoder(means, CallablePreprocess(corner))
        embed(own, write_folder(tmp_path / "data", colours(3)), tmp_path / "out", workers=0)
        found = np.load(tmp_path / "out" / "img_emb" / "img_emb_0.npy")
        np.testing.assert_allclose(found, unit(colours(3)), atol=5e-4)

    def test_say_labels_and_captions_where_there_are_some(self, tmp_path):
        images = [np.full((9, 9, 3), 50, np.uint8)] * 3
        embed(encoder(), ImageArrays(images, [2, 0, 1]), tmp_path / "out", workers=0)
        assert metadata(tmp_path / "out")["label"] == [2, 0, 1]
        data = write_folder(tmp_path / "data", colours(3))
        (data / "001.txt").write_text(" a grey cat\n")
        embed(encoder(), data, tmp_path / "captioned", workers=0)
        assert metadata(tmp_path / "captioned")["caption"] == [None, "a grey cat", None]


class TestManifest:
    def test_says_encoder_and_data(self, tmp_path):
        data = write_folder(tmp_path / "data", colours(3))
        own = encoder(name="mine")
        embed(own, data, tmp_path / "out", shard_size=2, workers=0)
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        settings = manifest["settings"]
        expected = {name: value for name, value in own.settings.items() if name != "device"}
        assert settings["encoder"] == expected
        assert settings["data"]["images"] == 3
        assert settings["data"]["shard_size"] == 2
        assert len(settings["data"]["fingerprint"]) == 32
        assert settings["dtype"] == "float16"
        assert manifest["device"] == "cpu"
        record = json.loads((tmp_path / "out" / "shards" / "shard_1.json").read_text())
        assert record == {"name": "data, from image 2 on", "rows": 1, "broken": {}}


class TestBroken:
    def test_images_are_named_and_counted_and_have_no_row(self, tmp_path):
        rows = colours(6)
        data = write_folder(tmp_path / "data", rows)
        (data / "001.png").write_bytes(b"no image")
        (data / "004.png").write_bytes(png(rows[4])[:45])
        done = embed(encoder(), data, tmp_path / "out", shard_size=3, workers=0)
        assert list(done.broken) == ["001.png", "004.png"]
        assert done.broken["001.png"].startswith("001.png: not an image")
        assert done.rows == 4
        np.testing.assert_allclose(
            open_embeddings(tmp_path / "out").read(), unit(rows[[0, 2, 3, 5]]), atol=5e-4
        )
        record = json.loads((tmp_path / "out" / "shards" / "shard_1.json").read_text())
        assert list(record["broken"]) == ["004.png"]
        again = embed(encoder(), data, tmp_path / "out", shard_size=3, workers=0)
        assert (again.kept, again.written) == (2, 0)
        assert (again.rows, again.broken) == (4, done.broken)

    def test_a_shard_of_nothing_but_broken_images_is_empty(self, tmp_path):
        data = write_folder(tmp_path / "data", colours(3))
        (data / "002.png").write_bytes(b"")
        embed(encoder(), data, tmp_path / "out", shard_size=2, workers=0)
        assert np.load(tmp_path / "out" / "img_emb" / "img_emb_1.npy").shape == (0, 3)
        assert len(open_embeddings(tmp_path / "out")) == 2

    def test_vectors_that_nobody_can_use_are_named(self, tmp_path):
        def odd(inputs):
            red = inputs[:, 0].mean(axis=(1, 2))
            found = means(inputs) * np.where(red > 0.9, 1e6, 1)[:, None]
            return np.where(red[:, None] < 0.1, np.nan, found)

        data = write_folder(tmp_path / "data", [[0, 9, 9], [127, 9, 9], [255, 9, 9], [127, 1, 1]])
        own = Encoder(odd, PLAIN, normalize=False)
        done = embed(own, data, tmp_path / "out", workers=0)
        assert list(done.broken) == ["000.png", "002.png"]
        assert "zero or not finite" in done.broken["002.png"]
        assert metadata(tmp_path / "out")["image_path"] == ["001.png", "003.png"]

    def test_black_images_have_no_direction(self, tmp_path):
        data = write_folder(tmp_path / "data", [[0, 0, 0], [9, 9, 9]])
        assert list(embed(encoder(), data, tmp_path / "out", workers=0).broken) == ["000.png"]


class Stopping:
    """An encoder that stops when it has seen so many batches."""

    def __init__(self, batches):
        self.inner = encoder()
        self.left = batches
        self.name, self.width, self.normalize = "means", 3, True
        self.preprocess = self.inner.preprocess

    @property
    def settings(self):
        return self.inner.settings

    def encode(self, images):
        if len(images) > 1:
            self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.inner.encode(images)


class TestGoingOn:
    def test_an_interrupted_run_ends_with_the_same_bytes(self, tmp_path):
        data = write_folder(tmp_path / "data", colours(12))
        options = {"shard_size": 4, "batch_size": 2, "workers": 0}
        embed(encoder(), data, tmp_path / "whole", **options)
        with pytest.raises(KeyboardInterrupt):
            embed(Stopping(3), data, tmp_path / "out", **options)
        assert set(contents(tmp_path / "out")) == {
            "img_emb/img_emb_0.npy",
            "metadata/metadata_0.parquet",
            "shards/shard_0.json",
        }
        done = embed(encoder(), data, tmp_path / "out", **options)
        assert (done.kept, done.written, done.rows) == (1, 2, 12)
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    @pytest.mark.parametrize("lost", ["img_emb/img_emb_1.npy", "metadata/metadata_1.parquet"])
    def test_a_shard_without_one_of_its_files_is_made_again(self, tmp_path, lost):
        data = write_folder(tmp_path / "data", colours(6))
        embed(encoder(), data, tmp_path / "out", shard_size=2, workers=0)
        before = contents(tmp_path / "out")
        (tmp_path / "out" / lost).unlink()
        assert embed(encoder(), data, tmp_path / "out", shard_size=2, workers=0).written == 1
        assert contents(tmp_path / "out") == before

    def test_a_full_disk_costs_one_shard(self, tmp_path, monkeypatch):
        data = write_folder(tmp_path / "data", colours(6))
        write = np.lib.format.write_array

        def full(file, array, **options):
            if len(list((tmp_path / "out" / "shards").iterdir())) == 1:
                file.raw.failure = OSError(errno.ENOSPC, "No space left on device")
                raise file.raw.failure
            write(file, array, **options)

        monkeypatch.setattr(np.lib.format, "write_array", full)
        with pytest.raises(RunError, match="The disk is full"):
            embed(encoder(), data, tmp_path / "out", shard_size=2, workers=0)
        assert len(contents(tmp_path / "out")) == 3
        monkeypatch.undo()
        done = embed(encoder(), data, tmp_path / "out", shard_size=2, workers=0)
        assert (done.kept, done.written) == (1, 2)

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"encoder": encoder(name="other")}, "encoder: name was means, now other"),
            ({"encoder": encoder(normalize=False)}, "encoder: normalize was yes, now no"),
            ({"shard_size": 3}, "data: shard size was 2, now 3"),
        ],
    )
    def test_other_settings_are_refused(self, tmp_path, changed, said):
        data = write_folder(tmp_path / "data", colours(4))
        embed(encoder(), data, tmp_path / "out", shard_size=2, workers=0)
        given = {"encoder": encoder(), "shard_size": 2, **changed}
        with pytest.raises(RunMismatchError, match=said):
            embed(given["encoder"], data, tmp_path / "out", shard_size=given["shard_size"])

    def test_other_images_are_refused(self, tmp_path):
        data = write_folder(tmp_path / "data", colours(4))
        embed(encoder(), data, tmp_path / "out", workers=0)
        (data / "002.png").write_bytes(png([1, 2, 3]))
        with pytest.raises(RunMismatchError, match="data: other content"):
            embed(encoder(), data, tmp_path / "out", workers=0)

    def test_a_function_that_gives_other_vectors_is_refused(self, tmp_path):
        def vectors(factor):
            return Encoder(lambda inputs: means(inputs) * factor, PLAIN, name="function")

        data = write_folder(tmp_path / "data", colours(4))
        embed(vectors(np.array([1, 1, 1])), data, tmp_path / "out", workers=0)
        assert embed(vectors(np.array([1, 1, 1.001])), data, tmp_path / "out", workers=0).kept == 1
        with pytest.raises(RunMismatchError, match="gives other vectors for the same picture"):
            embed(vectors(np.array([1, 1, 2])), data, tmp_path / "out", workers=0)

    def test_an_encoder_that_is_trained_meanwhile_is_refused(self, tmp_path):
        class Trained(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.ones(3))

            def forward(self, inputs):
                if len(inputs) == 4:
                    self.weight.data[0] += 1e-7
                return inputs.mean(dim=(2, 3)) * self.weight

        data = write_folder(tmp_path / "data", colours(5))
        trained = Encoder(Trained(), PLAIN)
        options = {"shard_size": 1, "workers": 0}
        assert embed(trained, data, tmp_path / "one", **options).written == 5
        with pytest.raises(RunMismatchError, match="changed while shard 0 was made"):
            embed(trained, data, tmp_path / "out", batch_size=4, workers=0)
        assert contents(tmp_path / "out") == {}


class TestRefused:
    def test_a_folder_of_other_things(self, tmp_path):
        data = write_folder(tmp_path / "data", colours(2))
        with pytest.raises(InputError, match="holds no embeddings"):
            embed(encoder(), data, data, workers=0)
        with pytest.raises(InputError, match="is a file; expected a folder"):
            embed(encoder(), data, data / "000.png", workers=0)

    @pytest.mark.parametrize(
        "options", [{"batch_size": 0}, {"shard_size": 0}, {"workers": -1}], ids=str
    )
    def test_numbers_out_of_range(self, tmp_path, options):
        data = write_folder(tmp_path / "data", colours(2))
        with pytest.raises(InputError, match="Expected a"):
            embed(encoder(), data, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["settings", "probe", "format"])
@pytest.mark.parametrize("strange", [None, 7, "text", [], ["a"], [[1.0]], {"a": 1}, [None] * 16])
def test_a_manifest_that_a_stranger_edited_is_one_sentence(tmp_path, key, strange):
    data = write_folder(tmp_path / "data", colours(2))
    embed(encoder(), data, tmp_path / "out", workers=0)
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: strange}))
    if key == "format":
        embed(encoder(), data, tmp_path / "out", workers=0)
        return
    with pytest.raises(RunMismatchError, match="holds embeddings"):
        embed(encoder(), data, tmp_path / "out", workers=0)


@pytest.mark.parametrize("record", [[], {}, {"rows": "2", "broken": {}}, {"rows": 2, "broken": 1}])
def test_a_record_of_a_shard_that_a_stranger_edited_is_named(tmp_path, record):
    data = write_folder(tmp_path / "data", colours(2))
    embed(encoder(), data, tmp_path / "out", workers=0)
    (tmp_path / "out" / "shards" / "shard_0.json").write_text(json.dumps(record))
    with pytest.raises(
        BrokenFileError, match=r"shard_0\.json: expected (the record of a shard|an object)"
    ):
        embed(encoder(), data, tmp_path / "out", workers=0)
