"""``shiftproof bench``: a classifier on the corruption grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli.options import (
    CONSTANTS_HELP,
    CORRUPTIONS_HELP,
    FROST_HELP,
    PROTOCOL_HELP,
    SEVERITIES_HELP,
    named_corruptions,
    parse_encode,
    parse_severities,
)
from shiftproof.cli.outcome import show_outcome


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "bench",
        epilog=(
            "Examples:  shiftproof bench --model timm:resnet50 --data photos --out run  ·  "
            "shiftproof bench --model demo --data photos --out run "
            "--corruptions fog,noise --severities 1,3,5  ·  "
            "shiftproof bench --model torchvision:resnet50 --data ImageNet-C --out run "
            "--adapt batchnorm --protocol online:mix=severities"
        ),
    )(bench)


def bench(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="timm:NAME, torchvision:NAME, onnx:FILE, file:CHECKPOINT?arch=timm:NAME, or demo. "
            "`shiftproof models` says more.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="A folder with one folder per class (WordNet id, name or index), a flat folder "
            "(no labels: agreement with the clean images is measured), a CSV of path,label, "
            "a -C tree (corruption/severity/class/file), or demo.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the run; one that was interrupted goes on."),
    ],
    corruptions: Annotated[
        str, typer.Option("--corruptions", "-c", help=CORRUPTIONS_HELP)
    ] = "common",
    severities: Annotated[str, typer.Option("--severities", "-s", help=SEVERITIES_HELP)] = "1-5",
    frost_dir: Annotated[Path | None, typer.Option("--frost-dir", help=FROST_HELP)] = None,
    adapt: Annotated[
        str,
        typer.Option(
            "--adapt",
            "-a",
            help="Adapters to run beside the model, separated by spaces: 'batchnorm:prior=auto rpl "
            "guard+ent:lr=0.001'. none for the model alone.",
        ),
    ] = "none",
    constants: Annotated[str, typer.Option("--constants", help=CONSTANTS_HELP)] = "published",
    labels: Annotated[
        str,
        typer.Option(
            "--label-set",
            help="The data have a share of ImageNet's classes: imagenet-r, imagenet-a, "
            "imagenet-d (give one domain's folder) or objectnet. The model answers these alone.",
        ),
    ] = "none",
    class_map: Annotated[
        Path | None,
        typer.Option(
            "--class-map", help="CSV or JSON: name of a class folder to the model's class."
        ),
    ] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Ignore folder names; measure agreement.")
    ] = False,
    clean: Annotated[
        Path | None, typer.Option("--clean", help="The clean images that belong to a -C tree.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="Images per batch; n of adaptation.")
    ] = 64,
    protocol: Annotated[str, typer.Option("--protocol", "-p", help=PROTOCOL_HELP)] = "online",
    seed: Annotated[int, typer.Option("--seed", help="Decides noise and order.")] = 0,
    encode: Annotated[
        str,
        typer.Option(
            "--encode", help="none, or jpeg: save and reread as the files of ImageNet-C were."
        ),
    ] = "none",
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, cuda:1, mps or auto.")
    ] = "cpu",
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=0, help="Processes that read and corrupt."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print scores.json on standard output.")
    ] = False,
) -> None:
    """Measure how much a classifier loses under corruption, and what adaptation brings back."""
    from shiftproof import bench as benchmark
    from shiftproof.classes import label_set
    from shiftproof.data import CorruptedData, ImageFolder, open_data, read_class_map
    from shiftproof.models import load_classifier

    chosen = parse_severities(severities)
    shown = benchmark.parse_protocol(protocol)
    classifier = load_classifier(model, device=device)
    share = None if labels == "none" else label_set(labels)
    if share is not None:
        classifier = classifier.restricted(share)
    dataset = open_data(
        data,
        classes=classifier.classes if share is None else share,
        class_map=read_class_map(class_map) if class_map else None,
        labelled=False if unlabelled else None,
        clean=clean,
    )
    if share is None and isinstance(dataset, ImageFolder) and dataset.hint is not None:
        typer.echo(dataset.hint, err=True)
    others = dataset.other_corruptions if isinstance(dataset, CorruptedData) else ()
    names = named_corruptions(corruptions, frost_dir, others, constants)
    adapters = [] if adapt.strip() in ("", "none") else adapt.split()
    run = benchmark.run(
        classifier,
        dataset,
        corruptions=names,
        severities=chosen,
        adapters=adapters,
        out=out,
        batch_size=batch_size,
        protocol=shown,
        seed=seed,
        encode=parse_encode(encode),
        workers=workers,
    )
    show_outcome(run, as_json=as_json)
