"""``shiftproof detect``: detectors on the corruption grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from shiftproof.cli.dense_options import DenseOptions
from shiftproof.cli.grid_options import (
    Adapt,
    Budget,
    GridOptions,
    Precision,
    ShiftOptions,
    WhichImages,
    name_specs,
    split_images,
)
from shiftproof.cli.grid_run import GridCommand, plan_dense_job, run_dense_grid
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import (
    DATA_PANEL,
    AsJson,
    ClassMap,
    CorruptedFolder,
    Depth,
    GridOut,
    MeasureName,
    Root,
    Split,
    data_option,
    model_option,
)
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.cli.printing import print_line

if TYPE_CHECKING:
    from shiftproof.data import DetectionData


@dataclass(frozen=True)
class BoxOptions:
    """Options that describe a dataset with boxes and its measure."""

    measure: MeasureName = "auto"
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="FILE",
            help="File with one class name a line: the model's classes, or the prompts of an open-vocabulary "
            "detector (OWL-ViT, Grounding DINO, OmDet-Turbo, YOLO-World); by default the data's "
            "classes.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    class_map: ClassMap = None
    split: Split = None
    root: Root = None
    box_format: Annotated[
        Literal["xywh", "xyxy"] | None,
        typer.Option(
            "--box-format",
            metavar="NAME",
            help="Format of boxes in tars and tables: xywh (COCO's; the default), or xyxy (two corners).",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    corrupted: CorruptedFolder = None

    def open(self, data: str, folder: str | None) -> DetectionData:
        """Open the data, and print its first faults; ``folder`` is the folder of its images."""
        from shiftproof.data import open_detection_data

        dataset = open_detection_data(
            data, split=self.split, images=folder, root=self.root, box_format=self.box_format
        )
        for fault in dataset.faults[:3]:
            print_line(str(fault), error=True)
        if len(dataset.faults) > 3:
            rest = len(dataset.faults) - 3
            print_line(f"and {rest} more; the counts are in the run's record.", error=True)
        return dataset


Models: TypeAlias = Annotated[
    list[str],
    model_option(
        "torchvision:NAME, onnx:FILE, file:CHECKPOINT?arch=torchvision:NAME, "
        "transformers:NAME, ultralytics:FILE or python:MODULE:FUNCTION; open-vocabulary detectors "
        "are prompted with the data's classes. `shiftproof models` lists all forms. Repeat --model "
        "for several models on the same images."
    ),
]
DataPath: TypeAlias = Annotated[
    str,
    data_option(
        "A folder or file of COCO, Pascal VOC, Cityscapes or YOLO; webdataset tars, a "
        "dataset saved by Hugging Face's datasets, or Parquet, with objects of each image."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "detect",
        epilog=(
            "Examples:  shiftproof detect --model torchvision:fasterrcnn_resnet50_fpn "
            "--data VOCdevkit --out run  ·  "
            "shiftproof detect --model onnx:detector.onnx --data instances_val2017.json --out run "
            "--corruptions weather --severities 1,3,5"
        ),
    )(expand_groups(detect))


def detect(
    model: Models,
    data: DataPath,
    out: GridOut,
    adapt: Adapt = "none",
    images: WhichImages = None,
    precision: Precision = None,
    budget: Budget = None,
    *,
    shifts: ShiftOptions,
    depth: Depth = None,
    grid: GridOptions,
    data_options: BoxOptions,
    dense: DenseOptions,
    parts: PartOptions,
    plan: PlanOptions,
    as_json: AsJson = False,
) -> None:
    """Measure how much detectors lose under corruption: mPC and rPC."""
    specs = name_specs(model, out)
    command = GridCommand(model, data, out, adapt, shifts, grid, parts, plan, as_json)
    job = plan_dense_job(
        command,
        "detector",
        dense,
        corrupted=data_options.corrupted,
        budget=budget,
        images=images,
        precision=precision,
        depth=depth,
    )
    from shiftproof.adapt import AdaptedDetector
    from shiftproof.bench import Detection
    from shiftproof.bench.cells.views import open_tree
    from shiftproof.data import read_class_map
    from shiftproof.models import load_detector
    from shiftproof.models.detectors.load import check_detector

    class_map = read_class_map(data_options.class_map) if data_options.class_map else None
    dataset = data_options.open(data, split_images(images)[1])
    # Before a model is loaded, which may take a download.
    for spec in specs.values():
        check_detector(spec, classes=data_options.classes)
    task = Detection(
        measure=data_options.measure,
        corrupted=open_tree(data_options.corrupted, dataset),
        class_map=class_map,
    )
    detectors = {
        name: load_detector(
            spec, device=grid.device, classes=data_options.classes, vocabulary=dataset.classes
        )
        for name, spec in specs.items()
    }
    run_dense_grid(detectors, dataset, task, job, dense=dense, adapt=AdaptedDetector)
