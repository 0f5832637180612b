"""Similarity of 200,000 rows to 20,000 test rows: beside a blocked float32 product, and beside faiss.

    python benchmarks/similarity.py --out benchmarks/results/similarity.json

Needs faiss-cpu. The rows are float16 and synthetic (``synthetic_embeddings.py`` says how they lie):
10,000 classes for training, 1,000 of them in the test set, which has a style of its own, and in the
reference training set. All that is compared runs in one process for each number of threads. The
peers get fewer training rows, as their time is a row's time the number of rows.

Times are CPU seconds and wall seconds. On a machine that does other things, too, CPU seconds on one
thread say more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from machine import read_status

WIDTH = 512
CLASSES = 10_000
TEST_CLASSES = 1_000
STYLE = 0.3
HAND, PEER = "numpy float32 product and row maximum", "faiss IndexFlatIP"


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {
        "wall": round(time.perf_counter() - wall, 2),
        "cpu": round(time.process_time() - cpu, 2),
    }


def make_rows(folder: Path, train: int, test: int, reference: int) -> None:
    from synthetic_embeddings import Encoder

    encoder = Encoder(WIDTH, CLASSES)
    np.save(folder / "train.npy", encoder.rows(train, 1))
    np.save(folder / "test.npy", encoder.rows(test, 2, classes=TEST_CLASSES, style=STYLE))
    np.save(folder / "reference.npy", encoder.rows(reference, 3, classes=TEST_CLASSES))


def product_and_maximum(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """What one writes by hand: float32 products in blocks, and each row's largest."""
    largest = np.full(len(train), -np.inf, dtype=np.float32)
    for start in range(0, len(train), 1024):
        rows = train[start : start + 1024].astype(np.float32)
        here = largest[start : start + 1024]
        for column in range(0, len(test), 2048):
            np.maximum(here, (rows @ test[column : column + 2048].T).max(axis=1), out=here)
    return largest


def faiss_nearest(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import faiss

    index = faiss.IndexFlatIP(WIDTH)
    index.add(test)
    parts = [
        index.search(train[start : start + 16384].astype(np.float32), 1)
        for start in range(0, len(train), 16384)
    ]
    return np.concatenate([p[0] for p in parts])[:, 0], np.concatenate([p[1] for p in parts])[:, 0]


def matrix_rate() -> float:
    """Gflop per CPU second of float32 products."""
    draws = np.random.default_rng(0)
    left, right = (draws.random((size, WIDTH), dtype=np.float32) for size in (1024, 4096))
    out = np.empty((1024, 4096), dtype=np.float32)
    np.matmul(left, right.T, out=out)
    start = time.process_time()
    for _ in range(25):
        np.matmul(left, right.T, out=out)
    return 25 * 2e-9 * out.size * WIDTH / (time.process_time() - start)


def wake_all(rows: np.ndarray, tests: np.ndarray, threads: int) -> None:
    """Compile everything and wake every library, before a clock runs."""
    from shiftproof import similarity

    for precision in ("fp32", "auto"):
        similarity.nearest(rows[:3000], tests[:3000], threads=threads, precision=precision)
    similarity.top_k(rows[:6000], tests[:3000], 1, threads=threads)
    similarity.prune(rows[:3000], {"t": tests[:3000]}, thresholds={"t": 0.7}, threads=threads)
    product_and_maximum(rows[:2048], tests)
    faiss_nearest(rows[:2048], tests)


def time_a_row(times: dict[str, float], count: int) -> dict[str, float]:
    return {
        **times,
        "rows": count,
        **{f"{clock}_microseconds_a_row": round(times[clock] / count * 1e6, 1)
           for clock in ("cpu", "wall")},
    }  # fmt: skip


def compare_times(work: dict[str, dict[str, float]], clock: str) -> dict[str, float]:
    """Return how many times as long a row takes the one than the other."""
    pairs = {
        "prune to numpy product and maximum": (HAND, "prune, certified"),
        "prune to faiss": (PEER, "prune, certified"),
        "nearest to faiss": (PEER, "nearest, certified"),
        "nearest to numpy product and maximum": (HAND, "nearest, certified"),
        "nearest fp32 to faiss": (PEER, "nearest, fp32"),
    }
    key = f"{clock}_microseconds_a_row"
    return {
        name: round(work[slow][key] / work[fast][key], 2) for name, (slow, fast) in pairs.items()
    }


def measure(folder: Path, threads: int, peer_rows: int) -> dict[str, Any]:
    """Return times of ours and of the peers on so many threads, and whether they find the same."""
    import faiss

    from shiftproof import similarity

    faiss.omp_set_num_threads(threads)
    train, test = folder / "train.npy", folder / "test.npy"
    rows, tests = np.load(train), np.load(test).astype(np.float32)
    few = rows[:peer_rows]
    wake_all(rows, tests, threads)
    rate = matrix_rate()
    limits = similarity.top_k(folder / "reference.npy", test, 1, threads=threads)
    thresholds = {"t": limits.similarity[:, 0]}
    largest, by_hand = timed(lambda: product_and_maximum(few, tests))
    (_, by_faiss_index), by_faiss = timed(lambda: faiss_nearest(few, tests))
    plain, fp32 = timed(lambda: similarity.nearest(few, test, threads=threads, precision="fp32"))
    pruned, pruning = timed(
        lambda: similarity.prune(train, {"t": test}, thresholds=thresholds, threads=threads)
    )
    near, nearest = timed(lambda: similarity.nearest(train, test, threads=threads))
    growth = {}
    for count in (len(rows) // 4, len(rows) // 2):
        _, growth[str(count)] = timed(
            lambda count=count: similarity.prune(
                rows[:count], {"t": test}, thresholds=thresholds, threads=threads
            )
        )
    growth[str(len(rows))] = pruning

    work = {
        HAND: time_a_row(by_hand, len(few)),
        PEER: time_a_row(by_faiss, len(few)),
        "nearest, fp32": time_a_row(fp32, len(few)),
        "nearest, certified": time_a_row(nearest, len(rows)),
        "prune, certified": time_a_row(pruning, len(rows)),
    }
    exact = _sample_is_exact(rows, tests, near, pruned, thresholds["t"])
    return {
        "threads": threads,
        "sgemm_gflops_a_cpu_second": round(rate, 1),
        "work": work,
        "ratios": {clock: compare_times(work, clock) for clock in ("cpu", "wall")},
        "fp32_share_of_sgemm": round(2e-9 * len(few) * len(tests) * WIDTH / fp32["cpu"] / rate, 3),
        "pruned_share": round(float(pruned.removed["t"].mean()), 5),
        "certificates": {
            "nearest": asdict(near.certificate),
            "prune": asdict(pruned.certificates["t"]),
            "nearest fp32": asdict(plain.certificate),
        },
        "equal": {
            "fp32 and certified, similarity bit for bit": bool(
                (plain.similarity == near.similarity[: len(few)]).all()
            ),
            "fp32 and certified, index": bool((plain.index == near.index[: len(few)]).all()),
            "largest difference to the numpy product": float(
                np.abs(largest - near.similarity[: len(few)]).max()
            ),
            "index as of faiss": float((by_faiss_index == near.index[: len(few)]).mean()),
            **exact,
        },
        "rows_and_seconds_of_prune": growth,
    }


def _sample_is_exact(rows, tests, near, pruned, limits) -> dict[str, bool]:
    """Compare 1,000 rows with float64."""
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), 1000, replace=False))
    products = rows[chosen].astype(np.float64) @ tests.astype(np.float64).T
    return {
        "similarity of 1,000 rows as of float64": bool(
            (near.similarity[chosen] == products.max(axis=1).astype(np.float32)).all()
        ),
        "pruned of 1,000 rows as of float64": bool(
            (pruned.removed["t"][chosen] == (products > limits).any(axis=1)).all()
        ),
    }


