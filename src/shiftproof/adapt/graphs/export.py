"""A graph that adapts, made of one that does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shiftproof.adapt.graphs.settings import read_settings
from shiftproof.lazy import import_extra
from shiftproof.types import Settings


@dataclass(frozen=True)
class AdaptedLayer:
    """One layer of a graph that adapts.

    Attributes:
        name: of its node.
        kind: ``"batch norm"``, or ``"after convolution"`` where a norm had been folded.
        channels: how many it has.
    """

    name: str
    kind: str
    channels: int


@dataclass(frozen=True)
class AdaptedGraph:
    """What ``export_onnx`` has written.

    Attributes:
        path: the file.
        layers: those that adapt, in the graph's order.
        settings: of the adapter, as the file's metadata has them.
        opset: of the graph.
        batch: how many images it takes at once, or None where that is dynamic.
        calibration_images: how many images the statistics of folded norms were measured on.
    """

    path: Path
    layers: tuple[AdaptedLayer, ...]
    settings: Settings
    opset: int
    batch: int | None
    calibration_images: int


def export_onnx(
    source: str | Path,
    target: str | Path,
    adapt: str = "batchnorm",
    *,
    calibration: Iterable[NDArray[Any]] | None = None,
) -> AdaptedGraph:
    """Write an ONNX graph that adapts to each batch, in any runtime and without torch.

    Every ``BatchNormalization`` becomes plain operators which mix the statistics of the batch with
    those of the training set, as ``BatchNorm`` does (Schneider et al. 2020, arXiv 2006.16971):
    ``N / (N + n) source + n / (N + n) batch`` with n, the images in the batch. Inputs, outputs and
    all else stay as they are.

    Args:
        source: an ONNX file of opset 9 or above, for inference, with one input whose first axis
            counts the images. The batch may be dynamic or fixed; a fixed one that is filled up by
            copies of an image counts these, too.
        target: the file to write; there must be none of that name.
        adapt: the adapter, ``"batchnorm"`` with options ``prior`` (a number, ``measured`` or
            ``layerwise``), ``parts`` and ``layers``. ``auto``, the default, is ``measured`` here: a
            graph has no answers of the source by which few classes are told from a shift.
        calibration: for graphs whose batch norm was folded into the convolutions: clean images in
            batches as the graph takes them, ``(n, C, H, W)``. The values are then renormalized
            after these convolutions by statistics measured on these images.

    Returns:
        What was written.

    Raises:
        UnknownNameError: no such adapter or option.
        InputError: an option that a graph cannot follow, or ``target`` is there already.
        BrokenFileError: ``source`` is missing or no ONNX file.
        ModelError: the graph has no batch norm, another opset or several inputs, or its norms are
            in training mode.
        MissingExtraError: the package onnx is not installed.
    """
    settings = read_settings(adapt)
    import_extra("onnx", "export")
    from shiftproof.adapt.graphs import files, making

    source, target = Path(source), Path(target)
    model = files.read_model(source)
    files.check_target(target)
    full_check = files.is_checked_fully(source, model)
    made = making.adapt_model(model, settings, calibration, source=str(source))
    told = settings.as_settings()
    if made.images:
        told = {**told, "calibration_images": made.images}
    files.record(model, told)
    files.write_model(model, target, full_check=full_check)
    layers = tuple(AdaptedLayer(*layer) for layer in made.layers)
    return AdaptedGraph(target, layers, told, files.opset_of(model), made.batch, made.images)
