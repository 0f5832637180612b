"""``shiftproof score``: measure predictions of any framework, from its result files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shiftproof.cli.grid_options import CalibrateOptions
from shiftproof.cli.option_groups import expand_groups
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
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.printing import announce, print_line
from shiftproof.data.presence import check_presence
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.data import ImageData


@dataclass(frozen=True)
class TruthOptions:
    """Options that describe the annotations."""

    masks: Annotated[
        Path | None,
        typer.Option("--masks", help="Folder of the label maps of the images in --data."),
    ] = None
    condition: Annotated[
        str | None,
        typer.Option("--condition", help="For data with label maps, as for `segment`."),
    ] = None
    split: Split = None
    images: ImagesFolder = None
    root: Root = None


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "score",
        epilog=(
            "Examples:  shiftproof score --predictions results --data instances_val2017.json "
            "--out run  ·  shiftproof score --predictions mine=results --predictions "
            "theirs=other/results --data VOCdevkit --out run  ·  "
            "shiftproof score --predictions test_robustness_results.pkl --out run  ·  "
            "shiftproof score --predictions label_maps --data cityscapes --out run"
        ),
    )(expand_groups(score))


def score(
    predictions: Annotated[
        list[str],
        typer.Option(
            "--predictions",
            "-p",
            metavar="PATH",
            help="Folder with one file per cell: fog/3.json, fog/3/results.bbox.json or fog-3.json, "
            "and clean.json. COCO results (.json), or classes (.npz, .npy, .csv, .parquet, .json: logits, "
            "probabilities, top1 to top5). Of segmenters a folder of PNG label maps per cell: "
            "fog/3/<path of the image>.png. Or one table: of classes with columns corruption, "
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
            "VOC, Cityscapes or YOLO. Of classes: class folders, or a CSV of path,label. Of label "
            "maps: a folder as `segment` takes. A table "
            "of results needs none, nor do files with images and labels.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="FILE",
            help="Classes of classifiers' scores: imagenet, or a file with one name a "
            "line. By default imagenet for 1,000 scores, else numbers. Classes of the numbers in label "
            "maps: index (places in the data's classes), label-maps (the data's numbers), "
            "cityscapes, ade20k, voc, a file with one name a line, or a CSV of number,name.",
        ),
    ] = None,
    class_map: Annotated[
        Path | None,
        typer.Option(
            "--class-map",
            help="CSV or JSON: from a class or number of label maps to a class of the data.",
        ),
    ] = None,
    *,
    truth: TruthOptions,
    measure: MeasureName = "auto",
    calibration: CalibrateOptions,
    workers: Workers = None,
    parts: PartOptions,
    as_json: AsJson = False,
) -> None:
    """Score classes, detections or label maps under corruption, made elsewhere; no model is needed."""
    backend = parts.choose(workers)
    result_paths = _name_predictions(predictions)
    for path in result_paths.values() if isinstance(result_paths, dict) else [result_paths]:
        check_presence(path, "results")
    announce(f"Scoring {', '.join(predictions)}{f' on {data}' if data else ''}", out)
    from shiftproof import bench
    from shiftproof.data import read_class_map

    with parts.share():
        run = bench.score(
            result_paths,
            _open(result_paths, data, truth, classes),
            out=out,
            measure=measure,
            classes=classes,
            class_map=None if class_map is None else read_class_map(class_map),
            calibrate=calibration.calibrate,
            coverage=calibration.choose_coverage(),
            workers=workers,
            backend=backend,
        )
    for line in run.info.describe_faults():
        print_line(line, error=True)
    show_outcome(run, as_json=as_json, trust=calibration.calibrate is not None)


def _open(
    predictions: str | dict[str, str | Path],
    data: str | None,
    truth: TruthOptions,
    classes: str | None,
) -> ImageData | str | None:
    """Open the annotations if an option describes them; else return them unchanged."""
    from shiftproof.bench.scoring.score import guess_task
    from shiftproof.bench.scoring.segmenters import ANSWER_NUMBERS
    from shiftproof.data import open_detection_data, open_segmentation_data

    if data is None:
        return None
    split, images, root = truth.split, truth.images, truth.root
    masks, condition = truth.masks, truth.condition
    by_name = predictions if isinstance(predictions, dict) else {"": predictions}
    if guess_task({name: Path(path) for name, path in by_name.items()}) == "segmentation":
        if images is not None or root is not None:
            raise InputError("--images and --root are for boxes and classes; give --masks.")
        if split is None and masks is None and condition is None:
            return data
        names = None if masks is None or classes in ANSWER_NUMBERS else classes
        return open_segmentation_data(
            data, split=split, masks=masks, condition=condition, classes=names
        )
    if masks is not None or condition is not None:
        raise InputError("--masks and --condition are for label maps; these are not label maps.")
    if split is None and images is None and root is None:
        return data
    return open_detection_data(data, split=split, images=images, root=root)


def _name_predictions(texts: list[str]) -> str | dict[str, str | Path]:
    """Parse one ``PATH``, or several ``NAME=PATH``."""
    if len(texts) == 1 and ("=" not in texts[0] or Path(texts[0]).exists()):
        return texts[0]
    named: dict[str, str | Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise InputError(f"Expected several predictions as NAME=PATH, got {text!r}.")
        if name in named:
            raise InputError(f"Two predictions have the name {name!r}; expected different names.")
        named[name] = path
    return named
