"""Searches in parts give the results of the searches in memory, on every backend and for every part size."""

import contextlib

import numpy as np
import pytest

from shiftproof.errors import InputError, RunMismatchError, UnfinishedError
from shiftproof.shards import Local, Scheduled
from shiftproof.similarity import (
    Sharding,
    nearest_in_parts,
    nearest_to_each,
    open_embeddings,
    prove,
    prove_in_parts,
    prune,
    prune_in_parts,
    sharded,
    top_k_in_parts,
    top_k_of_each,
)
from shiftproof.similarity.search import engines, int8
from support.embedding_trees import clip_retrieval, datacomp
from support.similar_rows import clustered

TRAIN = clustered(1500, 1)
TESTS = {"near": clustered(90, 2), "far/away": -clustered(70, 3)}
REFERENCE = clustered(300, 4)
CUTS = [(None, 0), (400, 0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("rows") / "vectors"
    shards = {0: TRAIN[:900], 1: TRAIN[900:900], 9: TRAIN[900:930], 10: TRAIN[930:]}
    return str(clip_retrieval(target, shards, keys=False))


@pytest.mark.parametrize(("rows", "workers"), CUTS)
def test_nearest(folder, tmp_path, rows, workers):
    sharding = Sharding(tmp_path, Local(workers), part_rows=rows)
    found = nearest_in_parts(folder, TESTS, sharding)
    for name, whole in nearest_to_each(TRAIN, TESTS, precision="fp32").items():
        np.testing.assert_array_equal(found[name].similarity, whole.similarity)
        np.testing.assert_array_equal(found[name].index, whole.index)
        assert found[name].certificate.products == 1500 * len(TESTS[name])


@pytest.mark.parametrize(("rows", "workers"), [(97, 0), (800, 2)])
def test_top_k(folder, tmp_path, rows, workers):
    sharding = Sharding(tmp_path, Local(workers), part_rows=rows)
    found = top_k_in_parts(folder, TESTS, sharding, 7)
    for name, whole in top_k_of_each(TRAIN, TESTS, 7, precision="fp32").items():
        np.testing.assert_array_equal(found[name].similarity, whole.similarity)
        np.testing.assert_array_equal(found[name].index, whole.index)


@pytest.mark.parametrize(("rows", "workers"), CUTS)
def test_prune(folder, tmp_path, rows, workers):
    sharding = Sharding(tmp_path, Local(workers), part_rows=rows)
    found = prune_in_parts(folder, TESTS, sharding, reference=REFERENCE)
    whole = prune(TRAIN, TESTS, reference=REFERENCE, precision="fp32")
    assert 0 < whole.counts["near"] < 1500
    for name in TESTS:
        np.testing.assert_array_equal(found.removed[name], whole.removed[name])
        np.testing.assert_array_equal(found.thresholds[name], whole.thresholds[name])
    assert not found.skipped.any()


def test_the_proof_looks_at_all_that_was_kept(folder, tmp_path):
    sharding = Sharding(tmp_path, Local(0), part_rows=700)
    found = prune_in_parts(folder, TESTS, sharding, reference=REFERENCE)
    proofs = prove_in_parts(folder, TESTS, sharding, found.thresholds)
    whole = prove(TRAIN, TESTS, found)
    for name in TESTS:
        np.testing.assert_array_equal(proofs[name].similarity, whole[name].similarity)
        assert proofs[name].holds
        assert proofs[name].certificate.precision == "fp32"


def test_thresholds_and_rows_that_are_skipped(tmp_path):
    rows = TRAIN[:900].copy()
    rows[[5, 800]] = 0
    train = open_embeddings(rows, unusable="skip")
    found = prune_in_parts(
        train,
        TESTS,
        Sharding(tmp_path, Local(0), part_rows=500),
        thresholds={"near": 0.9, "far/away": 0.0},
    )
    assert np.flatnonzero(found.skipped).tolist() == [5, 800]
    whole = prune(train, TESTS, thresholds={"near": 0.9, "far/away": 0.0})
    np.testing.assert_array_equal(found.keep(), whole.keep())
    assert found.certificates["near"].skipped == 2


def test_workers_of_a_scheduler(folder, tmp_path):
    with pytest.raises(UnfinishedError, match="of worker 1, --of 2"):
        nearest_in_parts(folder, TESTS, Sharding(tmp_path, Scheduled(0, 2), part_rows=800))
    found = nearest_in_parts(folder, TESTS, Sharding(tmp_path, Scheduled(1, 2), part_rows=800))
    whole = nearest_to_each(TRAIN, TESTS)
    np.testing.assert_array_equal(found["near"].index, whole["near"].index)


def part_files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*.npz"))}


UNLIKE = np.concatenate([-clustered(400, 5), TRAIN[:1100]])
"""Parts that do not lie alike: the first is far from what is near to the others."""

SEARCHES = {
    "nearest": lambda sharding: nearest_in_parts(UNLIKE, TESTS, sharding),
    "top-k": lambda sharding: top_k_in_parts(UNLIKE, TESTS, sharding, 3),
    "prune": lambda sharding: prune_in_parts(
        UNLIKE, TESTS, sharding, thresholds={"near": 0.9, "far/away": 0.0}
    ),
}


@pytest.mark.parametrize("precision", ["int8", "fp32", "bf16"])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_part_does_not_hang_on_those_before_it(tmp_path, name, precision, monkeypatch):
    """Not even its certificate: the test rows are made ready once in a process, always alike."""
    # Several blocks in a part: the first fills the lists, and the others are compared in 8 bits.
    monkeypatch.setattr("shiftproof.similarity.search.in_memory.ROWS", 50)
    SEARCHES[name](Sharding(tmp_path / "one", Local(0), precision, part_rows=400))
    for worker in (2, 1, 3, 0):
        sharding = Sharding(tmp_path / "several", Scheduled(worker, 4), precision, part_rows=400)
        with contextlib.suppress(UnfinishedError):
            SEARCHES[name](sharding)
    found = part_files(tmp_path / "several" / name)
    assert len(found) == 4
    assert found == part_files(tmp_path / "one" / name)


@pytest.mark.parametrize("name", SEARCHES)
def test_test_rows_are_made_ready_once(tmp_path, name, monkeypatch):
    made = []
    monkeypatch.setattr(
        engines, "Int8", lambda *given: made.append(len(given[0])) or int8.Int8(*given)
    )
    SEARCHES[name](Sharding(tmp_path / "one", Local(0), "int8", part_rows=400))
    assert sorted(made) == [70, 90]
    assert not sharded._prepared
    # What memory does not hold at once is made ready for each part.
    monkeypatch.setattr("shiftproof.similarity.search.engines.count_rows_in_memory", lambda *_: 100)
    made.clear()
    SEARCHES[name](Sharding(tmp_path / "more", Local(0), "int8", part_rows=400))
    assert sorted(made) == [10] * 4 + [60] * 4 + [90] * 4
    for number in range(4):
        with (
            np.load(tmp_path / "one" / name / f"part-0000{number}.npz") as one,
            np.load(tmp_path / "more" / name / f"part-0000{number}.npz") as more,
        ):
            for values in (values for values in one.files if "certificate" not in values):
                np.testing.assert_array_equal(one[values], more[values])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": TRAIN[::-1].copy()}, "train: other content"),
        ({"tests": {**TESTS, "near": TESTS["near"][1:]}}, "tests: near: other content"),
        ({"k": 4}, "k was 3, now 4"),
        ({"rows": 600}, "shards was 3, now 3|rows in a part was 500, now 600"),
    ],
)
def test_parts_of_another_search_are_refused(tmp_path, change, message):
    def search(train=TRAIN, tests=TESTS, k=3, rows=500):
        return top_k_in_parts(train, tests, Sharding(tmp_path, Local(0), part_rows=rows), k)

    search()
    with pytest.raises(RunMismatchError, match=message):
        search(**change)


