"""``shiftproof stylize``: training data in the style of paintings, alone or beside the original."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shiftproof.cli.copying import (
    AsJson,
    DryRun,
    Images,
    Root,
    Source,
    Split,
    Target,
    Workers,
    show_done,
    show_estimate,
)
from shiftproof.cli.options import parse_format
from shiftproof.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from shiftproof.stylize import Engine


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "stylize",
        epilog=(
            "Examples:  shiftproof stylize photos photos-stylized  ·  "
            "shiftproof stylize coco coco-combined --combined --styles paintings  ·  "
            "shiftproof stylize VOCdevkit out --engine adain --weights weights --dry-run"
        ),
    )(stylize)


def stylize(
    source: Source,
    target: Target,
    styles: Annotated[
        Path | None,
        typer.Option("--styles", help="A folder of paintings; without it styles are drawn."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            "-e",
            help="free (needs no weights), or adain (the paper's; needs --weights).",
        ),
    ] = "free",
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            "--weights",
            help="Of AdaIN: a folder with vgg_normalised.pth and decoder.pth; or given twice, the "
            "encoder and then the decoder.",
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option("--alpha", "-a", help="How much of the style, 0 to 1.")
    ] = 1.0,
    combined: Annotated[
        bool,
        typer.Option(
            "--combined", help="The original, untouched, and the stylised in one data set."
        ),
    ] = False,
    per_image: Annotated[
        int, typer.Option("--per-image", "-n", help="So many styles for each image.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Decides which styles.")] = 0,
    image_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="png (lossless), jpeg (quality 95), or source (names and formats stay, JPEG at "
            "quality 95).",
        ),
    ] = "png",
    split: Split = None,
    images: Images = None,
    root: Root = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write TARGET/<path below SOURCE> for every image, in another style; shapes stay in place.

    Annotations are carried over and stay valid. Goes on where an interrupted copy stopped.
    """
    from shiftproof.stylize import estimate_stylized, export_stylized

    chosen = _engine(engine, weights)
    format_ = parse_format(image_format)
    if dry_run:
        estimate = estimate_stylized(
            source,
            target,
            styles=styles,
            engine=chosen,
            alpha=alpha,
            combined=combined,
            per_image=per_image,
            seed=seed,
            image_format=format_,
            split=split,
            images=images,
            root=root,
            workers=workers,
        )
        show_estimate(estimate, target, of_each="styles", others="", as_json=as_json)
        return
    done = export_stylized(
        source,
        target,
        styles=styles,
        engine=chosen,
        alpha=alpha,
        combined=combined,
        per_image=per_image,
        seed=seed,
        image_format=format_,
        split=split,
        images=images,
        root=root,
        workers=workers,
    )
    show_done(done, target, verb="stylize", as_json=as_json)


def _engine(name: str, weights: list[Path] | None) -> Engine:
    from shiftproof.stylize import AdaIN, free

    if name == "free":
        if weights:
            raise InputError("--weights has an effect with --engine adain only.")
        return free
    if name == "adain":
        if not weights:
            raise InputError(
                "--engine adain needs --weights, a folder with vgg_normalised.pth and decoder.pth."
            )
        return AdaIN(weights)
    raise UnknownNameError.of("engine", name, ["free", "adain"])
