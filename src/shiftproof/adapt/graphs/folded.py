"""Batch norms that an exporter folded into the convolutions before them: found, and made up for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from onnx import TensorProto

from shiftproof.adapt.graphs.moments import Moments
from shiftproof.adapt.graphs.norms import CONVOLUTIONS, FLOATING, Norm, name_of
from shiftproof.adapt.graphs.scopes import Scope

EPSILON = 1e-5
"""The norms' own is lost with them; that of torch's layers."""

_RENAMED = re.compile(r"(onnx::Conv(Transpose)?_)?\d+")
"""What torch's first exporter calls weights that it has computed; all others keep their names."""

_HANDING_ON = {
    "Cast", "Concat", "Exp", "Flatten", "Gather", "Identity", "Reshape", "Sigmoid", "Slice",
    "Softmax", "Split", "Squeeze", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that stand between a network's last layer and its outputs."""


def find_folded(scope: Scope) -> list[Any]:
    """Return the convolutions of one graph into which a norm was folded, as far as can be told.

    A folded norm leaves a bias. Torch's first exporter also gives weights that it has changed
    numbers for names: where some have such names and others do not, those alone are meant. Else all
    with a bias are, but for those whose output is the graph's, which have a bias of their own.
    """
    found = [
        node
        for node in scope.graph.node
        if node.op_type in CONVOLUTIONS and _has_bias(node, scope) and not _feeds_norm(node, scope)
    ]
    renamed = [node for node in found if _RENAMED.fullmatch(node.input[1])]
    if renamed:
        return renamed
    ends = _find_ends(scope)
    return [node for node in found if node.output[0] not in ends]


def make_norms(nodes: list[Any], scope: Scope, measured: Mapping[str, Moments]) -> list[Norm]:
    """Return what renormalises after convolutions, by the moments of clean images.

    At those moments nothing changes: scale and shift are the spread and the mean themselves. A
    convolution's output gets another name, and what is renormalised takes the old one.
    """
    return [_make_norm(node, scope, measured[node.output[0]]) for node in nodes]


def _make_norm(node: Any, scope: Scope, moments: Moments) -> Norm:
    result = node.output[0]
    known = scope.look_up(result)
    shape = known.shape if known else None
    return Norm(
        name_of(node),
        scope,
        node,
        f"{result}/before",
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


def _has_bias(node: Any, scope: Scope) -> bool:
    known = scope.look_up(node.output[0])
    kind = known.kind if known else TensorProto.FLOAT
    stored = len(node.input) > 2 and bool(node.input[2])
    return kind in FLOATING and stored and scope.find_constant(node.input[2]) is not None


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
