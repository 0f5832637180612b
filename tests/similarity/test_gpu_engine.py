"""The engine for GPUs, run on the processor: its bound, and that it finds what float32 finds."""

import numpy as np
import pytest
import torch

from shiftproof.errors import RunError
from shiftproof.similarity import deduplicate, nearest, prune, top_k
from shiftproof.similarity.search import engines, gpu
from shiftproof.similarity.search.certificate import CANDIDATES, RECHECKED, Tally
from shiftproof.similarity.search.engine import Reduction
from shiftproof.similarity.search.fp16 import Half
from support.embedding_trees import unit_rows
from support.similar_rows import HALVES, WIDTH, clustered, products, unit

CASES = {
    "clusters": (clustered(300, 1), clustered(200, 2)),
    "outlier-dimension": (clustered(300, 1, outliers=1), clustered(200, 2, outliers=1)),
    "opposite": (clustered(300, 1), -clustered(200, 2)),
    "basis": (np.eye(WIDTH, dtype=np.float32), -np.eye(WIDTH, dtype=np.float32)),
    "isotropic": (unit_rows(300, 24, 1, np.float32), unit_rows(200, 24, 2, np.float32)),
}


@pytest.fixture
def on_gpu(monkeypatch):
    """Let the engine for GPUs make what is asked of torch on the processor, in several tiles."""
    monkeypatch.setattr(engines, "Fp16", gpu.Gpu)
    monkeypatch.setattr(gpu, "COLUMNS", 128)
    monkeypatch.setattr(gpu, "PRODUCTS", 128 * 50)
    monkeypatch.setattr(gpu, "PAIRS", 640)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("case", CASES)
def test_no_product_is_farther_off_than_the_bound(precision, case):
    train, test = CASES[case]
    half = Half(precision, "cpu")
    tests = gpu.copy_tests(test, train, half)
    block = gpu.copy_rows(train, np.ones(len(train), dtype=bool), tests)
    limits = torch.full((len(test),), -4.0, dtype=torch.float64)
    floor = torch.full((len(train),), -torch.inf, dtype=torch.float64)
    estimates = np.full((len(train), len(test)), np.nan)
    for row, other, estimate in gpu._list_pairs(block, tests, 0, limits, floor):
        estimates[row.numpy(), other.numpy()] = estimate.numpy()
    off = np.abs(estimates - products(train, test))
    assert not np.isnan(off).any()
    assert (off <= block.error.numpy()[:, None]).all()
    assert float(block.error.max()) < {"fp16": 0.003, "bf16": 0.03}[precision]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("case", CASES)
def test_it_finds_the_nearest(precision, case, on_gpu):
    train, test = CASES[case]
    found = nearest(train, test, precision=precision, threads=2)
    plain = nearest(train, test, precision="fp32", threads=1)
    np.testing.assert_array_equal(found.similarity, plain.similarity)
    np.testing.assert_array_equal(found.index, plain.index)
    assert found.certificate.precision == precision


def test_the_processor_sees_about_one_pair_a_row():
    train, test = clustered(300, 1), clustered(200, 2)
    engine = gpu.Gpu(test, 0, Half("bf16", "cpu"), train)
    tally, seen = Tally(), 0
    for tile in engine.emit(train, np.ones(300, dtype=bool), Reduction(None, None), tally):
        seen += len(tile.row)
    # bfloat16 leaves more open, which float64 settles before.
    assert tally.counts[CANDIDATES] > 400
    assert 300 <= seen < 310
    assert tally.counts[RECHECKED] == 0


def test_rows_that_cannot_be_used_are_in_no_pair():
    train, test = clustered(30, 1), clustered(70, 2)
    usable = np.arange(30) % 3 > 0
    engine = gpu.Gpu(test, 0, Half("fp16", "cpu"), train)
    for thresholds in (None, -1.5):
        tiles = engine.emit(train, usable, Reduction(None, thresholds), Tally())
        rows = np.concatenate([tile.row for tile in tiles])
        assert set(rows.tolist()) == set(np.flatnonzero(usable).tolist())


def test_equal_rows_keep_the_first(on_gpu):
    test = np.repeat(clustered(30, 2), 3, axis=0)
    found = nearest(clustered(50, 1), test, precision="fp16", threads=1)
    assert (found.index % 3 == 0).all()


def test_lists_and_thresholds(on_gpu):
    train, test = clustered(400, 1), clustered(90, 2)
    found = top_k(train, test, 5, precision="fp16", threads=2)
    plain = top_k(train, test, 5, precision="fp32", threads=1)
    np.testing.assert_array_equal(found.similarity, plain.similarity)
    np.testing.assert_array_equal(found.index, plain.index)
    limits = {"test": np.quantile(products(train, test), 0.99)}
    pruned = prune(train, {"test": test}, thresholds=limits, precision="fp16", threads=1)
    expected = products(train, test).max(axis=1) > limits["test"]
    assert 0 < expected.sum() < 400
    np.testing.assert_array_equal(pruned.removed["test"], expected)


def test_a_threshold_for_each_test_row(on_gpu):
    train, test = clustered(400, 1), clustered(90, 2)
    every = products(train, test)
    limits = np.quantile(every, np.linspace(0.98, 1, 90), axis=0).diagonal().clip(-1, 1)
    pruned = prune(train, {"test": test}, thresholds={"test": limits}, precision="fp16", threads=1)
    expected = (every > limits).any(axis=1)
    assert 0 < expected.sum() < 400
    np.testing.assert_array_equal(pruned.removed["test"], expected)


def test_duplicates(on_gpu):
    rows = clustered(200, 1)
    rows = unit(np.concatenate([rows, rows[:20] + 1e-4 * rows[20:40]]))
    found = deduplicate(rows, threshold=0.99, precision="fp16", threads=1)
    plain = deduplicate(rows, threshold=0.99, precision="fp32", threads=1)
    assert plain.count >= 20
    np.testing.assert_array_equal(found.pairs, plain.pairs)
    np.testing.assert_array_equal(found.group, plain.group)


def test_sums_that_are_off_are_noticed(monkeypatch):
    train, test = clustered(60, 1), clustered(70, 2)
    engine = gpu.Gpu(test, 0, Half("fp16", "cpu"), train)
    right = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: right(a, b) * 1.02)
    with pytest.raises(RunError, match="farther off than their rounding allows"):
        list(engine.emit(train, np.ones(60, dtype=bool), Reduction(None, None), Tally()))
