"""The operators at the inputs and outputs of an ONNX file, which ONNX Runtime does not expose.

They are parsed from the file's protocol buffers, so that no other library is needed. Field numbers
are those of onnx.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

import numpy as np

Reading: TypeAlias = Literal["logits", "probabilities", "sigmoids"]
"""Type of an output's values."""

Quantization: TypeAlias = tuple[float, int]
"""Scale and zero point: a whole number q stands for ``(q - zero point) * scale``."""

_GRAPH_OF_MODEL, _NODE_OF_GRAPH, _TENSOR_OF_GRAPH = 7, 1, 5
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5
_TENSOR_OF_ATTRIBUTE = 5
_FLOATS_OF_TENSOR, _INTEGERS_OF_TENSOR, _NAME_OF_TENSOR, _BYTES_OF_TENSOR = 4, 5, 8, 9
_LONGEST_NODE = 1 << 24
"""Bytes; longer nodes are constants, which are irrelevant here."""

_LONGEST_SCALAR = 1 << 12
"""Bytes; longer constants are no single numbers."""

_PASSING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Clip"}
"""Operators that do not change the type of values."""

_MOVING = {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators that do not change values at all."""

_DEQUANTIZING = {"DequantizeLinear", "QLinearConv"}
"""Operators whose second and third inputs are scale and zero point of the first."""

_LINEAR = {"Gemm", "MatMul", "Add", "Conv", "Sub", "BatchNormalization", "LogSoftmax", "Log"}
"""Operators whose outputs are logits, whatever the name of the output."""


@dataclass(frozen=True)
class Node:
    """One operator of a graph with the names of its inputs."""

    operator: str
    inputs: tuple[str, ...]


def read_graph(path: Path) -> dict[str, Node]:
    """Return the node that computes each value of a graph, by name; empty if the file is not ONNX.

    ONNX Runtime also reads its own formats.
    """
    found: dict[str, Node] = {}
    try:
        with path.open("rb") as file:
            for field, start, stop in _list_graph_fields(file):
                if field == _NODE_OF_GRAPH and stop - start < _LONGEST_NODE:
                    node, outputs = _node(file, start, stop)
                    found.update(dict.fromkeys(outputs, node))
    except ValueError:
        return {}
    return found


def find_reading(name: str, words: set[str], graph: Mapping[str, Node]) -> Reading:
    """Return the type of an output's values, from its last operator, else from its name."""
    node = _last(name, graph)
    operator = node.operator if node else ""
    if node and (operator == "Softmax" or _is_softmax_in_parts(node, graph)):
        return "probabilities"
    if operator == "Sigmoid":
        return "sigmoids"
    if operator in _LINEAR:
        return "logits"
    if words & {"prob", "probs", "probability", "probabilities", "softmax"}:
        return "probabilities"
    return "sigmoids" if words & {"sigmoid"} else "logits"


def find_last_operator(name: str, graph: Mapping[str, Node]) -> str | None:
    """Return the operator that determines the type of a value, or None if unknown."""
    node = _last(name, graph)
    return None if node is None else node.operator


def is_computed_from(name: str, source: str, graph: Mapping[str, Node]) -> bool:
    """Whether the value ``name`` is computed from the value ``source``."""
    waiting, seen = [name], {name}
    while waiting:
        node = graph.get(waiting.pop())
        for value in node.inputs if node else ():
            if value == source:
                return True
            if value not in seen:
                seen.add(value)
                waiting.append(value)
    return False


def read_quantization(path: Path, name: str, dtype: str) -> Quantization | None:
    """Return scale and zero point by which a graph dequantizes its input ``name``, if it does.

    ``dtype`` is the input's type, "uint8" or "int8". None, too, if they are computed, or differ
    between channels.
    """
    parameters = _find_quantization(name, read_graph(path))
    if parameters is None:
        return None
    scale_name, zero_name = parameters
    tensors = _read_tensors(path, {scale_name, zero_name})
    scale = _read_float(tensors.get(scale_name))
    zero = _read_integer(tensors.get(zero_name), dtype) if zero_name else 0
    return None if scale is None or zero is None or not scale > 0 else (scale, zero)


def _find_quantization(name: str, graph: Mapping[str, Node]) -> tuple[str, str] | None:
    """Return the names of scale and zero point; the latter is empty if it is left out."""
    waiting, seen = [name], {name}
    while waiting:
        value = waiting.pop()
        for result, node in graph.items():
            if node.inputs[:1] != (value,):
                continue
            if node.operator in _DEQUANTIZING and len(node.inputs) > 1:
                return node.inputs[1], (*node.inputs, "")[2]
            if node.operator in _MOVING and result not in seen:
                seen.add(result)
                waiting.append(result)
    return None


def _last(name: str, graph: Mapping[str, Node]) -> Node | None:
    """Return the node that determines the type of a value."""
    node = graph.get(name)
    for _ in range(len(graph)):
        if node is None or node.operator not in _PASSING or not node.inputs:
            break
        node = graph.get(node.inputs[0])
    return node


def _is_softmax_in_parts(node: Node, graph: Mapping[str, Node]) -> bool:
    """Whether a node is the division of a softmax in parts: exponentials over their sum."""
    if node.operator == "Exp":
        before = _last(node.inputs[0], graph)
        return before is not None and before.operator == "LogSoftmax"
    if node.operator != "Div" or len(node.inputs) != 2:
        return False
    above, below = (graph.get(value) for value in node.inputs)
    return (
        above is not None
        and below is not None
        and above.operator == "Exp"
        and below.operator == "ReduceSum"
        and below.inputs[:1] == node.inputs[:1]
    )


# ---------------------------------------------------------------- protocol buffers


def _read_tensors(path: Path, names: Collection[str]) -> dict[str, dict[int, bytes]]:
    """Return the fields of some small constants of a graph, by name: the last bytes of each."""
    found: dict[str, dict[int, bytes]] = {}
    with path.open("rb") as file:
        for field, start, stop in _list_graph_fields(file):
            if stop - start > _LONGEST_SCALAR:
                continue
            if field == _TENSOR_OF_GRAPH:
                tensor = _read_fields(file, start, stop)
                name = tensor.get(_NAME_OF_TENSOR, b"").decode(errors="replace")
            elif field == _NODE_OF_GRAPH:
                node, outputs = _node(file, start, stop)
                if node.operator != "Constant" or not outputs:
                    continue
                name, tensor = outputs[0], _read_constant(file, start, stop)
            else:
                continue
            if name and name in names:
                found[name] = tensor
    return found


def _list_graph_fields(file: IO[bytes]) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each field of the graph in a model's file."""
    end = os.fstat(file.fileno()).st_size
    for field, start, stop in _fields(file, 0, end):
        if field == _GRAPH_OF_MODEL:
            yield from _fields(file, start, stop)


def _read_constant(file: IO[bytes], start: int, stop: int) -> dict[int, bytes]:
    """Return the fields of the tensor of a node ``Constant``."""
    for field, first, last in _fields(file, start, stop):
        if field == _ATTRIBUTE:
            for inner, begin, end in _fields(file, first, last):
                if inner == _TENSOR_OF_ATTRIBUTE:
                    return _read_fields(file, begin, end)
    return {}


def _read_fields(file: IO[bytes], start: int, stop: int) -> dict[int, bytes]:
    found = {}
    for field, first, last in _fields(file, start, stop):
        file.seek(first)
        found[field] = file.read(last - first)
    return found


def _read_float(tensor: Mapping[int, bytes] | None) -> float | None:
    """Return the value of a tensor of one float32 or float16."""
    if tensor is None:
        return None
    content = tensor.get(_BYTES_OF_TENSOR) or tensor.get(_FLOATS_OF_TENSOR, b"")
    if len(content) == 4:
        return float(struct.unpack("<f", content)[0])
    return float(struct.unpack("<e", content)[0]) if len(content) == 2 else None


def _read_integer(tensor: Mapping[int, bytes] | None, dtype: str) -> int | None:
    """Return the value of a tensor of one uint8 or int8."""
    if tensor is None:
        return None
    if len(raw := tensor.get(_BYTES_OF_TENSOR, b"")) == 1:
        return int(np.frombuffer(raw, dtype)[0])
    value = 0
    packed = tensor.get(_INTEGERS_OF_TENSOR, b"")
    for place, byte in enumerate(packed):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            # Negative numbers have 64 bits.
            value -= 1 << 64 if value >> 63 else 0
            return value if place == len(packed) - 1 else None
    return None


def _node(file: IO[bytes], start: int, stop: int) -> tuple[Node, list[str]]:
    texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _OPERATOR: []}
    for field, first, last in _fields(file, start, stop):
        if field in texts:
            file.seek(first)
            texts[field].append(file.read(last - first).decode(errors="replace"))
    return Node("".join(texts[_OPERATOR]), tuple(texts[_INPUT])), texts[_OUTPUT]


def _fields(file: IO[bytes], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield each bytes field of a message: its number, start and stop.

    Raises:
        ValueError: the file is not a protocol buffer.
    """
    place = start
    while place < stop:
        file.seek(place)
        key = _number(file)
        length = 0
        if key & 7 == 0:
            _number(file)
        elif key & 7 == 2:
            length = _number(file)
        elif key & 7 in (1, 5):
            length = 8 if key & 7 == 1 else 4
        else:
            raise ValueError(f"wire type {key & 7}")
        first = file.tell()
        place = first + length
        if place > stop:
            raise ValueError("a field that is longer than its message")
        if key & 7 == 2:
            yield key >> 3, first, place


def _number(file: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("cut short")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number without end")
