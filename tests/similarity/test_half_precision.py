"""Products in 16 bits: their bound, what it may not miss, where they are made, and what is said of it."""

import sys
import threading

import numpy as np
import pytest
import torch

from shiftproof.errors import InputError, MissingExtraError, RunError, UnknownNameError
from shiftproof.models import structure
from shiftproof.shards import Local
from shiftproof.similarity import (
    Sharding,
    deduplicate,
    nearest,
    nearest_in_parts,
    prove_in_parts,
    prune,
    prune_in_parts,
    top_k,
)
from shiftproof.similarity.search import fp16
from shiftproof.similarity.search.fp16 import (
    FULL_SUMS,
    Half,
    choose_half,
    find_candidates,
    round_tests,
)
from support.embedding_trees import unit_rows
from support.similar_rows import HALVES, WIDTH, clustered, products, unit


def every_pair(train, test, half, sample=None):
    """The estimates of all pairs ``(n, m)``, and each training row's error."""
    tests = round_tests(test, train if sample is None else sample, half)
    usable = np.ones(len(train), dtype=bool)
    estimates = np.full((len(train), len(test)), np.nan)
    for some in find_candidates(tests, train, usable, -4.0):
        estimates[some.row, some.test] = some.estimate
        error = some.error
    return estimates, error


# ---------------------------------------------------------------- the bound


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(
    ("train", "test"),
    [
        (clustered(300, 1), clustered(200, 2)),
        (clustered(300, 1, outliers=1), clustered(200, 2, outliers=1)),
        (clustered(300, 1), -clustered(200, 2)),
        (unit_rows(300, 2, dtype=np.float32), unit_rows(200, 2, seed=1, dtype=np.float32)),
        (np.eye(WIDTH, dtype=np.float32), -np.eye(WIDTH, dtype=np.float32)),
        # Numbers of every size, most of them below the smallest normal one of fp16.
        (
            unit(10.0 ** -np.random.default_rng(0).uniform(0, 9, (300, 31))),
            unit(10.0 ** -np.random.default_rng(1).uniform(0, 9, (200, 31))),
        ),
    ],
    ids=["clusters", "outlier-dimension", "opposite", "plane", "basis", "tiny-numbers"],
)
def test_no_product_is_farther_off_than_the_bound(precision, train, test):
    estimates, error = every_pair(train, test, Half(precision, "cpu"))
    off = np.abs(estimates - products(train, test))
    assert not np.isnan(off).any()
    assert (off <= error[:, None]).all()
    assert error.max() < {"fp16": 0.002, "bf16": 0.02}[precision]


@pytest.mark.parametrize("precision", HALVES)
def test_the_bound_is_no_larger_than_it_must_be(precision):
    """In the plane something is always left along some row; a fifth of the bound is seen there."""
    train, test = (unit_rows(2000, 2, seed, np.float32) for seed in (1, 2))
    estimates, error = every_pair(train, test, Half(precision, "cpu"))
    assert np.abs(estimates - products(train, test)).max() > error.max() / 5


@pytest.mark.parametrize("precision", HALVES)
def test_rows_as_far_from_the_means_as_they_can_be(precision):
    """Twice the length, all of it along one direction of the widest rows: no 16-bit number overflows."""
    row = np.full((1, 16384), 1 / 128, dtype=np.float32)
    estimates, error = every_pair(
        row, np.concatenate([-row, row, row]), Half(precision, "cpu"), -row
    )
    assert (np.abs(estimates - [[-1, 1, 1]]) <= error[:, None]).all()


# ---------------------------------------------------------------- what rounding turns around


