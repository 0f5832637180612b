"""``shiftproof detect``: detectors on the corruption grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli.grid_options import (
    DATA_PANEL,
    AsJson,
    BatchSize,
    Constants,
    Corruptions,
    Depth,
    Device,
    EncodeText,
    FrostFolder,
    Out,
    Precision,
    ProtocolText,
    Seed,
    Severities,
    WhichImages,
    Workers,
    name_specs,
    parse_adapters,
    split_images,
)
from shiftproof.cli.models import show_assumed
from shiftproof.cli.options import (
    MEASURE_HELP,
    ROOT_HELP,
    SPLIT_HELP,
    check_choice,
    named_corruptions,
    parse_encode,
    parse_severities,
)
from shiftproof.cli.outcome import show_outcome
from shiftproof.cli.printing import say


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
    )(detect)


def detect(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="torchvision:NAME, onnx:FILE, file:CHECKPOINT?arch=torchvision:NAME, "
            "transformers:NAME or ultralytics:FILE. Those that take words look for the data's "
            "classes. `shiftproof models` says more. Several, each with a --model, see the same "
            "images.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="A folder or file of COCO, Pascal VOC, Cityscapes or YOLO; webdataset tars, a data "
            "set saved by Hugging Face's datasets, or Parquet, with objects of each image.",
        ),
    ],
    out: Out,
    corruptions: Corruptions = "common",
    severities: Severities = "1-5",
    adapt: Annotated[
        str,
        typer.Option(
            "--adapt",
            "-a",
            help="Batch-norm adaptations to run beside the first detector, separated by spaces: "
            "'batchnorm:prior=16'. none for the detectors alone.",
        ),
    ] = "none",
    measure: Annotated[str, typer.Option("--measure", help=MEASURE_HELP)] = "auto",
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="A file with one name a line: what the labels mean, or what a detector that takes "
            "words (OWL-ViT, Grounding DINO, YOLO-World) is asked for; the data's classes by default.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    class_map: Annotated[
        Path | None,
        typer.Option(
            "--class-map",
            help="CSV or JSON: the detector's class to that of the data.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help=SPLIT_HELP, rich_help_panel=DATA_PANEL),
    ] = None,
    images: WhichImages = None,
    precision: Precision = None,
    root: Annotated[
        Path | None, typer.Option("--root", help=ROOT_HELP, rich_help_panel=DATA_PANEL)
    ] = None,
    box_format: Annotated[
        str | None,
        typer.Option(
            "--box-format",
            help="Of tars and tables: xywh (as COCO; the default), or xyxy for two corners.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    corrupted: Annotated[
        Path | None,
        typer.Option(
            "--corrupted",
            help="A folder of corrupted copies to read, as `corrupt` writes them.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    frost_dir: FrostFolder = None,
    depth: Depth = None,
    constants: Constants = "published",
    batch_size: BatchSize = None,
    protocol: ProtocolText = "online",
    seed: Seed = 0,
    encode: EncodeText = "none",
    device: Device = "cpu",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Measure how much detectors lose under corruption: mPC and rPC."""
    from shiftproof import bench as benchmark
    from shiftproof.data import CorruptedTree, open_detection_data, read_class_map
    from shiftproof.models import load_detector

    specs = name_specs(model)
    chosen = parse_severities(severities)
    adapters = parse_adapters(adapt)
    shown = benchmark.parse_protocol(protocol)
    encoding = parse_encode(encode)
    task = benchmark.Detection(
        measure=measure,
        corrupted=corrupted,
        class_map=read_class_map(class_map) if class_map else None,
    )
    others = () if corrupted is None else CorruptedTree(corrupted, labeled=False).other_corruptions
    named = named_corruptions(corruptions, frost_dir, others, constants, depth)
    if corrupted is None:
        check_choice(named, chosen)
    count, folder = split_images(images)
    dataset = open_detection_data(
        data, split=split, images=folder, root=root, box_format=box_format
    )
    for fault in dataset.faults[:3]:
        say(str(fault), error=True)
    if len(dataset.faults) > 3:
        more = len(dataset.faults) - 3
        say(f"and {more} more; the counts are in the run's record.", error=True)
    named_specs = {benchmark.SOURCE: specs} if isinstance(specs, str) else specs
    detectors = {
        name: load_detector(spec, device=device, classes=classes, vocabulary=dataset.classes)
        for name, spec in named_specs.items()
    }
    for detector in detectors.values():
        show_assumed(detector)
    run = benchmark.run(
        detectors,
        dataset,
        task=task,
        corruptions=named,
        severities=chosen,
        adapters=adapters,
        images=count,
        precision=precision,
        out=out,
        batch_size=batch_size,
        protocol=shown,
        seed=seed,
        encode=encoding,
        device=device,
        workers=workers,
    )
    show_outcome(run, as_json=as_json)
