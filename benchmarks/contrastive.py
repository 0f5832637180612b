"""Time and memory of contrastive losses, beside lightly and pytorch-metric-learning, in one run.

python -m pip install lightly pytorch-metric-learning
python benchmarks/contrastive.py --out benchmarks/results/contrastive.json

Each loss is taken forward and backward at each batch size in a process of its own, one thread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import output
import torch
from machine import read_status

DIM = 128
TEMPERATURE = 0.1
BATCHES = (1024, 4096, 16384, 32768)
SHORT = 256
"""The batch at which pytorch-metric-learning's NTXentLoss, which grows with the cube, is shown."""

TARGETS = {
    "batch": 4096,
    "times_faster_than_lightly": 4,
    "share_of_lightly_memory": 1 / 20,
    "megabytes_at_16384": 200,
}

LIMITS = {
    "lightly NTXentLoss": (
        4096,
        "memory grows with the square: some 17 GB at 16,384",
    ),
    "pytorch-metric-learning SupConLoss": (
        4096,
        "memory grows with the square: some 45 GB at 16,384",
    ),
    "pytorch-metric-learning NTXentLoss": (
        SHORT,
        "memory grows with the cube: beyond this machine at 1,024",
    ),
    "shiftproof InfoNCE, plain": (4096, "memory grows with the square"),
    "shiftproof AnInfoNCE": (16384, "takes what InfoNCE takes; left out for time"),
    "shiftproof InfoNCE, the other view's negatives": (16384, "left out for time"),
}
"""The largest batch of each that is capped, and why."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def shiftproof_info_nce() -> Loss:
    from shiftproof.contrastive import info_nce

    return lambda u, v: info_nce(u, v, temperature=TEMPERATURE)


def shiftproof_plain() -> Loss:
    from shiftproof.contrastive import info_nce

    return lambda u, v: info_nce(u, v, temperature=TEMPERATURE, tile=1 << 30)


def shiftproof_other() -> Loss:
    from shiftproof.contrastive import info_nce

    return lambda u, v: info_nce(u, v, temperature=TEMPERATURE, negatives="other")


def shiftproof_anisotropic() -> Loss:
    from shiftproof.contrastive import AnInfoNCE

    return AnInfoNCE(DIM, start=1 / TEMPERATURE)


def lightly_ntxent() -> Loss:
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=TEMPERATURE)


def metric_learning(name: str) -> Loss:
    from pytorch_metric_learning import losses

    loss = losses.SelfSupervisedLoss(getattr(losses, name)(temperature=TEMPERATURE))
    return lambda u, v: loss(u, v)


CONTESTANTS: dict[str, Callable[[], Loss]] = {
    "shiftproof InfoNCE": shiftproof_info_nce,
    "shiftproof AnInfoNCE": shiftproof_anisotropic,
    "shiftproof InfoNCE, the other view's negatives": shiftproof_other,
    "shiftproof InfoNCE, plain": shiftproof_plain,
    "lightly NTXentLoss": lightly_ntxent,
    "pytorch-metric-learning SupConLoss": lambda: metric_learning("SupConLoss"),
    "pytorch-metric-learning NTXentLoss": lambda: metric_learning("NTXentLoss"),
}

SAME = ("shiftproof InfoNCE", "shiftproof InfoNCE, plain", "lightly NTXentLoss",
        "pytorch-metric-learning SupConLoss", "pytorch-metric-learning NTXentLoss",
        "shiftproof AnInfoNCE")  # fmt: skip
"""Those whose values must agree: a precision of 1 / τ on all dimensions is that temperature."""


def views(batch: int) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(batch)
    u = torch.randn(batch, DIM, generator=source)
    v = u + 0.5 * torch.randn(batch, DIM, generator=source)
    return [view.requires_grad_() for view in (u, v)]


def child(name: str, batch: int, repeats: int) -> None:
    """Print CPU seconds of each repeat, the peak over what was there before, and the value."""
    torch.set_num_threads(1)
    loss = CONTESTANTS[name]()
    loss(*views(64)).backward()  # what libraries load at first use
    u, v = views(batch)
    before = read_status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    seconds = []
    for _ in range(repeats):
        u.grad = v.grad = None
        begun = time.process_time()
        value = loss(u, v)
        value.backward()
        seconds.append(time.process_time() - begun)
    peak = (read_status("VmHWM") - before) / 1024
    size = float(torch.cat([u.grad, v.grad]).norm())
    print(f"{min(seconds)} {statistics.median(seconds)} {peak} {float(value.detach())!r} {size!r}")


def measure(name: str, batch: int, repeats: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", name, str(batch), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    least, median, peak, value, size = (float(word) for word in done.stdout.split()[-5:])
    return {
        "loss": name,
        "batch": batch,
        "repeats": repeats,
        "cpu_milliseconds": round(1000 * median, 1),
        "cpu_milliseconds_least": round(1000 * least, 1),
        "peak_megabytes": round(peak, 1),
        "value": value,
        "gradient_length": size,
    }


def ratios(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each peer over ours at the same batch."""
    ours = {r["batch"]: r for r in results if r["loss"] == "shiftproof InfoNCE"}
    return [
        {
            "loss": each["loss"],
            "batch": each["batch"],
            "time_over_ours": round(
                each["cpu_milliseconds"] / ours[each["batch"]]["cpu_milliseconds"], 2
            ),
            "memory_over_ours": round(
                each["peak_megabytes"] / ours[each["batch"]]["peak_megabytes"], 1
            ),
        }
        for each in results
        if each["loss"] != "shiftproof InfoNCE" and each["batch"] in ours
    ]


