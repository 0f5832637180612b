"""The nested graphs of a model, and the inferred types and shapes of their values."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, TensorProto, numpy_helper, shape_inference

_SMALL = 4096
"""Maximum bytes of constants that are kept for shape inference."""


@dataclass(frozen=True)
class ValueInfo:
    """Inferred element type of a value, and its axes if known."""

    kind: int
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Scope:
    """A graph with the values visible to its nodes: its own, and those of the outer graphs."""

    graph: Any
    outer: Scope | None = None
    known: dict[str, ValueInfo] = field(default_factory=dict)

    @property
    def is_nested(self) -> bool:
        """Whether the graph is the body of an If or a Loop."""
        return self.outer is not None

    @functools.cached_property
    def makers(self) -> dict[str, Any]:
        """The node that computes each value."""
        return {name: node for node in self.graph.node for name in node.output if name}

    @functools.cached_property
    def initializers(self) -> dict[str, Any]:
        """The stored tensors by name."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    @functools.cached_property
    def readers(self) -> Counter[str]:
        """Number of uses of each value: by nodes, by inner graphs, and as an output."""
        counts = Counter(output.name for output in self.graph.output)
        for node in self.graph.node:
            counts.update(node.input)
            for inner in list_subgraphs(node):
                counts.update(_list_read_names(inner))
        return counts

    def find_constant(self, name: str) -> NDArray[Any] | None:
        """Return a constant value, or None."""
        if name in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[name]))
        node = self.makers.get(name)
        if node is None:
            return None if self.outer is None else self.outer.find_constant(name)
        if node.op_type == "Identity":
            return self.find_constant(node.input[0])
        if node.op_type == "Constant":
            return _read_constant(node)
        return None

    def find_info(self, name: str) -> ValueInfo | None:
        """Return the inferred type and shape of a value, or None."""
        found = self.known.get(name)
        return self.outer.find_info(name) if found is None and self.outer else found


def walk_scopes(model: ModelProto) -> Iterator[Scope]:
    """Yield the graph of a model, then its inner graphs, from the outside in."""
    inferred = _infer(model)
    yield from _walk(model.graph, inferred.graph, None)


def list_subgraphs(node: Any) -> Iterator[Any]:
    """Yield the graphs in the attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def list_names(graph: Any) -> Iterator[str]:
    """Yield the names of all values and nodes in a graph and its inner graphs."""
    for entry in (*graph.input, *graph.output, *graph.initializer):
        yield entry.name
    for node in graph.node:
        yield node.name
        yield from node.input
        yield from node.output
        for inner in list_subgraphs(node):
            yield from list_names(inner)


def list_inputs(graph: Any) -> list[Any]:
    """Return the inputs of a graph without initializers, which are also inputs up to IR 3."""
    stored = {tensor.name for tensor in graph.initializer}
    return [entry for entry in graph.input if entry.name not in stored]


def read_value_info(entry: Any) -> ValueInfo | None:
    """Return the type and shape in a ``ValueInfoProto``, or None."""
    kind = entry.type.tensor_type
    if not entry.type.HasField("tensor_type"):
        return None
    if not kind.HasField("shape"):
        return ValueInfo(kind.elem_type, None)
    return ValueInfo(kind.elem_type, tuple(map(_read_axis, kind.shape.dim)))


def _read_axis(axis: Any) -> int | str | None:
    if axis.HasField("dim_value"):
        return int(axis.dim_value)
    return str(axis.dim_param) or None


def _read_constant(node: Any) -> NDArray[Any] | None:
    for attribute in node.attribute:
        if attribute.name == "value":
            return np.asarray(numpy_helper.to_array(attribute.t))
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(attribute.f if attribute.name == "value_float" else attribute.floats)
    return None


def _list_read_names(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for inner in list_subgraphs(node):
            yield from _list_read_names(inner)
    for output in graph.output:
        yield output.name


def _walk(graph: Any, inferred: Any, outer: Scope | None) -> Iterator[Scope]:
    known = {}
    for entry in (*inferred.input, *inferred.value_info, *inferred.output):
        found = read_value_info(entry)
        if found is not None:
            known[entry.name] = found
    for tensor in graph.initializer:
        known[tensor.name] = ValueInfo(tensor.data_type, tuple(tensor.dims))
    scope = Scope(graph, outer, known)
    yield scope
    for node, twin in zip(graph.node, inferred.node, strict=True):
        for inner, inner_twin in zip(list_subgraphs(node), list_subgraphs(twin), strict=True):
            yield from _walk(inner, inner_twin, scope)


def _infer(model: ModelProto) -> Any:
    """Return a copy with inferred shapes, without large weights."""
    skeleton = ModelProto()
    skeleton.CopyFrom(model)
    large = [tensor for tensor in skeleton.graph.initializer if len(tensor.raw_data) > _SMALL]
    for tensor in large:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="left-out")
    return shape_inference.infer_shapes(skeleton)
