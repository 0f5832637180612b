"""``shiftproof perturb``: the stability of classifiers on the sequences of ImageNet-P."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

from shiftproof.cli.grid_options import make_short_name, name_specs
from shiftproof.cli.models import check_classifiers, show_assumed
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import AsJson, Device, Out, Seed, data_option, model_option
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.printing import announce, print_json, print_line, warn
from shiftproof.counts import pluralize
from shiftproof.data.presence import check_presence

if TYPE_CHECKING:
    from shiftproof.bench.other_runs.stability import Stability

DataPath: TypeAlias = Annotated[
    str,
    data_option("A folder of images, a CSV, or demo. Labels are not used."),
]
Models: TypeAlias = Annotated[
    list[str] | None,
    model_option("As for bench; several, each with a --model."),
]
Reference: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="SPEC",
        help="Model whose figures divide those of the others: torchvision:alexnet for mFR and mT5D.",
    ),
]
Perturbations: TypeAlias = Annotated[
    str,
    typer.Option(
        "--perturbations",
        "-p",
        metavar="NAMES",
        help="all, or names separated by commas: gaussian_noise, shot_noise, motion_blur, "
        "zoom_blur, snow, brightness, translate, rotate, tilt, scale.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "perturb",
        epilog=(
            "Examples:  shiftproof perturb --model demo --data demo --out run  ·  "
            "shiftproof perturb --model timm:resnet50 --data photos --out run "
            "--reference torchvision:alexnet"
        ),
    )(expand_groups(perturb))


def perturb(
    data: DataPath,
    out: Out,
    model: Models = None,
    reference: Reference = None,
    perturbations: Perturbations = "all",
    difficulty: Annotated[
        int, typer.Option("--difficulty", metavar="1-3", min=1, max=3, help="1 to 3, as published.")
    ] = 1,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    *,
    parts: PartOptions,
) -> None:
    """Measure how often predictions flip while images change a little (ImageNet-P)."""
    backend = parts.choose()
    specs = name_specs(model or ["demo"])
    reference_name = None if reference is None else make_short_name(reference)
    if reference is not None and reference_name is not None:
        specs[reference_name] = reference
    check_presence(data, "images")
    announce(
        f"Measuring how often {', '.join(specs.values())} changes its answer on {data}, "
        f"perturbations {perturbations}",
        out,
    )
    from shiftproof.bench.other_runs.stability import (
        RUN_FILE,
        SCORES_FILE,
        check_arguments,
        check_perturbations,
        measure_stability,
        open_images,
    )
    from shiftproof.corruptions.sequences import PERTURBATIONS
    from shiftproof.io.manifest import check_target
    from shiftproof.metrics.perturbation import TOP
    from shiftproof.models import load_classifier

    words = [word for word in re.split(r"[,\s]+", perturbations) if word]
    names = list(PERTURBATIONS) if words == ["all"] else words
    # Before a model is loaded, which may take a download.
    check_perturbations(names)
    check_classifiers(specs)
    images = open_images(data)
    check_target(out, RUN_FILE, what="a run", subfolders=("records",))
    models = {name: load_classifier(spec, device=device) for name, spec in specs.items()}
    check_arguments(models, names, reference_name, difficulty)
    for classifier in models.values():
        show_assumed(classifier)
    with parts.share():
        scores = measure_stability(
            models,
            images,
            out=out,
            perturbations=names,
            reference=reference_name,
            difficulty=difficulty,
            seed=seed,
            backend=backend,
        )
    if as_json:
        print_json((out / SCORES_FILE).read_text(encoding="utf-8"))
        return
    for name, classifier in models.items():
        _print(scores, name, classifier.name)
        if len(classifier.classes) < TOP:
            print_line(
                f"no top-5 distance: {classifier.name} has {pluralize(len(classifier.classes), 'class')}"
            )
    for reason in scores.broken[:5]:
        warn(f"not readable: {reason}")
    print_line(f"scores   {out / SCORES_FILE}")


def _print(scores: Stability, model: str, title: str) -> None:
    from shiftproof.bench.other_runs.stability import DISTANCE, DISTANCE_RATE, FLIP, FLIP_RATE
    from shiftproof.report.table_writing import print_whole

    factors = {FLIP: 100.0, DISTANCE: 1.0, FLIP_RATE: 100.0, DISTANCE_RATE: 100.0}
    heads = {FLIP: "FP, %", DISTANCE: "uT5D", FLIP_RATE: "FR, %", DISTANCE_RATE: "T5D, %"}
    rows = scores.figures[model]
    measures = [measure for measure in factors if any(measure in row for row in rows.values())]
    table = Table(
        box=None, header_style="bold", pad_edge=False,
        title=f"{title}, {pluralize(scores.images, 'image')}", title_justify="left",
    )  # fmt: skip
    table.add_column("perturbation", overflow="fold")
    for measure in measures:
        table.add_column(heads[measure], no_wrap=True)
    for name, row in rows.items():
        cells = []
        for measure in measures:
            figure = row.get(measure)
            scale = factors[measure]
            cells.append(
                "-"
                if figure is None
                else f"{figure.value * scale:.1f} ({figure.lower * scale:.1f} to "
                f"{figure.upper * scale:.1f})"
            )
        table.add_row(name, *cells)
    print_whole(Console(file=sys.stdout), table)
