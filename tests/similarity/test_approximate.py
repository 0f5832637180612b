"""The search by clusters, and the recall that it reports."""

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.similarity import approximate_top_k, open_embeddings
from support.similar_rows import clustered, products

TRAIN, TEST = clustered(2000, 1), clustered(150, 2)


def exact(k):
    return np.argsort(-products(TEST, TRAIN), axis=1, kind="stable")[:, :k]


def test_all_clusters_find_everything():
    found = approximate_top_k(TRAIN, {"test": TEST}, 5, clusters=12, probes=12)["test"]
    np.testing.assert_array_equal(found.index, exact(5))
    values = np.take_along_axis(products(TEST, TRAIN), exact(5), axis=1)
    np.testing.assert_allclose(found.similarity, values, atol=1e-6)
    assert found.recall == 1
    assert found.sampled == 150


def test_the_recall_is_the_share_that_was_found():
    found = approximate_top_k(TRAIN, {"test": TEST}, 5, clusters=300, probes=1)["test"]
    share = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found.index, exact(5), strict=True)])
    assert 0.05 < share < 0.95
    assert found.recall == pytest.approx(share)
    more = approximate_top_k(TRAIN, {"test": TEST}, 5, clusters=300, probes=40)["test"]
    assert more.recall > found.recall


def test_rows_that_cannot_be_used_are_not_found():
    rows = np.concatenate([TEST[:1] * 0, TRAIN])
    train = open_embeddings(rows, unusable="skip")
    found = approximate_top_k(train, {"test": TEST}, 5, clusters=12, probes=12)["test"]
    np.testing.assert_array_equal(found.index, exact(5) + 1)


@pytest.mark.parametrize("options", [{"clusters": 2001}, {"clusters": 4, "probes": 5}, {"k": 0}])
def test_numbers_that_do_not_fit(options):
    with pytest.raises(InputError, match="Expected k of 1 or more"):
        approximate_top_k(TRAIN, {"test": TEST}, **options)
