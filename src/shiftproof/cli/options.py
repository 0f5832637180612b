"""Options of several verbs, each defined once; imports nothing that verbs need to run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from shiftproof.errors import InputError

DATA_PANEL = "Ambiguous data"
SHIFT_PANEL = "How images are changed"
RUN_PANEL = "How it runs"

CORRUPTIONS_HELP = (
    "Names separated by commas, or sets of them: common (the 15 of the benchmark), holdout, all, noise, "
    "blur, weather, digital, c-bar, cifar-10-c, cifar-10-c-bar, mnist-c, ccc, ...; a+b applies both in "
    "turn, a-2.5+b with a fixed severity. `shiftproof corruptions` lists them."
)
FROST_HELP = (
    "Folder with the published frost photographs (frost1.png to frost5.jpg), which cannot be shipped. "
    "Without it those of an installed imagecorruptions are used (pip install 'shiftproof\\[frost]'); "
    "without either, frost textures are generated."
)
DEPTH_HELP = (
    "Depth maps for the corruptions of the set 3d: a folder with NAME.png (16 bits, 512 a meter) or "
    "NAME.npy (meters) for every image, or onnx:FILE, a model of inverse depth."
)
CONSTANTS_HELP = (
    "The strength of the severities: published (for photographs), or cifar-10-c (for images of "
    "about 32 x 32 pixels)."
)
SEVERITIES_HELP = "From 1 to 5: 1-5, or 1,3,5, or 3."
MEASURE_HELP = (
    "coco (AP over IoU 0.50 to 0.95), coco-masks, voc (AP50, 11-point), "
    "voc-all-point, or auto: voc for Pascal VOC, else coco."
)
SPLIT_HELP = "train, val, ... of a dataset with splits: the name of a folder, a JSON or a list."
IMAGES_HELP = (
    "The folder of the images, if several are possible: of a COCO JSON, or of a folder of photographs "
    "with maps beside them. For a saved dataset or Parquet, the column of the images."
)
LABEL_KEY_HELP = (
    "Where the label is: in tars the member (cls, txt) or the field of the JSON, in a saved dataset or "
    "Parquet the column; by default cls, label or class, and in tables the only column of classes."
)
LOG_HELP = (
    "Also log to mlflow, wandb or tensorboard; behind a colon the folder or, of MLflow, the address: "
    "mlflow:mlruns, tensorboard:logs. wandb is written offline unless WANDB_MODE is online."
)
ROOT_HELP = "For YOLO: the folder of the data, instead of the one in data.yaml."
PROTOCOL_HELP = (
    "How the images are shown: online, or offline:epochs=N (adapt for N passes, then predict); "
    "behind the colon, separated by commas: reset=cell|corruption|never, "
    "mix=none|severities|all, order=shuffled|sorted|dirichlet, concentration=0.1, "
    "severity=rising|gradual."
)

ImageFormat: TypeAlias = Literal["png", "jpeg", "source"]


def _complete_corruption(incomplete: str) -> list[str]:
    """Complete the last name of a list of corruptions."""
    from shiftproof.corruptions import CORRUPTIONS, SUITES

    done, comma, last = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in (*CORRUPTIONS, *SUITES) if name.startswith(last)]


def _complete_device(incomplete: str) -> list[str]:
    """Complete a device."""
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


Out: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Folder of the run; an interrupted run is resumed."
    ),
]
GridOut: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder of the run. An existing run is resumed, and extended by new corruptions, "
        "severities, adapters and models.",
    ),
]
Corruptions: TypeAlias = Annotated[
    str,
    typer.Option(
        "--corruptions",
        "-c",
        metavar="NAMES",
        help=CORRUPTIONS_HELP,
        autocompletion=_complete_corruption,
    ),
]
Severities: TypeAlias = Annotated[
    str, typer.Option("--severities", "-s", metavar="1-5", help=SEVERITIES_HELP)
]
FrostFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--frost-dir", metavar="DIR", help=FROST_HELP, rich_help_panel=SHIFT_PANEL),
]
Depth: TypeAlias = Annotated[
    str | None,
    typer.Option("--depth", metavar="PATH", help=DEPTH_HELP, rich_help_panel=SHIFT_PANEL),
]
Constants: TypeAlias = Annotated[
    Literal["published", "cifar-10-c"],
    typer.Option("--constants", metavar="NAME", help=CONSTANTS_HELP, rich_help_panel=SHIFT_PANEL),
]
Seed: TypeAlias = Annotated[
    int,
    typer.Option("--seed", metavar="INT", help="Random seed.", rich_help_panel=RUN_PANEL),
]
BatchSize: TypeAlias = Annotated[
    int,
    typer.Option(
        "--batch-size",
        "-b",
        min=1,
        metavar="INT",
        help="Images that a model gets at a time.",
        rich_help_panel=RUN_PANEL,
    ),
]
Encode: TypeAlias = Annotated[
    Literal["none", "jpeg"],
    typer.Option(
        "--encode",
        metavar="NAME",
        help="none, or jpeg: save and reread as the files of ImageNet-C were.",
        rich_help_panel=SHIFT_PANEL,
    ),
]
Device: TypeAlias = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps, or auto for the first of CUDA, MPS and CPU that is available.",
        rich_help_panel=RUN_PANEL,
        autocompletion=_complete_device,
    ),
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        min=0,
        metavar="INT",
        help="Processes that read and change images; by the machine's cores by default, 0 for none.",
        rich_help_panel=RUN_PANEL,
    ),
]
Split: TypeAlias = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help=SPLIT_HELP, rich_help_panel=DATA_PANEL),
]
Root: TypeAlias = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help=ROOT_HELP, rich_help_panel=DATA_PANEL),
]
ImagesFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help=IMAGES_HELP, rich_help_panel=DATA_PANEL),
]
ClassMap: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--class-map",
        metavar="FILE",
        help="CSV or JSON: from a class of the data to one of the model.",
        rich_help_panel=DATA_PANEL,
    ),
]
CorruptedFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--corrupted",
        metavar="DIR",
        help="A folder of corrupted copies to read, as `corrupt` writes them.",
        rich_help_panel=DATA_PANEL,
    ),
]
MeasureName: TypeAlias = Annotated[
    Literal["auto", "coco", "coco-masks", "voc", "voc-all-point"],
    typer.Option("--measure", metavar="NAME", help=MEASURE_HELP),
]
DryRun: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Estimate time, memory and disk from a few images; write nothing."
    ),
]


def model_option(text: str) -> Any:
    """Return the option of a model's spec; ``text`` is its help."""
    return typer.Option("--model", "-m", metavar="SPEC", help=text)


def data_option(text: str) -> Any:
    """Return the option of a dataset; ``text`` is its help."""
    return typer.Option("--data", "-d", metavar="PATH", help=text)


def json_option(text: str) -> Any:
    """Return the option to print JSON; ``text`` is its help."""
    return typer.Option("--json", help=text)


AsJson: TypeAlias = Annotated[bool, json_option("Print scores.json on standard output.")]


def parse_severities(text: str) -> list[int]:
    """Read ``"1-3,5"`` as a list of severities."""
    chosen: set[int] = set()
    for word in filter(None, re.split(r"[,\s]+", text)):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        first = int(match[1]) if match else 0
        last = int(match[2] or match[1]) if match else 0
        if not 1 <= first <= last <= 5:
            raise InputError(f"Expected severities from 1 to 5 such as 1-5 or 1,3,5; got {word!r}.")
        chosen.update(range(first, last + 1))
    if not chosen:
        raise InputError("Expected at least one severity from 1 to 5, got none.")
    return sorted(chosen)
