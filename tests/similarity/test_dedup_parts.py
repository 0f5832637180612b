"""De-duplication and core sets in parts: the result of the search in memory, whichever process is killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from shiftproof import cli
from shiftproof.errors import InputError, RunMismatchError, UnfinishedError
from shiftproof.shards import Local, Scheduled
from shiftproof.similarity import (
    Sharding,
    coreset,
    deduplicate,
    deduplicate_in_parts,
    open_embeddings,
)
from shiftproof.similarity.keeping import write_coreset, write_deduplicated
from shiftproof.similarity.questions.pairs import split_ranges
from support.embedding_trees import clip_retrieval
from support.similar_rows import clustered, products, unit


def with_copies(count, seed, copies):
    draws = np.random.default_rng(seed)
    rows = clustered(count, seed)
    near = unit(rows[draws.integers(0, count, copies)] + 0.005 * draws.normal(size=(copies, 96)))
    return np.ascontiguousarray(draws.permutation(np.concatenate([rows, near])))


ROWS = with_copies(800, 1, 150)
CUTS = [(None, Local(0)), (137, Local(0)), (500, Local(2))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("rows") / "vectors"
    shards = {0: ROWS[:300], 1: ROWS[300:300], 9: ROWS[300:310], 10: ROWS[310:]}
    return str(clip_retrieval(target, shards))


def check_same(found, whole):
    for name in ("keep", "pairs", "similarity", "group"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert found.recall == whole.recall


@pytest.mark.parametrize(("rows", "backend"), CUTS)
def test_every_pair(folder, tmp_path, rows, backend):
    # First, so that one process compiles the loops, and not two at the same time.
    whole = deduplicate(ROWS, 0.95, precision="fp32")
    found = deduplicate_in_parts(folder, Sharding(tmp_path, backend, part_rows=rows), 0.95)
    above = np.argwhere(np.triu(products(ROWS, ROWS) > 0.95, k=1))
    np.testing.assert_array_equal(found.pairs, above)
    assert len(above) > 100
    check_same(found, whole)


@pytest.mark.parametrize(("rows", "backend"), CUTS)
def test_pairs_within_clusters(folder, tmp_path, rows, backend):
    whole = deduplicate(ROWS, 0.7, rule="central", clusters=9, seed=3)
    sharding = Sharding(tmp_path, backend, part_rows=rows)
    found = deduplicate_in_parts(folder, sharding, 0.7, rule="central", clusters=9, seed=3)
    assert 0.3 < found.recall < 1
    check_same(found, whole)


@pytest.mark.parametrize("clusters", [None, 3])
def test_rows_that_cannot_be_used(tmp_path, clusters):
    rows = ROWS.copy()
    rows[[0, 130, 500]] = 0
    source = open_embeddings(rows, unusable="skip")
    sharding = Sharding(tmp_path, Local(0), part_rows=130)
    found = deduplicate_in_parts(source, sharding, -0.9, clusters=clusters)
    assert not found.keep[[0, 130, 500]].any()
    assert not np.isin(found.pairs, [0, 130, 500]).any()
    check_same(found, deduplicate(source, -0.9, clusters=clusters))


@pytest.mark.parametrize(("clusters", "turns"), [(None, 1), (4, 2)])
def test_workers_of_a_scheduler(folder, tmp_path, clusters, turns):
    """Each search begins when the one before it is done by all."""
    words = {"clusters": clusters, "rule": "central"}
    for turn in range(turns):
        for worker in range(2):
            sharding = Sharding(tmp_path, Scheduled(worker, 2), part_rows=200)
            if (turn, worker) == (turns - 1, 1):
                found = deduplicate_in_parts(folder, sharding, 0.9, **words)
            else:
                with pytest.raises(UnfinishedError):
                    deduplicate_in_parts(folder, sharding, 0.9, **words)
    check_same(found, deduplicate(ROWS, 0.9, **words))


def test_clusters_are_put_together_to_ranges():
    assert list(split_ranges(np.array([5, 5, 0, 9, 1, 30, 2]), 10)) == [
        range(3), range(3, 5), range(5, 6), range(6, 7),
    ]  # fmt: skip
    assert list(split_ranges(np.array([0, 0]), 10, start=4)) == [range(4, 6)]
    assert list(split_ranges(np.array([30, 2]), 10)) == [range(1), range(1, 2)]


def test_a_little_memory_changes_nothing(monkeypatch):
    whole = deduplicate(ROWS, 0.8, clusters=9)
    monkeypatch.setattr(
        "shiftproof.similarity.questions.pairs.parse_memory", lambda _: 16 * 96 * 120
    )
    check_same(deduplicate(ROWS, 0.8, clusters=9), whole)


def test_a_core_set(folder, tmp_path):
    tests = {"a": clustered(30, 5), "b": clustered(20, 6)}
    summary = write_coreset(
        folder, tests, 40, tmp_path, sharding=Sharding(tmp_path, Local(0), part_rows=90)
    )
    whole = coreset(ROWS, tests, 40, precision="fp32")
    np.testing.assert_array_equal(np.load(tmp_path / "keep.npy"), whole.keep)
    near = whole.nearest_set[whole.keep]
    assert summary["nearest_to"] == {"a": (near == 0).sum(), "b": (near == 1).sum()}


def test_what_can_be_known_is_refused_before_anything_is_begun(folder, tmp_path):
    sharding = Sharding(tmp_path, Local(0))
    with pytest.raises(InputError, match="1 to 950 clusters, got 951"):
        write_deduplicated(folder, tmp_path / "out", clusters=951, sharding=sharding)
    with pytest.raises(InputError, match="a size of 1 to 950"):
        write_coreset(folder, {"t": clustered(3, 1)}, 951, tmp_path / "out", sharding=sharding)
    assert not (tmp_path / "out").exists()
    write_deduplicated(folder, tmp_path / "out", 0.99, sharding=sharding)
    with pytest.raises(RunMismatchError, match=r"threshold was 0\.99, now 0\.9"):
        write_deduplicated(folder, tmp_path / "out", 0.9, sharding=sharding)


# ---------------------------------------------------------------- killed


def killed(words, part):
    """Start a command that waits after each part, and kill it when one of them is there."""
    script = f"""
        import time
        from shiftproof import cli
        from shiftproof.shards import PartFolder
        write = PartFolder.write
        def slowly(self, number, part):
            write(self, number, part)
            time.sleep(0.3)
        PartFolder.write = slowly
        cli.run({words!r})
    """
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(words, env=environment, **quiet) as process:
        try:
            end = time.monotonic() + 240
            while not part.is_file():
                assert process.poll() is None, "it ended before it was killed"
                assert time.monotonic() < end, "no parts came"
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)


def contents(folder):
    """All files but what says when it was run, and what a killed writer had begun."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json" and not path.name.startswith(".")
    }


@pytest.mark.parametrize(
    ("verb", "options", "part"),
    [
        ("dedup", ["--threshold", "0.95"], "pairs/part-00001.npz"),
        ("dedup", ["--threshold", "0.7", "--clusters", "9"], "centres/part-00001.npz"),
        ("dedup", ["--threshold", "0.7", "--clusters", "9"], "within/part-00001.npz"),
        ("coreset", ["--size", "50"], "nearest/part-00002.npz"),
    ],
    ids=["pairs", "centres", "within", "coreset"],
)
def test_a_killed_command_goes_on(folder, tmp_path, verb, options, part):
    np.save(tmp_path / "tests.npy", clustered(50, 7))
    tests = ["--test", f"t={tmp_path / 'tests.npy'}"] if verb == "coreset" else []
    words = [verb, folder, *tests, *options, "--part-rows", "200", "-w", "0", "--out"]
    assert cli.run([*words, str(tmp_path / "whole")]) == 0
    killed([*words, str(tmp_path / "out")], tmp_path / "out" / "parts" / part)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("part-*.npz")}
    assert not (tmp_path / "out" / "keep.npy").exists()
    assert cli.run([*words, str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
