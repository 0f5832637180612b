"""A function of one's own, named by its module: ``python:my_nets:make``."""

from __future__ import annotations

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
from shiftproof.io.border import reason_of
from shiftproof.models.structure import is_torch_module


@dataclass(frozen=True)
class OwnFunction:
    """What ``MODULE:FUNCTION`` names.

    Attributes:
        target: ``MODULE:FUNCTION``.
        module: the imported module.
        function: what stands in it under that name.
    """

    target: str
    module: ModuleType
    function: Any

    @property
    def classes(self) -> Any:
        """The function's attribute ``classes``: what the outputs mean, or None."""
        return getattr(self.function, "classes", None)


@final
class FunctionModel:
    """A function as a model, which without weights of its own is told from others by its file.

    Args:
        function: what is called.
        module: where it was found.

    Attributes:
        fingerprint: the function's own, or that of the module's file, so that a run is not resumed
            after the file was changed.
        device: the function's own, or "cpu".
        settings: the function's own, or None.
    """

    def __init__(self, function: Callable[..., Any], module: ModuleType) -> None:
        self._function = function
        self.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)
        self.__module__ = module.__name__
        file = getattr(module, "__file__", None)
        known = getattr(function, "fingerprint", None)
        written = "unknown" if file is None else files.file_fingerprint(Path(file))
        self.fingerprint = str(written if known is None else known)
        self.device = str(getattr(function, "device", "cpu"))
        self.settings = getattr(function, "settings", None)

    def __call__(self, inputs: Any) -> Any:
        """Call the function."""
        return self._function(inputs)


def check_function(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a text that names no function, or one of a module that is not there; nothing is imported.

    Raises:
        InputError: no function is named, or a file in the place of the module.
        ModelError: there is no such module.
    """
    module, _ = _split_target(target)
    package = module.partition(".")[0]
    with _working_directory_first():
        importlib.invalidate_caches()
        try:
            is_there = package in sys.modules or importlib.util.find_spec(package) is not None
        except (ImportError, ValueError):
            is_there = False
    if not is_there:
        raise ModelError(
            f"python:{target}: the module {module!r} cannot be imported (there is no {package!r} "
            "here, nor is it installed)."
        )


def import_function(target: str, kinds: tuple[type, ...] = ()) -> OwnFunction:
    """Import ``MODULE:FUNCTION``, also from the working directory. Importing runs the module.

    ``kinds`` may stand there instead of a function.

    Raises:
        InputError: no function is named, or a file in the place of the module.
        UnknownNameError: the module has no such function; says the nearest.
        ModelError: the module cannot be imported, or what is named is no function.
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
    """Return the module and the function that ``MODULE:FUNCTION`` names."""
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
    """Import what ``MODULE:FUNCTION`` names, also from the working directory, and return its model.

    The function takes no arguments; models of ``kinds`` are taken as they are, also in its place.
    Returned is what is named, and the model as of :func:`make_model`; ``expected`` is what errors
    say.

    Raises:
        InputError, UnknownNameError, ModelError: as :func:`import_function` and :func:`make_model`.
    """
    own = import_function(target, kinds)
    return own, make_model(own, kinds, expected)


def make_model(own: OwnFunction, kinds: tuple[type, ...], expected: str) -> Any:
    """Return the model that a function makes, or that stands in its place.

    That is a ``torch.nn.Module``, an object of ``kinds``, or a ``FunctionModel`` of another
    function; ``expected`` is what errors say.

    Raises:
        ModelError: the function takes arguments, raises, or returns something else.
    """
    made = own.function
    if not _is_model(made, kinds):
        _check_arguments(own, expected)
        made = _call(own)
    if _is_model(made, kinds):
        return made
    # A model of another kind may be callable, too.
    finished = any(hasattr(made, name) for name in ("predict", "encode"))
    if not callable(made) or isinstance(made, type) or finished:
        raise ModelError(f"python:{own.target} returned {_name_value(made)}; expected {expected}.")
    return FunctionModel(made, own.module)


def tell_apart(module: Callable[..., Any], own: OwnFunction) -> Callable[..., Any]:
    """Return what runs in a model that was taken as it is, with a fingerprint in any case."""
    if is_torch_module(module) or hasattr(module, "fingerprint"):
        return module
    return FunctionModel(module, own.module)


def _name_value(value: object) -> str:
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
        with _working_directory_first():
            return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"python:{target}: the module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {reason_of(error)})."
        ) from error


def _check_arguments(own: OwnFunction, expected: str) -> None:
    try:
        signature = inspect.signature(own.function)
    except (TypeError, ValueError):  # of a compiled function nothing is known
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
        with _working_directory_first(), _keep_random_state():
            return own.function()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"python:{own.target} failed ({type(error).__name__}: {reason_of(error)})."
        ) from error


@contextlib.contextmanager
def _working_directory_first() -> Iterator[None]:
    """Find modules in the working directory first, and afterwards last.

    It stays in the path for what the module imports later, and for worker processes, which read
    objects of its classes. Being last, it hides no module of a library there.
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
