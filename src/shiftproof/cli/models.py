"""``shiftproof models``: list the model specs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftproof.cli.options import json_option
from shiftproof.cli.printing import print_json, warn

if TYPE_CHECKING:
    from shiftproof.cli.grid_options import ClassOptions
    from shiftproof.models import Classifier
    from shiftproof.models.dtypes import Dtype


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("models", epilog="Example:  shiftproof models --json")(models)


def show_assumed(model: object) -> None:
    """Print the assumptions made when a model was loaded, in one line to standard error."""
    if phrases := getattr(model, "assumed", ()):
        warn(f"{getattr(model, 'name', 'model')}: {'; '.join(phrases)}", style="dim")


def load_classifiers(
    specs: Mapping[str, str],
    names: ClassOptions,
    *,
    device: str,
    run_folder: Path,
    dtype: Dtype | None = None,
) -> dict[str, Classifier]:
    """Load classifiers by name and spec, and print the assumptions."""
    from shiftproof.models import load_classifier

    check_classifiers(specs, names)
    loaded = {
        name: load_classifier(
            spec,
            device=device,
            dtype=dtype,
            classes=names.classes,
            templates=names.templates,
            run_folder=run_folder,
        )
        for name, spec in specs.items()
    }
    for classifier in loaded.values():
        show_assumed(classifier)
    return loaded


def check_classifiers(specs: Mapping[str, str], names: ClassOptions | None = None) -> None:
    """Refuse invalid classifier specs, all before the first model is loaded."""
    from shiftproof.models.classifiers.load import check_classifier

    for spec in specs.values():
        if names is None:
            check_classifier(spec)
        else:
            check_classifier(spec, classes=names.classes, templates=names.templates)


def check_out(out: Path, *, dry_run: bool = False) -> None:
    """Refuse an unusable output folder for a run, before a model is loaded.

    Raises:
        InputError: it is a file, has other content, or cannot be written to.
    """
    from shiftproof.io.manifest import check_target
    from shiftproof.runs.folder import RUN_FILE

    if not dry_run:
        check_target(out, RUN_FILE, what="a run")


class _Described(Protocol):
    """A row of one of the tables."""

    @property
    def description(self) -> str:
        """A description in one sentence."""


OPTIONS: dict[str, str] = {
    "size": "input size of the network, in pixels: 224, or 224x320 for height x width",
    "resize": "the shorter side before the crop, or height x width; segmenters: none, 520 or 512x1024",
    "interpolation": "how images are resized: bilinear, bicubic, lanczos or nearest",
    "mean": "one number a channel, for images in 0..1: 0.5,0.5,0.5",
    "std": "likewise",
    "classes": "classes of the outputs: imagenet, numbered, or a file with one name a line",
    "templates": "sentences of zero-shot classes: openai, simple, or a file with one a line",
    "template": "the prompt of a detector, with {} for the name",
    "arch": "the architecture of a checkpoint: timm:NAME or torchvision:NAME",
    "weights": "which weights of several in a checkpoint: ema, raw, or their place; segmenters: a file",
    "pretrained": "false for random weights",
    "output": "the output of an ONNX file that has several",
    "layout": "order of the axes of an ONNX file's input: nchw or nhwc, if the file leaves it open",
    "pixels": "what an ONNX file takes: normalized, or pixels as they are: 0..1 or 0..255",
    "output_layout": "segmenters: order of the axes of an ONNX file's output, if the file leaves it open",
    "decode": "the format of the outputs of a detector's ONNX file; see below",
    "score": "minimum score of a box",
    "overlap": "IoU above which the weaker of two boxes of a class is dropped",
    "limit": "maximum number of boxes in an image",
    "window": "segmenters: size of the sliding window in pixels",
    "stride": "segmenters: pixels between two windows",
}
"""Options after the ``?`` of a model spec, with their descriptions."""


def describe_entries(entries: Mapping[str, _Described]) -> dict[str, str]:
    """Return the descriptions of the entries of a table."""
    return {name: entry.description for name, entry in entries.items()}


def models(
    as_json: Annotated[bool, json_option("Print as JSON.")] = False,
) -> None:
    """List how classifiers, detectors and encoders are named (--model), and the adapters (--adapt).

    docs/models.md says which of them go with which verbs.
    """
    if as_json:
        tables = {kind: describe_entries(entries) for kind, (entries, _) in list_tables().items()}
        print_json(json.dumps(tables, indent=1))
        return
    for kind, title in TITLES.items():
        _print_title(title)  # before the slow imports of its rows
        entries, common = list_tables()[kind]
        _print_rows({name: _explain(entry, common) for name, entry in entries.items()})
    from shiftproof.models.detectors.decodings import DECODINGS

    _print("?OPTION=VALUE behind a model's name, several joined by &", OPTIONS)
    _print("?decode= of a detector's ONNX file", describe_entries(DECODINGS))


TITLES = {
    "models": "--model of a classifier",
    "detectors": "--model of a detector",
    "segmenters": "--model of a segmenter",
    "encoders": "--model of an encoder",
    "text_towers": "--model of texts",
    "adapters": "--adapt",
    "dense_adapters": "--adapt of a detector or segmenter",
}
"""The command-line option that takes the entries of each table."""


def list_tables() -> dict[str, tuple[Mapping[str, _Described], tuple[str, ...]]]:
    """Return the rows of each table of ``TITLES``, and the options common to its rows."""
    from shiftproof.adapt import ADAPTERS
    from shiftproof.adapt.dense.methods import METHODS
    from shiftproof.models import CLASSIFIER_LOADERS
    from shiftproof.models.classifiers.load import APPLIED
    from shiftproof.models.detectors.load import DETECTOR_LOADERS
    from shiftproof.models.encoders.load import ENCODER_LOADERS
    from shiftproof.models.encoders.texts import TEXT_LOADERS
    from shiftproof.models.segmenters.load import COMMON, SEGMENTER_LOADERS

    return {
        "models": (CLASSIFIER_LOADERS, ("classes", *APPLIED)),
        "detectors": (DETECTOR_LOADERS, ("classes",)),
        "segmenters": (SEGMENTER_LOADERS, COMMON),
        "encoders": (ENCODER_LOADERS, APPLIED),
        "text_towers": (TEXT_LOADERS, ()),
        "adapters": (ADAPTERS, ()),
        "dense_adapters": (METHODS, ()),
    }


def _explain(entry: _Described, common: tuple[str, ...]) -> str:
    """Return description, example and options of an entry."""
    lines = [entry.description]
    if example := getattr(entry, "example", None):
        accepted = [*getattr(entry, "options", ()), *common]
        names = ", ".join(name for name in OPTIONS if name in accepted)
        lines += [f"  {example}", *([f"  takes {names}"] if names else [])]
    elif options := getattr(entry, "options", ()):
        lines.append(f"  takes {', '.join(options)}")
    return "\n".join(lines)


def _print(title: str, rows: Mapping[str, str]) -> None:
    _print_title(title)
    _print_rows(rows)


def _print_title(title: str) -> None:
    Console(file=sys.stdout).print(Text(title, style="bold"))


def _print_rows(rows: Mapping[str, str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(Text(name), Text(text))
    console = Console(file=sys.stdout)
    console.print(table)
    console.print()
