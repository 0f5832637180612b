"""Models from users' own functions: ``python:my_nets:make``."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, final

from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import describe_error
from shiftproof.io.function_code import fingerprint_function, fingerprint_source
from shiftproof.models.structure import is_torch_module


@dataclass(frozen=True)
class OwnFunction:
    """An imported ``MODULE:FUNCTION``.

    Attributes:
        target: ``MODULE:FUNCTION``.
        module: the imported module.
        function: its attribute of that name.
    """

    target: str
    module: ModuleType
    function: Any

    @property
    def classes(self) -> Any:
        """The function's attribute ``classes``: the classes of the outputs, or None."""
        return getattr(self.function, "classes", None)


@final
class FunctionModel:
    """A function as a model, identified by its code if it has no fingerprint.

    Args:
        function: the function to call.
        module: its module.

    Attributes:
        fingerprint: the function's own, or that of the module's code and of what the function
            captures, so that a run is not resumed after a change of them. Docstrings, comments and
            layout do not count.
        device: the function's own, or "cpu".
        settings: the function's own, or None.
    """

    def __init__(self, function: Callable[..., Any], module: ModuleType) -> None:
        self._function = function
        self.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)
        self.__module__ = module.__name__
        known = getattr(function, "fingerprint", None)
        self.fingerprint = str(_fingerprint_code(function, module) if known is None else known)
        self.device = str(getattr(function, "device", "cpu"))
        self.settings = getattr(function, "settings", None)

    def __call__(self, inputs: Any) -> Any:
        """Call the function."""
        return self._function(inputs)