def measure_memory(folder: Path, memory: str) -> dict[str, Any]:
    """The peak of a process that only prunes, from files, under a budget."""
    from shiftproof import similarity

    similarity.nearest(np.eye(64, 512, dtype="f4"), np.eye(64, 512, dtype="f4"), threads=2)
    before = read_status("VmHWM")
    found = similarity.prune(
        folder / "train.npy",
        {"t": folder / "test.npy"},
        thresholds={"t": 0.9},
        memory=memory,
        threads=2,
    )
    peak = read_status("VmHWM")
    return {
        "budget": memory,
        "megabytes_before": round(before / 1024),
        "megabytes_more": round((peak - before) / 1024),
        "products": found.certificates["t"].products,
    }


def in_process(*arguments: str, threads: int) -> dict[str, Any]:
    """Run a part in a process of its own: a library's threads are counted once, at its start."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    }
    for key in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[key] = str(threads)
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env=environment, stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--tests", type=int, default=20_000)
    parser.add_argument("--reference", type=int, default=50_000)
    parser.add_argument("--peer-rows", type=int, default=50_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--memory", nargs="+", default=["400MB", "1GB"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        what, value = options.part
        part = (
            measure(options.folder, int(value), options.peer_rows)
            if what == "time"
            else measure_memory(options.folder, value)
        )
        print(json.dumps(part))
        return

    import output

    from shiftproof.provenance import provenance
    from shiftproof.similarity.search import kernels

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_rows(folder, options.rows, options.tests, options.reference)
        common = ("--folder", name, "--peer-rows", str(options.peer_rows))
        result: dict[str, Any] = {
            "what": f"{options.rows} x {options.tests} rows of width {WIDTH}, float16",
            "rows": "synthetic, benchmarks/synthetic_embeddings.py",
            "eight_bit_tile": kernels.fastest_kind(),
            "provenance": provenance("cpu", max(options.threads)),
            "runs": [],
        }
        for threads in options.threads:
            result["runs"].append(
                in_process("--part", "time", str(threads), *common, threads=threads)
            )
            result["load_average"] = [round(value, 1) for value in os.getloadavg()]
            if options.out is not None:
                output.write(result, options.out)
        result["memory"] = [
            in_process("--part", "memory", budget, *common, threads=2) for budget in options.memory
        ]
    output.show(result, options.out)


if __name__ == "__main__":
    main()
