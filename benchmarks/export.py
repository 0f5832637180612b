"""A folder of JPEGs to 15 x 5 corrupted JPEGs: `shiftproof corrupt` beside a plain script on the peer.

    python benchmarks/export.py --images 1000 --peer-images 50 --out benchmarks/results/export.json

The peer is imagecorruptions-imaug 1.1.5 (extra "bench") in the way in which it is used in scripts:
a process pool, and for each image and cell decode, corrupt, encode. Both write JPEG at quality 95.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import output
from machine import cpu_seconds
from PIL import Image

from shiftproof.corruptions import COMMON
from shiftproof.data import DemoPhotographs, export_corrupted
from shiftproof.provenance import provenance

SEVERITIES = (1, 2, 3, 4, 5)


def make_folder(folder: Path, count: int, size: int) -> None:
    """Write ``count`` different JPEGs: shifted crops of the demo's photographs."""
    data = DemoPhotographs()
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(data.read(s)).resize((2 * size, 2 * size)) for s in data.samples]
    for number in range(count):
        left, top = (int(v) for v in rng.integers(0, size, 2))
        crop = photographs[number % len(photographs)].crop((left, top, left + size, top + size))
        crop.save(folder / f"{number:05}.jpg", quality=95)


def peer_one(job: tuple[Path, Path]) -> None:
    warnings.simplefilter("ignore")
    from imagecorruptions import corrupt

    source, target = job
    for name in COMMON:
        for severity in SEVERITIES:
            image = np.asarray(Image.open(source).convert("RGB"))
            corrupted = corrupt(image, severity=severity, corruption_name=name)
            path = target / name / str(severity) / source.name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(corrupted).save(path, quality=95)


def run_peer(source: Path, target: Path, workers: int) -> None:
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(peer_one, [(path, target) for path in sorted(source.iterdir())]))


def timed(work: Callable[[], object]) -> tuple[float, float, object]:
    """Return wall seconds, CPU seconds of all processes, and the result."""
    wall, before = time.perf_counter(), cpu_seconds()
    result = work()
    return time.perf_counter() - wall, cpu_seconds() - before, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--peer-images", type=int, default=20)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = Path(scratch, "ours"), Path(scratch, "theirs")
        for folder, count in ((ours, options.images), (theirs, options.peer_images)):
            folder.mkdir()
            make_folder(folder, count, options.size)
        wall_peer, cpu_peer, _ = timed(
            lambda: run_peer(theirs, Path(scratch, "theirs-c"), options.workers)
        )
        wall, cpu, done = timed(
            lambda: export_corrupted(
                ours, Path(scratch, "ours-c"), corruptions=COMMON, severities=SEVERITIES,
                image_format="jpeg", workers=options.workers,
            )
        )  # fmt: skip
    cells = len(COMMON) * len(SEVERITIES)
    spent = done.decode_seconds + done.corrupt_seconds + done.write_seconds
    result = {
        "what": f"{options.size}x{options.size} JPEGs to {cells} corrupted JPEGs each, "
        f"{options.workers} processes, start of the processes included",
        "shiftproof": {
            "images": options.images,
            "outputs_per_wall_second": round(options.images * cells / wall, 1),
            "outputs_per_cpu_second": round(options.images * cells / cpu, 1),
            "share": {
                "decode": round(done.decode_seconds / spent, 3),
                "corrupt": round(done.corrupt_seconds / spent, 3),
                "encode and write": round(done.write_seconds / spent, 3),
            },
        },
        "peer": {
            "images": options.peer_images,
            "outputs_per_wall_second": round(options.peer_images * cells / wall_peer, 1),
            "outputs_per_cpu_second": round(options.peer_images * cells / cpu_peer, 1),
        },
        "ratio_wall": round((options.images / wall) / (options.peer_images / wall_peer), 2),
        "ratio_cpu": round((options.images / cpu) / (options.peer_images / cpu_peer), 2),
        "provenance": provenance("cpu", options.workers),
    }
    output.show(result, options.out)


if __name__ == "__main__":
    main()