def _fingerprint_code(function: Callable[..., Any], module: ModuleType) -> str:
    """Return a fingerprint of a function and its module: its code if it is Python, else its file."""
    parts = [fingerprint_function(function)]
    file = getattr(module, "__file__", None)
    if file is not None:
        try:
            code = fingerprint_source(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            code = None
        parts.append(code or files.file_fingerprint(Path(file)))
    return files.fingerprint(part.encode() for part in parts)


def check_function(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a module or function that cannot be found, without importing the module.

    A function is looked for in the text of its module, if that says all names.

    Raises:
        InputError: no function is named, or a file instead of a module.
        UnknownNameError: the module has no such function; says the nearest.
        ModelError: no such module.
    """
    module, name = _split_target(target)
    package = module.partition(".")[0]
    with _search_working_directory_first():
        importlib.invalidate_caches()
        try:
            exists = package in sys.modules or importlib.util.find_spec(package) is not None
        except (ImportError, ValueError):
            exists = False
    if not exists:
        raise ModelError(
            f"python:{target}: the module {module!r} cannot be imported (there is no {package!r} "
            "here, nor is it installed)."
        )
    names = None if module in sys.modules else _list_names(module)
    if names is not None and name not in names:
        public = sorted(one for one in names if not one.startswith("_"))
        raise UnknownNameError.of(f"function of {module}", name, public)


def _list_names(module: str) -> set[str] | None:
    """Return the names that the text of a module defines at its top, without running it.

    None if the text does not say all: it has ``import *``, ``global`` or ``__getattr__``, or names are
    set through ``globals`` and the like; or it is no file of Python's.
    """
    with _search_working_directory_first():
        file = _find_source(module)
        if file is None:
            return None
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None  # importing it says what is wrong
    if any(map(_may_define_others, ast.walk(tree))):
        return None
    names: set[str] = set()
    remaining: list[ast.AST] = [tree]
    while remaining:
        for node in ast.iter_child_nodes(remaining.pop()):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
                continue
            remaining.append(node)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return names


def _may_define_others(node: ast.AST) -> bool:
    """Return whether a part of a module's text may define names that are not written there."""
    if isinstance(node, ast.Name):
        return node.id in ("globals", "vars", "locals", "exec", "eval", "setattr")
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return any(alias.name == "*" for alias in node.names)
    if isinstance(node, ast.Attribute):
        return node.attr == "__dict__"
    return isinstance(node, (ast.Global, ast.Match)) or (
        isinstance(node, ast.FunctionDef) and node.name == "__getattr__"
    )


def _find_source(module: str) -> Path | None:
    """Return the file of a module, found by its path without importing a package above it."""
    first, *others = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not others:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *others)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def import_function(target: str, kinds: tuple[type, ...] = ()) -> OwnFunction:
    """Import ``MODULE:FUNCTION``, also from the working directory. Importing runs the module.

    Objects of ``kinds`` are accepted instead of a function.

    Raises:
        InputError: no function is named, or a file instead of a module.
        UnknownNameError: the module has no such function; says the nearest.
        ModelError: the module cannot be imported, or the attribute is not a function.
    """
    module_name, name = _split_target(target)
    module = _import(module_name, target)
    if not hasattr(module, name):
        known = [one for one in vars(module) if not one.startswith("_")]
        raise UnknownNameError.of(f"function of {module_name}", name, known)
    function = getattr(module, name)
    if not callable(function) and not isinstance(function, kinds):
        raise ModelError(f"python:{target} is a {type(function).__name__}; expected a function.")
    return OwnFunction(target, module, function)


def _split_target(target: str) -> tuple[str, str]:
    """Split ``MODULE:FUNCTION`` into module and function."""
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise InputError(f"python:{target} names no function; expected python:MODULE:FUNCTION.")
    if module_name.endswith(".py"):
        raise InputError(
            f"python:{target} names a file; expected its module: "
            f"python:{Path(module_name).stem}:{name}, started in the folder of the file."
        )
    return module_name, name


def import_model(target: str, kinds: tuple[type, ...], expected: str) -> tuple[OwnFunction, Any]:
    """Import ``MODULE:FUNCTION``, also from the working directory, and make its model.

    The function takes no arguments; objects of ``kinds`` are accepted as its result, and instead of
    it. Returns the imported function, and the model of :func:`make_model`; ``expected`` is for
    errors.

    Raises:
        InputError, UnknownNameError, ModelError: as :func:`import_function` and :func:`make_model`.
    """
    own = import_function(target, kinds)
    return own, make_model(own, kinds, expected)


def make_model(own: OwnFunction, kinds: tuple[type, ...], expected: str) -> Any:
    """Return the model that a function returns, or that was given instead of a function.

    It is a ``torch.nn.Module`` (of an ``ExportedProgram`` its module), an object of ``kinds``, or a
    ``FunctionModel`` of another function; ``expected`` is for errors.

    Raises:
        ModelError: the function takes arguments, raises, or returns something else.
    """
    made = own.function
    if not _is_model(made, kinds):
        _check_arguments(own, expected)
        made = _call(own)
    made = _unpack_export(made)
    if _is_model(made, kinds):
        return made
    # A model of another kind may be callable, too.
    finished = any(hasattr(made, name) for name in ("predict", "encode"))
    if not callable(made) or isinstance(made, type) or finished:
        raise ModelError(
            f"python:{own.target} returned {_describe_value(made)}; expected {expected}."
        )
    return FunctionModel(made, own.module)


def _unpack_export(made: Any) -> Any:
    """Return the module of what ``torch.export.load`` returns, which cannot be called itself."""
    # Not by its type: who has no torch has none of these either.
    is_export = type(made).__name__ == "ExportedProgram" and callable(getattr(made, "module", None))
    return made.module() if is_export else made


def add_fingerprint(module: Callable[..., Any], own: OwnFunction) -> Callable[..., Any]:
    """Return a model's module, with a fingerprint in any case."""
    if is_torch_module(module) or hasattr(module, "fingerprint"):
        return module
    return FunctionModel(module, own.module)


def _describe_value(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _is_model(value: object, kinds: tuple[type, ...]) -> bool:
    return is_torch_module(value) or isinstance(value, kinds)


def _import(module_name: str, target: str) -> ModuleType:
    try:
        with _search_working_directory_first():
            return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"python:{target}: the module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {describe_error(error)})."
        ) from error


def _check_arguments(own: OwnFunction, expected: str) -> None:
    try:
        signature = inspect.signature(own.function)
    except (TypeError, ValueError):  # a compiled function without a signature
        return
    try:
        signature.bind()
    except TypeError as error:
        needed = [one for one in signature.parameters.values() if one.default is one.empty]
        raise ModelError(
            f"python:{own.target} takes arguments ({', '.join(one.name for one in needed)}); expected "
            f"a function without, that returns {expected}."
        ) from error


def _call(own: OwnFunction) -> Any:
    try:
        with _search_working_directory_first(), _keep_random_state():
            return own.function()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"python:{own.target} failed ({type(error).__name__}: {describe_error(error)})."
        ) from error


@contextlib.contextmanager
def _search_working_directory_first() -> Iterator[None]:
    """Context that finds modules in the working directory first, and afterwards last.

    The directory stays in the path for later imports of the module, and for worker processes, which
    unpickle objects of its classes. At the end of the path it hides no module of a library.
    """
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


@contextlib.contextmanager
def _keep_random_state() -> Iterator[None]:
    """Restore torch's global generator, from which a network's initial weights are drawn."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        yield
