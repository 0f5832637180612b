"""What adaptation costs over the plain forward pass, beside robusta 0.0.2 where it is installed.

python -m pip install robusta==0.0.2
python benchmarks/adaptation.py --out benchmarks/results/adaptation.json

ResNet-50, EfficientNet-Lite0 and ViT-S with random weights, on which times do not depend. CPU time of
one thread; each method is divided by the plain passes just before and after it, and the median over
the repeats counts. ``--size 112`` takes a quarter of the time. What an earlier start has measured of
other models, batches and sizes stays.

What the defaults cost depends on the source's answers. They are timed on the same weights with another
last layer, whose answers are of many classes, or of a single one, which is answered by the source.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import output
import torch
from machine import read_status, time_cpu
from torch import nn

from shiftproof.adapt import BatchNorm, Router, SelfLearning
from shiftproof.adapt.learning.parameters import affine_parameters, last_layer_name
from shiftproof.compute.tuning import tune_own_process
from shiftproof.provenance import provenance

MODELS = ("efficientnet_lite0", "resnet50", "vit_small_patch16_224")
BATCHES = (16, 64)
PRIOR = 16
LAST = "rpl last-33% prior=measured"
TARGETS = {
    "batchnorm": 1.10,
    "batchnorm of few classes": 1.10,
    "batchnorm prior=measured": 1.10,
    "rpl": 2.2,
    "rpl of few classes": 2.2,
    "rpl prior=measured": 2.2,
    LAST: 1.35,
}
"""What the median over models and batches is to be at most, times a forward pass."""


def make_model(name: str, size: int) -> nn.Module:
    """The architectures with random weights: what is timed does not depend on their values."""
    torch.manual_seed(0)
    if name == "resnet50":
        import torchvision

        return torchvision.models.resnet50(num_classes=1000).eval()
    if name == "efficientnet_lite0":
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name("efficientnet-lite0").eval()
    import timm

    return timm.create_model(name, img_size=size).eval()


def plain_forward(model: nn.Module) -> Callable[[torch.Tensor], Any]:
    def run(batch: torch.Tensor) -> Any:
        with torch.no_grad():
            return model(batch)

    return run


def training_step(model: nn.Module) -> Callable[[torch.Tensor], Any]:
    """A supervised step on the affine parameters, the other weights frozen."""
    model = copy.deepcopy(model).train()
    model.requires_grad_(False)
    affine = list(affine_parameters(model).values())
    for parameter in affine:
        parameter.requires_grad_(True)
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


Run = Callable[[torch.Tensor], Any]


def list_contestants(model: nn.Module, batch: torch.Tensor) -> dict[str, Callable[[], Run]]:
    """Return what makes what is timed, by name; what a network cannot do is left out."""
    few = "rpl of few classes"
    makers: dict[str, Callable[[], Run]] = {
        "rpl": lambda: SelfLearning(mix_answers(model, batch), loss="rpl"),
        few: lambda: SelfLearning(answer_one_class(model, batch), loss="rpl"),
        "rpl prior=measured": lambda: SelfLearning(model, loss="rpl", prior="measured"),
        LAST: lambda: SelfLearning(model, loss="rpl", layers="last-33%", prior="measured"),
        "training step": lambda: training_step(model),
    }
    if not any(isinstance(part, nn.BatchNorm2d) for part in model.modules()):
        del makers[few]
        return makers
    makers |= {
        "batchnorm": lambda: BatchNorm(mix_answers(model, batch)),
        "batchnorm of few classes": lambda: BatchNorm(answer_one_class(model, batch)),
        "batchnorm prior=measured": lambda: BatchNorm(model, prior="measured"),
        "batchnorm prior=16": lambda: BatchNorm(model, prior=PRIOR),
        "router": lambda: Router(model, experts=["batchnorm:prior=measured", "rpl:prior=measured"]),
    }
    try:
        import robusta  # noqa: F401
    except ImportError:
        return makers
    return {
        **makers,
        "robusta batchnorm prior=16": lambda: robusta_batchnorm(model, len(batch)),
        "robusta rpl": lambda: robusta_step(model),
    }


def mix_answers(model: nn.Module, batch: torch.Tensor) -> nn.Module:
    """Return a copy whose answers to a batch are sure and of many classes."""
    mixed = copy.deepcopy(model)
    last = mixed.get_submodule(last_layer_name(mixed))
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        logits = mixed(batch)
        scale = 10 / logits.std(0).mean()
        last.weight.mul_(scale)
        last.bias.sub_(logits.mean(0)).mul_(scale)
    return mixed


def answer_one_class(model: nn.Module, batch: torch.Tensor) -> nn.Module:
    """Return a copy that answers one class, with the statistics of images a tenth darker."""
    sure = copy.deepcopy(model).train()
    for layer in sure.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    last = sure.get_submodule(last_layer_name(sure))
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias[0] += 100 * sure(0.9 * batch).abs().max()
    return sure.eval()


def batch_of(count: int, size: int) -> torch.Tensor:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return images.contiguous(memory_format=torch.channels_last)


def measure_times(name: str, count: int, size: int, repeats: int) -> dict[str, dict[str, Any]]:
    """CPU time of each, and its ratio to the forward passes around it: the machine drifts."""
    batch, model = batch_of(count, size), make_model(name, size)
    forward = plain_forward(model)
    runs = {key: make() for key, make in list_contestants(model, batch).items()}
    for run in (forward, *runs.values()):
        run(batch)  # what is compiled, and checked once
    seconds: dict[str, list[float]] = {key: [] for key in ("forward", *runs)}
    ratios: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(repeats):
        before = time_cpu(forward, batch)[0]
        for key, run in runs.items():
            spent, after = time_cpu(run, batch)[0], time_cpu(forward, batch)[0]
            seconds[key].append(spent)
            seconds["forward"].append(after)
            ratios[key].append(2 * spent / (before + after))
            before = after
    found: dict[str, dict[str, Any]] = {
        key: {
            "milliseconds": round(1000 * statistics.median(seconds[key]), 1),
            "over_forward": round(statistics.median(ratios[key]), 3),
            "lowest": round(min(ratios[key]), 3),
            "highest": round(max(ratios[key]), 3),
        }
        for key in runs
    }
    return {"forward": {"milliseconds": 1000 * statistics.median(seconds["forward"])}, **found}


def peak_of(name: str, count: int, size: int, key: str) -> float:
    """Megabytes by which a step raises the memory of a process of its own."""
    command = [sys.executable, __file__, "--peak", name, str(count), str(size), key]
    # Blocks of any size worth counting go back to the system at once, so the peak is that of use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(printed.stdout.split()[-1])


def print_peak(name: str, count: int, size: int, key: str) -> None:
    batch = batch_of(count, size)
    run = list_contestants(make_model(name, size), batch)[key]()
    run(batch)
    before = read_status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run(batch)
    print((read_status("VmHWM") - before) / 1024)


# ---------------------------------------------------------------- what it came to


def find_medians(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return of each method the median over models and batches, times a forward pass."""
    ratios: dict[str, list[float]] = {}
    for one in results:
        for key, figures in one["methods"].items():
            if key != "forward":
                ratios.setdefault(key, []).append(figures["over_forward"])
    return {key: round(statistics.median(values), 3) for key, values in ratios.items()}


