"""Nearest neighbours where no direction stands out, on a processor without VNNI, beside faiss.

    python benchmarks/similarity_isotropic.py --out benchmarks/results/similarity_isotropic.json

Needs faiss-cpu. Rows are of unit length, normal around a common mean as long as they spread: nothing
lets the search leave dimensions out, and the largest products of a row lie close together. Processes
are told to compile and to multiply as for Haswell, and faiss to take its AVX2 loops. Both are called in
turn, on one thread, and CPU seconds count: the machine may do other things, too. Making the test rows
ready is in both times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 512
HASWELL = {
    "NUMBA_CPU_NAME": "haswell",
    "OPENBLAS_CORETYPE": "Haswell",
    "FAISS_OPT_LEVEL": "avx2",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}


def make_rows(count: int, draws: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    rows = draws.standard_normal((count, WIDTH), dtype=np.float32) + mean
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measure(train_rows: int, test_rows: int, turns: int) -> dict[str, Any]:
    import faiss

    from shiftproof import similarity
    from shiftproof.similarity.search import kernels

    kernels.fastest_kind = lambda: "avx2"
    draws = np.random.default_rng(0)
    mean = draws.standard_normal(WIDTH, dtype=np.float32)
    train, test = (make_rows(count, draws, mean) for count in (train_rows, test_rows))
    faiss.omp_set_num_threads(1)
    for precision in ("int8", "fp32"):  # everything is compiled before a clock runs
        similarity.nearest(train[:2048], test[:2048], threads=1, precision=precision)

    spent: dict[str, list[float]] = {"faiss": [], "fp32": [], "int8": []}
    equal = True
    for _ in range(turns):
        start = time.process_time()
        index = faiss.IndexFlatIP(WIDTH)
        index.add(test)
        _, found = index.search(train, 1)
        spent["faiss"].append(time.process_time() - start)
        for precision in ("int8", "fp32"):
            few = train if precision == "int8" else train[: len(train) // 4]
            start = time.process_time()
            near = similarity.nearest(few, test, threads=1, precision=precision)
            spent[precision].append((time.process_time() - start) * len(train) / len(few))
            equal &= bool((near.index == found[: len(few), 0]).mean() > 0.999)
            if precision == "int8":
                certificate = near.certificate
    return {
        "rows": [train_rows, test_rows, WIDTH],
        "seconds": {name: round(statistics.median(times), 2) for name, times in spent.items()},
        "ratios_to_faiss": {
            name: {
                "median": round(statistics.median(ratios), 2),
                "each": [round(ratio, 2) for ratio in ratios],
            }
            for name in ("int8", "fp32")
            if (ratios := [a / b for a, b in zip(spent["faiss"], spent[name], strict=True)])
        },
        "indices_as_of_faiss": equal,
        "looked_at_again": round(certificate.candidates / certificate.products, 5),
        "in_float64": round(certificate.rechecked / certificate.products, 5),
        "bound": certificate.bound,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(options.train, options.test, options.turns)))
        return

    import output

    from shiftproof.provenance import provenance

    sizes = ["--train", str(options.train), "--test", str(options.test)]
    done = subprocess.run(
        [sys.executable, __file__, "--inside", *sizes, "--turns", str(options.turns)],
        env={**os.environ, **HASWELL}, stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    what = (
        "nearest test row of each training row, unit normal rows around a common mean, one thread"
    )
    result = {
        "what": what,
        "compiled_for": "haswell",
        **json.loads(done.stdout),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "provenance": provenance("cpu", 1),
    }
    output.show(result, options.out)


if __name__ == "__main__":
    main()
