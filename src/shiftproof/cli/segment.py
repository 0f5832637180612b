"""``shiftproof segment``: networks for semantic segmentation on the corruption grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from shiftproof.cli.dense_options import DenseOptions
from shiftproof.cli.grid_options import (
    Adapt,
    Budget,
    GridOptions,
    ShiftOptions,
    name_specs,
)
from shiftproof.cli.grid_run import GridCommand, plan_dense_job, run_dense_grid
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import (
    DATA_PANEL,
    AsJson,
    ClassMap,
    CorruptedFolder,
    GridOut,
    data_option,
    model_option,
)
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.data import SegmentationData


@dataclass(frozen=True)
class LabelMapOptions:
    """Options that describe a dataset with label maps."""

    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks",
            metavar="DIR",
            help="Folder of label maps of the images in --data, by the same names.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="FILE",
            help="Classes of these label maps: a file with one name a line, a CSV of number,name, or "
            "cityscapes, ade20k, voc.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    void: Annotated[
        str,
        typer.Option(
            "--void",
            metavar="NUMBERS",
            help="Numbers of ignored pixels in the label maps, separated by commas, or none.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = "255"
    class_map: ClassMap = None
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="val by default; of Pascal VOC a list in ImageSets/Segmentation.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    condition: Annotated[
        str | None,
        typer.Option(
            "--condition",
            metavar="NAME",
            help="fog, night, rain or snow (ACDC), foggy_beta_0.02 (Foggy Cityscapes), all.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    corrupted: CorruptedFolder = None

    def open(self, data: str) -> SegmentationData:
        """Open the data."""
        from shiftproof.data import open_segmentation_data

        return open_segmentation_data(
            data,
            split=self.split,
            masks=self.masks,
            classes=self.classes,
            void=_parse_numbers(self.void),
            condition=self.condition,
        )


Models: TypeAlias = Annotated[
    list[str],
    model_option(
        "torchvision:NAME, transformers:FOLDER, onnx:FILE or python:MODULE:FUNCTION; "
        "?resize=, ?window= and ?stride= set the input. `shiftproof models` lists all forms. Repeat "
        "--model for several models on the same images."
    ),
]
DataPath: TypeAlias = Annotated[
    str,
    data_option("A folder of Cityscapes, ACDC, ADE20K or Pascal VOC, or of images and label maps."),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "segment",
        epilog=(
            "Examples:  shiftproof segment --model torchvision:deeplabv3_resnet50 --data VOCdevkit "
            "--out run  ·  "
            "shiftproof segment --model 'onnx:net.onnx?classes=cityscapes&window=512' "
            "--data cityscapes --out run --corruptions weather --severities 1,3,5"
        ),
    )(expand_groups(segment))


def segment(
    model: Models,
    data: DataPath,
    out: GridOut,
    adapt: Adapt = "none",
    budget: Budget = None,
    *,
    shifts: ShiftOptions,
    grid: GridOptions,
    data_options: LabelMapOptions,
    dense: DenseOptions,
    parts: PartOptions,
    plan: PlanOptions,
    as_json: AsJson = False,
) -> None:
    """Measure how much semantic segmentation loses under corruption: mIoU, mPC and rPC."""
    specs = name_specs(model, out)
    command = GridCommand(model, data, out, adapt, shifts, grid, parts, plan, as_json)
    job = plan_dense_job(
        command, "segmenter", dense, corrupted=data_options.corrupted, budget=budget
    )
    from shiftproof.adapt import AdaptedSegmenter
    from shiftproof.bench import Segmentation
    from shiftproof.bench.cells.views import open_tree
    from shiftproof.data import read_class_map
    from shiftproof.models import load_segmenter
    from shiftproof.models.segmenters.load import check_segmenter

    class_map = read_class_map(data_options.class_map) if data_options.class_map else None
    dataset = data_options.open(data)
    # Before a model is loaded, which may take a download.
    for spec in specs.values():
        check_segmenter(spec)
    task = Segmentation(corrupted=open_tree(data_options.corrupted, dataset), class_map=class_map)
    segmenters = {name: load_segmenter(spec, device=grid.device) for name, spec in specs.items()}
    run_dense_grid(segmenters, dataset, task, job, dense=dense, adapt=AdaptedSegmenter)


def _parse_numbers(text: str) -> tuple[int, ...]:
    if text.strip() in ("", "none"):
        return ()
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and len(word) < 6 and int(word) < 65_536 for word in words):
        raise InputError(
            f"--void: expected numbers of 0 to 65535 such as 0,255, or none, got {text!r}."
        )
    return tuple(int(word) for word in words)
