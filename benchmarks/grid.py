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
from collections.abc import Callable, Sequence
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


def take_turns(
    options: argparse.Namespace, cells: int
) -> tuple[dict[str, list[float]], dict[str, list[tuple[float, ...]]]]:
    """Return wall seconds and CPU seconds of forward passes alone and of runs, in turn.

    Each run is held against the forward passes before and behind it: the machine drifts.
    """
    model = load_classifier("demo")
    adapted = make_adapter("batchnorm", model)
    data = DemoPhotographs()
    images = np.stack([model.preprocess.geometry(data.read(sample)) for sample in data.samples])
    wall: dict[str, list[float]] = {"forward": [], "run": []}
    cpu: dict[str, list[tuple[float, ...]]] = {"forward": [], "run": []}

    def forward() -> None:
        for _ in range(cells):
            model.predict(images)
            adapted.predict(images)

    def whole_run() -> None:
        bench.run(
            model, data, severities=options.severities, adapters={"batchnorm": "batchnorm"},
            out=Path(folder) / f"run{len(wall['run'])}", workers=options.workers,
        )  # fmt: skip

    def measure(what: str, work: Callable[[], None]) -> None:
        before, start = cpu_seconds(), time.perf_counter()
        work()
        wall[what].append(time.perf_counter() - start)
        cpu[what].append(tuple(np.subtract(cpu_seconds(), before)))

    with tempfile.TemporaryDirectory() as folder:
        measure("forward", forward)
        for _ in range(options.repeats):
            measure("run", whole_run)
            measure("forward", forward)
    return wall, cpu


def compare(runs: Sequence[float], forwards: Sequence[float]) -> list[float]:
    """Return each run over the mean of the forward passes before and behind it."""
    around = zip(runs, forwards[:-1], forwards[1:], strict=True)
    return [run * 2 / (before + after) for run, before, after in around]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--severities", type=int, nargs="+", default=[3])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    tune_own_process()  # as the command line does
    cells = 1 + 15 * len(options.severities)
    wall, cpu = take_turns(options, cells)
    ratios = compare(wall["run"], wall["forward"])
    own_forward = [own for own, _ in cpu["forward"]]
    result = {
        "what": "EfficientNet-Lite0 and its batch-norm adaptation on 20 photographs, wall seconds",
        "cells": cells,
        "forward_seconds": [round(seconds, 2) for seconds in wall["forward"]],
        "run_seconds": [round(seconds, 2) for seconds in wall["run"]],
        "ratios": [round(ratio, 3) for ratio in ratios],
        "median_ratio": round(statistics.median(ratios), 3),
        "cpu_ratios": {
            name: [
                round(ratio, 3)
                for ratio in compare([run[place] for run in cpu["run"]], own_forward)
            ]
            for place, name in enumerate(("this process", "with workers"))
        },
        "load_average": round(os.getloadavg()[0], 1),
        "provenance": provenance("cpu", options.workers),
    }
    output.show(result, options.out)


if __name__ == "__main__":
    main()