def near_ties(seed):
    """Test rows so close to each other that 16 bits cannot tell them apart, and rows around them."""
    draws = np.random.default_rng(seed)
    base = np.repeat(clustered(12, seed), 40, axis=0)
    test = unit(base + 2e-4 * draws.normal(size=base.shape))
    train = unit(base[::4] + 0.05 * draws.normal(size=base[::4].shape))
    return np.concatenate([train, train[:9]]), np.concatenate([test, test[:5]])


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("seed", range(2))
def test_near_ties(precision, seed):
    train, test = near_ties(seed)
    expected = products(train, test)
    best = expected.max(axis=1)
    estimates, _ = every_pair(train, test, Half(precision, "cpu"))
    # What this is for: the largest estimate often belongs to another row.
    wrong = expected[np.arange(len(train)), estimates.argmax(axis=1)] < best - 1e-9
    assert wrong.mean() > 0.2
    found = nearest(train, test, precision=precision, threads=1)
    np.testing.assert_array_equal(found.similarity, best.astype(np.float32))
    np.testing.assert_array_equal(found.index, expected.argmax(axis=1))
    plain = top_k(train, test, 6, precision="fp32", threads=1)
    top = top_k(train, test, 6, precision=precision, threads=1)
    np.testing.assert_array_equal(top.similarity, plain.similarity)
    np.testing.assert_array_equal(top.index, plain.index)


@pytest.mark.parametrize("precision", HALVES)
def test_thresholds_that_products_reach_to_the_last_bit(precision):
    train, test = near_ties(5)
    limits = top_k(train, test, 1, precision="fp32", threads=1).similarity[:, 0]
    for lower in (0.0, 1e-15):
        found = prune(
            train, {"t": test}, thresholds={"t": limits - lower}, precision=precision, threads=1
        )
        plain = prune(
            train, {"t": test}, thresholds={"t": limits - lower}, precision="fp32", threads=1
        )
        np.testing.assert_array_equal(found.removed["t"], plain.removed["t"])
        assert found.removed["t"].any() == (lower > 0)


# ---------------------------------------------------------------- a device that does not keep its word


def sums_in_16_bits(first, second):
    """What a device makes that adds up in the precision of the products."""
    total = torch.zeros((len(first), second.shape[1]), dtype=first.dtype)
    for place in range(first.shape[1]):
        total += first[:, place, None] * second[None, place]
    return total


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(
    "search",
    [
        lambda train, test, precision: nearest(train, test, precision=precision, threads=1),
        lambda train, test, precision: top_k(train, test, 3, precision=precision, threads=1),
        lambda train, test, precision: prune(
            train, {"t": test}, thresholds={"t": 0.5}, precision=precision, threads=1
        ),
        lambda train, test, precision: deduplicate(train, 0.5, precision=precision, threads=1),
    ],
    ids=["nearest", "top-k", "prune", "deduplicate"],
)
def test_products_beyond_the_bound_end_the_search(precision, search, monkeypatch):
    # Products of one sign and one size, so that what each addition loses adds up.
    sides = [unit(1 + 0.1 * np.random.default_rng(seed).random((100, 512))) for seed in (1, 2)]
    train, test = (np.concatenate([side, -side]) for side in sides)
    search(train, test, precision)
    monkeypatch.setattr(torch, "mm", sums_in_16_bits)
    with pytest.raises(RunError, match=f"made in {precision} on cpu are farther off"):
        search(train, test, precision)


@pytest.mark.parametrize("call", ["mm", "from_numpy"])
def test_a_full_gpu(call, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, call, full)
    rows = clustered(5, 1)
    with pytest.raises(RunError, match=r"memory of cpu is full\. Allow less"):
        nearest(rows, rows, precision="fp16", threads=1)


# ---------------------------------------------------------------- torch's settings


FLAGS = ["allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"]


def test_torch_adds_up_in_float32_and_is_left_as_it_was(monkeypatch):
    matmul = torch.backends.cuda.matmul
    before = {name: getattr(matmul, name) for name in FLAGS}
    seen = []
    whole = torch.mm

    def noting(*rows):
        seen.append([getattr(matmul, name) for name in FLAGS])
        return whole(*rows)

    monkeypatch.setattr(torch, "mm", noting)
    try:
        for value in (True, False):
            for name in FLAGS:
                setattr(matmul, name, value)
            nearest(clustered(50, 1), clustered(20, 2), precision="bf16", threads=2)
            assert [getattr(matmul, name) for name in FLAGS] == [value, value]
    finally:
        for name, value in before.items():
            setattr(matmul, name, value)
    assert seen
    assert not np.any(seen)


