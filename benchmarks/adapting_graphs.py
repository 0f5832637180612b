"""The time of ONNX graphs that adapt beside that of the plain graph, in ONNX Runtime on the CPU.

    python benchmarks/adapting_graphs.py --out benchmarks/results/adapting_graphs.json

CPU time of one thread, medians of runs that take turns in one process. The weights of ResNet-50 are
random, which its time does not depend on; EfficientNet-Lite0 is the demo's, and also answers for the
20 photographs under noise: right without adaptation, in ONNX Runtime and in torch.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import output
import torch
import torchvision

from shiftproof.adapt import export_onnx, make_adapter
from shiftproof.corruptions import corrupt
from shiftproof.data import DemoPhotographs
from shiftproof.models import load_classifier
from shiftproof.provenance import provenance

SPECS = ("batchnorm:prior=16", "batchnorm:prior=measured")
BATCHES = {"EfficientNet-Lite0": 16, "ResNet-50": 4}
CORRUPTIONS = ("gaussian_noise", "shot_noise", "impulse_noise")


def write_plain(module: torch.nn.Module, path: Path) -> None:
    """Export a network with its batch norm kept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (torch.rand(2, 3, 224, 224),), str(path), dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE, opset_version=17, input_names=["image"],
            dynamic_axes={"image": {0: "n"}},
        )  # fmt: skip


def open_session(path: Path, *, profile: bool = False) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = profile
    options.profile_file_prefix = str(path.with_suffix(""))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def time_runs(sessions: dict[str, Any], batch: int, repeats: int) -> dict[str, Any]:
    """Return each session's median CPU seconds, and how often the first one's."""
    image = np.random.default_rng(0).normal(size=(batch, 3, 224, 224)).astype(np.float32)
    spent: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(repeats + 1):
        for name, session in sessions.items():
            begun = time.process_time()
            session.run(None, {"image": image})
            if turn:
                spent[name].append(time.process_time() - begun)
    medians = {name: statistics.median(values) for name, values in spent.items()}
    plain = medians["plain"]
    return {
        name: {"cpu_seconds": round(value, 4), "ratio": round(value / plain, 2)}
        for name, value in medians.items()
    }


def share_operators(path: Path, batch: int) -> dict[str, float]:
    """Return the share of the time that kinds of operators take."""
    session = open_session(path, profile=True)
    image = np.random.default_rng(0).normal(size=(batch, 3, 224, 224)).astype(np.float32)
    for _ in range(3):
        session.run(None, {"image": image})
    spent: collections.Counter[str] = collections.Counter()
    for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    total = sum(spent.values())
    return {name: round(value / total, 3) for name, value in spent.most_common(7)}


def count_right(folder: Path, severities: list[int]) -> dict[str, Any]:
    """Return how many answers are right without adaptation, in ONNX Runtime and in torch."""
    classifier, data = load_classifier("demo"), DemoPhotographs()
    right: collections.Counter[str] = collections.Counter()
    furthest: collections.Counter[str] = collections.Counter()
    labels = np.array([sample.label for sample in data.samples])
    sessions = {"plain": open_session(folder / "plain.onnx")}
    sessions |= {spec: open_session(folder / f"{number}.onnx") for number, spec in enumerate(SPECS)}
    images = [classifier.preprocess.geometry(data.read(sample)) for sample in data.samples]
    for name in CORRUPTIONS:
        for severity in severities:
            changed = [corrupt(image, name, severity, seed=k) for k, image in enumerate(images)]
            inputs = classifier.preprocess.normalize(changed)
            for told, session in sessions.items():
                answers = session.run(None, {"image": inputs})[0]
                right[told] += int((answers.argmax(1) == labels).sum())
                if told != "plain":
                    logits = make_adapter(told, classifier).predict(changed)
                    right[f"{told} in torch"] += int((logits.argmax(1) == labels).sum())
                    furthest[told] = max(furthest[told], float(np.abs(answers - logits).max()))
    return {
        "answers": len(labels) * len(CORRUPTIONS) * len(severities),
        "right": dict(right),
        "largest_difference_of_logits": {name: float(f"{v:.1e}") for name, v in furthest.items()},
    }


def table_of_times(result: dict[str, Any]) -> str:
    """Return docs/export.md's table of times."""
    lines = ["| | batch | plain | `prior=16` | `prior=measured` |", "|---|---|---|---|---|"]
    for network, found in result["times"].items():
        for batch, spent in found.items():
            if batch.startswith("batch "):
                plain, *ratios = spent.values()
                told = " | ".join(f"{ratio['ratio']:.2f} x" for ratio in ratios)
                seconds = f"{1000 * plain['cpu_seconds']:.0f} ms"
                lines.append(f"| {network} | {batch.removeprefix('batch ')} | {seconds} | {told} |")
    return "\n".join(lines)


def table_of_noise(result: dict[str, Any]) -> str:
    """Return docs/export.md's table of right answers."""
    noise = result["photographs under noise"]
    right, count = noise["right"], noise["answers"]
    lines = ["| | ONNX Runtime | torch | largest difference |", "|---|---|---|---|"]
    lines.append(f"| without | {right['plain']} of {count} | | |")
    for spec, difference in noise["largest_difference_of_logits"].items():
        there = right[f"{spec} in torch"]
        lines.append(
            f"| `{spec}` | {right[spec]} of {count} | {there} of {count} | {difference:g} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--severities", type=int, nargs="+", default=[3])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = {
        "EfficientNet-Lite0": load_classifier("demo").module,
        "ResNet-50": torchvision.models.resnet50(),
    }
    times: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, module in networks.items():
            folder = Path(scratch, name)
            folder.mkdir()
            write_plain(module, folder / "plain.onnx")
            for number, spec in enumerate(SPECS):
                export_onnx(folder / "plain.onnx", folder / f"{number}.onnx", spec)
            sessions = {"plain": open_session(folder / "plain.onnx")}
            sessions |= {s: open_session(folder / f"{k}.onnx") for k, s in enumerate(SPECS)}
            batch = BATCHES[name]
            times[name] = {f"batch {batch}": time_runs(sessions, batch, options.repeats)}
            if name == "EfficientNet-Lite0":
                times[name]["shares of the time, prior=16"] = share_operators(
                    folder / "0.onnx", batch
                )
            output.show({"times": times}, None)
        noise = count_right(Path(scratch, "EfficientNet-Lite0"), options.severities)
    output.show(
        {
            "what": "CPU time of one thread at 224 x 224, ONNX Runtime "
            f"{onnxruntime.__version__}, median of {options.repeats}",
            "times": times,
            "photographs under noise": noise,
            "provenance": provenance("cpu", 1),
        },
        options.out,
    )


if __name__ == "__main__":
    main()
