"""The batch norms of a graph, with the statistics of the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from shiftproof.adapt.graphs.scopes import Scope
from shiftproof.errors import ModelError
from shiftproof.io.border import show_name

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Operators whose bias can take the source's mean off: no pass over the values is needed for it."""

FLOATING: Mapping[int, type] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float32,
    TensorProto.BFLOAT16: np.float32,
    TensorProto.DOUBLE: np.float64,
}
"""The element types that can be adapted, each with what its statistics are computed in."""

_EPSILON = 1e-5


@dataclass(frozen=True)
class Norm:
    """What is to be renormalized: ``scale (x - mean) / sqrt(variance + epsilon) + shift``.

    Attributes:
        name: of the node, by which users know it.
        scope: where it is.
        node: a batch norm, which is replaced, or a convolution, after which it happens.
        values: the name of x.
        result: the name of what comes out.
        scale: ``(C,)``, as are ``shift``, ``mean`` and ``variance``, of the source.
        kind: the element type of x.
        axes: how many axes x has, or None where that cannot be told.
        convolution: the node that computes x, where nothing else reads it and its bias is constant.
        rows_are_images: whether the first axis of x is known to be that of the images.
    """

    name: str
    scope: Scope
    node: Any
    values: str
    result: str
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    epsilon: float
    kind: int
    axes: int | None
    convolution: Any
    rows_are_images: bool


def find_norms(scope: Scope, rows: int | str | None) -> list[Norm]:
    """Return the batch norms of one graph, in its order.

    Args:
        scope: the graph.
        rows: the length, or its name, of the axis of the images.

    Raises:
        ModelError: one is in training mode, its statistics are computed in the graph or are no
            statistics (NaN, below 0), or its element type has none.
    """
    return [
        _read_norm(node, scope, rows)
        for node in scope.graph.node
        if node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx")
    ]


def name_of(node: Any) -> str:
    """Return what a node is called; its first output's name where it has none."""
    return str(node.name or node.output[0])


def find_convolution(scope: Scope, values: str) -> Any:
    """Return the convolution behind a value whose bias may be changed, or None."""
    node = scope.makers.get(values)
    if node is None or node.op_type not in CONVOLUTIONS or scope.readers[values] != 1:
        return None
    if len(node.input) > 2 and node.input[2] and scope.find_constant(node.input[2]) is None:
        return None
    return node


def _read_norm(node: Any, scope: Scope, rows: int | str | None) -> Norm:
    settings = {attribute.name: attribute for attribute in node.attribute}
    name = name_of(node)
    if ("training_mode" in settings and settings["training_mode"].i) or len(list(node.output)) > 1:
        raise ModelError(
            f"The batch norm {show_name(name)} is in training mode; expected a graph for "
            "inference. Export the model after model.eval()."
        )
    known = scope.look_up(node.input[0])
    kind = TensorProto.FLOAT if known is None else known.kind
    if kind not in FLOATING:
        raise ModelError(
            f"The batch norm {show_name(name)} is of {TensorProto.DataType.Name(kind)}; expected "
            "float, float16, bfloat16 or double."
        )
    scale, shift, mean, variance = (_read_vector(scope, key, name) for key in node.input[1:5])
    epsilon = settings["epsilon"].f if "epsilon" in settings else _EPSILON
    _check_vectors(name, (scale, shift, mean, variance), epsilon)
    shape = known.shape if known else None
    return Norm(
        name,
        scope,
        node,
        node.input[0],
        node.output[0],
        scale,
        shift,
        mean,
        variance,
        epsilon,
        kind,
        None if shape is None else len(shape),
        find_convolution(scope, node.input[0]),
        shape is not None and rows is not None and shape[0] == rows,
    )


def _read_vector(scope: Scope, key: str, name: str) -> NDArray[np.float64]:
    found = scope.find_constant(key)
    if found is None:
        raise ModelError(
            f"The batch norm {show_name(name)} has statistics that are computed in the graph or "
            "given from outside; expected stored ones."
        )
    return np.asarray(found, np.float64).reshape(-1)


def _check_vectors(name: str, vectors: Sequence[NDArray[np.float64]], epsilon: float) -> None:
    """Raise a ModelError where scale, shift, mean and variance could be those of no layer."""
    lengths = [len(vector) for vector in vectors]
    if len(set(lengths)) > 1:
        raise ModelError(
            f"The batch norm {show_name(name)} has scale, shift, mean and variance of {lengths} "
            "channels; expected as many of each."
        )
    if not all(np.isfinite(vector).all() for vector in vectors):
        raise ModelError(
            f"The batch norm {show_name(name)} has statistics or weights that are NaN or infinite; "
            "expected finite ones. Export a checkpoint whose answers are numbers."
        )
    if (vectors[3] + epsilon <= 0).any():
        raise ModelError(
            f"The batch norm {show_name(name)} has a variance below 0; expected 0 or more."
        )
