"""``shiftproof embed``: images as vectors on the disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from shiftproof.cli.copying import describe_existing, show_duration, show_omissions
from shiftproof.cli.models import show_assumed
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.options import (
    RUN_PANEL,
    Device,
    ImagesFolder,
    Root,
    Split,
    Workers,
    data_option,
    json_option,
    model_option,
)
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.planning import PlanOptions, count_processes, show_size
from shiftproof.cli.printing import announce, print_json, print_line, warn
from shiftproof.counts import pluralize
from shiftproof.data.presence import check_presence
from shiftproof.errors import InputError

if TYPE_CHECKING:
    from shiftproof.embed import Embedded, EmbeddingForecast, Pictures, TextForecast, Texts
    from shiftproof.embed.folder import Content
    from shiftproof.models import Encoder, TextEncoder
    from shiftproof.shards import Backend

DataPath: TypeAlias = Annotated[
    str | None,
    data_option(
        "A folder of images, a webdataset tar or a folder of them, COCO, Pascal VOC, "
        "Cityscapes or YOLO, a dataset saved by Hugging Face's datasets, a CSV of paths, or "
        "demo."
    ),
]
TextFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--texts",
        metavar="FILE",
        help="Texts instead of images: a CSV with a column caption, or a file with one a "
        "line; of open_clip and transformers models.",
    ),
]
Models: TypeAlias = Annotated[
    str,
    model_option(
        "demo, torchvision:NAME, timm:NAME, transformers:NAME, open_clip:NAME/WEIGHTS, "
        "onnx:PATH, file:PATH?arch=... or python:MODULE:FUNCTION."
    ),
]
BatchSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        "-b",
        min=1,
        metavar="INT",
        rich_help_panel=RUN_PANEL,
        help="Images or texts that the model gets at a time; 32 or 256 by default.",
    ),
]
ShardSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--shard-size",
        min=1,
        metavar="INT",
        help="Images in a shard, 10000 by default; a tar is one shard.",
        rich_help_panel=RUN_PANEL,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "embed",
        epilog=(
            "Examples:  shiftproof embed --data photos --out vectors  ·  "
            "shiftproof embed --model open_clip:ViT-B-32/laion2b_s34b_b79k --data tars "
            "--out vectors --device cuda  ·  "
            "shiftproof embed --texts captions.csv "
            "--model open_clip:ViT-B-32/laion2b_s34b_b79k --out vectors"
        ),
    )(expand_groups(embed))


def embed(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the shards.")],
    data: DataPath = None,
    texts: TextFile = None,
    model: Models = "demo",
    split: Split = None,
    images: ImagesFolder = None,
    root: Root = None,
    raw: Annotated[bool, typer.Option("--raw", help="Do not scale vectors to length 1.")] = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    shard_size: ShardSize = None,
    workers: Workers = None,
    as_json: Annotated[bool, json_option("Print what was done as JSON.")] = False,
    *,
    parts: PartOptions,
    plan: PlanOptions,
) -> None:
    """Write img_emb/img_emb_N.npy and metadata/metadata_N.parquet, as clip-retrieval does.

    With --texts text_emb/text_emb_N.npy. An interrupted run is resumed.
    """
    if (data is None) == (texts is None):
        raise InputError("Expected either --data, images to embed, or --texts, a file of texts.")
    plan.check()
    if texts is not None and any(value is not None for value in (split, images, root, workers)):
        raise InputError("--split, --images, --root and --workers are for images; leave them out.")
    arguments: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
    job = _Job(out, arguments, parts, parts.choose(workers), plan, as_json)
    if data is not None:
        check_presence(data, "images")
    announce(f"Embedding {data or texts} by {model}", out, dry_run=plan.dry_run)
    from shiftproof.embed import open_pictures, open_texts
    from shiftproof.models import load_encoder, load_text_encoder
    from shiftproof.models.encoders.load import check_encoder

    # Invalid data are refused before a model is loaded.
    if texts is not None:
        arguments["shard_size"] = shard_size
        text_data = open_texts(texts)
        _check_out(job, "text")
        text_encoder = load_text_encoder(model, device=device, normalize=not raw)
        show_assumed(text_encoder)
        _embed_texts(text_encoder, text_data, job)
        return
    arguments["workers"] = workers
    check_encoder(model)
    image_data = open_pictures(
        str(data), shard_size=shard_size, split=split, images=images, root=root
    )
    _check_out(job, "img")
    encoder = load_encoder(model, device=device, normalize=not raw)
    show_assumed(encoder)
    _embed_images(encoder, image_data, job)


@dataclasses.dataclass(frozen=True)
class _Job:
    """The options common to embedding images and texts."""

    out: Path
    arguments: dict[str, Any]
    parts: PartOptions
    backend: Backend | None
    plan: PlanOptions
    as_json: bool


def _check_out(job: _Job, content: Content) -> None:
    """Refuse an unusable output folder for embeddings, before a model is loaded."""
    from shiftproof.embed.folder import MANIFEST, EmbeddingFolder
    from shiftproof.io.manifest import check_target

    if not job.plan.dry_run:
        subfolders = EmbeddingFolder(job.out, content).folders
        check_target(job.out, MANIFEST, what="embeddings", subfolders=subfolders)


def _embed_texts(encoder: TextEncoder, texts: Texts, job: _Job) -> None:
    from shiftproof.embed import embed_texts, forecast_texts

    if job.plan.dry_run:
        forecast = forecast_texts(encoder, texts, **job.arguments)
        passes = (
            f" of the encoder on {forecast.device}; tried on {pluralize(forecast.tried, 'text')}"
        )
        _show_forecast(forecast, pluralize(forecast.texts, "text"), passes, job)
        return
    with job.parts.share():
        result = embed_texts(encoder, texts, job.out, backend=job.backend, **job.arguments)
    _show(result, as_json=job.as_json)


def _embed_images(encoder: Encoder, data: Pictures, job: _Job) -> None:
    from shiftproof.embed import embed, forecast_embedding

    if job.plan.dry_run:
        forecast = forecast_embedding(encoder, data, **job.arguments)
        passes = (
            f": {show_duration(forecast.read_seconds)} of reading, "
            f"by {count_processes(forecast.workers)}, and {show_duration(forecast.encode_seconds)} "
            f"of the encoder on {forecast.device}; tried on "
            f"{pluralize(forecast.tried, 'image')}"
        )
        _show_forecast(forecast, pluralize(forecast.images, "image"), passes, job)
        return
    with job.parts.share():
        result = embed(encoder, data, job.out, backend=job.backend, **job.arguments)
    _show(result, as_json=job.as_json)


def _show_forecast(
    forecast: EmbeddingForecast | TextForecast, items: str, passes: str, job: _Job
) -> None:
    needs, plan = forecast.needs, job.plan
    if job.as_json:
        print_json(json.dumps({**dataclasses.asdict(forecast), **plan.describe(needs)}, indent=1))
        return
    print_line(f"{items} in {pluralize(forecast.shards, 'shard')}")
    print_line(f"about {show_duration(needs.seconds)}{passes}")
    print_line(f"about {show_size(needs.disk)} on the disk")
    plan.show(needs)


def _show(result: Embedded, *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps({**dataclasses.asdict(result), "path": str(result.path)}, indent=1))
    else:
        print_line(f"{pluralize(result.rows, 'vector')} of width {result.width} in {result.path}")
        print_line(f"{pluralize(result.written, 'shard')} written{describe_existing(result.kept)}")
        show_omissions(result.omissions)
        reasons = list(result.broken.values())
        for reason in reasons[:5]:
            warn(f"not embedded: {reason}")
        if len(reasons) > 5:
            warn(f"and {len(reasons) - 5} more, in {result.path / 'shards'}")
    if result.broken and not result.rows:
        raise typer.Exit(2)
