"""``shiftproof breaking``: the severity at which each answer of a classifier breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from shiftproof.cli.copying import show_aside
from shiftproof.cli.grid_options import (
    ClassesFile,
    Templates,
    WhichImages,
    name_specs,
    split_images,
)
from shiftproof.cli.models import show_assumed
from shiftproof.cli.options import (
    DATA_PANEL,
    RUN_PANEL,
    SHIFT_PANEL,
    AsJson,
    ClassMap,
    Constants,
    Corruptions,
    Device,
    FrostFolder,
    Out,
    Root,
    Seed,
    Split,
    Workers,
)
from shiftproof.cli.outcome import show_outcome
from shiftproof.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "breaking",
        epilog=(
            "Examples:  shiftproof breaking --model timm:resnet50 --data photos --out run  ·  "
            "shiftproof breaking --model demo --data demo --out run --corruptions fog,noise"
        ),
    )(breaking)


def breaking(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="SPEC",
            help="As for `shiftproof bench`; several, each with a --model, see the same images.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="Clean images, as for `shiftproof bench`; without labels the answer on the clean "
            "image counts as right.",
        ),
    ],
    out: Out,
    images: WhichImages = None,
    corruptions: Corruptions = "common",
    constants: Constants = "published",
    frost_dir: FrostFolder = None,
    encode: Annotated[
        Literal["none", "jpeg"],
        typer.Option(
            "--encode",
            metavar="NAME",
            help="none, or jpeg: save and reread as the files of ImageNet-C were.",
            rich_help_panel=SHIFT_PANEL,
        ),
    ] = "none",
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            "-b",
            min=1,
            metavar="INT",
            help="Images per batch.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = 64,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = None,
    classes: ClassesFile = None,
    templates: Templates = None,
    class_map: ClassMap = None,
    unlabeled: Annotated[
        bool,
        typer.Option(
            "--unlabeled",
            "--unlabelled",
            help="Ignore folder names; the answer on the clean image counts as right.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = False,
    split: Split = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Find for each image and corruption the severity at which the answer first breaks."""
    from shiftproof.bench import find_breaking
    from shiftproof.cli.corruption_choice import resolve_corruptions, warn_of_drawn_frost
    from shiftproof.corruptions.chains import has_fixed_severities
    from shiftproof.data import open_data, read_class_map
    from shiftproof.models import load_classifier

    specs = name_specs(model)
    classifiers = {
        name: load_classifier(spec, device=device, classes=classes, templates=templates, kept=out)
        for name, spec in specs.items()
    }
    for classifier in classifiers.values():
        show_assumed(classifier)
    count, folder = split_images(images)
    dataset = open_data(
        data,
        classes=next(iter(classifiers.values())).classes,
        class_map=read_class_map(class_map) if class_map else None,
        labeled=False if unlabeled else None,
        split=split,
        images=folder,
        root=root,
    )
    show_aside(dataset.aside)
    shifts = resolve_corruptions(corruptions, frost_dir, (), constants, None)
    fixed = next((name for name, one in shifts.items() if has_fixed_severities(one)), None)
    if fixed is not None:
        raise InputError(
            f"--corruptions: all corruptions of {fixed} have a severity of their own, so there is none "
            "at which an answer could break."
        )
    warn_of_drawn_frost(shifts)
    run = find_breaking(
        classifiers,
        dataset,
        corruptions=shifts,
        images=count,
        out=Path(out),
        batch_size=batch_size,
        seed=seed,
        encode=encode,
        workers=workers,
    )
    show_outcome(run, as_json=as_json)