def make_table(results: list[dict[str, Any]]) -> str:
    """Return the table of ``docs/adaptation.md``: times a forward pass, and the median."""
    medians = find_medians(results)
    heads = [f"{one['model']}, {one['batch']} x {one['size']}²" for one in results]
    lines = ["| times a forward pass | " + " | ".join([*heads, "median", "aim"]) + " |"]
    lines.append("|---|" + "---:|" * (len(heads) + 2))
    for key, median in medians.items():
        cells = [_write_cell(one["methods"].get(key)) for one in results]
        aim = f"{TARGETS[key]:.2f}" if key in TARGETS else ""
        lines.append(f"| `{key}` | " + " | ".join([*cells, f"{median:.2f}", aim]) + " |")
    return "\n".join(lines)


def _write_cell(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    shown = f"{figures['over_forward']:.2f} ({figures['lowest']:.2f}–{figures['highest']:.2f})"
    return shown + (f", {figures['peak_megabytes']:.0f} MB" if "peak_megabytes" in figures else "")


def main() -> None:
    """Measure what was asked for, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-peaks", action="store_true", help="do not measure memory")
    parser.add_argument("--table", action="store_true", help="print what --out holds")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        name, count, size, key = options.peak
        print_peak(name, int(count), int(size), key)
        return
    tune_own_process()
    results = _there(options.out)
    jobs = [(name, count) for name in options.models for count in options.batches]
    for name, count in [] if options.table else jobs:
        times = measure_times(name, count, options.size, options.repeats)
        for key in ("rpl", LAST, "training step", "robusta rpl"):
            if key in times and not options.no_peaks:
                times[key]["peak_megabytes"] = round(peak_of(name, count, options.size, key), 1)
        about = {"model": name, "batch": count, "size": options.size}
        results = [one for one in results if {k: one[k] for k in about} != about]
        results.append(
            {
                **about,
                "repeats": options.repeats,
                "methods": times,
                "provenance": provenance("cpu", 0),
            }
        )
        if options.out:
            found = {"targets": TARGETS, "medians": find_medians(results), "results": results}
            output.write(found, options.out)
    print(make_table(results))


def _there(out: Path | None) -> list[dict[str, Any]]:
    """Return what an earlier start has measured of other models, batches and sizes."""
    if out is None or not out.exists():
        return []
    return list(json.loads(out.read_text(encoding="utf-8"))["results"])


if __name__ == "__main__":
    main()
