"""Fingerprints of functions: of what they do, not of how they are written down."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np

from shiftproof.io.files import fingerprint

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_Definition: TypeAlias = _Function | ast.ClassDef

_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

_IDLE = {"returns", "type_comment", "kind", "ctx", "type_ignores", "type_params"}
"""Fields of syntax trees that do not change what a function does."""

_OURS = __name__.partition(".")[0]


def fingerprint_function(function: Callable[..., Any]) -> str:
    """Return 32 hex digits that change with what a function does.

    They depend on the syntax of its source (where there is none, as in a console, on its compiled
    code, which differs between versions of Python), on its defaults, on the values that it captures
    or binds (closures, ``functools.partial``, attributes of an object that is called, weights of a
    network), and on the constants, functions and classes of its own package that it names, with
    theirs. They do not depend on docstrings, comments, annotations, layout and line numbers, nor on
    the code of other packages, nor on what the function writes to by itself (counters, caches, a
    lazily opened file).

    >>> one, other = (functools.partial(round, ndigits=digits) for digits in (1, 2))
    >>> fingerprint_function(one) == fingerprint_function(other)
    False
    """
    parts = _Reader(_find_inner(function)).describe(function)
    return fingerprint(part.encode("utf-8", "backslashreplace") for part in parts)


def identify_function(function: Callable[..., Any]) -> str:
    """Return module and name of a function, and its fingerprint.

    One with arguments bound is not the function itself, and is called otherwise.
    """
    return f"{_find_name(function)} {fingerprint_function(function)}"


def _find_name(function: Any) -> str:
    if isinstance(function, functools.partial):
        return f"functools.partial of {_find_name(function.func)}"
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}.{kind.__qualname__}"


def fingerprint_source(text: str) -> str | None:
    """Return 32 hex digits that change with what a Python source does, as above.

    None if it is no Python that this version can parse.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return fingerprint(part.encode("utf-8", "backslashreplace") for part in _spell(tree))


