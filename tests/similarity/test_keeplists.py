import numpy as np
import pyarrow.parquet as pq
import pytest

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.similarity import open_embeddings, read_datacomp, write_datacomp, write_keys
from support.embedding_trees import clip_retrieval, datacomp, uid, unit_rows


def test_a_datacomp_list_is_read_as_its_resharder_does(tmp_path):
    shards = [unit_rows(3, seed=1), unit_rows(4, seed=2)]
    train = open_embeddings(datacomp(tmp_path / "pool", shards), array="b32_img")
    keep = np.array([0, 1, 1, 0, 0, 0, 1], dtype=bool)
    assert write_datacomp(tmp_path / "keep.npy", train, keep) == 3
    # DataComp makes its own lists so (its README, "Subset file format").
    names = [uid(1, 3), uid(0, 1), uid(0, 2)]
    expected = np.array(
        [(int(name[:16], 16), int(name[16:32], 16)) for name in names], np.dtype("u8,u8")
    )
    expected.sort()
    written = np.load(tmp_path / "keep.npy")
    assert written.dtype == np.dtype("u8,u8")
    np.testing.assert_array_equal(written, expected)
    np.testing.assert_array_equal(read_datacomp(tmp_path / "keep.npy"), expected)


def test_keys_with_their_shards(tmp_path):
    shards = {2: unit_rows(3, seed=1), 10: unit_rows(4, seed=2)}
    train = open_embeddings(clip_retrieval(tmp_path / "laion", shards))
    keep = np.array([0, 1, 0, 0, 0, 1, 1], dtype=bool)
    assert write_keys(tmp_path / "keep.parquet", train, keep) == 3
    assert pq.read_table(tmp_path / "keep.parquet").to_pydict() == {
        "shard": ["img_emb_2.npy", "img_emb_10.npy", "img_emb_10.npy"],
        "row": [1, 2, 3],
        "key": ["2-1", "10-2", "10-3"],
    }


def test_keys_without_metadata(tmp_path):
    train = open_embeddings(unit_rows(3))
    write_keys(tmp_path / "keep.parquet", train, np.array([True, False, True]))
    assert pq.read_table(tmp_path / "keep.parquet")["key"].to_pylist() == [None, None]


def test_a_list_that_keeps_nothing(tmp_path):
    train = open_embeddings(unit_rows(3))
    for write in (write_keys, write_datacomp):
        with pytest.raises(InputError, match="keeps nothing"):
            write(tmp_path / "keep", train, np.zeros(3, bool))
        with pytest.raises(InputError, match=r"each row \(3\)"):
            write(tmp_path / "keep", train, np.ones(2, bool))
    assert list(tmp_path.iterdir()) == []


def test_uids_that_stay_and_go(tmp_path):
    folder = datacomp(tmp_path / "pool", [unit_rows(3, seed=1), unit_rows(3, seed=2)])
    first, second = sorted(folder.glob("*.parquet"))
    second.write_bytes(first.read_bytes())
    train = open_embeddings(folder, array="b32_img")
    with pytest.raises(InputError, match=r"1 uid is shared.*write_keys"):
        write_datacomp(tmp_path / "keep.npy", train, np.array([1, 1, 1, 0, 1, 1], bool))
    # Where copies agree there is no doubt, and each uid is listed once.
    assert write_datacomp(tmp_path / "keep.npy", train, np.array([1, 0, 1, 1, 0, 1], bool)) == 2


def test_uids_that_are_none(tmp_path):
    train = open_embeddings(unit_rows(3))
    with pytest.raises(InputError, match=r"expected uids in a \.parquet"):
        write_datacomp(tmp_path / "keep.npy", train, np.ones(3, bool))
    laion = open_embeddings(clip_retrieval(tmp_path / "laion", {0: unit_rows(2)}))
    with pytest.raises(InputError, match="Unknown column"):
        write_datacomp(tmp_path / "keep.npy", laion, np.ones(2, bool))


def test_files_that_are_no_lists(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(BrokenFileError, match="pairs of uint64"):
        read_datacomp(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(b"no")
    with pytest.raises(BrokenFileError, match="no list of uids"):
        read_datacomp(tmp_path / "b.npy")
