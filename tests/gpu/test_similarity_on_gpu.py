"""Searches on CUDA find what float32 on the processor finds, bit for bit."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shiftproof.similarity import deduplicate, nearest, prune, top_k  # noqa: E402
from support.embedding_trees import unit_rows  # noqa: E402
from support.similar_rows import HALVES, clustered, products  # noqa: E402

pytestmark = pytest.mark.gpu

CASES = {
    "clusters": (clustered(3000, 1), clustered(2000, 2)),
    "isotropic": (unit_rows(3000, 64, 1, np.float32), unit_rows(2000, 64, 2, np.float32)),
}


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("case", CASES)
def test_the_nearest(case, precision):
    train, test = CASES[case]
    found = nearest(train, test, precision=precision, device="cuda")
    plain = nearest(train, test, precision="fp32")
    np.testing.assert_array_equal(found.similarity, plain.similarity)
    np.testing.assert_array_equal(found.index, plain.index)
    assert found.certificate.device == "cuda"


def test_lists():
    train, test = CASES["clusters"]
    found, plain = (
        top_k(train, test[:300], 10, **options)
        for options in ({"device": "cuda"}, {"precision": "fp32"})
    )
    np.testing.assert_array_equal(found.similarity, plain.similarity)
    np.testing.assert_array_equal(found.index, plain.index)


def test_pruning():
    train, test = CASES["clusters"]
    every = products(train, test)
    limit = float(np.quantile(every, 0.999))
    pruned = prune(train, {"test": test}, thresholds={"test": limit}, device="cuda")
    np.testing.assert_array_equal(pruned.removed["test"], (every > limit).any(axis=1))


def test_duplicates():
    rows = np.concatenate([CASES["clusters"][0], CASES["clusters"][0][:50]])
    found, plain = (
        deduplicate(rows, threshold=0.99, **options)
        for options in ({"device": "cuda"}, {"precision": "fp32"})
    )
    np.testing.assert_array_equal(found.pairs, plain.pairs)
