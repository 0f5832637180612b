"""Batch norms that an exporter folded into the preceding convolutions: finding and replacing
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from onnx import TensorProto

from shiftproof.adapt.graphs.moments import Moments
from shiftproof.adapt.graphs.norms import CONVOLUTIONS, FLOATING, Norm, get_node_name
from shiftproof.adapt.graphs.operators import Names
from shiftproof.adapt.graphs.scopes import Scope

EPSILON = 1e-5
"""Default epsilon of torch's layers; that of a folded norm is lost."""

_RENAMED = re.compile(r"(onnx::Conv(Transpose)?_)?\d+")
"""Names of computed weights by torch's TorchScript exporter; other weights keep their names."""

_RULE = "pkg.onnxscript.rewriter.rule_name"
"""Metadata key under which torch's newer exporter records the rewriting rules of a node."""

_PASS_THROUGH = {
    "Cast", "Concat", "Exp", "Flatten", "Gather", "Identity", "Reshape", "Sigmoid", "Slice",
    "Softmax", "Split", "Squeeze", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators between a network's last layer and its outputs."""


def find_folded(scope: Scope, *, has_norms: bool) -> list[Any]:
    """Return the convolutions of one graph into which a norm was probably folded.

    Torch's newer exporter records folding in a node's metadata; its TorchScript exporter names
    changed weights by numbers. Without either, and if no norm is left, these are all convolutions
    with a bias, which folding creates, except those that compute the graph's outputs, and those of
    a single position (squeeze and excitation), which usually have a bias anyway.
    """
    found = [
        node
        for node in scope.graph.node
        if node.op_type in CONVOLUTIONS and _can_shift(node, scope) and not _feeds_norm(node, scope)
    ]
    marked = [node for node in found if _is_marked_fused(node) or _RENAMED.fullmatch(node.input[1])]
    if marked or has_norms:
        return marked
    ends = _find_output_values(scope)
    return [
        node
        for node in found
        if len(node.input) > 2 and node.output[0] not in ends and not _is_point(node, scope)
    ]


def make_norms(
    nodes: list[Any], scope: Scope, measured: Mapping[str, Moments], names: Names
) -> list[Norm]:
    """Return norms after convolutions, with the moments of clean images as source statistics.

    With these moments they are the identity: scale and shift are standard deviation and mean. A
    convolution's output is renamed, and the norm's output takes its name.
    """
    return [_make_norm(node, scope, measured[node.output[0]], names) for node in nodes]


def _make_norm(node: Any, scope: Scope, moments: Moments, names: Names) -> Norm:
    result = node.output[0]
    known = scope.find_info(result)
    shape = known.shape if known else None
    return Norm(
        get_node_name(node),
        scope,
        node,
        names.make("before"),
        result,
        (moments.variance + EPSILON) ** 0.5,
        moments.mean,
        moments.mean,
        moments.variance,
        EPSILON,
        known.kind if known else TensorProto.FLOAT,
        len(shape) if shape else None,
        node,
        shape is not None,
    )


def _can_shift(node: Any, scope: Scope) -> bool:
    """Return whether a convolution has no bias or a constant one, and floating-point values."""
    known = scope.find_info(node.output[0])
    kind = known.kind if known else TensorProto.FLOAT
    is_stored = len(node.input) < 3 or scope.find_constant(node.input[2]) is not None
    return kind in FLOATING and is_stored


def _is_marked_fused(node: Any) -> bool:
    rules = [entry.value for entry in node.metadata_props if entry.key == _RULE]
    return any("FuseBatchNorm" in rule for rule in rules)


def _is_point(node: Any, scope: Scope) -> bool:
    known = scope.find_info(node.output[0])
    if known is None or known.shape is None:
        return False
    return all(axis == 1 for axis in known.shape[2:])


def _feeds_norm(node: Any, scope: Scope) -> bool:
    return any(
        reader.op_type == "BatchNormalization" and reader.input[0] == node.output[0]
        for reader in scope.graph.node
    )


def _find_output_values(scope: Scope) -> set[str]:
    """Return the values from which a graph's outputs follow by pass-through operators alone."""
    waiting = [output.name for output in scope.graph.output]
    ends: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in ends:
            continue
        ends.add(name)
        node = scope.makers.get(name)
        if node is not None and node.op_type in _PASS_THROUGH:
            waiting += node.input
    return ends