def _find_inner(function: Any) -> Any:
    """Return the function inside a partial, a bound method, or what numba compiled."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif callable(getattr(function, "py_func", None)):
            function = function.py_func
        else:
            return function


class _Reader:
    """Describes values and code; each object once, since functions may name each other.

    ``first`` is the function whose package is described by its code, others by their names.
    """

    def __init__(self, first: Any) -> None:
        self._package = _get_package(first)
        self._seen: dict[int, Any] = {}

    def describe(self, value: Any) -> Iterator[str]:
        """Yield texts that are equal for equal values."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, PurePath)):
            yield f"{type(value).__name__} {value!r}"
            return
        if not isinstance(value, (tuple, frozenset, np.ndarray, np.generic)):
            if id(value) in self._seen:
                yield "seen before"
                return
            self._seen[id(value)] = value  # held, so that the id stays its own
        if isinstance(identity := getattr(value, "identity", None), str):
            yield f"identity {identity}"
        elif isinstance(value, (np.ndarray, np.generic)):
            yield from self._describe_array(np.asarray(value))
        elif isinstance(value, (tuple, list, set, frozenset, dict)):
            yield from self._describe_container(value)
        elif isinstance(value, types.ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(value, types.FunctionType):
            yield from self._describe_function(value)
        elif isinstance(value, types.MethodType):
            yield from self.describe(value.__func__)
            yield from self.describe(value.__self__)
        elif isinstance(value, functools.partial):
            yield "partial"
            for part in (value.func, value.args, value.keywords):
                yield from self.describe(part)
        elif isinstance(value, type):
            yield from self._describe_class(value)
        else:
            yield from self._describe_object(value)

    def _describe_container(self, value: Any) -> Iterator[str]:
        yield f"{type(value).__name__} of {len(value)}"
        if isinstance(value, dict):
            value = [part for item in value.items() for part in item]
        elif isinstance(value, (set, frozenset)):
            # Their order differs between processes.
            yield from sorted(" ".join(self.describe(part)) for part in value)
            return
        for part in value:
            yield from self.describe(part)

    def _describe_function(self, function: types.FunctionType) -> Iterator[str]:
        if _get_package(function) != self._package:
            yield f"function {function.__module__}.{function.__qualname__}"
            return
        yield "function"
        tree = _find_definition(function)
        yield from _spell_code(function.__code__) if tree is None else _spell(tree)
        yield from self._describe_surroundings(function, tree)

    def _describe_surroundings(
        self, function: types.FunctionType, tree: ast.AST | None
    ) -> Iterator[str]:
        """Describe the values that a function uses, but those that it writes to by itself."""
        code = function.__code__
        written = _list_written(code, tree)
        yield from self.describe(function.__defaults__)
        yield from self.describe(function.__kwdefaults__)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name not in written:
                yield f"captures {name}"
                try:
                    yield from self.describe(cell.cell_contents)
                except ValueError:
                    yield "nothing yet"
        if self._package != _OURS:  # a function of ours is known by its own code
            named = set(_list_names(code)) & function.__globals__.keys()
            for name in sorted(named - written):
                yield f"names {name}"
                yield from self.describe(function.__globals__[name])

    def _describe_class(self, value: type) -> Iterator[str]:
        for kind in value.__mro__:
            if kind is object:
                continue
            yield f"class {kind.__module__}.{kind.__qualname__}"
            if _get_package(kind) != self._package:
                continue
            tree = _find_definition(kind)
            if tree is not None:
                yield from _spell(tree)
            for name, part in sorted(vars(kind).items()):
                function = getattr(part, "__func__", None) or getattr(part, "fget", None) or part
                if not isinstance(function, types.FunctionType):
                    continue
                yield name
                if tree is None:
                    yield from self.describe(function)
                else:
                    yield from self._describe_surroundings(function, tree)

    def _describe_object(self, value: Any) -> Iterator[str]:
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            yield f"tensor {value.dtype} {tuple(value.shape)}"
            yield fingerprint([flat.view(torch.uint8).numpy().tobytes()])
            return
        inner = getattr(value, "py_func", None)  # compiled by numba
        if inner is not None:
            yield from self.describe(inner)
            return
        yield from self._describe_class(type(value))
        yield str(getattr(value, "__qualname__", ""))  # of functions that are not of Python
        if torch is not None and isinstance(value, torch.nn.Module):
            for name, weights in value.state_dict().items():
                yield f"weights {name}"
                yield from self.describe(weights)
        written = {name for kind in type(value).__mro__ for name in _list_own_state(kind)}
        for name, part in sorted(_list_attributes(value).items()):
            if name not in written:
                yield f"has {name}"
                yield from self.describe(part)

    def _describe_array(self, values: np.ndarray[Any, Any]) -> Iterator[str]:
        yield f"array {values.dtype} {values.shape}"
        if values.dtype.hasobject:
            yield from self.describe(values.tolist())
        else:
            yield fingerprint([np.ascontiguousarray(values).tobytes()])


def _get_package(value: Any) -> str:
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0]


def _list_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, in its ``__dict__`` and in the slots of its classes."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


# ---------------------------------------------------------------- source


def _find_definition(value: Any) -> _Definition | None:
    """Return the syntax tree of a function or class; None without a source that is its own."""
    try:
        lines, _ = inspect.findsource(value)
        source = _read_source("".join(lines))
    except (OSError, TypeError, SyntaxError, ValueError, IndexError, RecursionError):
        return None
    if isinstance(value, type):
        return _find_class(source.tree, value)
    code = value.__code__
    found = source.functions.get((code.co_name, code.co_firstlineno), [])
    # Two lambdas of one line cannot be told apart; a file that was changed after the import is not
    # the source of the function.
    return found[0] if len(found) == 1 and source.has(code) else None


class _Source:
    """The text of a module, with its functions by name and first line.

    Each text is read once: a network has a hundred methods, in files of thousands of lines.
    """

    def __init__(self, text: str) -> None:
        self.tree = ast.parse(text)
        self.functions: dict[tuple[str, int], list[_Function]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                place = getattr(node, "name", "<lambda>"), _find_first_line(node)
                self.functions.setdefault(place, []).append(node)

    def has(self, code: types.CodeType) -> bool:
        """Return whether the module has the code of a function, at the same place."""
        compiled = self._codes.get((code.co_name, code.co_firstlineno))
        return compiled is not None and list(_spell_code(compiled)) == list(_spell_code(code))

    @functools.cached_property
    def _codes(self) -> dict[tuple[str, int], types.CodeType]:
        """Compiled code by name and first line; empty if the text cannot be compiled."""
        found: dict[tuple[str, int], types.CodeType] = {}
        try:
            waiting = [compile(self.tree, "source", "exec", dont_inherit=True)]
        except (SyntaxError, ValueError, RecursionError):
            return found
        while waiting:
            one = waiting.pop()
            found.setdefault((one.co_name, one.co_firstlineno), one)
            waiting += [part for part in one.co_consts if isinstance(part, types.CodeType)]
        return found


_read_source = functools.lru_cache(maxsize=32)(_Source)


def _find_first_line(node: _Function) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(one.lineno for one in decorators)])


