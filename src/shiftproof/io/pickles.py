"""Reading pickles of containers, texts and numbers without executing code.

Python's own reader allocates any size that a pickle claims, and hashes any object in it. This reader
implements a subset of the instructions and refuses all others.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import convert_errors, open_regular
from shiftproof.io.expansion import check_expansion

MAX_BYTES = 2_000_000
"""Larger files are refused; results of 90 cells and 80 classes take a third of it."""

_ORDERED_DICT = ("collections", "OrderedDict")
_DTYPE = ("numpy", "dtype")
_SCALARS = (("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"))
_ENCODE = ("_codecs", "encode")
_KNOWN = frozenset({_ORDERED_DICT, _DTYPE, *_SCALARS, _ENCODE})

_NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})

_MARK = object()
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
        "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    }
)  # fmt: skip
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of dicts, lists, tuples, texts and numbers, also NumPy's.

    Nothing in it is executed. With repeated parts written out, it may have at most as many values as
    the file has bytes.

    Raises:
        BrokenFileError: it is missing, above 2 MB, not a pickle, names a function or class, contains
            itself, or expands to more values.
    """
    with open_regular(path) as file, convert_errors(path, "not a pickle of plain values"):
        data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise BrokenFileError(
                f"{path}: above {MAX_BYTES // 1_000_000} MB, too large for a table of results."
            )
        value = _Reader().read(data)
        check_expansion(value, len(data), _list_parts)
        return value


class _Reader:
    """A restricted pickle machine: stack and memo."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self, data: bytes) -> Any:
        """Run a pickle and return its value."""
        for operation, argument, _ in pickletools.genops(data):
            if operation.name == "STOP":
                return self._stack.pop()
            self._execute(operation.name, argument)
        raise ValueError("it has no end")

    def _execute(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _VALUES:
            stack.append(_VALUES[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS:
            self._memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _GETS:
            stack.append(self._memo[int(argument)])
        elif name == "GLOBAL":
            stack.append(_Global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            global_name, module = stack.pop(), stack.pop()
            stack.append(_Global(module, global_name))
        elif name in ("REDUCE", "NEWOBJ"):
            values, callee = stack.pop(), stack.pop()
            stack.append(callee.call(*values))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].build(state)
        elif name not in ("PROTO", "FRAME"):
            self._collect(name)

    def _collect(self, name: str) -> None:
        """Create or fill a container."""
        stack = self._stack
        if name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "DICT":
            stack.append(_fill({}, self._pop_to_mark()))
        elif name == "LIST":
            stack.append(self._pop_to_mark())
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in _TUPLES:
            start = len(stack) - _TUPLES[name]
            if start < 0:
                raise ValueError("a value is missing")
            stack[start:] = [tuple(stack[start:])]
        elif name == "APPEND":
            value = stack.pop()
            _check_list(stack[-1]).append(value)
        elif name == "APPENDS":
            new = self._pop_to_mark()
            _check_list(stack[-1]).extend(new)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _fill(stack[-1], [key, value])
        elif name == "SETITEMS":
            new = self._pop_to_mark()
            _fill(stack[-1], new)
        else:
            raise ValueError(f"a table of results does not need the instruction {name}")

    def _pop_to_mark(self) -> list[Any]:
        stack = self._stack
        index = len(stack) - 1
        while stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise ValueError("a mark is missing")
        values = stack[index + 1 :]
        del stack[index:]
        return values


class _Global:
    """A global (function or class) named by the pickle, and its safe replacement."""

    def __init__(self, module: str, name: str) -> None:
        if (module, name) not in _KNOWN:
            raise ValueError(f"it names {module}.{name}, which is not allowed")
        self._name = (module, name)

    def call(self, *values: Any) -> Any:
        if self._name == _ORDERED_DICT:
            return _fill({}, [part for pair in (values[0] if values else ()) for part in pair])
        if self._name == _DTYPE:
            return _Dtype(values[0])
        if self._name == _ENCODE:
            text, encoding = values
            if encoding not in ("latin1", "latin-1"):
                raise ValueError(f"the encoding {encoding} is not that of a number")
            return text.encode("latin-1")
        dtype, data = values
        return dtype.read_number(data)


class _Dtype:
    """The dtype of a NumPy scalar."""

    def __init__(self, code: str) -> None:
        if code not in _NUMBERS:
            raise ValueError(f"the type {code!r:.40} is not a number's")
        self._code = code
        self._order = "<"

    def build(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError(f"the byte order {state[1]!r:.40} is invalid")
        self._order = state[1]

    def read_number(self, data: bytes | str) -> Any:
        """Return the bytes as a Python number."""
        # Python 2 wrote bytes as text.
        content = data.encode("latin-1") if isinstance(data, str) else data
        (value,) = np.frombuffer(content, np.dtype(self._order + self._code)).tolist()
        return value


def _check_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value


def _fill(mapping: Any, pairs: list[Any]) -> dict[Any, Any]:
    if type(mapping) is not dict:
        raise TypeError(f"expected a mapping, got {type(mapping).__name__}")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        # Hashing nested tuples may take exponential time.
        if not isinstance(key, (str, bytes, int, float)):
            raise TypeError(f"expected a text or number as a key, got {type(key).__name__}")
        mapping[key] = value
    return mapping


def _list_parts(value: Any) -> Iterable[Any] | None:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (str, bytes, int, float)) or value is None:
        return None
    raise TypeError(f"expected plain values, got {type(value).__name__}")
