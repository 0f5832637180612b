"""Whether ``precision="auto"`` takes the faster of 8 bits and float32, about where it changes over.

    python benchmarks/search_kinds.py --out benchmarks/results/search_kinds.json

Rows are in clusters, see synthetic_embeddings.py. Both precisions are called in turn, on one thread,
and CPU seconds count, the smaller of two calls: the machine may do other things, too. What both
prepare of the test rows is in the time. ``--kind`` takes the tile of another processor, if it runs
here.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from machine import restart_with_one_thread, time_cpu
from output import show
from synthetic_embeddings import Encoder

from shiftproof import similarity
from shiftproof.provenance import provenance
from shiftproof.similarity.search import engines, kernels

CELLS = {
    128: ((256, 1024, 4096), (5_000, 40_000)),
    512: ((1024, 2048, 4096), (5_000, 20_000)),
}
"""Numbers of test rows and of training rows, by the width of the rows."""

NEIGHBORS = (0, 10)
"""Training rows that each test row keeps; 0 asks for the nearest test row of each training row."""


def spend(train: np.ndarray, test: np.ndarray, k: int, precision: Any) -> float:
    arguments = (train, test, k) if k else (train, test)
    search = similarity.top_k if k else similarity.nearest
    return time_cpu(lambda: search(*arguments, precision=precision, threads=1))[0]


def measure(width: int, tests: int, rows: int, k: int) -> dict[str, Any]:
    encoder = Encoder(width, classes=100)
    train, test = encoder.rows(rows, 1), encoder.rows(tests, 2)
    spent = {"int8": np.inf, "fp32": np.inf}
    for _ in range(2):
        for precision in spent:
            spent[precision] = min(spent[precision], spend(train, test, k, precision))
    chosen = engines.choose_kind("auto", width, tests, rows, k)
    auto = "fp32" if chosen is None else "int8"
    return {
        "width": width,
        "tests": tests,
        "train": rows,
        "k": k,
        **{name: round(seconds, 4) for name, seconds in spent.items()},
        "auto": auto,
        "auto / fp32": round(spent[auto] / spent["fp32"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the measurements to this JSON file")
    parser.add_argument(
        "--kind", help="kind of 8-bit tile, such as avx2; this processor's by default"
    )
    arguments = parser.parse_args()
    restart_with_one_thread()
    kind = arguments.kind or kernels.fastest_kind()
    kernels.fastest_kind = lambda: kind
    rows = []
    for width, (tests, trains) in CELLS.items():
        for k in NEIGHBORS:  # what is compiled is compiled before a clock runs
            spend(*(Encoder(width, 100).rows(2048, n) for n in (1, 2)), k, "int8")
            spend(*(Encoder(width, 100).rows(2048, n) for n in (1, 2)), k, "fp32")
        for cell in itertools.product(tests, trains, NEIGHBORS):
            rows.append(measure(width, *cell))
            print(rows[-1], flush=True)
    show({"provenance": provenance("cpu", 0), "kind": kind, "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
