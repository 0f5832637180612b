"""The operators at the outputs of an ONNX file, which ONNX Runtime does not expose.

They are parsed from the file's protocol buffers, so that no other library is needed. Field numbers
are those of onnx.proto.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

Reading: TypeAlias = Literal["logits", "probabilities", "sigmoids"]
"""Type of an output's values."""

_GRAPH_OF_MODEL, _NODE_OF_GRAPH = 7, 1
_INPUT, _OUTPUT, _OPERATOR = 1, 2, 4
_LONGEST_NODE = 1 << 24
"""Bytes; longer nodes are constants, which are irrelevant here."""

_PASSING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Clip"}
"""Operators that do not change the type of values."""

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
            end = os.fstat(file.fileno()).st_size
            for field, start, stop in _fields(file, 0, end):
                if field != _GRAPH_OF_MODEL:
                    continue
                for inner, first, last in _fields(file, start, stop):
                    if inner == _NODE_OF_GRAPH and last - first < _LONGEST_NODE:
                        node, outputs = _node(file, first, last)
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
