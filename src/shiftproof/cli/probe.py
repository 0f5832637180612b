"""``shiftproof probe``: which factors an encoder keeps, and which it has collapsed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from shiftproof.cli.copying import show_omissions
from shiftproof.cli.grid_options import split_images
from shiftproof.cli.models import check_out, show_assumed
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import (
    IMAGES_HELP,
    AsJson,
    BatchSize,
    Device,
    Out,
    Root,
    Seed,
    Split,
    Workers,
    data_option,
    model_option,
)
from shiftproof.cli.outcome import show_outcome
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.printing import announce
from shiftproof.data.presence import check_presence
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.models import EncoderLike


IMAGES = 200
"""Default number of sampled images."""

WhichImages: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="N|DIR",
        help="A number of images, drawn at random; 200 by default. Else "
        "their location: " + IMAGES_HELP,
    ),
]

DataPath: TypeAlias = Annotated[
    str,
    data_option(
        "A folder of images, the photographs of COCO, Pascal VOC, Cityscapes or YOLO, "
        "webdataset tars, a dataset saved by Hugging Face's datasets, Parquet of images, a CSV "
        "of paths, or demo. Labels are not used."
    ),
]
Models: TypeAlias = Annotated[
    list[str] | None,
    model_option(
        "demo, torchvision:NAME, timm:NAME, transformers:NAME, open_clip:NAME/WEIGHTS, "
        "onnx:PATH, file:PATH?arch=... or python:MODULE:FUNCTION. Several, each with a --model, are "
        "compared. demo by default."
    ),
]
FactorNames: TypeAlias = Annotated[
    str,
    typer.Option(
        "--factors",
        "-f",
        metavar="NAMES",
        help="Names separated by commas (crop_x, flip, hue, fog_severity, ...), or all, "
        "augmentations, corruptions, geometry, color, texture, weather.",
    ),
]
Versions: TypeAlias = Annotated[
    int,
    typer.Option(
        "--versions", min=2, metavar="INT", help="Versions of each image for each factor."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "probe",
        epilog=(
            "Examples:  shiftproof probe --model demo --data photos --out run  ·  "
            "shiftproof probe --model timm:resnet50 --model timm:vit_base_patch16_224.dino "
            "--data photos --out run --factors augmentations"
        ),
    )(expand_groups(probe))


def probe(
    data: DataPath,
    out: Out,
    model: Models = None,
    split: Split = None,
    root: Root = None,
    factors: FactorNames = "all",
    versions: Versions = 4,
    images: WhichImages = None,
    unit: Annotated[
        bool, typer.Option("--unit", help="Scale vectors to length 1 before they are read.")
    ] = False,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = None,
    as_json: AsJson = False,
    *,
    parts: PartOptions,
) -> None:
    """Measure which factors of the world an encoder keeps, and which it has collapsed.

    Images are changed by known numbers (crop, flip, rotation, color, blur, noise, the severity of
    19 corruptions), and the numbers are read out of the vectors of images held out.
    """
    factor_names = [word for word in re.split(r"[,\s]+", factors) if word]
    count, folder = _count_images(images)
    backend = parts.choose(workers)
    specs = model or ["demo"]
    check_presence(data, "images")
    announce(f"Probing {', '.join(specs)} on {data}, factors {factors}", out)
    from shiftproof.data import open_data
    from shiftproof.data.images.cells import check_clean
    from shiftproof.models import load_encoder
    from shiftproof.models.encoders.load import check_encoder
    from shiftproof.probe import probe as measure
    from shiftproof.probe.factors import choose_factors
    from shiftproof.probe.run import check_enough

    # Before a model is loaded, which may take a download.
    choose_factors(factor_names)
    for spec in specs:
        check_encoder(spec)
    dataset = open_data(data, classes=None, split=split, images=folder, root=root)
    check_clean(dataset)
    check_out(out)
    check_enough(dataset, count)
    show_omissions(dataset.omissions)
    encoders = [load_encoder(spec, device=device, normalize=unit) for spec in specs]
    for encoder in encoders:
        show_assumed(encoder)
    with parts.share():
        run = measure(
            _name_encoders(encoders),
            dataset,
            out=out,
            factors=factor_names,
            versions=versions,
            images=count,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            backend=backend,
        )
    show_outcome(run, as_json=as_json)


def _count_images(text: str | None) -> tuple[int, str | None]:
    """Parse ``--images`` as the number of images and their folder."""
    count, folder = split_images(text)
    if isinstance(count, str):
        raise InputError(f"--images: expected a number or a folder, got {count!r}.")
    return IMAGES if count is None else count, folder


def _name_encoders(encoders: Sequence[EncoderLike]) -> dict[str, EncoderLike]:
    """Name encoders; further ones of the same name get a number."""
    named: dict[str, EncoderLike] = {}
    for encoder in encoders:
        number = 1 + sum(other.name == encoder.name for other in named.values())
        named[encoder.name if number == 1 else f"{encoder.name}-{number}"] = encoder
    return named
