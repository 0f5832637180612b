"""Shards in local processes and on Ray, side by side, and how the time grows with the rows.

The nearest of 10,000 test rows for 20 files of training rows; 5, 10 and 20 for the growth. Wall time,
since the work is done in other processes: local, then Ray, then local again, so that a machine that
drifts shows.

python benchmarks/shards.py --out benchmarks/results/shards.json
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import output
from synthetic_embeddings import Encoder

from shiftproof.provenance import provenance
from shiftproof.shards import Local, Ray
from shiftproof.similarity.sharded import Sharding, nearest_in_parts

FILES = 20
TESTS = 10_000
WIDTH = 512
CLASSES = 10_000
TARGET = 1.15


def write_rows(folder: Path, files: int, rows: int) -> None:
    """Write training rows as files of ``rows`` each, beside ``tests.npy``."""
    encoder = Encoder(WIDTH, CLASSES)
    np.save(folder / "tests.npy", encoder.rows(TESTS, 2, classes=CLASSES // 10))
    (folder / "train").mkdir()
    for number, part in enumerate(np.split(encoder.rows(files * rows, 1), files)):
        np.save(folder / "train" / f"{number:02}.npy", part)


def seconds(folder: Path, backend: Any, part_rows: int) -> tuple[float, Any]:
    """Return the wall time of one search in a folder of its own, and its result."""
    with tempfile.TemporaryDirectory() as parts:
        sharding = Sharding(Path(parts) / "parts", backend=backend, part_rows=part_rows)
        start = time.perf_counter()
        found = nearest_in_parts(folder / "train", {"tests": folder / "tests.npy"}, sharding)
        return time.perf_counter() - start, found["tests"]


def compare(folder: Path, part_rows: int, workers: int, repeats: int) -> dict[str, Any]:
    """Measure Ray beside the mean of the local runs before and after it."""
    import ray

    ray.init("local", num_cpus=workers, include_dashboard=False, logging_level="error")
    try:
        made: dict[str, Callable[[], Any]] = {
            "local": lambda: Local(workers),
            "ray": lambda: Ray(workers=workers),
        }
        for backend in made.values():
            seconds(folder, backend(), part_rows)  # compiled loops are read, and processes started
        ratios, walls = [], {"local": [], "ray": []}
        for _ in range(repeats):
            before, first = seconds(folder, made["local"](), part_rows)
            middle, second = seconds(folder, made["ray"](), part_rows)
            after, _ = seconds(folder, made["local"](), part_rows)
            assert np.array_equal(first.similarity, second.similarity)
            assert np.array_equal(first.index, second.index)
            ratios.append(middle / ((before + after) / 2))
            walls["local"] += [before, after]
            walls["ray"].append(middle)
    finally:
        ray.shutdown()
    return {
        "ray_over_local": statistics.median(ratios),
        "ratios": ratios,
        "wall_seconds": {name: statistics.median(each) for name, each in walls.items()},
        "equal": True,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    growth = {}
    part_rows = options.rows // FILES
    result: dict[str, Any] = {"what": f"{options.rows} x {TESTS} rows of {WIDTH}, {FILES} parts"}
    for times in (1, 2, 4):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_rows(folder, FILES * times // 4, part_rows)
            if times == 4:
                result |= compare(folder, part_rows, options.workers, options.repeats)
            taken = [
                seconds(folder, Local(options.workers), part_rows)[0]
                for _ in range(options.repeats)
            ]
            growth[f"{times}x"] = statistics.median(taken)
    result["local_seconds_by_rows"] = growth
    result["target"] = {"ray_over_local": TARGET}
    result["provenance"] = provenance("cpu", options.workers)
    output.show(result, options.out)


if __name__ == "__main__":
    main()
