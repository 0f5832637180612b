"""Fingerprints of functions: what decides their results beside their arguments."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from shiftproof.io.files import fingerprint

_DEPTH = 8
"""Levels of values within values that are looked at."""

_LOADING = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")

_CHANGING = (
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault",
    "update", "write",
)  # fmt: skip
"""Methods by which a function changes what it has closed over or reads from its module."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice)


def name_function(function: Any) -> str:
    """Return module and name of a function, or of an object's class; of a partial what it calls."""
    if isinstance(function, functools.partial):
        return f"partial of {name_function(function.func)}"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def find_source(function: Any) -> str | None:
    """Return the source of a function, or of an object's class; None where it cannot be read."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    try:
        return inspect.getsource(named)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        # Defined in a console, compiled, or from a file that changed after the import.
        return None


def describe_function(function: Any) -> str:
    """Return a function's name, with the fingerprint of the values that it brings along, if any."""
    name = getattr(function, "__qualname__", None) or name_function(function)
    values = fingerprint_values(function)
    return name if values is None else f"{name} {values}"


def fingerprint_values(function: Any, *, with_helpers: bool = False) -> str | None:
    """Return 32 hex digits that change with the values that a function brings along.

    These are the arguments of a partial, default values, the variables that it has closed over or
    reads from its module, and the public attributes of an object; texts, numbers, arrays, tensors and
    weights in them, also within lists, mappings and other objects. Nothing is looked for in functions
    of shiftproof, or in what a function itself assigns or, as by ``append``, changes.

    Args:
        function: any callable.
        with_helpers: look at the source of the functions of its own module that it calls, too.

    Returns:
        None without any such value.
    """
    parts = list(_Walk(_find_module(function), with_helpers).list_of_callable(function, 0))
    return fingerprint(parts) if parts else None


def _find_module(function: Any) -> str:
    """Return the module of a function, of what a partial calls, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    module: str = (function if hasattr(function, "__qualname__") else type(function)).__module__
    return module


class _Walk:
    """Visits values: functions and objects once, so that a cycle of them ends."""

    def __init__(self, module: str, with_helpers: bool) -> None:
        self._module, self._with_helpers = module, with_helpers
        self._is_ours = module.partition(".")[0] == "shiftproof"
        self._seen: dict[int, Any] = {}

    def list_of_callable(self, function: Any, depth: int) -> Iterator[bytes]:
        """Yield what a callable brings along."""
        if isinstance(function, functools.partial):
            yield from self._list_named("func", function.func, depth)
            yield from self._list_named("args", function.args, depth)
            yield from self._list_named("keywords", function.keywords, depth)
        elif isinstance(function, MethodType):
            yield from self.list_of_callable(function.__func__, depth)
            yield from self._list_named("self", function.__self__, depth)
        elif isinstance(function, FunctionType):
            yield from self._list_of_function(function, depth)
        elif isinstance(inner := getattr(function, "__wrapped__", None), FunctionType):
            # Compiled by numba or cached: what else it holds changes with every call.
            yield from self._list_of_function(inner, depth)
        elif not inspect.isroutine(function) and not isinstance(function, type):
            yield from self._list_of_object(function, depth)

    def _list_of_function(self, function: FunctionType, depth: int) -> Iterator[bytes]:
        yield from self._list_closure(function, depth)
        if self._is_ours or function.__module__ != self._module:
            return
        defaults = {
            name: one.default
            for name, one in inspect.signature(function, follow_wrapped=False).parameters.items()
            if one.default is not inspect.Parameter.empty
        }
        for name, value in defaults.items():
            yield from self._list_named(f"default {name}", value, depth)
        read, assigned = _find_globals(function.__code__)
        for name in sorted(read - assigned):
            if name in function.__globals__:
                value = function.__globals__[name]
                if not isinstance(value, ModuleType):
                    yield from self._list_named(f"global {name}", value, depth)

    def _list_closure(self, function: FunctionType, depth: int) -> Iterator[bytes]:
        code = function.__code__
        _, assigned = _find_globals(code)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if name not in assigned:
                yield from self._list_named(f"closed over {name}", value, depth)

    def _list_named(self, name: str, value: Any, depth: int) -> Iterator[bytes]:
        found = list(self._list_of_value(value, depth + 1))
        if found:
            yield name.encode()
            yield from found

    def _list_of_value(self, value: Any, depth: int) -> Iterator[bytes]:
        if isinstance(value, _PLAIN):
            yield f"{type(value).__qualname__} {value!r}".encode()
        elif isinstance(value, PurePath | ModuleType):
            yield (value.__name__ if isinstance(value, ModuleType) else str(value)).encode()
        elif depth <= _DEPTH:
            yield from self._list_of_compound(value, depth)

    def _list_of_compound(self, value: Any, depth: int) -> Iterator[bytes]:
        if isinstance(value, Mapping):
            yield b"mapping"
            for key, item in value.items():
                yield from self._list_of_value(key, depth + 1)
                yield from self._list_of_value(item, depth + 1)
        elif isinstance(value, list | tuple):
            yield f"{type(value).__qualname__} of {len(value)}".encode()
            for item in value:
                yield from self._list_of_value(item, depth + 1)
        elif isinstance(value, set | frozenset):
            yield b"set"
            yield from sorted(
                fingerprint(self._list_of_value(i, depth + 1)).encode() for i in value
            )
        elif id(value) not in self._seen:
            self._seen[id(value)] = value
            yield name_function(value).encode()
            if self._with_helpers and _find_module(value) == self._module:
                yield (find_source(value) or "").encode()
            yield from self.list_of_callable(value, depth)

    def _list_of_object(self, value: Any, depth: int) -> Iterator[bytes]:
        """Yield the content of an array, tensor or network, or the public attributes."""
        torch: Any = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.nn.Module):
            for name, item in value.state_dict().items():
                yield name.encode()
                yield from self._list_of_value(item, depth + 1)
        if torch is not None and isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            yield f"{value.dtype} {tuple(value.shape)}".encode()
            yield flat.view(torch.uint8).numpy().tobytes()
            return
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
            array = numpy.asarray(value)
            if array.dtype.hasobject:
                yield from self._list_of_value(array.tolist(), depth + 1)
            else:
                yield f"{array.dtype.str} {array.shape}".encode()
                yield array.tobytes()
            return
        for name, item in sorted(_list_attributes(value).items()):
            if not name.startswith("_") and name != "training":
                yield from self._list_named(name, item, depth)


def _list_attributes(value: Any) -> dict[str, Any]:
    """Return an object's own attributes, of ``__dict__`` and ``__slots__``."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _find_globals(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the names that code reads from its module, and those that it changes outside itself."""
    read, assigned = set(), set()
    before: dis.Instruction | None = None
    for step in dis.get_instructions(code):
        if before is not None and step.argval in _CHANGING and before.opname in _LOADING:
            # Such as a list to which every call adds its image.
            assigned.add(before.argval)
        before = step
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            read.add(step.argval)
        elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF"):
            assigned.add(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner_read, inner_assigned = _find_globals(constant)
            read |= inner_read
            assigned |= inner_assigned
    return read, assigned
