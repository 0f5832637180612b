"""Copies are pairs with each other, as many as the square of them: memory does not follow them."""

import tracemalloc

import numpy as np
import pytest

from shiftproof.shards import Local
from shiftproof.similarity import Sharding, deduplicate, deduplicate_in_parts
from support.similar_rows import unit

COPIES = 3000
PAIRS = COPIES * (COPIES - 1) // 2
"""108 MB of rows and similarities."""


@pytest.fixture(scope="module")
def rows():
    draws = np.random.default_rng(0)
    values = unit(draws.normal(size=(4000, 32))).astype(np.float32)
    values[draws.choice(4000, COPIES, replace=False)] = values[0]
    return values


def peak_of(call):
    tracemalloc.start()
    try:
        found = call()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def in_parts(rows, folder, **words):
    sharding = Sharding(folder, Local(0), precision="fp32", memory="300MB", part_rows=1500)
    return deduplicate_in_parts(rows, sharding, 0.999, **words)


def at_once(rows, folder, precision="fp32", **words):
    return deduplicate(rows, 0.999, memory="300MB", threads=2, precision=precision, **words)


@pytest.mark.parametrize("search", [at_once, in_parts])
@pytest.mark.parametrize("rule", ["earlier", "central"])
@pytest.mark.parametrize("clusters", [None, 3])
def test_memory_does_not_follow_the_pairs(rows, tmp_path, search, rule, clusters):
    search(rows[:50], tmp_path / "warm", rule=rule, clusters=clusters)
    found, peak = peak_of(
        lambda: search(rows, tmp_path / "out", rule=rule, clusters=clusters),
    )
    assert peak < 70e6
    copies = np.flatnonzero((rows == rows[0]).all(axis=1))
    assert found.count == PAIRS
    assert np.flatnonzero(~found.keep).tolist() == copies[1:].tolist()
    assert (found.group[copies] == copies[0]).all()
    assert found.recall == 1


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_nor_with_other_products(rows, tmp_path, precision):
    at_once(rows[:50], tmp_path, precision=precision)
    found, peak = peak_of(lambda: at_once(rows, tmp_path, precision=precision))
    assert peak < 120e6
    assert found.count == PAIRS


def test_many_pairs_are_there_when_they_are_asked_for(rows, tmp_path):
    for found in (at_once(rows, tmp_path), in_parts(rows, tmp_path / "out", clusters=2)):
        assert len(found.pairs) == len(found.similarity) == PAIRS
        assert (np.diff(found.pairs[:, 0]) >= 0).all()
        assert (found.pairs[:, 0] < found.pairs[:, 1]).all()


def test_parts_on_the_disk_do_not_follow_the_pairs(rows, tmp_path):
    in_parts(rows, tmp_path)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.npz")]
    assert sum(sizes) < 1e6
