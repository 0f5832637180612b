import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from shiftproof import similarity
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.similarity.sources import open_embeddings
from support import embedding_trees as trees


def everything(embeddings, rows=5):
    return np.concatenate([block.values for block in embeddings.blocks(rows)])


def test_an_array_comes_in_blocks_of_float32():
    rows = trees.unit_rows(12)
    blocks = list(open_embeddings(rows).blocks(5))
    assert [len(block.values) for block in blocks] == [5, 5, 2]
    assert [block.first for block in blocks] == [0, 5, 10]
    assert all(block.values.dtype == np.float32 for block in blocks)
    np.testing.assert_array_equal(np.concatenate([b.values for b in blocks]), rows)


def test_the_callers_array_is_never_changed():
    rows = trees.unit_rows(4, dtype=np.float32) * 3
    before = rows.copy()
    everything(open_embeddings(rows, normalize=True))
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_npy_file(tmp_path, dtype):
    rows = trees.unit_rows(7, dtype=dtype)
    np.save(tmp_path / "rows.npy", rows)
    embeddings = open_embeddings(tmp_path / "rows.npy")
    np.testing.assert_array_equal(everything(embeddings), rows.astype(np.float32))
    np.testing.assert_array_equal(embeddings.read(), rows.astype(np.float32))