def test_the_last_thread_that_leaves_sets_torch_back():
    matmul = torch.backends.cuda.matmul
    before = getattr(matmul, FLAGS[0])
    inside, leave = threading.Event(), threading.Event()

    def other():
        with FULL_SUMS:
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with FULL_SUMS:
        thread.start()
        inside.wait(30)
    assert getattr(matmul, FLAGS[0]) is False
    leave.set()
    thread.join()
    assert getattr(matmul, FLAGS[0]) == before


# ---------------------------------------------------------------- where


def test_what_torch_is_asked_for(monkeypatch):
    monkeypatch.setattr(structure, "find_device", lambda name: torch.device(name + ":1"))
    assert choose_half("auto", "cpu") is None
    assert choose_half("int8", "cpu") is None
    assert choose_half("auto", "cuda") == Half("fp16", "cuda:1")
    assert choose_half("bf16", "cuda") == Half("bf16", "cuda:1")
    for precision in ("int8", "fp32"):
        with pytest.raises(InputError, match=f"The products of {precision} are the processor's"):
            choose_half(precision, "cuda")
    assert Half("fp16", "cuda:1").kind == "cuda"


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:", "cuda:x", "mps", "auto", ""])
def test_devices_that_are_none(device):
    with pytest.raises(UnknownNameError, match="Known: cpu, cuda, cuda:1"):
        choose_half("auto", device)


def test_a_device_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = clustered(5, 1)
    with pytest.raises(InputError, match="torch sees no CUDA device here"):
        nearest(rows, rows, device="cuda")
    with pytest.raises(InputError, match="torch sees no CUDA device here"):
        nearest_in_parts(rows, {"t": rows}, Sharding(tmp_path, Local(0), device="cuda:1"))
    assert not list(tmp_path.iterdir())


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    rows = clustered(5, 1)
    assert nearest(rows, rows).index.tolist() == [0, 1, 2, 3, 4]
    for words in ({"device": "cuda"}, {"precision": "bf16"}):
        with pytest.raises(MissingExtraError, match=r"shiftproof\[torch\]"):
            nearest(rows, rows, **words)


def test_a_gpu_takes_fp16_and_the_certificate_says_so(monkeypatch):
    """The code of the GPU, with its tiles, on the processor under the other name."""
    monkeypatch.setattr(structure, "find_device", lambda _: torch.device("cpu"))
    monkeypatch.setitem(fp16.COLUMNS, "cpu", fp16.COLUMNS["cuda"])
    monkeypatch.setattr(Half, "kind", "cuda")
    train, test = clustered(1100, 1), clustered(1500, 2)
    found = nearest(train, test, device="cuda", threads=2)
    plain = nearest(train, test, precision="fp32")
    np.testing.assert_array_equal(found.similarity, plain.similarity)
    np.testing.assert_array_equal(found.index, plain.index)
    certificate = found.certificate
    assert (certificate.precision, certificate.device, certificate.products) == (
        "fp16",
        "cuda",
        1100 * 1500,
    )
    assert 0 < certificate.bound < 1e-3
    assert 1100 <= certificate.rechecked <= certificate.candidates < 3 * 1100
    assert plain.certificate.device == "cpu"
    both = certificate.merge(plain.certificate)
    assert (both.precision, both.device) == ("mixed", "mixed")


@pytest.mark.parametrize("precision", HALVES)
def test_in_parts(tmp_path, precision):
    train, tests, reference = clustered(900, 1), {"t": clustered(80, 2)}, clustered(300, 3)
    sharding = Sharding(tmp_path, Local(0), precision, part_rows=250)
    found = prune_in_parts(train, tests, sharding, reference=reference)
    plain = prune(train, tests, reference=reference, precision="fp32")
    np.testing.assert_array_equal(found.removed["t"], plain.removed["t"])
    assert found.certificates["t"].precision == precision
    # What is to prove it does not go the same way.
    proof = prove_in_parts(train, tests, sharding, found.thresholds)["t"]
    assert proof.holds
    assert (proof.certificate.precision, proof.certificate.device) == ("fp32", "cpu")
