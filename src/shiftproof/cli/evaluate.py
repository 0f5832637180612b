"""``shiftproof evaluate``: the accuracy of classifiers on several test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from shiftproof.cli.embedding_options import parse_named
from shiftproof.cli.grid_options import ClassOptions, make_short_name, name_specs
from shiftproof.cli.models import check_classifiers, check_out, load_classifiers
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import (
    DATA_PANEL,
    AsJson,
    BatchSize,
    Device,
    Out,
    Workers,
    model_option,
)
from shiftproof.cli.outcome import show_outcome
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.printing import announce
from shiftproof.data.presence import check_presence

Models: TypeAlias = Annotated[
    list[str],
    model_option(
        "open_clip:NAME/WEIGHTS, transformers:NAME, timm:NAME, torchvision:NAME, onnx:FILE, "
        "file:CHECKPOINT?arch=timm:NAME, python:MODULE:FUNCTION, or demo. `shiftproof models` "
        "says more. Several, each with a --model, are compared with the first."
    ),
]
DataPath: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--data",
        "-d",
        metavar="NAME=PATH",
        help="NAME=PATH, a test set with one folder per class or a CSV of path,label; once for "
        "each. One with the name r, a, d or objectnet (imagenet-r, ...) is measured among its own "
        "classes.",
    ),
]
AuditFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--audit",
        metavar="DIR",
        help="Folder of an audit whose test sets have the same names: accuracy is then shown "
        "against similarity.",
    ),
]
LabelSets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--label-set",
        metavar="NAME=SET",
        help="NAME=SET, the classes of a test set if its name does not determine them: imagenet-r, "
        "imagenet-a, imagenet-d, objectnet, or all for all classes.",
        rich_help_panel=DATA_PANEL,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "evaluate",
        epilog=(
            "Examples:  shiftproof evaluate --model open_clip:ViT-B-32/laion400m_e32 "
            "--data val=imagenet/val --data r=imagenet-r --data sketch=imagenet-sketch "
            "--audit audit --out run  ·  "
            "shiftproof evaluate --model transformers:openai/clip-vit-base-patch32 "
            "--data photos=photos --classes names.txt --templates 'a photo of a {}.' --out run"
        ),
    )(expand_groups(evaluate))


def evaluate(
    model: Models,
    data: DataPath,
    out: Out,
    audit: AuditFolder = None,
    labels: LabelSets = None,
    *,
    class_options: ClassOptions,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    workers: Workers = None,
    parts: PartOptions,
    as_json: AsJson = False,
) -> None:
    """Measure the accuracy of classifiers on several test sets, also of zero-shot classifiers.

    An interrupted run is resumed.
    """
    test_sets = parse_named(data, "--data")
    label_sets = parse_named(labels or [], "--label-set")
    backend = parts.choose(workers)
    for path in test_sets.values():
        check_presence(path, "images")
    announce(f"Measuring {', '.join(model)} on {', '.join(test_sets)}", out)
    from shiftproof.data import read_class_map
    from shiftproof.evaluate import evaluate as measure
    from shiftproof.evaluate.request import check_request

    class_map = read_class_map(class_options.class_map) if class_options.class_map else None
    # Checked before models are loaded and encode sentences, which may take long.
    specs = name_specs(model) if len(model) > 1 else {make_short_name(model[0]): model[0]}
    check_classifiers(specs, class_options)
    check_request(test_sets, label_sets, audit, class_map)
    check_out(out)
    classifiers = load_classifiers(specs, class_options, device=device, run_folder=out)
    with parts.share():
        run = measure(
            classifiers,
            dict(test_sets),
            out=out,
            labels=label_sets,
            class_map=class_map,
            audit=audit,
            batch_size=batch_size,
            workers=workers,
            backend=backend,
        )
    show_outcome(run, as_json=as_json)
