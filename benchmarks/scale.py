"""How time and memory grow with images that are listed, records that are summarized, rows that are audited.

    python benchmarks/scale.py --out benchmarks/results/scale.json

Each size is measured in a process of its own, and written at once; what stands in the file already is
not measured again. CPU seconds are of all threads and processes; on a machine that does other things, too,
they say more than wall seconds. Memory is the most that the process itself has held. Images are hard
links to a few files, and the cells' tables to a few tables: they are read one by one all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from machine import cpu_seconds, read_status

SIZES = {
    "list": [1_000, 10_000, 100_000, 1_000_000],
    "summarize": [500, 5_000, 50_000],
    "audit": [100_000, 1_000_000, 10_000_000],
}
SEVERITIES = [1, 2, 3, 4, 5]
CLASSES = 1_000
FILES = 64  # a file may have 65,000 links on ext4
TABLES = 8
WIDTH, TESTS = 64, 1_000


def make_images(folder: Path, count: int) -> None:
    """Write a tree of class folders."""
    draws = np.random.default_rng(0)
    sources = []
    for number in range(FILES):
        sources.append(folder.parent / f"{number}.jpg")
        picture = draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(sources[-1]), picture)
    for number in range(min(CLASSES, count)):
        (folder / f"class{number:04}").mkdir(parents=True)
    for number in range(count):
        place = folder / f"class{number % CLASSES:04}" / f"image{number:07}.jpg"
        os.link(sources[number % FILES], place)


def list_images(folder: Path, count: int) -> dict[str, float]:
    """Do all that a run does before its first image: list, look at one, settings, streams and parts."""
    from shiftproof.bench.arguments import check_readable, make_grid_settings, name_corruptions
    from shiftproof.bench.cells import batching
    from shiftproof.bench.cells.protocol import Protocol
    from shiftproof.bench.cells.stream import list_episodes
    from shiftproof.bench.cells.views import OnTheFly
    from shiftproof.classes import Classes
    from shiftproof.corruptions import COMMON
    from shiftproof.data import open_data

    start = time.perf_counter()
    data = open_data(folder, classes=Classes(tuple(f"class{k:04}" for k in range(CLASSES))))
    listed = time.perf_counter() - start
    check_readable(data)
    named = name_corruptions(COMMON, ())
    view = OnTheFly(data, lambda image: image, named, seed=0)
    cells = batching.list_cells(list(named), SEVERITIES, clean=True)
    make_grid_settings(data, view, named, SEVERITIES, batch_size=64, seed=0, protocol={})
    streams = list_episodes(cells, data.samples, Protocol(), seed=0)
    assert sum(len(visit) for one in streams for visit in one.visits) == count * len(cells)
    return {"listed": round(listed, 2)}


def make_records(folder: Path, count: int) -> None:
    """Write a run's records: 75 cells and the clean one, one model, 1,000 classes."""
    from shiftproof.bench.cells import batching
    from shiftproof.bench.tasks.classification.task import CLASS_NAMES
    from shiftproof.corruptions import COMMON
    from shiftproof.runs.folder import RunFolder
    from shiftproof.runs.records.classification import CellRecords, write_cell
    from shiftproof.runs.scores.classification import ClassNames
    from shiftproof.runs.scores.reading import write_form

    run = RunFolder.create(folder, "classification", {"synthetic": True}, {})
    names = tuple(f"class {number}" for number in range(CLASSES))
    write_form(folder / CLASS_NAMES, ClassNames("imagenet-1k", names))
    (folder / "records" / "model").mkdir(parents=True)
    ids = [f"class{number % CLASSES:04}/image{number:07}.jpg" for number in range(count)]
    target = (np.arange(count) % CLASSES).astype(np.int32)
    draws = np.random.default_rng(0)
    for place, cell in enumerate(batching.list_cells(list(COMMON), SEVERITIES, clean=True)):
        path = run.records_file("model", cell)
        if place >= TABLES:
            of_table = list(batching.list_cells(list(COMMON), SEVERITIES, clean=True))[
                place % TABLES
            ]
            os.link(run.records_file("model", of_table), path)
            continue
        top = (
            target[:, None] + draws.permuted(np.tile(np.arange(-3, 4), (count, 1)), axis=1)
        ) % CLASSES
        top = top[:, :5].astype(np.int32)
        confidence = draws.random(count, dtype=np.float32)
        write_cell(
            path,
            CellRecords(
                ids, np.arange(count, dtype=np.int32), target, top[:, 0].copy(), confidence,
                -np.log(confidence + 1e-3), top, [None] * count, 2 * confidence,
            ),
        )  # fmt: skip


