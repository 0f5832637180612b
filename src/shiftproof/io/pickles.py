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
"""Larger files are refused: 90 cells of 80 classes take a third of it."""

_MAPPING = ("collections", "OrderedDict")
_DTYPE = ("numpy", "dtype")
_SCALARS = (("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"))
_ENCODE = ("_codecs", "encode")
_KNOWN = frozenset({_MAPPING, _DTYPE, *_SCALARS, _ENCODE})

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
    """Read a pickle of dicts, lists, tuples, texts and numbers, those of NumPy as well.

    Nothing in it is executed. What it holds, its repeated parts written out, has no more values
    than the file has bytes.

    Raises:
        BrokenFileError: it is missing, above 2 MB, no pickle, names a function or class, holds
            itself, or stands for far more than it says.
    """
    with open_regular(path) as file, convert_errors(path, "not a pickle of plain values"):
        data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise BrokenFileError(
                f"{path}: above {MAX_BYTES // 1_000_000} MB; no table of results."
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
            word, module = stack.pop(), stack.pop()
            stack.append(_Global(module, word))
        elif name in ("REDUCE", "NEWOBJ"):
            values, called = stack.pop(), stack.pop()
            stack.append(called.make(*values))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].build(state)
        elif name not in ("PROTO", "FRAME"):
            self._collect(name)

    def _collect(self, name: str) -> None:
        """Make or fill a container."""
        stack = self._stack
        if name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "DICT":
            stack.append(_fill({}, self._above_mark()))
        elif name == "LIST":
            stack.append(self._above_mark())
        elif name == "TUPLE":
            stack.append(tuple(self._above_mark()))
        elif name in _TUPLES:
            count = _TUPLES[name]
            values = tuple(stack[len(stack) - count :]) if count <= len(stack) else None
            if values is None:
                raise ValueError("a value is missing")
            del stack[len(stack) - count :]
            stack.append(values)
        elif name == "APPEND":
            value = stack.pop()
            _list(stack[-1]).append(value)
        elif name == "APPENDS":
            new = self._above_mark()
            _list(stack[-1]).extend(new)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _fill(stack[-1], [key, value])
        elif name == "SETITEMS":
            new = self._above_mark()
            _fill(stack[-1], new)
        else:
            raise ValueError(f"the instruction {name} is of no table of results")

    def _above_mark(self) -> list[Any]:
        stack = self._stack
        place = len(stack) - 1
        while stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("a mark is missing")
        values = stack[place + 1 :]
        del stack[place:]
        return values


class _Global:
    """A global (function or class) named by the pickle, and its safe replacement."""

    def __init__(self, module: str, name: str) -> None:
        if (module, name) not in _KNOWN:
            raise ValueError(f"it names {module}.{name}, which is not allowed")
        self._name = (module, name)

    def make(self, *values: Any) -> Any:
        if self._name == _MAPPING:
            return _fill({}, [part for pair in (values[0] if values else ()) for part in pair])
        if self._name == _DTYPE:
            return _Dtype(values[0])
        if self._name == _ENCODE:
            text, encoding = values
            if encoding not in ("latin1", "latin-1"):
                raise ValueError(f"the encoding {encoding} is of no number")
            return text.encode("latin-1")
        dtype, data = values
        return dtype.number(data)


class _Dtype:
    """A type of NumPy's numbers."""

    def __init__(self, code: str) -> None:
        if code not in _NUMBERS:
            raise ValueError(f"the type {code!r:.40} is none of a number")
        self._code = code
        self._order = "<"

    def build(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError(f"the byte order {state[1]!r:.40} is none")
        self._order = state[1]

    def number(self, data: bytes | str) -> Any:
        """Return the Python number that these bytes are."""
        # Python 2 wrote bytes as text.
        content = data.encode("latin-1") if isinstance(data, str) else data
        (value,) = np.frombuffer(content, np.dtype(self._order + self._code)).tolist()
        return value


def _list(value: Any) -> list[Any]:
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
    raise TypeError("it leaves something else than values")