def test_shards_come_by_number_and_not_by_name(tmp_path):
    shards = {number: trees.unit_rows(3, seed=number) for number in (0, 2, 10, 1)}
    embeddings = open_embeddings(trees.clip_retrieval(tmp_path / "laion", shards))
    assert [shard.name for shard in embeddings.shards] == [
        "img_emb_0.npy", "img_emb_1.npy", "img_emb_2.npy", "img_emb_10.npy",
    ]  # fmt: skip
    np.testing.assert_array_equal(
        everything(embeddings), np.concatenate([shards[number] for number in (0, 1, 2, 10)])
    )
    assert embeddings.keys(3) == ["10-0", "10-1", "10-2"]
    assert embeddings.place(7) == (2, 1)
    assert [block.shard for block in embeddings.blocks(2)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [block.first for block in embeddings.blocks(9, shards=[2])] == [6]


def test_clip_retrieval_without_metadata(tmp_path):
    embeddings = open_embeddings(
        trees.clip_retrieval(tmp_path, {0: trees.unit_rows(3)}, keys=False)
    )
    assert embeddings.keys(0) is None


def test_plain_npy_shards_sort_by_number_too(tmp_path):
    for number in (10, 9):
        np.save(tmp_path / f"part{number}.npy", trees.unit_rows(2, seed=number))
    assert [s.name for s in open_embeddings(tmp_path).shards] == ["part9.npy", "part10.npy"]


def test_datacomp(tmp_path):
    shards = [trees.unit_rows(3, seed=1), trees.unit_rows(4, seed=2)]
    embeddings = open_embeddings(trees.datacomp(tmp_path, shards), array="b32_img")
    np.testing.assert_array_equal(everything(embeddings, rows=2), np.concatenate(shards))
    assert embeddings.keys(1) == [trees.uid(1, row) for row in range(4)]
    wide = open_embeddings(tmp_path, array="l14_img", normalize=True)
    assert wide.width == 32


def test_datacomp_asks_which_encoder(tmp_path):
    trees.datacomp(tmp_path, [trees.unit_rows(3)])
    with pytest.raises(InputError, match="b32_img, l14_img; say which"):
        open_embeddings(tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'l14_img'"):
        open_embeddings(tmp_path, array="l14_imgs")


def test_a_url(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    folder = trees.clip_retrieval(
        tmp_path / "x", {9: trees.unit_rows(3, seed=9), 10: trees.unit_rows(3, seed=10)}
    )
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/laion", recursive=True)
    embeddings = open_embeddings("memory://bucket/laion")
    here = open_embeddings(folder)
    np.testing.assert_array_equal(everything(embeddings), everything(here))
    assert embeddings.keys(1) == here.keys(1)
    one = open_embeddings("memory://bucket/laion/img_emb/img_emb_9.npy")
    np.testing.assert_array_equal(one.read(), trees.unit_rows(3, seed=9))


def test_files_are_small_to_pickle(tmp_path):
    np.save(tmp_path / "rows.npy", trees.unit_rows(500))
    embeddings = open_embeddings(tmp_path / "rows.npy")
    pickled = pickle.dumps(embeddings)
    assert len(pickled) < 2000
    np.testing.assert_array_equal(pickle.loads(pickled).read(), embeddings.read())


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "row 3 holds NaN or infinity"),
        (np.inf, "row 3 holds NaN or infinity"),
        (0, "row 3 is all zeros"),
        (2, r"row 3 has length 8; expected rows of length 1.*normalize=True"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_by_name(value, message):
    rows = trees.unit_rows(6, dtype=np.float32)
    rows[3] = value
    with pytest.raises(InputError, match=message):
        everything(open_embeddings(rows), rows=2)


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(np.float32, 1e30), (np.float32, 1e-38), (np.float32, 2.5e38), (np.float32, 1e-20),
     (np.float64, 1e200), (np.float64, 1e-200)],
)  # fmt: skip
def test_rows_of_any_length_are_normalized(dtype, factor):
    rows = trees.unit_rows(6, dtype=np.float32).astype(np.float64)
    scaled = (rows * factor).astype(dtype)
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = open_embeddings(scaled, normalize=True).read()
    # Of 1e-38 float32 holds values that are off by half of 2**-149.
    np.testing.assert_allclose(found, expected, atol=3e-7)


@pytest.mark.parametrize(
    ("factor", "length"), [(1e30, "1e[+]30"), (1e-38, "1e-38"), (3e19, "3e[+]19")]
)
def test_rows_far_from_length_1_are_told_their_length(factor, length):
    rows = trees.unit_rows(6, dtype=np.float32)
    rows[3] *= np.float32(factor)
    with pytest.raises(InputError, match=rf"row 3 has length {length}; expected rows of length 1"):
        everything(open_embeddings(rows), rows=2)


def test_rows_that_cannot_be_used_are_skipped_where_asked():
    rows = trees.unit_rows(6, dtype=np.float32)
    rows[3], rows[5] = np.nan, 2
    blocks = list(open_embeddings(rows, unusable="skip").blocks(4))
    usable = np.concatenate([block.usable for block in blocks])
    assert usable.tolist() == [True, True, True, False, True, False]
    values = np.concatenate([block.values for block in blocks])
    assert (values[[3, 5]] == 0).all()


def test_normalise_scales_every_row():
    rows = trees.unit_rows(6, dtype=np.float32)
    lengths = np.arange(1, 7, dtype=np.float32)[:, None]
    values = everything(open_embeddings(rows * lengths, normalize=True))
    np.testing.assert_allclose(values, rows, atol=1e-6)


def test_shards_of_different_width(tmp_path):
    shards = {0: trees.unit_rows(3, 16), 1: trees.unit_rows(3, 8)}
    with pytest.raises(InputError, match=r"img_emb_1\.npy: rows of width 8, but img_emb_0.npy"):
        open_embeddings(trees.clip_retrieval(tmp_path, shards))


def test_metadata_that_is_shorter_than_the_embeddings(tmp_path):
    folder = trees.clip_retrieval(tmp_path, {0: trees.unit_rows(3)})
    file = folder / "metadata" / "metadata_0.parquet"
    pq.write_table(pq.read_table(file)[:2], file)
    with pytest.raises(InputError, match=r"describes 2 rows, but img_emb_0.npy holds 3"):
        open_embeddings(folder)


def test_metadata_that_is_no_parquet(tmp_path):
    folder = trees.clip_retrieval(tmp_path, {0: trees.unit_rows(3)})
    (folder / "metadata" / "metadata_0.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BrokenFileError, match="no Parquet file"):
        open_embeddings(folder)


def test_metadata_that_claims_more_than_it_has_room_for(tmp_path):
    folder = trees.clip_retrieval(tmp_path, {0: trees.unit_rows(2)})
    file = folder / "metadata" / "metadata_0.parquet"
    # num_rows, field 3 of the footer: 2 becomes a thousand million.
    data = file.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    claimed = footer.replace(b"\x16\4\x19", b"\x16\x80\xa8\xd6\xb9\7\x19", 1)
    assert claimed != footer
    file.write_bytes(data[: -8 - length] + claimed + len(claimed).to_bytes(4, "little") + data[-4:])
    with pytest.raises(BrokenFileError, match=r"claims .* values"):
        open_embeddings(folder)


def test_a_truncated_file(tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, trees.unit_rows(50))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BrokenFileError, match=r"cut short; an array .* takes 1728 bytes"):
        open_embeddings(file)


def test_a_file_that_is_cut_after_it_was_opened(tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, trees.unit_rows(50))
    embeddings = open_embeddings(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BrokenFileError, match="changed after it was opened"):
        everything(embeddings)


def test_python_objects_are_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(trees.pickled_npy())
    (tmp_path / "b.npz").write_bytes(trees.npz_of("b32_img", trees.pickled_npy()))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(BrokenFileError, match="Python objects"):
            open_embeddings(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"no array", b"\x93NUMPY\x01\x00\x05\x00{[[(("])
