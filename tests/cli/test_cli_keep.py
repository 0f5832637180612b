"""``shiftproof prune``, ``dedup``, ``coreset`` and ``subset`` on the command line."""

import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from shiftproof.cli.embedding_options import parse_named
from shiftproof.similarity import open_embeddings, read_datacomp
from support.command import run
from support.similar_rows import products
from support.vector_folders import tar_of, unit_vectors, vectors

TEST = unit_vectors(30, 1)
TRAIN = np.concatenate([unit_vectors(150, 3), TEST[[7, 9, 9]]])
REFERENCE = unit_vectors(100, 4)


@pytest.fixture
def folder(tmp_path):
    columns = {"key": lambda n, row: f"{row:05d}", "uid": lambda n, row: f"{n:016x}{row:016x}"}
    vectors(tmp_path / "train", TRAIN[:100], TRAIN[100:], **columns)
    np.save(tmp_path / "sketch.npy", TEST)
    np.save(tmp_path / "imagenet.npy", REFERENCE)
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "name", "path"),
    [
        ("sketch=vectors/s", "sketch", "vectors/s"),
        ("vectors/sketch.npy", "sketch", "vectors/sketch.npy"),
        ("s3://lab/sketch.npy?versionId=3", "sketch", "s3://lab/sketch.npy?versionId=3"),
        ("s=s3://lab/sketch.npy?versionId=3", "s", "s3://lab/sketch.npy?versionId=3"),
        ("runs/lr=0.1/sketch", "sketch", "runs/lr=0.1/sketch"),
    ],
)
def test_a_path_alone_is_named_by_its_last_part(argument, name, path):
    assert parse_named([argument], "--test") == {name: path}


def kept(out):
    return np.load(out / "keep.npy")


def test_gap_matched_pruning_and_its_lists(folder, capsys):
    words = ("prune", folder / "train", "-t", folder / "sketch.npy", "-o", folder / "kept", "-w", 0)
    assert run(*words, "--reference", folder / "imagenet.npy") == 0
    limits = products(TEST, REFERENCE).max(axis=1)
    stays = ~(products(TEST, TRAIN) > limits[:, None]).any(axis=0)
    np.testing.assert_array_equal(kept(folder / "kept"), stays)
    output = capsys.readouterr().out
    assert f"{stays.sum():,} of 153 rows stay" in output
    assert "proof: none of 30 rows of sketch is closer than it may be" in output
    table = pq.read_table(folder / "kept" / "keys.parquet").to_pylist()
    assert len(table) == stays.sum()
    uids = read_datacomp(folder / "kept" / "uids.npy")
    places = np.flatnonzero(stays).tolist()
    expected = [(0, row) if row < 100 else (1, row - 100) for row in places]
    assert [tuple(int(half) for half in uid) for uid in uids] == expected
    content = json.loads((folder / "kept" / "keep.json").read_text())
    assert content["removed"] == {"sketch": int((~stays).sum())}
    assert content["proof"]["sketch"] == {"holds": True, "violations": 0, "rows": 30}


@pytest.mark.parametrize("rule", ["near", "far", "random"])
def test_pruning_to_a_size(folder, rule):
    words = ("prune", folder / "train", "-t", folder / "sketch.npy", "-o", folder / "kept", "-w", 0)
    assert run(*words, "--rule", rule, "--size", 50) == 0
    keep = kept(folder / "kept")
    assert keep.sum() == 50
    near = products(TRAIN, TEST).max(axis=1).astype(np.float32)
    if rule == "near":
        assert near[keep].max() <= near[~keep].min()
    if rule == "far":
        assert near[keep].min() >= near[~keep].max()
    assert run(*words, "--rule", rule, "--size", 40) == 2


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_products_in_16_bits(folder, precision):
    words = ("prune", folder / "train", "-t", folder / "sketch.npy", "-w", 0, "--threshold", 0.5)
    assert run(*words, "-o", folder / "plain", "--precision", "fp32") == 0
    assert run(*words, "-o", folder / "kept", "--precision", precision) == 0
    np.testing.assert_array_equal(kept(folder / "kept"), kept(folder / "plain"))
    content = json.loads((folder / "kept" / "keep.json").read_text())
    assert content["certificates"]["sketch"]["precision"] == precision


def test_workers_of_a_scheduler(folder, capsys):
    words = ("prune", folder / "train", "-t", folder / "sketch.npy", "-o", folder / "kept",
             "--threshold", 0.9, "--part-rows", 60)  # fmt: skip
    assert run(*words, "-w", 0, "--worker", 1, "--of", 2) == 0
    assert "of worker 0, --of 2" in capsys.readouterr().out.replace("\n", " ")
    assert run(*words, "-w", 0, "--worker", 0, "--of", 2) == 0
    assert "proof: 2 of 3 parts" in capsys.readouterr().out.replace("\n", " ")
    assert not (folder / "kept" / "keep.npy").exists()
    assert run(*words, "-w", 0, "--worker", 1, "--of", 2) == 0
    stays = (products(TRAIN, TEST) <= 0.9).all(axis=1)
    np.testing.assert_array_equal(kept(folder / "kept"), stays)


def test_dedup(folder, capsys):
    assert run("dedup", folder / "train", "-o", folder / "unique", "--threshold", 0.99) == 0
    assert np.flatnonzero(~kept(folder / "unique")).tolist() == [152]
    groups = np.load(folder / "unique" / "groups.npy")
    assert groups[152] == 151
    assert "1 pair above 0.99" in capsys.readouterr().out
    words = ("dedup", folder / "train", "-o", folder / "fast", "--threshold", 0.99)
    assert run(*words, "--clusters", 3, "--rule", "central") == 0
    assert (
        "share of the pairs that the clusters find, measured on a sample: 100"
        in capsys.readouterr().out
    )


