"""Replacing batch norms by plain operators that mix batch and source statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from shiftproof.adapt.graphs.batch_statistics import (
    Batch,
    measure_moments,
    measure_pooled_moments,
    measure_share,
)
from shiftproof.adapt.graphs.norms import FLOATING, Norm
from shiftproof.adapt.graphs.operators import Names, Operators, Value
from shiftproof.adapt.graphs.scopes import list_subgraphs
from shiftproof.adapt.graphs.settings import GraphSettings
from shiftproof.adapt.normalization.priors import Prior


def rewrite_norm(
    norm: Norm, batch: Batch, settings: GraphSettings, opset: int, names: Names
) -> None:
    """Replace a batch norm by plain operators, or add them after a convolution.

    ``y = a d + b`` with d, the values minus the source's mean m; the mean of the mixture is ``m +
    share E[d]``, so ``a = scale / sqrt(mixed variance + epsilon)`` and ``b = shift - a share
    E[d]``. If a convolution computes the values, m is subtracted in its bias.
    """
    ops = Operators(opset, names, FLOATING[norm.kind])
    values = _center(norm, ops, names)
    factor, offset = _compute_affine(ops, values, norm, batch, settings)
    _finish(norm, ops, ops.add("Add", [ops.add("Mul", [values, factor]), offset]))
    _insert(norm, ops.nodes)


def rename_results(norms: Sequence[Norm]) -> None:
    """Rename the outputs of convolutions to the values that the appended norms read."""
    for norm in norms:
        if norm.values != norm.node.input[0]:
            norm.node.output[0] = norm.values


def remove_unread(graph: Any) -> None:
    """Remove unused tensors of the norms, and nodes that pass them on."""
    while True:
        read = {output.name for output in graph.output} | set(_list_read(graph))
        unread = {tensor.name for tensor in graph.initializer} - read
        idle = [
            node
            for node in graph.node
            if node.op_type in ("Identity", "Constant") and not set(node.output) & read
        ]
        for node in idle:
            graph.node.remove(node)
        for entries in (graph.initializer, graph.input):
            for entry in [entry for entry in entries if entry.name in unread]:
                entries.remove(entry)
        if not idle:
            return


def _is_exact(norm: Norm) -> bool:
    """Return whether operators can use the values' type; half precision is too coarse for sums."""
    return norm.kind in (TensorProto.FLOAT, TensorProto.DOUBLE)


def _center(norm: Norm, ops: Operators, names: Names) -> Value:
    """Return the values minus the source's mean; as ``(N, C, P)`` if their axes are unknown."""
    if norm.convolution is not None and norm.axes is not None and _is_exact(norm):
        _shift_bias(norm, ops.dtype, names)
        return norm.values
    values = norm.values if _is_exact(norm) else ops.cast_to_numbers(norm.values)
    if norm.axes is None:
        values = ops.reshape(values, [0, len(norm.mean), -1])
    return ops.calculate("Sub", values, _reshape_channels(norm.mean, norm))


def _finish(norm: Norm, ops: Operators, moved: Value) -> None:
    """Restore shape, type and name of the result."""
    if norm.axes is None:
        moved = ops.reshape(moved, ops.add("Shape", [norm.values]))
    if not _is_exact(norm):
        moved = ops.cast(moved, norm.kind)
    ops.nodes[-1].output[0] = norm.result


