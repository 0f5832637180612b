"""``shiftproof bench``: classifiers on the corruption grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from shiftproof.cli.copying import show_omissions
from shiftproof.cli.grid_options import (
    ClassOptions,
    DeviceOptions,
    GridOptions,
    MeasurementOptions,
    ShiftOptions,
    WhichImages,
    name_specs,
    parse_adapters,
    split_images,
)
from shiftproof.cli.grid_run import Copies, GridCommand, GridJob, run_grid
from shiftproof.cli.models import check_classifiers, check_out, load_classifiers
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import (
    DATA_PANEL,
    LABEL_KEY_HELP,
    AsJson,
    Depth,
    GridOut,
    Root,
    Split,
    data_option,
    model_option,
)
from shiftproof.cli.outcome import PageWatch, show_outcome
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.cli.printing import print_line
from shiftproof.data.presence import check_presence, is_address
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.data import ImageData
    from shiftproof.models import Classifier
    from shiftproof.shards import Backend

LabelSet: TypeAlias = Literal["none", "imagenet-a", "imagenet-r", "imagenet-d", "objectnet"]


@dataclass(frozen=True)
class DataOptions:
    """What a dataset of classes has, where its names do not say enough."""

    labels: Annotated[
        LabelSet,
        typer.Option(
            "--label-set",
            metavar="NAME",
            help="The data have a share of ImageNet's classes: imagenet-r, imagenet-a, "
            "imagenet-d (give one domain's folder) or objectnet. The model answers these alone.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = "none"
    unlabeled: Annotated[
        bool,
        typer.Option(
            "--unlabeled",
            "--unlabelled",
            help="Ignore folder names; measure agreement.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = False
    clean: Annotated[
        Path | None,
        typer.Option(
            "--clean",
            metavar="DIR",
            help="The clean images that belong to a -C tree: a folder, or tars or tables of one.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    split: Split = None
    root: Root = None
    label_key: Annotated[
        str | None,
        typer.Option(
            "--label-key", metavar="NAME", help=LABEL_KEY_HELP, rich_help_panel=DATA_PANEL
        ),
    ] = None

    def check(self) -> None:
        """Refuse missing clean images, before a model is loaded."""
        if self.clean is not None and not (self.clean.exists() or is_address(self.clean)):
            raise InputError(f"--clean {self.clean}: expected clean images, found nothing there.")

    def check_data(
        self, data: str, folder: str | None, class_map: Mapping[str, str] | None
    ) -> None:
        """Refuse data that cannot be opened, before a model is loaded; arguments as for :meth:`open`."""
        from shiftproof.data.images.opening import check_data

        check_data(
            data,
            class_map=class_map,
            labeled=False if self.unlabeled else None,
            clean=self.clean,
            split=self.split,
            images=folder,
            root=self.root,
            label_key=self.label_key,
        )

    def open(
        self,
        data: str,
        folder: str | None,
        classifiers: Mapping[str, Classifier],
        class_map: Mapping[str, str] | None,
    ) -> ImageData:
        """Open the data for classifiers of the same classes, and print what is not used.

        Args:
            data: as the command names it.
            folder: where its images are, if the command says so.
            classifiers: the first one's classes are those of the data.
            class_map: from a class of the data to one of the model.
        """
        from shiftproof.classes import label_set
        from shiftproof.data import ImageFolder, open_data

        classes = next(iter(classifiers.values())).classes
        dataset = open_data(
            data,
            classes=classes if self.labels == "none" else label_set(self.labels),
            class_map=class_map,
            labeled=False if self.unlabeled else None,
            clean=self.clean,
            split=self.split,
            images=folder,
            root=self.root,
            label_key=self.label_key,
        )
        show_omissions(dataset.omissions)
        if self.labels == "none" and isinstance(dataset, ImageFolder) and dataset.hint is not None:
            print_line(dataset.hint, error=True)
        return dataset


Models: TypeAlias = Annotated[
    list[str],
    model_option(
        "timm:NAME, torchvision:NAME, transformers:NAME, open_clip:NAME/WEIGHTS, onnx:FILE, "
        "file:CHECKPOINT?arch=timm:NAME, python:MODULE:FUNCTION, or demo. `shiftproof models` "
        "says more. Several, each with a --model, see the same images."
    ),
]
DataPath: TypeAlias = Annotated[
    str,
    data_option(
        "A folder with one folder per class (WordNet id, name or index), a flat folder or "
        "the photographs of COCO, Pascal VOC, Cityscapes or YOLO (no labels: agreement with "
        "the clean images is measured), webdataset tars, a dataset saved by Hugging Face's "
        "datasets, Parquet of images, a CSV of path,label, a -C tree "
        "(corruption/severity/class/file), or demo."
    ),
]
Adapters: TypeAlias = Annotated[
    str,
    typer.Option(
        "--adapt",
        "-a",
        metavar="SPECS",
        help="Adapters to run beside the model, separated by spaces: 'batchnorm eata:margin=0.5 "
        "guard+rpl:lr=0.001'. `shiftproof models` lists them. none for the model alone.",
    ),
]


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
    model: Models,
    data: DataPath,
    out: GridOut,
    adapt: Adapters = "none",
    images: WhichImages = None,
    *,
    asked: MeasurementOptions,
    shifts: ShiftOptions,
    depth: Depth = None,
    grid: GridOptions,
    gpu: DeviceOptions,
    names: ClassOptions,
    about: DataOptions,
    parts: PartOptions,
    plan: PlanOptions,
    as_json: AsJson = False,
) -> None:
    """Measure how much classifiers lose under corruption, and what adaptation brings back."""
    plan.check()
    backend = parts.choose(grid.workers)
    specs = name_specs(model, out)
    adapters = parse_adapters(adapt)
    _check(asked, plan, depth, adapters, models=len(specs))
    is_device = gpu.corrupt_on == "device"
    if is_device and plan.dry_run:
        raise _refuse_device("--dry-run")
    if asked.wanted not in (None, "--precision"):
        _check_anytime(asked, backend, is_device=is_device)
    check_presence(data, "images")
    about.check()
    _, folder = split_images(images)
    command = GridCommand(model, data, out, adapt, shifts, grid, parts, plan, as_json)
    command.announce()
    from shiftproof.adapt.table import check_adapter_spec
    from shiftproof.bench import Classification
    from shiftproof.classes import label_set
    from shiftproof.data import read_class_map

    # Before a model is loaded, which may take a download.
    for spec in adapters:
        check_adapter_spec(spec)
    class_map = None if names.class_map is None else read_class_map(names.class_map)
    _check_calibration(asked.calibrate)
    job = command.prepare(
        backend,
        adapters,
        Copies.find(data, about.clean),
        depth=depth,
        images=images,
        precision=asked.precision,
        corrupt_on=gpu.corrupt_on,
    )
    check_classifiers(specs, names)
    about.check_data(data, folder, class_map)
    check_out(out, dry_run=plan.dry_run)
    task = Classification(calibrate=asked.calibrate, coverage=asked.choose_coverage(), kept=out)
    share = None if about.labels == "none" else label_set(about.labels)
    classifiers = load_classifiers(specs, names, device=grid.device, dtype=gpu.dtype, kept=out)
    if share is not None:
        classifiers = {name: one.restrict(share) for name, one in classifiers.items()}
    dataset = about.open(data, folder, classifiers, class_map)
    is_anytime = asked.wanted is not None and not adapters
    if is_anytime and (asked.wanted != "--precision" or dataset.is_labeled):
        _check_anytime(asked, backend, is_device=is_device)
        _run_anytime(classifiers, dataset, asked, job)
    else:
        run_grid(classifiers, dataset, task, job, trust=asked.calibrate is not None)


def _check(
    asked: MeasurementOptions,
    plan: PlanOptions,
    depth: str | None,
    adapters: Sequence[str],
    *,
    models: int,
) -> None:
    """Refuse options that do not go together, before a model is loaded."""
    if depth is not None and not depth.startswith("onnx:"):
        raise InputError(
            "--depth FOLDER: classifiers see resized images, which the maps no longer fit. Make the "
            "copies with `shiftproof corrupt --depth` and measure those, or give --depth onnx:FILE."
        )
    wanted = asked.wanted
    if plan.dry_run and wanted is not None:
        raise InputError(
            f"{wanted} decides the number of images itself; leave it out of --dry-run."
        )
    if adapters and wanted is not None and wanted != "--precision":
        raise InputError(
            f"{wanted} asks images in any order, and an adapter learns from the order that it sees; "
            "leave out --adapt, or say --precision or --images N."
        )
    asked.check(models)


def _check_calibration(asked: str | None) -> None:
    """Refuse an invalid share, and missing images."""
    from shiftproof.bench.tasks.classification.calibrating import read_share
    from shiftproof.data.images.opening import check_data

    if asked is not None and read_share(asked) is None:
        check_presence(asked, "images")
        check_data(asked)


def _check_anytime(asked: MeasurementOptions, backend: Backend | None, *, is_device: bool) -> None:
    """Refuse what does not go with images that are chosen one after the other."""
    if is_device:
        raise _refuse_device(asked.wanted)
    if backend is not None:
        raise InputError(
            f"{asked.wanted} asks for the next images by what was seen before; one process does "
            "that. Leave out --engine, --worker and --of, or say --images N."
        )


def _refuse_device(option: str | None) -> InputError:
    return InputError(
        f"{option} corrupts image by image, in the workers; leave out --corrupt-on device."
    )


def _run_anytime(
    classifiers: Mapping[str, Classifier],
    dataset: ImageData,
    asked: MeasurementOptions,
    job: GridJob,
) -> None:
    """Measure one number as precisely as is asked, and show it."""
    from shiftproof.bench import run_anytime

    grid = job.asked.grid
    run = run_anytime(
        classifiers,
        dataset,
        budget=asked.seconds,
        precision=asked.precision,
        compare=asked.compare,
        corruptions=job.corruptions,
        severities=job.asked.shifts.levels,
        images=job.images,
        out=job.asked.out,
        batch_size=64 if grid.batch_size is None else grid.batch_size,
        seed=grid.seed,
        encode=grid.encode,
        workers=grid.workers,
        watch=PageWatch(),
    )
    show_outcome(run, as_json=job.asked.as_json, log=grid.log or ())
