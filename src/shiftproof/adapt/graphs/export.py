"""Converting an ONNX graph to one that adapts itself."""

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
    """One adapted layer of a graph.

    Attributes:
        name: name of its node.
        kind: ``"batch norm"``, or ``"after convolution"`` for a folded norm.
        channels: number of channels.
    """

    name: str
    kind: str
    channels: int


@dataclass(frozen=True)
class AdaptedGraph:
    """A graph written by ``export_onnx``.

    Attributes:
        path: the file.
        layers: the adapted layers, in the graph's order.
        settings: settings of the adapter, as in the file's metadata.
        opset: opset of the graph.
        batch: the fixed batch size; None if it is dynamic.
        calibration_images: number of images on which the statistics of folded norms were measured.
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
    those of the training set, as ``BatchNorm`` does (Schneider et al. 2020, arXiv 2006.16971): ``N
    / (N + n) source + n / (N + n) batch`` with n, the images in the batch. Inputs, outputs and all
    other nodes are unchanged.

    Args:
        source: an ONNX file of opset 9 or above, for inference, with one input whose first axis
            counts the images. The batch may be dynamic or fixed; a fixed one that is filled up by
            copies of an image counts these, too.
        target: the file to write; it must not exist.
        adapt: the adapter, ``"batchnorm"`` with options ``prior`` (a number, ``measured`` or
            ``layerwise``), ``parts`` and ``layers``. ``auto``, the default, is ``measured`` here:
            within a graph the source's answers, which distinguish few classes from a shift, are not
            available.
        calibration: for graphs whose batch norm was folded into the convolutions: clean images in
            batches as the graph takes them, ``(n, C, H, W)``. The values are then renormalized
            after these convolutions by statistics measured on these images.

    Returns:
            The written graph.

    Raises:
        UnknownNameError: no such adapter or option.
        InputError: an option that a graph does not support, or ``target`` exists.
        BrokenFileError: ``source`` is missing or not an ONNX file.
        ModelError: the graph has no batch norm, another opset or several inputs, or its norms are
            in training mode.
        MissingExtraError: the package onnx is not installed.
    """
    settings = read_settings(adapt)
    import_extra("onnx", "export")
    from shiftproof.adapt.graphs import making, onnx_files

    source, target = Path(source), Path(target)
    model = onnx_files.read_model(source)
    onnx_files.check_target(target)
    full_check = onnx_files.passes_full_check(source, model)
    made = making.adapt_model(model, settings, calibration, source=str(source))
    adapter_settings = settings.to_settings()
    if made.images:
        adapter_settings = {**adapter_settings, "calibration_images": made.images}
    onnx_files.write_metadata(model, adapter_settings)
    onnx_files.write_model(model, target, full_check=full_check)
    layers = tuple(AdaptedLayer(*layer) for layer in made.layers)
    return AdaptedGraph(
        target, layers, adapter_settings, onnx_files.get_opset(model), made.batch, made.images
    )
