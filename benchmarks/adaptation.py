"""What adaptation costs over the plain forward pass, beside robusta 0.0.2, in one process.

python -m pip install robusta==0.0.2
python benchmarks/adaptation.py --out benchmarks/results/adaptation.json
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import output
import torch
from torch import nn

from shiftproof.adapt import BatchNorm, SelfLearning
from shiftproof.compute.tuning import tune_own_process
from shiftproof.provenance import provenance

MODELS = ("efficientnet_lite0", "resnet50")
BATCHES = (16, 64)
PRIOR = 16
TARGETS = {"batchnorm": 1.15, "selflearning": 2.4, "selflearning last-33%": 1.4}


def make_model(name: str) -> nn.Module:
    """The architectures with random weights: what is timed does not depend on their values."""
    torch.manual_seed(0)
    if name == "resnet50":
        import torchvision

        return torchvision.models.resnet50(num_classes=1000).eval()
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0").eval()


def plain_forward(model: nn.Module) -> Callable[[torch.Tensor], Any]:
    def run(batch: torch.Tensor) -> Any:
        with torch.no_grad():
            return model(batch)

    return run


def training_step(model: nn.Module) -> Callable[[torch.Tensor], Any]:
    """A supervised step on the affine parameters, the other weights frozen."""
    model = copy.deepcopy(model).train()
    affine = robusta_affine(model)
    optimizer = torch.optim.SGD(affine, lr=1e-3)

    def run(batch: torch.Tensor) -> None:
        loss = nn.functional.cross_entropy(model(batch), torch.zeros(len(batch), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def robusta_affine(model: nn.Module) -> list[nn.Parameter]:
    model.requires_grad_(False)
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    affine = [p for layer in layers for p in (layer.weight, layer.bias)]
    for parameter in affine:
        parameter.requires_grad_(True)
    return affine


def robusta_batchnorm(model: nn.Module, count: int) -> Callable[[torch.Tensor], Any]:
    from robusta.batchnorm import bn

    with contextlib.redirect_stdout(None):
        adapted = bn.adapt_bayesian(copy.deepcopy(model), prior=PRIOR / (PRIOR + count))
    return plain_forward(adapted)


def robusta_step(model: nn.Module) -> Callable[[torch.Tensor], Any]:
    from robusta.selflearning.nn import GeneralizedCrossEntropy

    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(robusta_affine(model), lr=1e-3)
    criterion = GeneralizedCrossEntropy(q=0.8)

    def run(batch: torch.Tensor) -> Any:
        logits = model(batch)
        loss = criterion(logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return logits.detach()

    return run


def contestants(model: nn.Module, count: int) -> dict[str, Callable[[torch.Tensor], Any]]:
    made: dict[str, Callable[[torch.Tensor], Any]] = {
        "forward": plain_forward(model),
        "batchnorm prior=0": BatchNorm(model, prior=0),
        "batchnorm prior=16": BatchNorm(model, prior=PRIOR),
        "batchnorm prior=auto": BatchNorm(model, prior="auto"),
        "rpl": SelfLearning(model, loss="rpl"),
        "ent": SelfLearning(model, loss="ent"),
        "rpl last-33%": SelfLearning(model, loss="rpl", layers="last-33%"),
        "training step": training_step(model),
    }
    try:
        import robusta  # noqa: F401
    except ImportError:
        print("robusta is not installed: no peer in this run")
        return made
    return {
        **made,
        "robusta batchnorm prior=16": robusta_batchnorm(model, count),
        "robusta rpl": robusta_step(model),
    }


def batch_of(count: int) -> torch.Tensor:
    images = torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return images.contiguous(memory_format=torch.channels_last)


def measure_times(name: str, count: int, repeats: int) -> dict[str, dict[str, float]]:
    """CPU time of each, and its ratio to a forward pass just before it: the machine drifts."""
    batch = batch_of(count)
    runs = contestants(make_model(name), count)
    seconds: dict[str, list[float]] = {key: [] for key in runs}
    ratios: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(repeats):
        for key, run in runs.items():
            run(batch)  # the memory that the one before has freed is not this one's to find
            forward, taken = _cpu_seconds(runs["forward"], batch), _cpu_seconds(run, batch)
            seconds[key].append(taken)
            ratios[key].append(taken / forward)
    return {
        key: {
            "milliseconds": 1000 * statistics.median(seconds[key]),
            "over_forward": statistics.median(ratios[key]),
        }
        for key in runs
    }


def _cpu_seconds(run: Callable[[torch.Tensor], Any], batch: torch.Tensor) -> float:
    start = time.process_time()
    run(batch)
    return time.process_time() - start


def peak_of(name: str, count: int, key: str) -> float:
    """Megabytes by which a step raises the memory of a process of its own."""
    command = [sys.executable, __file__, "--peak", name, str(count), key]
    # Blocks of any size worth counting go back to the system at once, so the peak is that of use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(printed.stdout.split()[-1])


def print_peak(name: str, count: int, key: str) -> None:
    batch = batch_of(count)
    run = contestants(make_model(name), count)[key]
    run(batch)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run(batch)
    print((_status("VmHWM") - before) / 1024)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-peaks", action="store_true", help="do not measure memory")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        name, count, key = options.peak
        print_peak(name, int(count), key)
        return
    tune_own_process()
    results = _there(options.out)
    for name in options.models:
        for count in options.batches:
            times = measure_times(name, count, options.repeats)
            for key in ("rpl", "rpl last-33%", "training step", "robusta rpl"):
                if key in times and not options.no_peaks:
                    times[key]["peak_megabytes"] = peak_of(name, count, key)
            print(f"\n{name}, batch {count}")
            for key, figures in times.items():
                memory = figures.get("peak_megabytes")
                print(
                    f"  {key:28s} {figures['milliseconds']:9.1f} ms "
                    f"{figures['over_forward']:6.2f} x forward"
                    + (f" {memory:8.1f} MB" if memory is not None else ""),
                    flush=True,
                )
            results = [r for r in results if (r["model"], r["batch"]) != (name, count)]
            results.append(
                {
                    "model": name,
                    "batch": count,
                    "repeats": options.repeats,
                    "methods": times,
                    "provenance": provenance("cpu", 0),
                }
            )
            if options.out:
                output.write({"targets": TARGETS, "results": results}, options.out)


def _there(out: Path | None) -> list[dict[str, Any]]:
    """Return what an earlier start has measured of other models and batches."""
    if out is None or not out.exists():
        return []
    return list(json.loads(out.read_text(encoding="utf-8"))["results"])


if __name__ == "__main__":
    main()