def test_files_that_are_no_arrays(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(BrokenFileError, match="not an array in NumPy's"):
        open_embeddings(tmp_path / "a.npy")


def test_a_damaged_npz(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(BrokenFileError, match="damaged or cut short"):
        open_embeddings(tmp_path / "a.npz")


def test_an_array_by_columns(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(trees.unit_rows(5)))
    with pytest.raises(BrokenFileError, match="row by row"):
        open_embeddings(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((3, 4), np.int8), "float16 or float32, got int8"),
        (np.ones(4, np.float32), r"shape \(rows, width\), got \(4,\)"),
        (np.ones((0, 4), np.float32), "holds no rows"),
    ],
)
def test_arrays_that_are_no_embeddings(rows, message):
    with pytest.raises(InputError, match=message):
        open_embeddings(rows)


def test_places_that_hold_no_embeddings(tmp_path):
    with pytest.raises(InputError, match="it is not there"):
        open_embeddings(tmp_path / "none")
    with pytest.raises(InputError, match="found nothing"):
        open_embeddings(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InputError, match=r"found a\.txt"):
        open_embeddings(tmp_path)


def test_two_shards_of_one_number(tmp_path):
    folder = trees.clip_retrieval(tmp_path, {1: trees.unit_rows(3)})
    np.save(folder / "img_emb" / "img_emb_01.npy", trees.unit_rows(3))
    with pytest.raises(InputError, match="the same number 1"):
        open_embeddings(folder)


def test_an_unknown_choice():
    with pytest.raises(UnknownNameError, match="refuse, skip"):
        open_embeddings(trees.unit_rows(3), unusable="drop")


@pytest.mark.parametrize("rows", [[[1.0, 0.0]], 3, None])
def test_rows_that_are_neither_an_array_nor_a_path_are_refused(rows):
    with pytest.raises(InputError, match=rf"got {type(rows).__name__}\. .*numpy.asarray"):
        open_embeddings(rows)


def test_test_sets_and_thresholds_have_names():
    rows = np.eye(3, dtype=np.float32)
    for tests in (rows, "rows.npy"):
        with pytest.raises(InputError, match="Expected test sets by name, got"):
            similarity.gap(rows, tests, reference=rows)
        with pytest.raises(InputError, match="Expected test sets by name, got"):
            similarity.prune(rows, tests, thresholds={"test": 0.5})
    with pytest.raises(InputError, match=r"thresholds by test set, got 0\.5; write \{'t': ...\}"):
        similarity.prune(rows, {"t": rows}, thresholds=0.5)
