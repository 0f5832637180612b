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
"""Operators whose bias can subtract the source's mean, without an extra pass over the values."""

FLOATING: Mapping[int, type] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float32,
    TensorProto.BFLOAT16: np.float32,
    TensorProto.DOUBLE: np.float64,
}
"""The supported element types, each with the type in which its statistics are computed."""

_EPSILON = 1e-5


@dataclass(frozen=True)
class Norm:
    """A normalization ``scale (x - mean) / sqrt(variance + epsilon) + shift``.

    Attributes:
        name: name of the node, as users know it.
        scope: the graph of the node.
        node: the batch norm to replace, or the convolution to which it is appended.
        values: name of x.
        result: name of the output.
        scale: ``(C,)``, as are ``shift``, ``mean`` and ``variance``, of the source.
        kind: element type of x.
        axes: number of axes of x; None if unknown.
        convolution: the node that computes x, if nothing else reads x and its bias is constant.
        rows_are_images: whether the first axis of x is known to be the image axis.
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
        ModelError: one is in training mode, its statistics are computed in the graph or invalid
            (NaN, below 0), or its element type is not supported.
    """
    return [
        _read_norm(node, scope, rows)
        for node in scope.graph.node
        if node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx")
    ]


def get_node_name(node: Any) -> str:
    """Return the name of a node, or of its first output if it has none."""
    return str(node.name or node.output[0])


def find_convolution(scope: Scope, values: str) -> Any:
    """Return the convolution that computes a value, if its bias may be changed, or None."""
    node = scope.makers.get(values)
    if node is None or node.op_type not in CONVOLUTIONS or scope.readers[values] != 1:
        return None
    if len(node.input) > 2 and node.input[2] and scope.find_constant(node.input[2]) is None:
        return None
    return node


def _read_norm(node: Any, scope: Scope, rows: int | str | None) -> Norm:
    settings = {attribute.name: attribute for attribute in node.attribute}
    name = get_node_name(node)
    if ("training_mode" in settings and settings["training_mode"].i) or len(list(node.output)) > 1:
        raise ModelError(
            f"The batch norm {show_name(name)} is in training mode; expected a graph for "
            "inference. Export the model after model.eval()."
        )
    known = scope.find_info(node.input[0])
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
    """Check scale, shift, mean and variance."""
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