def summarize_records(folder: Path, count: int) -> dict[str, float]:
    """Do all that a run does behind its last image but the pictures: measure, intervals, scores."""
    from shiftproof.bench.cells import batching
    from shiftproof.bench.tasks.classification.task import Classification
    from shiftproof.bench.tasks.interface import Grid
    from shiftproof.bench.tasks.summary import summarize
    from shiftproof.corruptions import COMMON
    from shiftproof.runs.folder import RunFolder
    from shiftproof.runs.scores.reading import write_form

    run = RunFolder.open(folder)
    cells = batching.list_cells(list(COMMON), SEVERITIES, clean=True)
    scores = summarize(run, Classification(), {"model": "model"}, Grid(cells), show_progress=False)
    write_form(run.scores_file, scores)
    return {}


def make_rows(folder: Path, count: int) -> None:
    """Write embeddings in shards, and the test set's."""
    from synthetic_embeddings import Encoder

    (folder / "train").mkdir(parents=True)
    encoder = Encoder(WIDTH, CLASSES)
    np.save(folder / "tests.npy", encoder.rows(TESTS, 2))
    for number in range(-(-count // 1_000_000)):
        here = min(1_000_000, count - number * 1_000_000)
        np.save(folder / "train" / f"{number:03}.npy", encoder.rows(here, 10 + number))


def audit_rows(folder: Path, count: int) -> dict[str, float]:
    """Audit the shards, in as many processes as there are cores."""
    from shiftproof import similarity

    similarity.audit(folder / "train", {"tests": folder / "tests.npy"}, folder / "audit")
    return {}


MAKE: dict[str, Callable[[Path, int], None]] = {
    "list": make_images, "summarize": make_records, "audit": make_rows,
}  # fmt: skip
MEASURE: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "list": list_images, "summarize": summarize_records, "audit": audit_rows,
}  # fmt: skip


def measure(part: str, folder: Path, count: int) -> dict[str, Any]:
    before, start = cpu_seconds(), time.perf_counter()
    more = MEASURE[part](folder, count)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - before
    peak = read_status("VmHWM") / 1024
    return {
        "cpu_seconds": round(cpu, 2), "wall_seconds": round(wall, 2),
        "peak_megabytes": round(peak), **more,
    }  # fmt: skip


def measure_apart(part: str, count: int) -> dict[str, Any]:
    """Make what is measured, then measure it in a process that has made nothing."""
    root = Path(tempfile.mkdtemp(prefix="shiftproof-scale-"))
    try:
        MAKE[part](root / "data", count)
        words = [sys.executable, __file__, "--one", part, str(count), str(root / "data")]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    load = round(os.getloadavg()[0], 1)
    return {"size": count, **json.loads(done.stdout), "load_average": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--largest", type=int, help="leave larger sizes out")
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        part, count, folder = options.one
        print(json.dumps(measure(part, Path(folder), int(count))))
        return

    import output

    from shiftproof.provenance import provenance

    result: dict[str, Any] = (
        json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    )
    result.setdefault("cells", 1 + 15 * len(SEVERITIES))
    result.setdefault("audit_shape", {"width": WIDTH, "test_rows": TESTS})
    for part in options.parts:
        rows = result.setdefault(part, [])
        for count in SIZES[part]:
            if any(row["size"] == count for row in rows) or count > (options.largest or count):
                continue
            rows.append(measure_apart(part, count))
            print(part, json.dumps(rows[-1]), flush=True)
            output.write({**result, "provenance": provenance("cpu", 1)}, options.out)


if __name__ == "__main__":
    main()
