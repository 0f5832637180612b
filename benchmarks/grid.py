"""How much a whole benchmark run costs over its forward passes alone, in one process.

python benchmarks/grid.py --out benchmarks/results/grid.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from shiftproof import bench, load_classifier
from shiftproof.adapt import make_adapter
from shiftproof.allocator import keep_freed_memory
from shiftproof.bench.folder import provenance
from shiftproof.data import DemoPhotographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--severities", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()

    model = load_classifier("demo")
    adapted = make_adapter("batchnorm", model)
    data = DemoPhotographs()
    images = np.stack([model.preprocess.geometry(data.read(sample)) for sample in data.samples])
    cells = 1 + 15 * len(options.severities)
    model.predict(images)
    adapted.predict(images)

    # Half of the forward passes before the run and half behind it: the machine's drift cancels.
    def forward(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            model.predict(images)
            adapted.predict(images)
        return time.perf_counter() - start

    forward_seconds = forward(cells // 2)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        bench.run(
            model, data, severities=options.severities, adapters={"batchnorm": "batchnorm"},
            out=Path(folder) / "run", workers=options.workers,
        )  # fmt: skip
        run_seconds = time.perf_counter() - start
    forward_seconds += forward(cells - cells // 2)
    result = {
        "what": "EfficientNet-Lite0 and its batch-norm adaptation on 20 photographs, wall seconds",
        "cells": cells,
        "forward_seconds": round(forward_seconds, 2),
        "run_seconds": round(run_seconds, 2),
        "ratio": round(run_seconds / forward_seconds, 3),
        "provenance": provenance("cpu", options.workers),
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
