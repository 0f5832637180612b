"""Batch norms that an exporter folded into the convolutions before them: found, and made up for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from onnx import TensorProto

from shiftproof.adapt.graphs.moments import Moments
from shiftproof.adapt.graphs.norms import CONVOLUTIONS, FLOATING, Norm, name_of
from shiftproof.adapt.graphs.operators import Names
from shiftproof.adapt.graphs.scopes import Scope

EPSILON = 1e-5
"""The norms' own is lost with them; that of torch's layers."""

_RENAMED = re.compile(r"(onnx::Conv(Transpose)?_)?\d+")
"""What torch's first exporter calls weights that it has computed; all others keep their names."""

_RULE = "pkg.onnxscript.rewriter.rule_name"
"""Under which its newer one writes what it did with a node."""

_HANDING_ON = {
    "Cast", "Concat", "Exp", "Flatten", "Gather", "Identity", "Reshape", "Sigmoid", "Slice",
    "Softmax", "Split", "Squeeze", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that stand between a network's last layer and its outputs."""


def find_folded(scope: Scope, *, has_norms: bool) -> list[Any]:
    """Return the convolutions of one graph into which a norm was folded, as far as can be told.

    Torch's newer exporter notes at a node that it did so. Its first one gives weights that it has
    changed numbers for names. Where neither is seen and no norm is left, all with a bias are
    meant, as a folded norm leaves one; but for those whose output is the graph's, and those of a
    single position (squeeze and excitation), which have a bias of their own.
    """
    found = [
        node
        for node in scope.graph.node
        if node.op_type in CONVOLUTIONS and _can_shift(node, scope) and not _feeds_norm(node, scope)
    ]
    told = [node for node in found if _is_noted(node) or _RENAMED.fullmatch(node.input[1])]
    if told or has_norms:
        return told
    ends = _find_ends(scope)
    return [
        node
        for node in found
        if len(node.input) > 2 and node.output[0] not in ends and not _is_point(node, scope)
    ]


def make_norms(
    nodes: list[Any], scope: Scope, measured: Mapping[str, Moments], names: Names
) -> list[Norm]:
    """Return what renormalizes after convolutions, by the moments of clean images.

    At those moments nothing changes: scale and shift are the spread and the mean themselves. A
    convolution's output gets another name, and what is renormalized takes the old one.
    """
    return [_make_norm(node, scope, measured[node.output[0]], names) for node in nodes]


def _make_norm(node: Any, scope: Scope, moments: Moments, names: Names) -> Norm:
    result = node.output[0]
    known = scope.look_up(result)
    shape = known.shape if known else None
    return Norm(
        name_of(node),
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
    """Whether a convolution has no bias or a constant one, and numbers that can be measured."""
    known = scope.look_up(node.output[0])
    kind = known.kind if known else TensorProto.FLOAT
    is_stored = len(node.input) < 3 or scope.find_constant(node.input[2]) is not None
    return kind in FLOATING and is_stored


def _is_noted(node: Any) -> bool:
    rules = [entry.value for entry in node.metadata_props if entry.key == _RULE]
    return any("FuseBatchNorm" in rule for rule in rules)


def _is_point(node: Any, scope: Scope) -> bool:
    known = scope.look_up(node.output[0])
    if known is None or known.shape is None:
        return False
    return all(axis == 1 for axis in known.shape[2:])


def _feeds_norm(node: Any, scope: Scope) -> bool:
    return any(
        reader.op_type == "BatchNormalization" and reader.input[0] == node.output[0]
        for reader in scope.graph.node
    )


def _find_ends(scope: Scope) -> set[str]:
    """Return the values that are a graph's outputs but for operators that compute little."""
    waiting = [output.name for output in scope.graph.output]
    ends: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in ends:
            continue
        ends.add(name)
        node = scope.makers.get(name)
        if node is not None and node.op_type in _HANDING_ON:
            waiting += node.input
    return ends