def test_coreset_among_what_dedup_left(folder, capsys):
    assert run("dedup", folder / "train", "-o", folder / "unique", "--threshold", 0.99) == 0
    words = ("coreset", folder / "train", "-t", folder / "sketch.npy", "--size", 2)
    assert run(*words, "--among", folder / "unique", "-o", folder / "core") == 0
    assert np.flatnonzero(kept(folder / "core")).tolist() == [150, 151]
    assert "2 of them are nearest to sketch" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["dedup", "coreset"])
def test_workers_of_a_scheduler_share_dedup_and_coreset(folder, verb, capsys):
    more = () if verb == "dedup" else ("-t", folder / "sketch.npy", "--size", 9)
    words = (verb, folder / "train", *more, "-w", 0, "--part-rows", 60)
    assert run(*words, "-o", folder / "whole") == 0
    shared = (*words, "-o", folder / "shared", "--of", 2)
    assert run(*shared, "--worker", 1) == 0
    assert "This worker's share is done" in capsys.readouterr().out.replace("\n", " ")
    assert not (folder / "shared" / "keep.npy").exists()
    assert run(*shared, "--worker", 0) == 0
    np.testing.assert_array_equal(kept(folder / "shared"), kept(folder / "whole"))


# ---------------------------------------------------------------- subset


@pytest.fixture
def keep(folder):
    stays = np.zeros(153, dtype=bool)
    stays[[0, 5, 99, 101, 150]] = True
    np.save(folder / "keep.npy", stays)
    return stays


def test_subset_of_embeddings_and_tars(folder, keep, capsys):
    (folder / "tars").mkdir()
    # 9 comes before 10, whatever their names say.
    tar_of(folder / "tars" / "9.tar", [f"{row:05d}" for row in range(100)])
    tar_of(folder / "tars" / "10.tar", [f"{row:05d}" for row in range(53)])
    words = ("subset", folder / "train", "--keep", folder / "keep.npy", "-o", folder / "out")
    assert run(*words, "--tars", folder / "tars") == 0
    rows = open_embeddings(folder / "out")
    np.testing.assert_array_equal(rows.read(), TRAIN[keep].astype(np.float32))
    assert rows.keys(1, "key") == ["00001", "00050"]
    with tarfile.open(folder / "out" / "tars" / "10.tar") as tar:
        names = tar.getnames()
        assert names == ["00001.png", "00001.txt", "00050.png", "00050.txt"]
        assert tar.extractfile("00050.txt").read() == b"of 00050"
    assert "2 tars with 5 samples" in capsys.readouterr().out
    (folder / "out" / "tars" / "9.tar").unlink()
    assert run(*words, "--tars", folder / "tars", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert output == {"rows": 5, "shards": 0, "tars": 1, "kept": 3, "samples": 3}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([range(100)], "keys of the metadata are shared by kept and dropped samples"),
        ([range(50), range(53)], "lacks 1 of 3 kept samples, such as '00099'"),
    ],
)
def test_tars_that_do_not_fit(folder, keep, keys, message, capsys):
    (folder / "tars").mkdir()
    for number, rows in enumerate(keys):
        tar_of(folder / "tars" / f"{number}.tar", [f"{row:05d}" for row in rows])
    words = ("subset", folder / "train", "--keep", folder / "keep.npy", "-o", folder / "out")
    assert run(*words, "--tars", folder / "tars") == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(153, bool), "keeps nothing"),
        (np.ones(3, bool), "has 3 rows, the embeddings have 153"),
        (np.ones(153), "expected one true or false for each row"),
    ],
)
def test_bad_keep_lists(folder, values, message, capsys):
    np.save(folder / "bad.npy", values)
    words = ("subset", folder / "train", "--keep", folder / "bad.npy", "-o", folder / "out")
    assert run(*words) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rule", "near"), "takes a size"),
        (("--rule", "nearer", "--size", 3), "'nearer' is not one of 'gap-matched', 'near'"),
        (("--threshold", 1.5), "thresholds in -1..1"),
        (("--threshold", -1), "No row would be kept"),
        ((), "either a reference or a threshold"),
        (("--rule", "far", "--size", "1G"), "a size of 1 to 153"),
        (("--rule", "far", "--size", "1.5"), "number of rows"),
    ],
)
def test_bad_pruning(folder, words, message, capsys):
    begin = ("prune", folder / "train", "-t", folder / "sketch.npy", "-o", folder / "kept", "-w", 0)
    assert run(*begin, *words) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dedup", "--threshold", 2), "threshold in -1..1"),
        (("dedup", "--rule", "later"), "'later' is not one of 'earlier', 'central'"),
        (("dedup", "--clusters", 400), "Expected 1 to 153 clusters"),
        (("coreset", "--size", 400, "--test", "a=sketch.npy"), "a size of 1 to 153"),
    ],
)
def test_bad_dedup_and_coreset(folder, words, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert run(words[0], "train", *words[1:], "-o", "out") == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_a_uid_that_is_there_twice(tmp_path, capsys):
    vectors(tmp_path / "train", TRAIN, uid=lambda *_: "0" * 32)
    np.save(tmp_path / "sketch.npy", TEST)
    words = ("prune", tmp_path / "train", "-t", tmp_path / "sketch.npy", "-o", tmp_path / "kept")
    assert run(*words, "-w", 0, "--threshold", 0.9) == 0
    assert kept(tmp_path / "kept").sum() == 150
    assert not (tmp_path / "kept" / "uids.npy").exists()
    assert "shared by kept and dropped rows" in capsys.readouterr().err.replace("\n", " ")
