"""Images that a task of a cluster decodes once: the same pixels, no file left, no more than allowed."""

import pickle

import numpy as np
import pytest

from shiftproof import bench
from shiftproof.bench.cells import image_cache
from shiftproof.bench.cells.image_cache import ImageCache
from shiftproof.data import open_data
from support import tiny
from support.few_resamples import set_replicates
from support.sent import Sent


def picture(number, size=(4, 6)):
    return np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)


def never():
    raise AssertionError("made again")


def test_images_of_all_sizes_come_back_once_made(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = ImageCache()
    images = {str(number): picture(number, (3 + number, 5)) for number in range(4)}
    for name, image in images.items():
        assert kept.get(name, lambda image=image: image) is image
    for name, image in images.items():
        found = kept.get(name, never)
        np.testing.assert_array_equal(found, image)
        found[:] = 0  # a corruption may write into what it was given
        np.testing.assert_array_equal(kept.get(name, never), image)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_made_anew(monkeypatch):
    kept = ImageCache(limit=2 * picture(0).nbytes)
    for number in range(3):
        kept.get(str(number), lambda number=number: picture(number))
    np.testing.assert_array_equal(kept.get("1", never), picture(1))
    with pytest.raises(AssertionError, match="made again"):
        kept.get("2", never)


def test_without_room_images_are_made_anew(monkeypatch):
    def refuse(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(image_cache.tempfile, "TemporaryFile", refuse)
    without_room = ImageCache()
    np.testing.assert_array_equal(without_room.get("0", lambda: picture(0)), picture(0))
    np.testing.assert_array_equal(without_room.get("0", lambda: picture(1)), picture(1))


@pytest.mark.parametrize("room", [0, 50])
def test_a_disk_that_fills_up_leaves_what_was_kept(room):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = ImageCache(limit=1000)
    kept.get("0", lambda: picture(0))
    # Bytes of room for the 72 of a second image.
    resource.setrlimit(resource.RLIMIT_FSIZE, (picture(0).nbytes + room, hard))
    try:
        np.testing.assert_array_equal(kept.get("1", lambda: picture(1)), picture(1))
        np.testing.assert_array_equal(kept.get("0", never), picture(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(AssertionError, match="made again"):
        kept.get("1", never)


def test_what_is_sent_is_empty():
    kept = ImageCache(limit=1000)
    kept.get("0", lambda: picture(0))
    with pytest.raises(AssertionError, match="made again"):
        pickle.loads(pickle.dumps(kept)).get("0", never)


def test_on_a_cluster_a_task_decodes_each_image_once_for_all_cells(tmp_path, monkeypatch):
    model = tiny.make_model()
    data = open_data(tiny.write_photos(tmp_path / "photos", per_class=2), classes=model.classes)
    decoded = []
    read = type(data).read

    def note(self, sample):
        decoded.append(sample.id)
        return read(self, sample)

    set_replicates(monkeypatch, 20)
    monkeypatch.setattr(bench.Classification, "save_gallery", lambda *_: None)
    grid = {"corruptions": ["contrast", "brightness"], "severities": [1, 5], "workers": 0}
    with monkeypatch.context() as patch:
        patch.setattr(type(data), "read", note)
        bench.run(model, data, out=tmp_path / "run", backend=Sent(), **grid)
    # Once by the command, to see that they can be read.
    assert sorted(decoded[1:]) == sorted(sample.id for sample in data.samples)
