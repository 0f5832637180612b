import json

import numpy as np
import pytest

from shiftproof.errors import InputError, RunMismatchError, UnknownNameError
from shiftproof.similarity import (
    coreset,
    merge_prunings,
    nearest,
    open_embeddings,
    prove,
    prune,
    prune_to,
)
from shiftproof.similarity.audit import audit
from shiftproof.similarity.keeping import write_coreset, write_deduplicated, write_pruned
from support.embedding_trees import clip_retrieval, unit_rows
from support.similar_rows import clustered, products


def by_the_book(train, test, reference):
    """The paper's rule in its own words, in float64."""
    allowed = products(test, reference).max(axis=1)
    return (products(train, test) > allowed).any(axis=1), allowed


@pytest.fixture(scope="module")
def world():
    tests = {"sketch": clustered(150, 1), "art": clustered(90, 2, clusters=10)}
    return clustered(2000, 3), tests, clustered(900, 4)


def test_gap_matched_pruning_is_the_papers(way, world):
    train, tests, reference = world
    found = prune(train, tests, reference=reference, threads=1)
    gone = []
    for name, test in tests.items():
        expected, allowed = by_the_book(train, test, reference)
        assert 10 < expected.sum() < 1000
        np.testing.assert_array_equal(found.removed[name], expected)
        np.testing.assert_allclose(found.thresholds[name], allowed, atol=1e-14)
        np.testing.assert_array_equal(found.keep(name), ~expected)
        gone.append(expected)
    np.testing.assert_array_equal(found.keep(), ~(gone[0] | gone[1]))
    assert found.counts == {"sketch": gone[0].sum(), "art": gone[1].sum()}
    both = (gone[0] & gone[1]).sum()
    np.testing.assert_allclose(found.shared, [[1, both / gone[1].sum()], [both / gone[0].sum(), 1]])


def test_a_pruning_of_which_nothing_stays_gives_its_folder_to_the_mended_one(tmp_path, world):
    train, tests, reference = world
    out, far = tmp_path / "out", np.tile(-tests["sketch"].mean(axis=0), (2, 1))
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    for _ in range(2):  # the same command again says the same
        with pytest.raises(InputError, match="No row would be kept"):
            write_pruned(train, tests, out, threshold=-1)
    with pytest.raises(InputError, match="No row would be kept"):
        write_pruned(train, tests, out, reference=far.astype(np.float32))
    summary = write_pruned(train, tests, out, reference=reference)
    gone = [by_the_book(train, test, reference)[0] for test in tests.values()]
    np.testing.assert_array_equal(np.load(out / "keep.npy"), ~(gone[0] | gone[1]))
    assert summary["kept"] == (~(gone[0] | gone[1])).sum()
    with pytest.raises(RunMismatchError, match=r"threshold was not set, now 0\.5"):
        write_pruned(train, tests, out, threshold=0.5)  # what is finished is not given away


def test_parts_that_fit_the_mended_command_are_kept(tmp_path, world):
    train, tests, _ = world
    holed = train.copy()
    holed[:500] = 0
    rows = open_embeddings(holed, unusable="skip")
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"Expected a size of 1 to 1500, .* got 1600"):
        write_pruned(rows, tests, out, rule="near", size=1600)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("part-*.npz")}
    assert before
    assert write_pruned(rows, tests, out, rule="near", size=100)["kept"] == 100
    assert {path: path.stat().st_mtime_ns for path in out.rglob("part-*.npz")} == before
    near = np.maximum(*(products(train[500:], test).max(axis=1) for test in tests.values()))
    kept = np.flatnonzero(np.load(out / "keep.npy"))
    assert set(kept - 500) == set(np.argsort(near)[:100])


