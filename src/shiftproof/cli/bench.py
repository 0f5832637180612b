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
from shiftproof.cli.outcome import PageUpdater, show_outcome
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
    """Options that describe a dataset of classes."""

    labels: Annotated[
        LabelSet,
        typer.Option(
            "--label-set",
            metavar="NAME",
            help="The data have some of ImageNet's classes: imagenet-r, imagenet-a, "
            "imagenet-d (give one domain's folder) or objectnet. The model predicts only these.",
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
            help="The clean images of a -C tree: a folder, or a folder of tars or tables.",
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
        """Open the data for classifiers of the same classes, and print what is omitted.

        Args:
            data: the data as in the command.
            folder: folder of its images, if given.
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
    measurement: MeasurementOptions,
    shifts: ShiftOptions,
    depth: Depth = None,
    grid: GridOptions,
    device_options: DeviceOptions,
    class_options: ClassOptions,
    data_options: DataOptions,
    parts: PartOptions,
    plan: PlanOptions,
    as_json: AsJson = False,
) -> None:
    """Measure how much classifiers lose under corruption, and what adaptation brings back."""
    plan.check()
    backend = parts.choose(grid.workers)
    specs = name_specs(model, out)
    adapters = parse_adapters(adapt)
    _check(measurement, plan, depth, adapters, models=len(specs))
    is_device = device_options.corrupt_on == "device"
    if is_device and plan.dry_run:
        raise _refuse_device("--dry-run")
    if measurement.selecting_option not in (None, "--precision"):
        _check_anytime(measurement, backend, is_device=is_device)
    check_presence(data, "images")
    data_options.check()
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
    class_map = None if class_options.class_map is None else read_class_map(class_options.class_map)
    _check_calibration(measurement.calibrate)
    job = command.prepare(
        backend,
        adapters,
        Copies.find(data, data_options.clean),
        depth=depth,
        images=images,
        precision=measurement.precision,
        corrupt_on=device_options.corrupt_on,
    )
    check_classifiers(specs, class_options)
    data_options.check_data(data, folder, class_map)
    check_out(out, dry_run=plan.dry_run)
    task = Classification(
        calibrate=measurement.calibrate, coverage=measurement.choose_coverage(), run_folder=out
    )
    label_subset = None if data_options.labels == "none" else label_set(data_options.labels)
    classifiers = load_classifiers(
        specs, class_options, device=grid.device, dtype=device_options.dtype, run_folder=out
    )
    if label_subset is not None:
        classifiers = {
            name: classifier.restrict(label_subset) for name, classifier in classifiers.items()
        }
    dataset = data_options.open(data, folder, classifiers, class_map)
    is_anytime = measurement.selecting_option is not None and not adapters
    if is_anytime and (measurement.selecting_option != "--precision" or dataset.is_labeled):
        _check_anytime(measurement, backend, is_device=is_device)
        _run_anytime(classifiers, dataset, measurement, job)
    else:
        run_grid(classifiers, dataset, task, job, trust=measurement.calibrate is not None)


def _check(
    measurement: MeasurementOptions,
    plan: PlanOptions,
    depth: str | None,
    adapters: Sequence[str],
    *,
    models: int,
) -> None:
    """Refuse options that contradict each other, before a model is loaded."""
    if depth is not None and not depth.startswith("onnx:"):
        raise InputError(
            "--depth FOLDER: classifiers see resized images, which the maps do not fit. Make "
            "copies with `shiftproof corrupt --depth` and measure those, or use --depth onnx:FILE."
        )
    option = measurement.selecting_option
    if plan.dry_run and option is not None:
        raise InputError(
            f"{option} decides the number of images itself; leave it out of --dry-run."
        )
    if adapters and option is not None and option != "--precision":
        raise InputError(
            f"{option} measures images in any order, and an adapter learns from the order that it sees; "
            "leave out --adapt, or use --precision or --images N."
        )
    measurement.check(models)


def _check_calibration(calibrate: str | None) -> None:
    """Refuse an invalid share, and missing images."""
    from shiftproof.bench.tasks.classification.calibrating import read_share
    from shiftproof.data.images.opening import check_data

    if calibrate is not None and read_share(calibrate) is None:
        check_presence(calibrate, "images")
        check_data(calibrate)


def _check_anytime(
    measurement: MeasurementOptions, backend: Backend | None, *, is_device: bool
) -> None:
    """Refuse options that contradict images chosen one after the other."""
    if is_device:
        raise _refuse_device(measurement.selecting_option)
    if backend is not None:
        raise InputError(
            f"{measurement.selecting_option} chooses the next images by earlier results, in one process. "
            "Leave out --engine, --worker and --of, or use --images N."
        )


def _refuse_device(option: str | None) -> InputError:
    return InputError(
        f"{option} corrupts image by image, in the workers; leave out --corrupt-on device."
    )


def _run_anytime(
    classifiers: Mapping[str, Classifier],
    dataset: ImageData,
    measurement: MeasurementOptions,
    job: GridJob,
) -> None:
    """Measure one number with the requested precision, and show it."""
    from shiftproof.bench import run_anytime

    grid = job.command.grid
    run = run_anytime(
        classifiers,
        dataset,
        budget=measurement.seconds,
        precision=measurement.precision,
        compare=measurement.compare,
        corruptions=job.corruptions,
        severities=job.command.shifts.levels,
        images=job.images,
        out=job.command.out,
        batch_size=64 if grid.batch_size is None else grid.batch_size,
        seed=grid.seed,
        encode=grid.encode,
        workers=grid.workers,
        watch=PageUpdater(),
    )
    show_outcome(run, as_json=job.command.as_json, log=grid.log or ())
