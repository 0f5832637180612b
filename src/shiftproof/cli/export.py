"""``shiftproof export``: a graph that adapts by itself, made of an ONNX file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shiftproof.cli.options import ImagesFolder, Root, Split, json_option
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import pluralize

if TYPE_CHECKING:
    from shiftproof.adapt import AdaptedGraph
    from shiftproof.data import ImageData
    from shiftproof.types import Image


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "export",
        epilog=(
            "Examples:  shiftproof export model.onnx adapting.onnx  ·  "
            "shiftproof export --adapt batchnorm:prior=16 model.onnx adapting.onnx  ·  "
            "shiftproof export 'onnx:detector.onnx?decode=yolov8' adapting.onnx --calibrate photos"
        ),
    )(export)


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An ONNX file; with --calibrate also onnx:FILE?OPTION=VALUE, as for bench, or with "
            "decode=NAME, as for detect.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The ONNX file to write.")],
    adapt: Annotated[
        str,
        typer.Option(
            "--adapt",
            metavar="SPEC",
            help="batchnorm, with options behind a colon: prior=measured, layerwise or a number "
            "of images, parts=both, mean or variance, layers=all, first-K or last-K.",
        ),
    ] = "batchnorm",
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="PATH",
            help="Clean images, for a graph whose batch norm was folded into its convolutions.",
        ),
    ] = None,
    split: Split = None,
    images: ImagesFolder = None,
    root: Root = None,
    as_json: Annotated[bool, json_option("Print the adapted layers as JSON.")] = False,
) -> None:
    """Write an ONNX file that adapts to each batch of images, in any runtime and without torch.

    Each batch norm mixes the statistics of the batch with those of the training set.
    """
    announce(f"Making {source} adapt by {adapt}", target)
    from shiftproof.adapt import export_onnx
    from shiftproof.adapt.graphs.calibration_images import prepare_batches, split_path

    if calibrate is None:
        graph = export_onnx(split_path(source), target, adapt)
    else:
        from shiftproof.data import open_data

        data = open_data(
            calibrate, classes=None, labeled=False, split=split, images=images, root=root
        )
        batches = prepare_batches(source, _read(data))
        graph = export_onnx(split_path(source), target, adapt, calibration=batches)
    _show(graph, as_json=as_json)


def _read(data: ImageData) -> Iterator[Image]:
    """Yield the images, with a progress display."""
    from shiftproof.compute.progress import progress

    with progress("calibrating", len(data.samples)) as advance:
        for sample in data.samples:
            yield data.read(sample)
            advance()


def _show(graph: AdaptedGraph, *, as_json: bool) -> None:
    if as_json:
        description = {**dataclasses.asdict(graph), "path": str(graph.path)}
        print_json(json.dumps(description, indent=1))
        return
    width = max(len(layer.name) for layer in graph.layers)
    for layer in graph.layers:
        print_line(f"{layer.name:{width}}  {layer.kind}, {pluralize(layer.channels, 'channel')}")
    batch = "any number of images" if graph.batch is None else pluralize(graph.batch, "image")
    measured = (
        f", statistics measured on {pluralize(graph.calibration_images, 'image')}"
        if graph.calibration_images
        else ""
    )
    print_line(f"{pluralize(len(graph.layers), 'layer adapts', 'layers adapt')}{measured}")
    print_line(f"{graph.path}: opset {graph.opset}, {batch} at once")