def test_rows_that_are_found_late_to_be_unusable_can_be_skipped_in_the_same_folder(tmp_path, world):
    train, tests, reference = world
    holed = train.copy()
    holed[1900] = 0
    with pytest.raises(InputError, match="row 1900 is all zeros"):
        write_pruned(holed, tests, tmp_path / "out", reference=reference)
    assert "all zeros" in json.loads((tmp_path / "out/run.json").read_text())["refused"]
    rows = open_embeddings(holed, unusable="skip")
    summary = write_pruned(rows, tests, tmp_path / "out", reference=reference)
    assert summary["skipped"] == 1
    assert "refused" not in json.loads((tmp_path / "out/run.json").read_text())


def test_the_comparison_is_strict(way):
    """A training set that is the reference itself loses nothing, to the last bit."""
    train, test = clustered(600, 5), clustered(80, 6)
    assert prune(train, {"t": test}, reference=train, threads=1).counts == {"t": 0}


def test_after_pruning_nothing_is_closer_than_the_reference(world):
    train, tests, reference = world
    found = prune(train, tests, reference=reference)
    proofs = prove(train, tests, found)
    assert all(proof.holds and proof.violations == 0 for proof in proofs.values())
    # Pruned for one test set only, the other one is still too close.
    half = prove(train, tests, found, "sketch")
    assert half["sketch"].holds
    assert not half["art"].holds
    left = train[found.keep("sketch")]
    too_close = products(tests["art"], left).max(axis=1) > found.thresholds["art"]
    assert half["art"].violations == too_close.sum()


def test_shards_threads_and_memory_change_nothing(tmp_path, way, world, monkeypatch):
    train, tests, reference = world
    folder = clip_retrieval(tmp_path, {0: train[:700], 1: train[700:701], 2: train[701:]})
    rows = open_embeddings(folder)
    whole = prune(rows, tests, reference=reference, threads=1)
    parts = [prune(rows, tests, reference=reference, threads=1, shards=[n]) for n in range(3)]
    monkeypatch.setattr("shiftproof.similarity.search.engines.count_rows_in_memory", lambda *_: 100)
    for other in (
        prune(rows, tests, reference=reference, threads=3),
        merge_prunings([parts[0], merge_prunings(parts[1:])]),
        merge_prunings([merge_prunings(parts[:2]), parts[2]]),
    ):
        for name in tests:
            np.testing.assert_array_equal(other.removed[name], whole.removed[name])


def test_thresholds_in_the_references_place(way):
    train, test = clustered(300, 7), clustered(50, 8)
    expected = products(train, test)
    one = prune(train, {"t": test}, thresholds={"t": 0.8}, threads=1)
    np.testing.assert_array_equal(one.removed["t"], (expected > 0.8).any(axis=1))
    each = np.linspace(0.5, 1, 50)
    several = prune(train, {"t": test}, thresholds={"t": each}, threads=1)
    np.testing.assert_array_equal(several.removed["t"], (expected > each).any(axis=1))
    everything = prune(train, {"t": test}, thresholds={"t": -1.0}, threads=1)
    assert everything.removed["t"].all()


def test_rows_that_cannot_be_used_neither_go_nor_stay():
    train = clustered(30, 9)
    train[4] = 0
    found = prune(
        open_embeddings(train, unusable="skip"), {"t": clustered(5, 1)}, thresholds={"t": 1.0}
    )
    assert np.flatnonzero(found.skipped).tolist() == [4]
    assert np.flatnonzero(~found.keep()).tolist() == [4]
    assert found.certificates["t"].skipped == 1


# ---------------------------------------------------------------- to a size


def test_near_far_and_random_pruning():
    train, tests = clustered(400, 10), {"a": clustered(40, 11), "b": clustered(30, 12)}
    closeness = products(train, np.concatenate(list(tests.values()))).max(axis=1)
    order = np.argsort(closeness, kind="stable")
    near = prune_to(train, tests, 100, "near")
    far = prune_to(train, tests, 100, "far")
    assert set(np.flatnonzero(near)) == set(order[:100])
    assert set(np.flatnonzero(far)) == set(order[-100:])
    drawn = prune_to(train, tests, 100, "random", seed=1)
    assert drawn.sum() == 100
    assert not np.array_equal(drawn, prune_to(train, tests, 100, "random", seed=2))
    np.testing.assert_array_equal(drawn, prune_to(train, tests, 100, "random", seed=1))
    # The control says nothing about similarity.
    assert abs(closeness[drawn].mean() - closeness.mean()) < 0.02


