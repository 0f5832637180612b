"""``shiftproof bench``: classifiers on the corruption grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from shiftproof.cli.copying import show_aside
from shiftproof.cli.grid_options import (
    AskedOptions,
    ClassOptions,
    DeviceOptions,
    GridOptions,
    ShiftOptions,
    WhichImages,
    name_specs,
    parse_adapters,
    split_images,
)
from shiftproof.cli.grid_run import run_grid
from shiftproof.cli.models import show_assumed
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import (
    DATA_PANEL,
    LABEL_KEY_HELP,
    AsJson,
    Depth,
    Out,
    Root,
    Split,
)
from shiftproof.cli.outcome import PageWatch, show_outcome
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.cli.printing import say
from shiftproof.errors import InputError

LabelSet: TypeAlias = Literal["none", "imagenet-a", "imagenet-r", "imagenet-d", "objectnet"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "bench",
        epilog=(
            "Examples:  shiftproof bench --model timm:resnet50 --data photos --out run  ·  "
            "shiftproof bench --model demo --data photos --out run "
            "--corruptions fog,noise --severities 1,3,5  ·  "
            "shiftproof bench --model torchvision:resnet50 --data ImageNet-C --out run "
            "--adapt batchnorm --protocol online:mix=severities  ·  "
            "shiftproof bench --model timm:resnet50 --data photos --out run --budget 10min"
        ),
    )(expand_groups(bench))


def bench(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="SPEC",
            help="timm:NAME, torchvision:NAME, transformers:NAME, open_clip:NAME/WEIGHTS, onnx:FILE, "
            "file:CHECKPOINT?arch=timm:NAME, or demo. `shiftproof models` says more. Several, each "
            "with a --model, see the same images.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="A folder with one folder per class (WordNet id, name or index), a flat folder or "
            "the photographs of COCO, Pascal VOC, Cityscapes or YOLO (no labels: agreement with "
            "the clean images is measured), webdataset tars, a data set saved by Hugging Face's "
            "datasets, Parquet of images, a CSV of path,label, a -C tree "
            "(corruption/severity/class/file), or demo.",
        ),
    ],
    out: Out,
    adapt: Annotated[
        str,
        typer.Option(
            "--adapt",
            "-a",
            metavar="SPECS",
            help="Adapters to run beside the model, separated by spaces: 'batchnorm eata:margin=0.5 "
            "guard+rpl:lr=0.001'. `shiftproof models` lists them. none for the model alone.",
        ),
    ] = "none",
    images: WhichImages = None,
    *,
    asked: AskedOptions,
    shifts: ShiftOptions,
    depth: Depth = None,
    grid: GridOptions,
    gpu: DeviceOptions,
    labels: Annotated[
        LabelSet,
        typer.Option(
            "--label-set",
            metavar="NAME",
            help="The data have a share of ImageNet's classes: imagenet-r, imagenet-a, "
            "imagenet-d (give one domain's folder) or objectnet. The model answers these alone.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = "none",
    names: ClassOptions,
    unlabeled: Annotated[
        bool,
        typer.Option(
            "--unlabeled",
            "--unlabelled",
            help="Ignore folder names; measure agreement.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = False,
    clean: Annotated[
        Path | None,
        typer.Option(
            "--clean",
            metavar="DIR",
            help="The clean images that belong to a -C tree.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    split: Split = None,
    root: Root = None,
    label_key: Annotated[
        str | None,
        typer.Option(
            "--label-key", metavar="NAME", help=LABEL_KEY_HELP, rich_help_panel=DATA_PANEL
        ),
    ] = None,
    parts: PartOptions,
    plan: PlanOptions,
    as_json: AsJson = False,
) -> None:
    """Measure how much classifiers lose under corruption, and what adaptation brings back."""
    from shiftproof.bench import Classification, run_anytime
    from shiftproof.classes import label_set
    from shiftproof.data import CorruptedData, ImageFolder, open_data, read_class_map
    from shiftproof.models import load_classifier

    if depth is not None and not depth.startswith("onnx:"):
        raise InputError(
            "--depth FOLDER: classifiers see resized images, which the maps no longer fit. Make the "
            "copies with `shiftproof corrupt --depth` and measure those, or give --depth onnx:FILE."
        )
    plan.check()
    backend = parts.choose(grid.workers)
    specs = name_specs(model)
    severities = shifts.levels
    adapters = parse_adapters(adapt)
    wanted, seconds = asked.wanted, asked.seconds
    if plan.dry_run and wanted is not None:
        raise InputError(
            f"{wanted} decides the number of images itself; leave it out of --dry-run."
        )
    if adapters and wanted is not None and wanted != "--precision":
        raise InputError(
            f"{wanted} asks images in any order, and an adapter learns from the order that it sees; "
            "leave out --adapt, or say --precision or --images N."
        )
    asked.check()
    task = Classification(calibrate=asked.calibrate, coverage=asked.coverage, kept=out)
    share = None if labels == "none" else label_set(labels)
    classifiers = {
        name: load_classifier(
            spec,
            device=grid.device,
            dtype=gpu.dtype,
            classes=names.classes,
            templates=names.templates,
            kept=out,
        )
        for name, spec in specs.items()
    }
    if share is not None:
        classifiers = {name: one.restrict(share) for name, one in classifiers.items()}
    for classifier in classifiers.values():
        show_assumed(classifier)
    first = next(iter(classifiers.values()))
    count, folder = split_images(images)
    dataset = open_data(
        data,
        classes=first.classes if share is None else share,
        class_map=read_class_map(names.class_map) if names.class_map else None,
        labeled=False if unlabeled else None,
        clean=clean,
        split=split,
        images=folder,
        root=root,
        label_key=label_key,
    )
    show_aside(dataset.aside)
    if share is None and isinstance(dataset, ImageFolder) and dataset.hint is not None:
        say(dataset.hint, error=True)
    from_copies = isinstance(dataset, CorruptedData)
    others = dataset.other_corruptions if isinstance(dataset, CorruptedData) else ()
    named_shifts = shifts.choose(others, depth, from_copies=from_copies)
    is_anytime = not adapters and (wanted != "--precision" or dataset.is_labeled)
    if gpu.corrupt_on == "device" and (plan.dry_run or (wanted is not None and is_anytime)):
        raise InputError(
            f"{'--dry-run' if plan.dry_run else wanted} corrupts image by image, in the workers; leave "
            "out --corrupt-on device."
        )
    if wanted is not None and is_anytime:
        if backend is not None:
            raise InputError(
                f"{wanted} asks for the next images by what was seen before; one process does "
                "that. Leave out --engine, --worker and --of, or say --images N."
            )
        anytime = run_anytime(
            classifiers,
            dataset,
            budget=seconds,
            precision=asked.precision,
            compare=asked.compare,
            corruptions=named_shifts,
            severities=severities,
            images=count,
            out=out,
            batch_size=64 if grid.batch_size is None else grid.batch_size,
            seed=grid.seed,
            encode=grid.encode,
            workers=grid.workers,
            watch=PageWatch(),
        )
        show_outcome(anytime, as_json=as_json, log=grid.log or ())
        return
    run_grid(
        classifiers,
        dataset,
        task=task,
        corruptions=named_shifts,
        severities=severities,
        adapters=adapters,
        images=count,
        precision=asked.precision,
        out=out,
        grid=grid,
        parts=parts,
        backend=backend,
        plan=plan,
        as_json=as_json,
        corrupt_on=gpu.corrupt_on,
        trust=asked.calibrate is not None,
    )
