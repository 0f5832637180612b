"""Whether the memory of adapters stays flat over long streams: batch after batch through a tiny network.

python benchmarks/soak.py --out benchmarks/results/soak.json

Every adapter gets a stream of noise whose brightness drifts, in which a batch in a hundred is not
finite, so that events happen all the time. Resident memory and the interpreter's blocks are looked at
at even distances; what they grow by after the first tenth of the stream should be nothing. ``--seconds``
of CPU time end a stream before its ``--batches``. A labeled image for the router comes every 20 batches.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import output
import torch
from machine import read_status
from torch import nn

from shiftproof.adapt import Router, make_adapter
from shiftproof.compute.tuning import tune_own_process
from shiftproof.provenance import provenance

SPECS = ("batchnorm", "rpl:lr=0.01", "guard+rpl:lr=0.01", "router")
BATCHES = 100_000
LOOKS = 20
IMAGES = 8


def make_network() -> nn.Module:
    """Return the smallest network that has what adapters work on."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    ).eval()


def draw_batches() -> Iterator[torch.Tensor]:
    """Yield batches without end."""
    generator = torch.Generator().manual_seed(0)
    number = 0
    while True:
        batch = torch.rand(IMAGES, 3, 8, 8, generator=generator) * (1 + number % 1000 / 500)
        if number % 100 == 99:
            batch[0, 0, 0, 0] = float("nan")
        yield batch.contiguous(memory_format=torch.channels_last)
        number += 1


def soak(spec: str, batches: int, seconds: float) -> dict[str, Any]:
    """Return what the memory was over a stream of so many batches, or of so much CPU time."""
    adapter = make_adapter(spec, make_network())
    looks: list[dict[str, float]] = []
    start, number, step = time.process_time(), 0, max(batches // LOOKS, 1)
    look_after = seconds / LOOKS
    for number, batch in enumerate(draw_batches(), 1):
        adapter(batch)
        if isinstance(adapter, Router) and number % 20 == 0:
            adapter.label(IMAGES * number - 1, number % 5)
        spent = time.process_time() - start
        if number % step == 0 or spent >= look_after * (len(looks) + 1):
            looks.append(look(number))
        if number >= batches or spent >= seconds:
            break
    return {
        "adapter": spec,
        "batches": number,
        "cpu_seconds": round(time.process_time() - start, 1),
        "events": len(adapter.events),
        "looks": looks,
        **measure_growth(looks),
    }


def look(number: int) -> dict[str, float]:
    """Return the memory after a number of batches."""
    gc.collect()
    held = read_status("VmRSS")
    return {"batches": number, "kilobytes": held, "blocks": sys.getallocatedblocks()}


def measure_growth(looks: list[dict[str, float]]) -> dict[str, float]:
    """Return by how much memory grew after the first tenth, per 1,000 batches."""
    kept = looks[max(1, len(looks) // 10) :]
    if len(kept) < 2:
        return {}
    first, last = kept[0], kept[-1]
    thousands = max(last["batches"] - first["batches"], 1) / 1000
    return {
        f"{kind}_per_1000_batches": round((last[kind] - first[kind]) / thousands, 2)
        for kind in ("kilobytes", "blocks")
    }


def make_table(results: list[dict[str, Any]]) -> str:
    """Return the table of ``docs/adaptation.md``."""
    lines = [
        "| adapter | batches | kB more per 1,000 batches | blocks more per 1,000 | events kept |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| `{one['adapter']}` | {one['batches']:,} | {one['kilobytes_per_1000_batches']:.1f} | "
        f"{one['blocks_per_1000_batches']:.1f} | {one['events']} |"
        for one in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Soak each adapter, and write what there is after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--adapters", nargs="+", default=list(SPECS))
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--seconds", type=float, default=3600, help="of CPU time for each adapter")
    parser.add_argument("--table", action="store_true", help="print what --out holds")
    options = parser.parse_args()
    if options.table:
        print(make_table(json.loads(options.out.read_text(encoding="utf-8"))["results"]))
        return
    torch.set_num_threads(1)
    tune_own_process()
    results: list[dict[str, Any]] = []
    for spec in options.adapters:
        results.append(soak(spec, options.batches, options.seconds))
        print(json.dumps({k: v for k, v in results[-1].items() if k != "looks"}), flush=True)
        if options.out:
            output.write({"results": results, "provenance": provenance("cpu", 0)}, options.out)


if __name__ == "__main__":
    main()
