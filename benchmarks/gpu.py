"""Everything that runs on a GPU, measured on one: one command, one JSON, ten minutes.

    python benchmarks/gpu.py --out benchmarks/results/gpu.json
    python benchmarks/gpu.py --quick --device cpu

It needs this repository and torch; torchvision has the networks, and is a peer as kornia and lightly
are where they are installed. A part that fails has its error in the JSON, and the others still run.
``--quick`` runs everything with tiny sizes, on a processor too, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import output  # noqa: E402
import torch  # noqa: E402
from gpu_timing import Setting, version_of  # noqa: E402

PARTS = {
    "corruptions": 170.0,
    "bench": 160.0,
    "adaptation": 60.0,
    "similarity": 120.0,
    "contrastive": 60.0,
}
"""The seconds that each part may take."""

PEERS = ("torch", "torchvision", "kornia", "lightly", "numpy")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, and write after each part what is there."""
    options = read_options(arguments)
    result: dict[str, Any] = {
        "device": options.device,
        "quick": options.quick,
        "machine": describe_machine(options.device),
        "parts": {},
    }
    for name in options.parts:
        begun = time.perf_counter()
        setting = Setting(options.device, options.quick, PARTS[name])
        result["parts"][name] = setting.attempt(find_part(name, setting))
        took = time.perf_counter() - begun
        result["parts"][name] |= {"seconds_of_part": took}
        print(f"{name}: {took:.1f} s", file=sys.stderr, flush=True)
        if options.out is not None:
            output.write(result, options.out)
    output.show(result, options.out)


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all runs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; try --quick --device cpu")
    if options.device == "cuda":
        options.device = "cuda:0"
    if options.device == "cpu" and not options.quick:
        parser.error("the sizes are those of a GPU; on a processor say --quick")
    return options


def find_part(name: str, setting: Setting) -> Callable[[], dict[str, Any]]:
    """Return a part as a call; its module is imported in it, where a missing library is told."""

    def measure() -> dict[str, Any]:
        part = __import__(f"gpu_{name}")
        found: dict[str, Any] = part.measure(setting)
        return found

    return measure


def describe_machine(device: str) -> dict[str, Any]:
    """Return what the figures hang on."""
    described: dict[str, Any] = {name: version_of(name) for name in PEERS}
    described["python"] = sys.version.split()[0]
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        described |= {
            "card": card.name,
            "memory_gigabytes": card.total_memory / 1e9,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return described


if __name__ == "__main__":
    main()
