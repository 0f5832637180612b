"""``shiftproof score``: detections of any framework, from their result files."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shiftproof.cli.options import (
    AsJson,
    ImagesFolder,
    MeasureName,
    Out,
    Root,
    Split,
    Workers,
)
from shiftproof.cli.outcome import show_outcome
from shiftproof.cli.printing import say, warn
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.runs.scores.grid import GridScores


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "score",
        epilog=(
            "Examples:  shiftproof score --predictions results --data instances_val2017.json "
            "--out run  ·  shiftproof score --predictions mine=results --predictions "
            "theirs=other/results --data VOCdevkit --out run  ·  "
            "shiftproof score --predictions test_robustness_results.pkl --out run"
        ),
    )(score)


def score(
    predictions: Annotated[
        list[str],
        typer.Option(
            "--predictions",
            "-p",
            metavar="PATH",
            help="Folder with one file per cell: fog/3.json, fog/3/results.bbox.json or fog-3.json, "
            "and clean.json. COCO results (.json), or classes (.npz, .npy, .csv, .parquet: logits, "
            "probabilities, top1 to top5). Or one table: of classes with columns corruption, "
            "severity, image; of results the .pkl of mmdetection's test_robustness, .json or .csv. "
            "Several as NAME=PATH, each with a --predictions.",
        ),
    ],
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="The annotations: a COCO JSON (its images are not needed), or a folder of Pascal "
            "VOC, Cityscapes or YOLO. Of classes: class folders, or a CSV of path,label. A table "
            "of results needs none, nor do files with images and labels.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="FILE",
            help="What the scores of classifiers stand for: imagenet, or a file with one name a "
            "line. By default imagenet for 1,000 scores, else numbers.",
        ),
    ] = None,
    measure: MeasureName = "auto",
    split: Split = None,
    images: ImagesFolder = None,
    root: Root = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Score classes or detections under corruption that were made elsewhere; no model is needed."""
    from shiftproof import bench
    from shiftproof.data import open_detection_data
    from shiftproof.models.classifiers.class_names import read_classes

    is_plain = split is None and images is None and root is None
    truth = (
        data
        if data is None or is_plain
        else open_detection_data(data, split=split, images=images, root=root)
    )
    run = bench.score(
        _named(predictions),
        truth,
        out=out,
        measure=measure,
        classes=None if classes is None else read_classes(classes),
        workers=workers,
    )
    for line in run.head.describe_faults():
        say(line, error=True)
    for sentence in _list_doubts(run.scores):
        warn(sentence)
    show_outcome(run, as_json=as_json)


def _list_doubts(scores: GridScores) -> list[str]:
    """Say which names look like misspelt ones, and what is missing of a whole grid."""
    from shiftproof.corruptions import CORRUPTIONS

    doubts = []
    for name in scores.corruptions:
        close = difflib.get_close_matches(name, CORRUPTIONS, n=1, cutoff=0.6)
        if name not in CORRUPTIONS and close:
            doubts.append(
                f"{name} is taken for a corruption of its own; if {close[0]} is meant, rename it."
            )
    if missing := scores.grid.missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        doubts.append(
            f"Not measured, as a result file of at least one model is missing: "
            f"{', '.join(missing[:5])}{more}."
        )
    return doubts


def _named(texts: list[str]) -> str | dict[str, str | Path]:
    """Read ``PATH`` alone, or several ``NAME=PATH``."""
    if len(texts) == 1 and ("=" not in texts[0] or Path(texts[0]).exists()):
        return texts[0]
    named: dict[str, str | Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise InputError(f"Expected several predictions as NAME=PATH, got {text!r}.")
        if name in named:
            raise InputError(f"Two predictions are called {name!r}; expected names of their own.")
        named[name] = path
    return named
