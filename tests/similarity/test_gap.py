import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shiftproof.errors import InputError
from shiftproof.similarity import accuracy_by_similarity, by_class, cumulative, gap, histogram
from support.similar_rows import clustered, products


def test_the_gap_to_the_reference():
    train, reference, test = clustered(500, 1), clustered(200, 2), clustered(60, 3)
    found = gap(train, {"t": test}, reference=reference, k=5)["t"]
    expected = np.sort(products(test, train), axis=1)[:, ::-1][:, :5]
    of_reference = products(test, reference).max(axis=1)
    np.testing.assert_allclose(found.similarity, expected[:, 0], atol=1e-14)
    np.testing.assert_allclose(found.density, expected.mean(axis=1), atol=1e-14)
    np.testing.assert_allclose(found.reference, of_reference, atol=1e-14)
    assert found.gap == pytest.approx((expected[:, 0] - of_reference).mean())
    assert found.share_closer == (expected[:, 0] > of_reference).mean()
    assert found.near_duplicates(0.8) == (expected[:, 0] >= 0.8).mean()
    assert found.index.shape == (60, 5)


def test_without_a_reference_there_is_no_gap():
    found = gap(clustered(5, 1), {"t": clustered(3, 2)}, k=9)["t"]
    assert found.reference is None
    assert np.isnan(found.gap)
    assert np.isnan(found.share_closer)
    # There are only 5 training rows to take the mean of.
    expected = products(clustered(3, 2), clustered(5, 1)).mean(axis=1)
    np.testing.assert_allclose(found.density, expected)
    with pytest.raises(InputError, match=r"threshold in -1\.\.1"):
        found.near_duplicates(1.5)


def test_histogram_and_curve():
    edges, counts = histogram([0.1, 0.2, 0.2, 1.0000001, np.nan], bins=4, low=0)
    assert edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert counts.tolist() == [3, 0, 0, 1]
    assert cumulative([0.1, 0.2, 0.2, 1, np.nan], [0, 0.2, 0.5, 1]).tolist() == [0, 0.75, 0.75, 1]
    with pytest.raises(InputError, match="at least one"):
        cumulative([], [0])


def test_by_class():
    assert by_class([1, 2, 6], [3, 0, 0]) == {0: 4.0, 3: 1.0}
    with pytest.raises(InputError, match="one label for each of 3"):
        by_class([1, 2, 6], [3, 0])


def test_accuracy_against_similarity():
    draws = np.random.default_rng(0)
    similarity = draws.random(400).round(2)
    correct = draws.random(400) < similarity
    found = accuracy_by_similarity(similarity, correct, bins=4)
    assert found.count.tolist() == [100] * 4
    order = np.argsort(similarity, kind="stable")
    assert found.accuracy[0] == correct[order[:100]].mean()
    assert found.similarity[3] == pytest.approx(similarity[order[300:]].mean())
    assert found.advantage == pytest.approx(roc_auc_score(correct, similarity))
    assert np.isnan(accuracy_by_similarity([0.1, 0.2], [True, True], bins=1).advantage)


def test_answers_that_do_not_fit():
    with pytest.raises(InputError, match=r"each of \(2,\) similarities"):
        accuracy_by_similarity([0.1, 0.2], [True])
    with pytest.raises(InputError, match="1 to 2 bins"):
        accuracy_by_similarity([0.1, 0.2], [True, False], bins=3)
