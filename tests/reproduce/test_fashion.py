import gzip

import numpy as np
import pytest

from shiftproof.errors import BrokenFileError, InputError
from shiftproof_reproduce import fashion
from shiftproof_reproduce.idx import read_idx
from support.tiny_fashion import idx_bytes, write_fashion


def test_reads_what_was_written_by_hand(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    plain, packed = tmp_path / "a-ubyte", tmp_path / "a.gz"
    plain.write_bytes(idx_bytes(array))
    packed.write_bytes(gzip.compress(idx_bytes(array)))
    np.testing.assert_array_equal(read_idx(plain), array)
    np.testing.assert_array_equal(read_idx(packed), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin"),
        (b"PK\3\4", "does not begin"),
        (b"\0\0\x0d\1" + b"\0\0\0\1" + b"\0\0\0\0", "got type 13"),
        (b"\0\0\x08\3" + b"\0\0\0\1", "claims the shape"),
        (b"\0\0\x08\3" + b"\xff\xff\xff\xff" * 3, "claims the shape"),
        (idx_bytes(np.zeros(5))[:-1], "got fewer"),
        (idx_bytes(np.zeros(5)) + b"\0", "got more"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path, content, message):
    for name, data in (("x", content), ("x.gz", gzip.compress(content))):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(BrokenFileError, match=message):
            read_idx(path)


def test_a_torn_archive_is_a_broken_file(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros(5000)))[:-12])
    with pytest.raises(BrokenFileError, match="no readable idx file"):
        read_idx(path)
    path.write_bytes(b"no archive")
    with pytest.raises(BrokenFileError, match="no readable idx file"):
        read_idx(path)


def test_subsets_are_nested_and_keep_their_ids(tmp_path):
    data = fashion.load(write_fashion(tmp_path))
    few, more = data.test_subset(10), data.test_subset(50)
    assert [sample.id for sample in more.samples[:10]] == [sample.id for sample in few.samples]
    sample = few.samples[3]
    row = int(sample.id.removeprefix("test-"))
    assert sample.label == data.test_labels[row]
    np.testing.assert_array_equal(few.read(sample)[..., 1], data.test_images[row])
    only = data.test_subset(100, labels=[4])
    assert {sample.label for sample in only.samples} == {4}
    assert len(only.samples) == (data.test_labels == 4).sum()


def test_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion, "DATA_FOLDERS", (tmp_path / "nowhere",))
    with pytest.raises(InputError, match=r"dataset-fashion-mnist.*--download.*--data"):
        fashion.load()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((1, 28, 28))))
    with pytest.raises(InputError, match=r"no train-labels-idx1-ubyte\.gz"):
        fashion.load(tmp_path)


def test_images_and_labels_must_belong_together(tmp_path):
    write_fashion(tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    for wrong in (np.zeros(7), np.full(120, 10)):
        labels.write_bytes(gzip.compress(idx_bytes(wrong)))
        with pytest.raises(BrokenFileError, match="expected 120 t10k labels of 0 to 9"):
            fashion.load(tmp_path)
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(idx_bytes(np.zeros((3, 32, 32)))))
    with pytest.raises(BrokenFileError, match=r"shape \(N, 28, 28\)"):
        fashion.load(tmp_path)


@pytest.mark.skipif(not fashion.DATA_FOLDERS[0].is_dir(), reason="needs dataset-fashion-mnist")
def test_the_published_files():
    """60,000 and 10,000 images in ten classes of one size (Xiao et al. 2017, section 2)."""
    data = fashion.load()
    assert data.train_images.shape == (60_000, 28, 28)
    assert np.bincount(data.train_labels).tolist() == [6000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    # The mean and deviation that the network's preprocessing holds.
    from shiftproof_reproduce.network import PREPROCESS

    assert data.train_images.mean() / 255 == pytest.approx(PREPROCESS.mean[0], abs=1e-3)
    assert data.train_images.std() / 255 == pytest.approx(PREPROCESS.std[0], abs=1e-3)
