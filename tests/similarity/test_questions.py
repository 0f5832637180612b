"""A question or an engine of one's own: one class, with nothing else changed."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from shiftproof.shards import Local
from shiftproof.similarity import (
    Certificate,
    Sharding,
    deduplicate,
    nearest,
    open_embeddings,
    prune,
    top_k,
)
from shiftproof.similarity.questions.top_k import _TopKState as TopKState
from shiftproof.similarity.search.engine import Reduction, scan
from shiftproof.similarity.search.in_memory import search
from shiftproof.similarity.search.options import SearchOptions
from shiftproof.similarity.search.tiles import ALL_TESTS, Candidates
from shiftproof.similarity.sharded import search_in_parts
from support.similar_rows import clustered, products

# ---------------------------------------------------------------- how many rows lie around a test row?


class CountState(NamedTuple):
    threshold: float
    counts: np.ndarray

    def floor(self, row, test):
        return self.threshold

    def stop(self, row):
        return ALL_TESTS

    def enter(self, row, test, value):
        if value > self.threshold:
            self.counts[test] += 1


@dataclass
class Counted:
    counts: np.ndarray
    certificate: Certificate


@dataclass
class CountSoFar:
    threshold: float
    counts: np.ndarray

    def begin(self, engine):
        return CountSoFar(self.threshold, self.counts[engine.first :][: len(engine.rows)])

    def enter(self, engine, block, here):
        state = CountState(self.threshold, self.counts)
        return scan(engine, block.values, block.usable, Reduction(state, self.threshold))

    def fork(self):
        return CountSoFar(self.threshold, np.zeros_like(self.counts))

    def join(self, others):
        for other in others:
            self.counts += other.counts

    def finish(self, certificate, skipped):
        return Counted(self.counts, certificate)


@dataclass
class CountQuestion:
    threshold: float
    name: str = "count"
    k: int = 0
    dense: int = 0
    found: type = Counted

    def settings(self):
        return {"threshold": self.threshold}

    def start(self, name, train_rows, test_rows):
        return CountSoFar(self.threshold, np.zeros(test_rows, dtype=np.int64))

    def merge(self, parts):
        certificate = parts[0].certificate
        for part in parts[1:]:
            certificate = certificate.merge(part.certificate)
        return Counted(sum(part.counts for part in parts), certificate)


# ---------------------------------------------------------------- it is answered

TRAIN = clustered(2300, 1)
TRAIN[[3, 1500]] = 0
TESTS = {"a": clustered(300, 2), "b": clustered(90, 3)}
SOURCE = open_embeddings(TRAIN, unusable="skip")


def check(found, threshold):
    for name, test in TESTS.items():
        expected = (products(test, TRAIN) > threshold).sum(axis=1)
        np.testing.assert_array_equal(found[name].counts, expected)
        assert found[name].certificate.products == 2298 * len(test)


def test_in_memory(way, monkeypatch):
    sets = {name: open_embeddings(rows) for name, rows in TESTS.items()}
    options = SearchOptions(threads=3)
    check(search(CountQuestion(0.6), SOURCE, sets, options), 0.6)
    monkeypatch.setattr("shiftproof.similarity.search.engines.count_rows_in_memory", lambda *_: 130)
    check(search(CountQuestion(0.3), SOURCE, sets, options), 0.3)


@pytest.mark.parametrize("precision", ["int8", "fp32", "bf16"])
def test_in_parts(tmp_path, precision):
    sharding = Sharding(tmp_path, Local(0), precision, part_rows=700)
    parts = search_in_parts(CountQuestion(0.6), SOURCE, TESTS, sharding)
    check(parts.merge(), 0.6)
    assert len(list((tmp_path / "count").glob("part-*.npz"))) == 4


def test_what_is_kept_on_disk_is_of_our_own_questions_alone(monkeypatch):
    """A state that another process cannot import would keep it from reading any of what is kept."""
    from shiftproof.similarity.search.kernels import walks

    kept = []
    monkeypatch.setattr(
        walks, "compiled", lambda function: kept.append(function.__qualname__) or function
    )
    for loop in walks._LOOPS.values():
        walks._compile(loop, CountState)
        walks._compile(loop, TopKState)
    assert len(kept) == 3
    assert all("-_TopKState-" in name for name in kept)


# ---------------------------------------------------------------- an engine that rules nothing out


class Everything:
    """Float64 products of numpy, all of which may matter."""

    precision = "fp64"
    device = "cpu"
    block_rows = 64
    wide_block_rows = 64

    def __init__(self, rows, first):
        self.rows, self.first = rows, first

    def emit(self, rows, usable, reduction, tally):
        row, test = (places.ravel() for places in np.indices((len(rows), len(self.rows))))
        there = usable[row]
        error = np.full(len(rows), 1e-12)
        tally.bound = 1e-12
        estimate = products(rows, self.rows).ravel()
        yield Candidates(row[there], test[there], estimate[there], error)


def test_every_question_is_answered_by_an_engine_of_ones_own(monkeypatch):
    train, test = clustered(1300, 5), clustered(40, 6)
    train[[7, 1200]] = train[3]

    def ask():
        near = nearest(train, test, threads=2)
        top = top_k(train, test, 5, threads=2)
        pruned = prune(train, {"t": test}, thresholds={"t": 0.6}, threads=2)
        pairs = deduplicate(train, 0.8, threads=2)
        found = [near.similarity, near.index, top.similarity, top.index, pruned.removed["t"]]
        return near.certificate.precision, [*found, pairs.pairs, pairs.similarity, pairs.group]

    _, expected = ask()
    monkeypatch.setattr("shiftproof.similarity.search.engines.choose_engine", lambda *_: Everything)
    precision, found = ask()
    assert precision == "fp64"
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
