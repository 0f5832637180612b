"""How much a whole benchmark run costs over its forward passes alone, in one process.

python benchmarks/grid.py --out benchmarks/results/grid.json

Wall seconds count on an idle machine. On one that does other things, too, CPU seconds say what the run
adds: those of this process alone (what its forward passes have to wait for), and with the workers'.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import output

from shiftproof import bench, load_classifier
from shiftproof.adapt import make_adapter
from shiftproof.compute.tuning import tune_own_process
from shiftproof.data import DemoPhotographs
from shiftproof.provenance import provenance


def cpu_seconds() -> tuple[float, float]:
    """Of this process, and of this and those that it has ended."""
    spent = os.times()
    own = spent.user + spent.system
    return own, own + spent.children_user + spent.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--severities", type=int, nargs="+", default=[3])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    tune_own_process()  # as the command line does

    model = load_classifier("demo")
    adapted = make_adapter("batchnorm", model)
    data = DemoPhotographs()
    images = np.stack([model.preprocess.geometry(data.read(sample)) for sample in data.samples])
    cells = 1 + 15 * len(options.severities)

    cpu: dict[str, list[tuple[float, ...]]] = {"forward": [], "run": []}

    def forward() -> float:
        before, start = cpu_seconds(), time.perf_counter()
        for _ in range(cells):
            model.predict(images)
            adapted.predict(images)
        wall = time.perf_counter() - start
        cpu["forward"].append(tuple(np.subtract(cpu_seconds(), before)))
        return wall

    def whole_run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            before, start = cpu_seconds(), time.perf_counter()
            bench.run(
                model, data, severities=options.severities, adapters={"batchnorm": "batchnorm"},
                out=Path(folder) / "run", workers=options.workers,
            )  # fmt: skip
            wall = time.perf_counter() - start
            cpu["run"].append(tuple(np.subtract(cpu_seconds(), before)))
            return wall

    # In turn, and each run against the forward passes before and behind it: the machine drifts.
    forwards, runs = [forward()], []
    for _ in range(options.repeats):
        runs.append(whole_run())
        forwards.append(forward())
    ratios = [
        run / ((before + after) / 2)
        for run, before, after in zip(runs, forwards[:-1], forwards[1:], strict=True)
    ]
    result = {
        "what": "EfficientNet-Lite0 and its batch-norm adaptation on 20 photographs, wall seconds",
        "cells": cells,
        "forward_seconds": [round(seconds, 2) for seconds in forwards],
        "run_seconds": [round(seconds, 2) for seconds in runs],
        "ratios": [round(ratio, 3) for ratio in ratios],
        "median_ratio": round(statistics.median(ratios), 3),
        "cpu_ratios": {
            name: [
                round(run[place] * 2 / (before[0] + after[0]), 3)
                for run, before, after in zip(
                    cpu["run"], cpu["forward"][:-1], cpu["forward"][1:], strict=True
                )
            ]
            for place, name in enumerate(("this process", "with workers"))
        },
        "load_average": round(os.getloadavg()[0], 1),
        "provenance": provenance("cpu", options.workers),
    }
    output.show(result, options.out)


if __name__ == "__main__":
    main()