@pytest.mark.parametrize("name", ["marked", "0.removed", "7.marked", "x.marked"])
def test_parts_that_are_laid_out_otherwise_are_refused(tmp_path, name):
    words = TRAIN, TESTS, Sharding(tmp_path, Local(0), part_rows=800)
    thresholds = {"near": 0.9, "far/away": 0.0}
    prune_in_parts(*words, thresholds=thresholds)
    part = tmp_path / "prune" / "part-00000.npz"
    with part.open("wb") as file:
        np.savez(file, **{name: np.zeros(100, np.uint8)})
    with pytest.raises(RunMismatchError, match="an earlier version made"):
        prune_in_parts(*words, thresholds=thresholds)


@pytest.mark.parametrize("sharding", [{"part_rows": 0}, {"memory": "lots"}])
def test_options_that_no_sharding_has(tmp_path, sharding):
    with pytest.raises(InputError):
        Sharding(tmp_path, **sharding)


# ---------------------------------------------------------------- cut and fingerprint


@pytest.mark.parametrize("rows", [1, 7, 40, 1000])
def test_a_cut_holds_the_same_rows(tmp_path, rows):
    whole = datacomp(tmp_path, [TRAIN[:33].astype(np.float16), TRAIN[33:80].astype(np.float16)])
    source = open_embeddings(whole, array="b32_img")
    cut = source.split_rows(rows)
    np.testing.assert_array_equal(cut.read(), source.read())
    assert max(shard.rows for shard in cut.shards) <= rows
    assert [shard.number for shard in cut.shards] == list(range(len(cut.shards)))
    np.testing.assert_array_equal(cut.split_rows(5).read(11, 60), source.read(11, 60))


def test_the_fingerprint_tells_rows_names_and_options(tmp_path):
    np.save(tmp_path / "one.npy", TRAIN)
    np.save(tmp_path / "two.npy", TRAIN)
    one = open_embeddings(tmp_path / "one.npy")
    assert one.fingerprint() == open_embeddings(tmp_path / "one.npy").fingerprint()
    others = [
        open_embeddings(tmp_path / "two.npy"),
        open_embeddings(tmp_path / "one.npy", normalize=True),
        open_embeddings(tmp_path / "one.npy", unusable="skip"),
        open_embeddings(TRAIN),
        open_embeddings(TRAIN[1:]),
        one.split_rows(100),
    ]
    prints = {other.fingerprint() for other in others}
    assert len(prints) == len(others)
    assert one.fingerprint() not in prints
    before = one.fingerprint()
    changed = TRAIN.copy()
    changed[-1] = changed[0]
    np.save(tmp_path / "one.npy", changed)
    assert open_embeddings(tmp_path / "one.npy").fingerprint() != before
