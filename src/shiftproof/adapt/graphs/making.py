"""Making an ONNX model in memory adaptive: finding its norms and replacing them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from shiftproof.adapt.graphs.batch_statistics import describe_batch
from shiftproof.adapt.graphs.folded import find_folded, make_norms
from shiftproof.adapt.graphs.moments import measure_values
from shiftproof.adapt.graphs.norms import FLOATING, Norm, find_norms, get_node_name
from shiftproof.adapt.graphs.onnx_files import get_opset
from shiftproof.adapt.graphs.operators import Names, Operators
from shiftproof.adapt.graphs.rewriting import remove_unread, rename_results, rewrite_norm
from shiftproof.adapt.graphs.scopes import (
    Scope,
    ValueInfo,
    list_inputs,
    list_names,
    read_value_info,
    walk_scopes,
)
from shiftproof.adapt.graphs.settings import GraphSettings
from shiftproof.adapt.normalization.layer_choice import choose_layers
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, ModelError


class Made(NamedTuple):
    """Result: name, kind and channels of each layer, the batch size, the number of calibration
    images.
    """

    layers: list[tuple[str, str, int]]
    batch: int | None
    images: int


def adapt_model(
    model: ModelProto,
    settings: GraphSettings,
    calibration: Iterable[NDArray[Any]] | None,
    *,
    source: str,
) -> Made:
    """Make the norms of a model adaptive, in place.

    Args:
        model: the graph.
        settings: settings of the adaptation.
        calibration: clean images for norms that were folded into convolutions, or None.
        source: the file, for errors.
    """
    names = Names(list_names(model.graph))
    norms, images = _find_layers(model, source, settings, calibration, names)
    layers = [(norm.name, _describe_kind(norm), len(norm.mean)) for norm in norms]
    return Made(layers, _rewrite(model, source, norms, settings, names), images)


def _describe_kind(norm: Norm) -> str:
    is_norm = norm.node.op_type == "BatchNormalization"
    return "batch norm" if is_norm else "after convolution"


def _find_layers(
    model: ModelProto,
    source: str,
    settings: GraphSettings,
    calibration: Iterable[NDArray[Any]] | None,
    names: Names,
) -> tuple[list[Norm], int]:
    """Return the norms to adapt, and the number of images for calibrating folded ones."""
    _, entry = _find_input(model, source)
    rows = entry.shape[0] if entry.shape else None
    scopes = list(walk_scopes(model))
    norms = [norm for scope in scopes for norm in find_norms(scope, rows)]
    folded = [] if calibration is None else find_folded(scopes[0], has_norms=bool(norms))
    _check_found(norms, folded, source, calibration is not None)
    known = [norm.name for norm in norms] + [get_node_name(node) for node in folded]
    chosen = set(choose_layers(known, settings.layers))
    norms = [norm for norm in norms if norm.name in chosen]
    images = 0
    if calibration is not None:
        nodes = [node for node in folded if get_node_name(node) in chosen]
        made, images = _measure(model, scopes[0], nodes, calibration, source, names)
        norms = _sort_norms(scopes[0], norms + made)
    if settings.prior == "measured" and any(norm.scope.is_nested for norm in norms):
        raise ModelError(
            f"{source}: has batch norm inside an If or a Loop, whose share prior=measured cannot carry "
            "to the layers after it. Take a number, as in batchnorm:prior=16, or prior=layerwise."
        )
    return norms, images


def _check_found(norms: list[Norm], folded: list[Any], source: str, is_calibrated: bool) -> None:
    if norms and is_calibrated and not folded:
        raise ModelError(
            f"{source}: has its {pluralize(len(norms), 'batch norm')}, and none is seen that was "
            "folded; leave "
            "--calibrate out."
        )
    if norms or folded:
        return
    if is_calibrated:
        raise ModelError(
            f"{source}: has neither batch norm nor a convolution with a bias into which one could "
            "have been folded."
        )
    raise ModelError(
        f"{source}: has no batch norm; exporters fold it into the convolutions. Calibrate with clean "
        "images (--calibrate FOLDER), or export the model unfolded (docs/export.md)."
    )


def _measure(
    model: ModelProto,
    scope: Scope,
    nodes: list[Any],
    calibration: Iterable[NDArray[Any]],
    source: str,
    names: Names,
) -> tuple[list[Norm], int]:
    if not nodes:
        return [], 0
    values = [node.output[0] for node in nodes]
    measured, images = measure_values(model, values, calibration, source=source)
    return make_norms(nodes, scope, measured, names), images


def _sort_norms(scope: Scope, norms: list[Norm]) -> list[Norm]:
    """Sort norms in the order of computation; those of subgraphs come first."""
    places = {node.output[0]: at for at, node in enumerate(scope.graph.node)}
    return sorted(norms, key=lambda norm: places.get(norm.result, -1))


def _rewrite(
    model: ModelProto, source: str, norms: list[Norm], settings: GraphSettings, names: Names
) -> int | None:
    """Rewrite norms to adapt, and return the graph's fixed batch size, if any."""
    opset = get_opset(model)
    image, entry = _find_input(model, source)
    first = entry.shape[0] if entry.shape else None
    count = first if isinstance(first, int) and first > 0 else None
    before: list[Any] = []
    batches = {}
    for dtype in {np.dtype(FLOATING[norm.kind]) for norm in norms}:
        ops = Operators(opset, names, dtype)
        batches[dtype] = describe_batch(
            ops, image, count, prior=settings.prior, floating=entry.kind in FLOATING
        )
        before += ops.nodes
    rename_results(norms)
    for norm in norms:
        rewrite_norm(norm, batches[np.dtype(FLOATING[norm.kind])], settings, opset, names)
    for place, node in enumerate(before):
        model.graph.node.insert(place, node)
    remove_unread(model.graph)
    return count


def _find_input(model: ModelProto, source: str) -> tuple[str, ValueInfo]:
    """Return the name of the image input, with its type and shape."""
    inputs = list_inputs(model.graph)
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs)
        raise ModelError(
            f"{source}: expected a graph with one input, the images, got {len(inputs)} ({names})."
        )
    known = read_value_info(inputs[0])
    if known is None or known.shape == ():
        raise InputError(f"{source}: expected an input of images along its first axis.")
    return inputs[0].name, known
