"""``shiftproof stylize``: training data in the style of paintings, alone or beside the original."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from shiftproof.cli.copying import (
    AsJson,
    Format,
    Source,
    Target,
    show_done,
    show_estimate,
)
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import ImagesFolder, Root, Seed, Split, Workers
from shiftproof.cli.part_options import PARTS_PANEL, PartOptions
from shiftproof.cli.planning import PlanOptions
from shiftproof.cli.printing import announce
from shiftproof.data.presence import check_presence
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.stylize import Engine


METHODS = ("free", "adain")


@dataclass(frozen=True)
class StylizePartOptions(PartOptions):
    """Options for the backend, which also accept the names of methods."""

    engine: Annotated[
        str,
        typer.Option(
            "--engine", "-e", metavar="NAME", rich_help_panel=PARTS_PANEL,
            help="local (this machine), or ray; free and adain are also accepted, as a --method.",
        ),
    ] = "local"  # fmt: skip

    @property
    def engines(self) -> tuple[str, ...]:
        """The names of engines and methods."""
        return ("local", "ray", *METHODS)

    @property
    def method(self) -> str | None:
        """The method that is named instead of an engine, if any."""
        return self.engine if self.engine in METHODS else None


@dataclass(frozen=True)
class StyleOptions:
    """Options of the styles."""

    styles: Annotated[
        Path | None,
        typer.Option(
            "--styles", metavar="DIR", help="A folder of paintings; otherwise styles are generated."
        ),
    ] = None
    method: Annotated[
        Literal["free", "adain"],
        typer.Option(
            "--method",
            metavar="NAME",
            help="free (needs no weights), or adain (the paper's; needs --weights).",
        ),
    ] = "free"
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            "--weights",
            metavar="PATH",
            help="For adain: a folder with vgg_normalised.pth and decoder.pth; or given twice, the "
            "encoder and then the decoder.",
        ),
    ] = None
    alpha: Annotated[
        float, typer.Option("--alpha", "-a", metavar="0-1", help="Strength of the style, 0 to 1.")
    ] = 1.0
    combined: Annotated[
        bool,
        typer.Option("--combined", help="Original and stylized images in one dataset."),
    ] = False
    per_image: Annotated[
        int,
        typer.Option("--per-image", "-n", metavar="INT", help="Number of styles for each image."),
    ] = 1


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "stylize",
        epilog=(
            "Examples:  shiftproof stylize photos photos-stylized  ·  "
            "shiftproof stylize coco coco-combined --combined --styles paintings  ·  "
            "shiftproof stylize VOCdevkit out --method adain --weights weights --dry-run"
        ),
    )(expand_groups(stylize))


def stylize(
    source: Source,
    target: Target,
    seed: Seed = 0,
    image_format: Format = "png",
    split: Split = None,
    images: ImagesFolder = None,
    root: Root = None,
    workers: Workers = None,
    as_json: AsJson = False,
    *,
    style: StyleOptions,
    parts: StylizePartOptions,
    plan: PlanOptions,
) -> None:
    """Write TARGET/<path below SOURCE> for every image, in another style; shapes stay in place.

    Annotations are copied and stay valid. An interrupted copy is resumed.
    """
    plan.check()
    backend = parts.choose(workers)
    check_presence(source, "copies")
    announce(f"Stylizing {source}", target, dry_run=plan.dry_run)
    from shiftproof.stylize import estimate_stylized, export_stylized

    arguments: dict[str, Any] = {
        "styles": style.styles,
        "engine": _make_engine(parts.method or style.method, style.weights),
        "alpha": style.alpha,
        "combined": style.combined,
        "per_image": style.per_image,
        "seed": seed,
        "image_format": image_format,
        "split": split,
        "images": images,
        "root": root,
        "workers": workers,
    }
    if plan.dry_run:
        estimate = estimate_stylized(source, target, **arguments)
        show_estimate(estimate, target, plan, of_each="style", others="", as_json=as_json)
        return
    with parts.share():
        result = export_stylized(source, target, backend=backend, **arguments)
    show_done(result, target, verb="stylize", as_json=as_json)


def _make_engine(name: str, weights: list[Path] | None) -> Engine:
    from shiftproof.stylize import AdaIN, free

    if name == "free":
        if weights:
            raise InputError("--weights has an effect with --method adain only.")
        return free
    if not weights:
        raise InputError(
            "--method adain needs --weights, a folder with vgg_normalised.pth and decoder.pth."
        )
    return AdaIN(weights)
