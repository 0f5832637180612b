"""``shiftproof bench``: a classifier, or detectors, on the corruption grid."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shiftproof.bench import Protocol, parse_protocol
from shiftproof.cli.models import show_assumed
from shiftproof.cli.options import (
    CONSTANTS_HELP,
    CORRUPTIONS_HELP,
    FROST_HELP,
    IMAGES_HELP,
    MEASURE_HELP,
    PROTOCOL_HELP,
    ROOT_HELP,
    SEVERITIES_HELP,
    SPLIT_HELP,
    named_corruptions,
    parse_encode,
    parse_severities,
)
from shiftproof.cli.outcome import show_outcome
from shiftproof.cli.printing import say
from shiftproof.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from shiftproof.bench import Run
    from shiftproof.corruptions import CorruptionFunction


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
            "shiftproof bench --task detection --model torchvision:fasterrcnn_resnet50_fpn "
            "--data VOCdevkit --out run"
        ),
    )(bench)


def bench(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="timm:NAME, torchvision:NAME, onnx:FILE, file:CHECKPOINT?arch=timm:NAME, or demo. "
            "`shiftproof models` says more. Detectors may be several, each with a --model.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="A folder with one folder per class (WordNet id, name or index), a flat folder "
            "(no labels: agreement with the clean images is measured), a CSV of path,label, "
            "a -C tree (corruption/severity/class/file), or demo. For detection a folder or file of "
            "COCO, Pascal VOC, Cityscapes or YOLO.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the run; one that was interrupted goes on."),
    ],
    task: Annotated[
        str, typer.Option("--task", "-t", help="classification or detection.")
    ] = "classification",
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
            "--class-map",
            help="CSV or JSON: name of a class folder to the model's class. Of detection: the "
            "detector's class to that of the data.",
        ),
    ] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Ignore folder names; measure agreement.")
    ] = False,
    clean: Annotated[
        Path | None, typer.Option("--clean", help="The clean images that belong to a -C tree.")
    ] = None,
    measure: Annotated[str, typer.Option("--measure", help=MEASURE_HELP)] = "auto",
    split: Annotated[
        str | None, typer.Option("--split", help="Of detection: " + SPLIT_HELP)
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Of detection: " + IMAGES_HELP)
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Of detection. " + ROOT_HELP)] = None,
    corrupted: Annotated[
        Path | None,
        typer.Option(
            "--corrupted",
            help="Of detection: a folder of corrupted copies to read, as `corrupt` writes them.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "-b",
            min=1,
            help="Images per batch; n of adaptation. 64, of detection 8.",
        ),
    ] = None,
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
    """Measure how much a model loses under corruption, and what adaptation brings back."""
    if task == "detection":
        _refuse(
            "detection",
            {"--label-set": labels != "none", "--unlabelled": unlabelled, "--clean": clean},
        )
    elif task == "classification":
        _refuse(
            "classification",
            {
                "--measure": measure != "auto",
                "--split": split,
                "--images": images,
                "--root": root,
                "--corrupted": corrupted,
                "more than one --model": len(model) > 1,
            },
        )
    else:
        raise UnknownNameError.of("task", task, ["classification", "detection"])
    asked = _Asked(
        data=data,
        out=out,
        severities=parse_severities(severities),
        adapters=_adapters(adapt),
        class_map=class_map,
        protocol=parse_protocol(protocol),
        seed=seed,
        encode=parse_encode(encode),
        device=device,
        workers=workers,
    )
    if task == "detection":
        run = _detection(
            model,
            asked,
            corruptions=named_corruptions(corruptions, frost_dir, _others(corrupted), constants),
            measure=measure,
            split=split,
            images=images,
            root=root,
            corrupted=corrupted,
            batch_size=batch_size or 8,
        )
    else:
        run = _classification(
            model[0],
            asked,
            corruptions=corruptions,
            frost_dir=frost_dir,
            constants=constants,
            labels=labels,
            unlabelled=unlabelled,
            clean=clean,
            batch_size=batch_size or 64,
        )
    show_outcome(run, as_json=as_json)


def _refuse(task: str, given: dict[str, object]) -> None:
    """Refuse options that have no effect on a task: a person who gives one expects something."""
    for option, value in given.items():
        if value:
            raise InputError(f"--task {task} does not take {option}.")


@dataclass(frozen=True)
class _Asked:
    """What both tasks take, as it was read."""

    data: str
    out: Path
    severities: list[int]
    adapters: list[str]
    class_map: Path | None
    protocol: Protocol
    seed: int
    encode: Literal["none", "jpeg"]
    device: str
    workers: int | None


def _classification(
    model: str,
    asked: _Asked,
    *,
    corruptions: str,
    frost_dir: Path | None,
    constants: str,
    labels: str,
    unlabelled: bool,
    clean: Path | None,
    batch_size: int,
) -> Run:
    from shiftproof import bench as benchmark
    from shiftproof.classes import label_set
    from shiftproof.data import CorruptedData, ImageFolder, open_data, read_class_map
    from shiftproof.models import load_classifier

    classifier = load_classifier(model, device=asked.device)
    show_assumed(classifier)
    share = None if labels == "none" else label_set(labels)
    if share is not None:
        classifier = classifier.restricted(share)
    dataset = open_data(
        asked.data,
        classes=classifier.classes if share is None else share,
        class_map=read_class_map(asked.class_map) if asked.class_map else None,
        labelled=False if unlabelled else None,
        clean=clean,
    )
    if share is None and isinstance(dataset, ImageFolder) and dataset.hint is not None:
        say(dataset.hint, error=True)
    others = dataset.other_corruptions if isinstance(dataset, CorruptedData) else ()
    return benchmark.run(
        classifier,
        dataset,
        corruptions=named_corruptions(corruptions, frost_dir, others, constants),
        severities=asked.severities,
        adapters=asked.adapters,
        out=asked.out,
        batch_size=batch_size,
        protocol=asked.protocol,
        seed=asked.seed,
        encode=asked.encode,
        workers=asked.workers,
    )


def _detection(
    models: list[str],
    asked: _Asked,
    *,
    corruptions: dict[str, str | CorruptionFunction],
    measure: str,
    split: str | None,
    images: Path | None,
    root: Path | None,
    corrupted: Path | None,
    batch_size: int,
) -> Run:
    from shiftproof import bench as benchmark
    from shiftproof.data import open_detection_data, read_class_map
    from shiftproof.models import load_detector

    dataset = open_detection_data(asked.data, split=split, images=images, root=root)
    for fault in dataset.faults[:3]:
        say(str(fault), error=True)
    if len(dataset.faults) > 3:
        say(f"and {len(dataset.faults) - 3} more; the counts are in the run's record.", error=True)
    detectors = {
        name: load_detector(spec, device=asked.device)
        for name, spec in zip(map(_short_name, models), _once(models), strict=True)
    }
    for detector in detectors.values():
        show_assumed(detector)
    return benchmark.run_detection(
        next(iter(detectors.values())) if len(models) == 1 else detectors,
        dataset,
        corruptions=corruptions,
        severities=asked.severities,
        adapters=asked.adapters,
        out=asked.out,
        measure=measure,
        corrupted=corrupted,
        class_map=read_class_map(asked.class_map) if asked.class_map else None,
        batch_size=batch_size,
        protocol=asked.protocol,
        seed=asked.seed,
        encode=asked.encode,
        device=asked.device,
        workers=asked.workers,
    )


def _adapters(text: str) -> list[str]:
    return [] if text.strip() in ("", "none") else text.split()


def _once(specs: list[str]) -> list[str]:
    names = [_short_name(spec) for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"Two detectors are called {name!r}; run them one by one and compare the runs by "
                "`shiftproof report`."
            )
    return specs


def _short_name(spec: str) -> str:
    """What a detector of several is called: its own part of the spec, as it can name a folder."""
    target = spec.partition("?")[0].rpartition(":")[2]
    stem = target.rstrip("/").rpartition("/")[2]
    return (
        re.sub(r"[^\w.+-]+", "-", re.sub(r"\.(onnx|pt|pth|safetensors)$", "", stem)) or "detector"
    )


def _others(corrupted: Path | None) -> tuple[str, ...]:
    """The corruptions of a folder of corrupted copies that are not in the table."""
    from shiftproof.data import CorruptedTree

    return () if corrupted is None else CorruptedTree(corrupted, labelled=False).other_corruptions
