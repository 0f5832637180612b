"""Creating operators in the form of a graph's opset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

Value: TypeAlias = str
"""The name of a value of a graph."""

_REDUCTIONS_BY_INPUT = {"ReduceSum": 13, "ReduceMean": 18}
"""First opset in which the axes are an input instead of an attribute."""


class Names:
    """Unused names for new values of a model."""

    def __init__(self, known: Iterable[str]) -> None:
        names = set(known)
        self._prefix = "adapt"
        while any(name.startswith(f"{self._prefix}/") for name in names):
            self._prefix += "_"
        self._count = 0

    def make(self, word: str) -> Value:
        """Return a name with ``word`` in it."""
        self._count += 1
        return f"{self._prefix}/{word}_{self._count}"


class Operators:
    """A list of nodes; each method appends nodes, and returns the name of the value they compute.

    Args:
        opset: opset of the model, 9 or more.
        names: creates names.
        dtype: type of the numbers, float32 or float64.

    Attributes:
        nodes: the nodes, in order.
    """

    def __init__(self, opset: int, names: Names, dtype: DTypeLike = np.float32) -> None:
        self.nodes: list[Any] = []
        self.dtype = np.dtype(dtype)
        self._opset = opset
        self._names = names

    def add(
        self,
        operator: str,
        inputs: Sequence[Value],
        *,
        output: Value | None = None,
        **settings: Any,
    ) -> Value:
        """Add one node; ``settings`` are its attributes."""
        found = output or self._names.make(operator.lower())
        name = self._names.make("node")
        self.nodes.append(helper.make_node(operator, list(inputs), [found], name=name, **settings))
        return found

    def constant(self, value: ArrayLike, dtype: DTypeLike | None = None) -> Value:
        """Add a constant, of the numbers' dtype unless another is given.

        A node instead of an initializer, which in old IR versions must also be an input of the
        graph.
        """
        array = np.asarray(value, dtype or self.dtype)
        return self.add("Constant", [], value=numpy_helper.from_array(array))

    def calculate(self, operator: str, *operands: Value | ArrayLike) -> Value:
        """Add an operator of values and numbers."""
        return self.add(
            operator,
            [value if isinstance(value, str) else self.constant(value) for value in operands],
        )

    def square(self, value: Value) -> Value:
        """Multiply a value by itself."""
        return self.add("Mul", [value, value])

    def mean(self, value: Value, axes: Sequence[int] | None, *, keep: bool = True) -> Value:
        """Average over axes, or all."""
        return self._reduce("ReduceMean", value, axes, keep)

    def sum(self, value: Value, axes: Sequence[int] | None, *, keep: bool = True) -> Value:
        """Add up over axes, or all."""
        return self._reduce("ReduceSum", value, axes, keep)

    def _reduce(self, operator: str, value: Value, axes: Sequence[int] | None, keep: bool) -> Value:
        if axes is None:
            return self.add(operator, [value], keepdims=int(keep))
        if self._opset >= _REDUCTIONS_BY_INPUT[operator]:
            numbers = self.constant(list(axes), np.int64)
            return self.add(operator, [value, numbers], keepdims=int(keep))
        return self.add(operator, [value], axes=list(axes), keepdims=int(keep))

    def cast(self, value: Value, kind: int, *, output: Value | None = None) -> Value:
        """Convert to an element type of ONNX."""
        return self.add("Cast", [value], output=output, to=kind)

    def cast_to_numbers(self, value: Value) -> Value:
        """Convert to the numbers' dtype."""
        return self.cast(value, helper.np_dtype_to_tensor_dtype(self.dtype))

    def reshape(
        self, value: Value, shape: Value | Sequence[int], *, output: Value | None = None
    ) -> Value:
        """Change the shape."""
        wanted = shape if isinstance(shape, str) else self.constant(list(shape), np.int64)
        return self.add("Reshape", [value, wanted], output=output)