def test_of_equal_rows_the_first_stay():
    train = np.repeat(clustered(1, 13), 6, axis=0)
    for rule in ("near", "far"):
        assert np.flatnonzero(prune_to(train, {"t": clustered(3, 14)}, 2, rule)).tolist() == [0, 1]


def test_a_core_set_is_what_lies_closest():
    train, tests = clustered(300, 15), {"a": clustered(20, 16), "b": clustered(20, 17)}
    found = coreset(train, tests, 50)
    near = {name: nearest(train, test).similarity for name, test in tests.items()}
    closeness = np.maximum(near["a"], near["b"])
    np.testing.assert_array_equal(found.similarity, closeness)
    assert closeness[found.keep].min() >= closeness[~found.keep].max()
    np.testing.assert_array_equal(found.nearest_set, (near["b"] > near["a"]).astype(int))
    among = np.arange(300) % 2 == 0
    assert coreset(train, tests, 50, among=among).keep[~among].sum() == 0


# ---------------------------------------------------------------- bad input


def test_odd_settings():
    rows = unit_rows(4, 8)
    tests = {"t": rows[:2]}
    with pytest.raises(InputError, match="either a reference training set or thresholds"):
        prune(rows, tests)
    with pytest.raises(InputError, match="either a reference training set or thresholds"):
        prune(rows, tests, reference=rows, thresholds={"t": 0.5})
    with pytest.raises(InputError, match=r"thresholds in -1\.\.1 for t, got 1.5"):
        prune(rows, tests, thresholds={"t": 1.5})
    with pytest.raises(InputError, match=r"thresholds in -1\.\.1 for t, got nan"):
        prune(rows, tests, thresholds={"t": float("nan")})
    with pytest.raises(InputError, match="every test set, got none for t"):
        prune(rows, tests, thresholds={"u": 0.5})
    with pytest.raises(InputError, match=r"each row \(2\) of t, got shape \(3,\)"):
        prune(rows, tests, thresholds={"t": np.zeros(3)})
    with pytest.raises(UnknownNameError, match="Unknown test set 'u'"):
        prune(rows, tests, thresholds={"t": 0.5}).keep("u")
    with pytest.raises(UnknownNameError, match="near, far, random"):
        prune_to(rows, tests, 2, "rand")
    for size in (0, 5):
        with pytest.raises(InputError, match="size of 1 to 4"):
            prune_to(rows, tests, size, "near")
    with pytest.raises(InputError, match=r"one value in among for each row \(4\)"):
        coreset(rows, tests, 1, among=np.ones(3, bool))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"threshold": 2.0}, "thresholds in -1..1"),
        ({"threshold": float("nan")}, "thresholds in -1..1"),
        ({"rule": "far", "size": 9}, "a size of 1 to 8"),
    ],
)
def test_a_refused_pruning_leaves_the_folder_free(asked, message, tmp_path):
    train, test = unit_rows(8), unit_rows(3, seed=1)
    with pytest.raises(InputError, match=message):
        write_pruned(train, {"a": test}, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_rows_that_are_not_normalized_leave_the_folder_free(tmp_path):
    train, tests = 2 * unit_rows(8), {"a": unit_rows(3, seed=1)}
    for write in (
        lambda out: write_pruned(train, tests, out, threshold=0.5),
        lambda out: write_deduplicated(train, out),
        lambda out: write_coreset(train, tests, 2, out),
        lambda out: audit(train, tests, out=out),
        lambda out: audit(tests["a"], {"a": train}, out=out),
    ):
        with pytest.raises(InputError, match="expected rows of length 1"):
            write(tmp_path / "out")
        assert not (tmp_path / "out").exists()
