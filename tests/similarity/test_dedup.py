import numpy as np
import pytest

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.similarity import deduplicate, open_embeddings
from shiftproof.similarity.clusters import cluster_rows
from support.similar_rows import clustered, products, unit


def with_copies(count, seed, copies=60):
    """Rows of which some are nearly copies of others, in any order."""
    draws = np.random.default_rng(seed)
    rows = clustered(count, seed)
    near = rows[draws.integers(0, count, copies)]
    near = unit(near + 0.02 * draws.normal(size=near.shape) / np.sqrt(near.shape[1]) * 5)
    return np.ascontiguousarray(draws.permutation(np.concatenate([rows, near])))


def pairs_of(rows, threshold):
    above = np.triu(products(rows, rows) > threshold, k=1)
    return np.argwhere(above)


@pytest.mark.parametrize("threshold", [0.876, 0.97])
def test_the_pairs_are_those_of_float64(way, threshold):
    rows = with_copies(1500, 1)
    found = deduplicate(rows, threshold, threads=2)
    np.testing.assert_array_equal(found.pairs, pairs_of(rows, threshold))
    assert len(found.pairs) > 20
    expected = products(rows, rows)[tuple(found.pairs.T)]
    np.testing.assert_allclose(found.similarity, expected, atol=1e-14)
    assert found.recall == 1


def test_chunks_of_rows_change_nothing(way, monkeypatch):
    rows = with_copies(900, 2)
    whole = deduplicate(rows, 0.9, threads=1)
    monkeypatch.setattr("shiftproof.similarity.search.engines.count_rows_in_memory", lambda *_: 130)
    parts = deduplicate(rows, 0.9, threads=2)
    np.testing.assert_array_equal(parts.pairs, whole.pairs)
    np.testing.assert_array_equal(parts.keep, whole.keep)


def test_many_pairs_find_room(way):
    rows = np.repeat(clustered(3, 3), 40, axis=0)
    found = deduplicate(rows, 0.99, threads=1)
    assert len(found.pairs) == len(pairs_of(rows, 0.99)) == 3 * 40 * 39 // 2
    assert np.flatnonzero(found.keep).tolist() == [0, 40, 80]


def test_a_row_goes_if_any_earlier_row_is_its_pair():
    """A chain: 0 is near 1 and 1 near 2, but not 0 near 2. The paper's rule drops both."""
    angles = np.radians([0, 20, 40])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = deduplicate(rows, 0.9)
    assert found.pairs.tolist() == [[0, 1], [1, 2]]
    assert found.keep.tolist() == [True, False, False]
    assert found.group.tolist() == [0, 0, 0]


def test_the_central_row_stays_whatever_the_order():
    angles = np.radians([0, 20, 41, 120])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    for order in ([0, 1, 2, 3], [2, 1, 0, 3], [3, 2, 0, 1]):
        kept = np.asarray(order)[deduplicate(rows[order], 0.9, rule="central").keep]
        assert sorted(kept.tolist()) == [1, 3]


def test_the_central_rule_does_not_depend_on_the_order():
    rows = with_copies(300, 4)
    kept = set()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(rows))
        found = deduplicate(rows[order], 0.9, rule="central")
        kept.add(tuple(sorted(order[found.keep].tolist())))
        groups = {tuple(sorted(order[found.group == g])) for g in np.unique(found.group)}
        kept_of_group = [sum(row in set(order[found.keep]) for row in group) for group in groups]
        assert kept_of_group == [1] * len(groups)
    assert len(kept) == 1


def test_the_clustered_form_tells_what_it_misses():
    rows = with_copies(1200, 5, copies=200)
    exact = deduplicate(rows, 0.9)
    few = deduplicate(rows, 0.9, clusters=8, seed=0)
    assert {tuple(pair) for pair in few.pairs} <= {tuple(pair) for pair in exact.pairs}
    # All rows but 400 are in the sample; what it says is close to the truth.
    assert few.recall == pytest.approx(len(few.pairs) / len(exact.pairs), abs=0.05)
    assert 0.5 < few.recall <= 1
    one = deduplicate(rows, 0.9, clusters=1)
    np.testing.assert_array_equal(one.pairs, exact.pairs)
    assert one.recall == 1


def test_clusters_are_found_where_there_are_some():
    rows = clustered(600, 7, clusters=2, noise=0.05)
    cluster = cluster_rows(rows, 2)
    truth = products(rows, rows[:1])[:, 0] > 0.9
    assert 0 < truth.sum() < 600
    assert len(set(cluster[truth])) == len(set(cluster[~truth])) == 1
    assert cluster[truth][0] != cluster[~truth][0]


def test_without_pairs_everything_stays_and_recall_is_unknown():
    found = deduplicate(np.eye(40, dtype=np.float32), 0.5, clusters=4)
    assert found.keep.all()
    assert np.isnan(found.recall)
    assert found.group.tolist() == list(range(40))


@pytest.mark.parametrize("clusters", [None, 2])
def test_rows_that_cannot_be_used_do_not_stay(clusters):
    rows = with_copies(100, 6, copies=10)
    rows[[3, 50]] = 0
    found = deduplicate(open_embeddings(rows, unusable="skip"), -0.5, clusters=clusters)
    assert not found.keep[[3, 50]].any()
    assert not np.isin(found.pairs, [3, 50]).any()
    assert found.keep[0]


def test_odd_settings():
    rows = clustered(5, 1)
    with pytest.raises(InputError, match=r"threshold in -1\.\.1, got 1.2"):
        deduplicate(rows, 1.2)
    with pytest.raises(UnknownNameError, match="Did you mean 'central'"):
        deduplicate(rows, rule="centre")
    for clusters in (0, 6):
        with pytest.raises(InputError, match="Expected 1 to 5 clusters"):
            deduplicate(rows, clusters=clusters)