def check_agreement(results: list[dict[str, Any]]) -> None:
    for batch in {each["batch"] for each in results}:
        values = [r for r in results if r["batch"] == batch and r["loss"] in SAME]
        for each in values:
            for key in ("value", "gradient_length"):
                assert math.isclose(each[key], values[0][key], rel_tol=1e-4), (each, values[0])


def met(results: list[dict[str, Any]]) -> dict[str, Any]:
    found = {(each["loss"], each["batch"]): each for each in results}
    summary: dict[str, Any] = {}
    ours = found.get(("shiftproof InfoNCE", TARGETS["batch"]))
    lightly = found.get(("lightly NTXentLoss", TARGETS["batch"]))
    if ours and lightly:
        faster = lightly["cpu_milliseconds"] / ours["cpu_milliseconds"]
        share = ours["peak_megabytes"] / lightly["peak_megabytes"]
        summary["times_faster_than_lightly"] = [
            round(faster, 2), faster >= TARGETS["times_faster_than_lightly"],
        ]  # fmt: skip
        summary["share_of_lightly_memory"] = [
            round(share, 4), share <= TARGETS["share_of_lightly_memory"],
        ]  # fmt: skip
    large = found.get(("shiftproof InfoNCE", 16384))
    if large:
        summary["megabytes_at_16384"] = [
            large["peak_megabytes"], large["peak_megabytes"] < TARGETS["megabytes_at_16384"],
        ]  # fmt: skip
    return summary


def summary(results: list[dict[str, Any]]) -> str:
    """The measurements as Markdown: CPU time and peak memory by loss and batch."""
    batches = sorted({each["batch"] for each in results} - {SHORT})
    cells = {
        (each["loss"], each["batch"]): f"{each['cpu_milliseconds'] / 1000:.2f} s, "
        f"{each['peak_megabytes']:,.0f} MB"
        for each in results
    }
    names = [name for name in CONTESTANTS if any((name, batch) in cells for batch in batches)]
    lines = [
        "| batch | " + " | ".join(f"{batch:,}" for batch in batches) + " |",
        "|---|" + "---:|" * len(batches),
    ]
    for name in names:
        row = " | ".join(cells.get((name, batch), "–") for batch in batches)
        lines.append(f"| {name} | {row} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], int(options.child[1]), int(options.child[2]))
        return
    from shiftproof.provenance import provenance

    made = provenance("cpu", 0)
    for library in ("lightly", "pytorch-metric-learning"):
        try:
            made["libraries"][library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            print(f"{library} is not installed: no such peer in this run")
    results: list[dict[str, Any]] = []
    for batch in (SHORT, *options.batches):
        for name in CONTESTANTS:
            library = name.split()[0]
            if library != "shiftproof" and library not in made["libraries"]:
                continue
            if batch > LIMITS.get(name, (math.inf, ""))[0]:
                continue
            repeats = options.repeats if batch <= 4096 else 1
            results.append(measure(name, batch, repeats))
            last = results[-1]
            print(
                f"{batch:6d}  {name:48s} {last['cpu_milliseconds']:10.1f} ms "
                f"{last['peak_megabytes']:8.1f} MB",
                flush=True,
            )
            check_agreement(results)
            if options.out:
                result = {
                    "dim": DIM,
                    "temperature": TEMPERATURE,
                    "targets": TARGETS,
                    "met": met(results),
                    "capped": {
                        key: {"largest_batch": limit, "why": why}
                        for key, (limit, why) in LIMITS.items()
                    },
                    "results": results,
                    "ratios": ratios(results),
                    "provenance": made,
                }
                output.write(result, options.out)
    print(met(results))


if __name__ == "__main__":
    main()