def _find_class(tree: ast.AST, value: type) -> ast.ClassDef | None:
    scope: ast.AST = tree
    for name in value.__qualname__.split("."):
        if name == "<locals>":
            continue
        found = [
            node
            for node in ast.walk(scope)
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name
        ]
        if len(found) != 1:
            return None
        scope = found[0]
    return scope if isinstance(scope, ast.ClassDef) else None


def _spell(node: Any) -> Iterator[str]:
    """Yield the parts of a syntax tree, in a form that all versions of Python share."""
    if isinstance(node, list):
        yield f"{len(node)}:"
        for part in node:
            yield from _spell(part)
        return
    if not isinstance(node, ast.AST):
        yield f"{type(node).__name__} {node!r}"
        return
    yield type(node).__name__
    idle = {*_IDLE, "annotation"} if isinstance(node, ast.arg) else _IDLE
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, _DOCUMENTED):
            value = _drop_docstring(value)
        if name not in idle and value not in (None, []):
            yield name
            yield from _spell(value)


def _drop_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    text = first.value if isinstance(first, ast.Expr) else None
    is_docstring = isinstance(text, ast.Constant) and isinstance(text.value, str)
    return body[1:] if is_docstring else body


# ---------------------------------------------------------------- state

_WRITING = {
    *("append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "popleft"),
    *("appendleft", "remove", "discard", "clear", "sort", "reverse"),
}
"""Methods of containers that change them."""

_MAKING = {"__init__", "__post_init__", "__new__", "__setstate__"}


def _list_written(code: types.CodeType, tree: ast.AST | None) -> set[str]:
    """Return the names outside of a function that it writes to, such as counters and caches."""
    found = set(_list_stored(code, "STORE_GLOBAL"))
    found |= set(_list_stored(code, "STORE_DEREF")) & set(code.co_freevars)
    for node in ast.walk(tree) if tree is not None else ():
        target = _find_written(node)
        while isinstance(target, (ast.Subscript, ast.Attribute)):
            target = target.value
        if isinstance(target, ast.Name):
            found.add(target.id)
    return found


def _list_own_state(kind: type) -> set[str]:
    """Return the attributes that the methods of a class write to after an object is made."""
    found: set[str] = set()
    for name, method in vars(kind).items():
        if isinstance(method, types.FunctionType) and name not in _MAKING:
            found |= set(_list_stored(method.__code__, "STORE_ATTR"))
            tree = _find_definition(method)
            for node in ast.walk(tree) if tree is not None else ():
                target = _find_written(node)
                while target is not None:
                    inner = getattr(target, "value", None)
                    if isinstance(target, ast.Attribute) and isinstance(inner, ast.Name):
                        found.add(target.attr)
                    target = inner
    return found


def _list_stored(code: types.CodeType, operation: str) -> Iterator[str]:
    for one in dis.get_instructions(code):
        if one.opname == operation:
            yield str(one.argval)
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _list_stored(part, operation)


def _find_written(node: ast.AST) -> ast.expr | None:
    """Return the expression that a node changes: of ``a.b[c] = d`` and ``a.b.append(d)``, ``a.b``."""
    if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(
        node.ctx, (ast.Store, ast.Del)
    ):
        return node
    called = node.func if isinstance(node, ast.Call) else None
    return called.value if isinstance(called, ast.Attribute) and called.attr in _WRITING else None


# ---------------------------------------------------------------- compiled code


def _spell_code(code: types.CodeType) -> Iterator[str]:
    """Yield the parts of compiled code without docstring, file and line numbers."""
    yield f"{code.co_varnames} {code.co_freevars} {code.co_cellvars} {code.co_argcount}"
    yield f"{code.co_kwonlyargcount} {code.co_posonlyargcount}"
    for one in dis.get_instructions(code):
        yield one.opname
        if isinstance(one.argval, types.CodeType):
            yield from _spell_code(one.argval)
        elif one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
            yield f"to {one.argval}"
        else:
            yield f"{type(one.argval).__name__} {_show(one.argval)}"


def _show(value: Any) -> str:
    # The order of a set differs between processes.
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


def _list_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _list_names(part)