def _compute_affine(
    ops: Operators, values: Value, norm: Norm, batch: Batch, settings: GraphSettings
) -> tuple[Value, Value]:
    """Return ``a`` and ``b``, each ``(1, C, 1, ...)``."""
    axes = norm.axes or 3
    variance = _reshape_channels(norm.variance, norm)
    if isinstance(settings.prior, str):
        rows = None if norm.rows_are_images else batch.images
        moments = measure_moments(ops, values, axes, images=rows, channels=len(norm.mean))
        share = measure_share(ops, moments, variance, batch, settings.prior)
        mean, spread = moments.mean, moments.variance
    else:
        mean, spread = measure_pooled_moments(ops, values, axes)
        share = str(batch.share)
    mean, spread = _replace_nonfinite(ops, values, mean, spread, variance, batch, settings.prior)
    source = ops.constant(variance)
    mixed = source if settings.parts == "mean" else _mix(ops, source, spread, share)
    root = ops.add("Sqrt", [ops.calculate("Add", mixed, norm.epsilon)])
    factor = ops.calculate("Div", _reshape_channels(norm.scale, norm), root)
    shift = ops.constant(_reshape_channels(norm.shift, norm))
    if settings.parts == "variance":
        return factor, shift
    step = ops.calculate("Mul", factor, ops.calculate("Mul", mean, share))
    return factor, ops.calculate("Sub", shift, step)


def _mix(ops: Operators, source: Value, target: Value, share: Value) -> Value:
    # Not source + share (target - source), which loses precision of a small target at a share of 1.
    kept = ops.calculate("Mul", ops.calculate("Sub", 1.0, share), source)
    return ops.calculate("Add", kept, ops.calculate("Mul", share, target))


def _replace_nonfinite(
    ops: Operators,
    values: Value,
    mean: Value,
    spread: Value,
    variance: NDArray[np.float64],
    batch: Batch,
    prior: Prior,
) -> tuple[Value, Value]:
    """Replace invalid batch statistics by the source's, as torch's adapter does."""
    finite = batch.is_finite
    if prior == 0:
        # A single value per channel has no variance.
        several = ops.add("Less", [_add_size(ops, mean), _add_size(ops, values)])
        finite = several if finite is None else ops.add("And", [finite, several])
    if finite is None:
        return mean, spread
    return (
        ops.add("Where", [finite, mean, ops.constant(np.zeros_like(variance))]),
        ops.add("Where", [finite, spread, ops.constant(variance)]),
    )


def _add_size(ops: Operators, value: Value) -> Value:
    return ops.add("Size", [value])


def _shift_bias(norm: Norm, dtype: np.dtype[Any], names: Names) -> None:
    """Subtract the source's mean in the convolution's bias, which is replaced by a new one."""
    node = norm.convolution
    bias: NDArray[Any] | None = None
    if len(node.input) > 2 and node.input[2]:
        bias = norm.scope.find_constant(node.input[2])
    lower = (0.0 if bias is None else np.asarray(bias, np.float64)) - norm.mean
    before = Operators(9, names, dtype)
    stored = before.constant(lower)
    while len(node.input) < 3:
        node.input.append("")
    node.input[2] = stored
    _insert_before(norm.scope.graph, node, before.nodes)


def _insert(norm: Norm, nodes: Sequence[Any]) -> None:
    """Insert nodes after the norm's node, and remove the node if it is a batch norm."""
    graph = norm.scope.graph
    place = _find_index(graph, norm.node)
    keeps = norm.node.op_type != "BatchNormalization"
    if not keeps:
        del graph.node[place]
    for offset, node in enumerate(nodes):
        graph.node.insert(place + int(keeps) + offset, node)


def _insert_before(graph: Any, node: Any, nodes: Sequence[Any]) -> None:
    place = _find_index(graph, node)
    for offset, added in enumerate(nodes):
        graph.node.insert(place + offset, added)


def _find_index(graph: Any, node: Any) -> int:
    """Return the index of a node, identified by its first output."""
    first = node.output[0]
    return next(at for at, other in enumerate(graph.node) if first in other.output)


def _reshape_channels(vector: NDArray[np.float64], norm: Norm) -> NDArray[np.float64]:
    """Return ``(C,)`` as ``(1, C, 1, ...)``."""
    return vector.reshape(1, -1, *[1] * ((norm.axes or 3) - 2))


def _list_read(graph: Any) -> list[str]:
    found = []
    for node in graph.node:
        found += node.input
        for inner in list_subgraphs(node):
            found += [*_list_read(inner), *(output.name for output in inner.output)]
    return found
