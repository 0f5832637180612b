"""Compiling inner loops with numba, with a cache on disk.

Importing numba takes half a second: import this module only inside functions, or from modules that
are imported so.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from shiftproof.compute.held_settings import HeldSettings, Setting

Function = TypeVar("Function", bound=Callable[..., Any])


def _find_scipy() -> None:
    if find_spec("scipy") is None:
        raise ImportError("scipy is required for linear algebra")


def _import_without_scipy() -> None:
    """Import what numba imports at the first call of a loop, but not scipy.linalg with it.

    numba imports scipy.linalg, which takes longer than all else in the call, only to know whether it
    is there. Our loops have no linear algebra; a function that has some still imports scipy.linalg
    when it is compiled. A numba without these parts imports what it needs by itself.
    """
    try:
        linalg = importlib.import_module("numba.np.linalg")
    except ImportError:
        return
    with HeldSettings(lambda: [Setting(linalg, "ensure_blas", _find_scipy)]):
        importlib.import_module("numba.np.arraymath")


_import_without_scipy()


def compiled(function: Function) -> Function:
    """Compile ``function`` at its first call, and cache the result on disk if possible."""
    return _compile(function)


def compile_inner(function: Function) -> Function:
    """Like ``compiled``, for a function that only compiled functions call."""
    # Without the wrapper for Python calls, which takes longer to compile than the function.
    return _compile(function, no_cpython_wrapper=True)


def compile_fused(function: Function) -> Function:
    """Like ``compiled``, but with fused multiply-add, as in torch's kernels."""
    return _compile(function, fastmath={"contract"})


def _compile(
    function: Function, *, no_cpython_wrapper: bool = False, fastmath: Collection[str] = ()
) -> Function:
    # Without the wrapper for C calls, which is not needed and takes time to compile.
    options: Any = {
        "nogil": True,
        "fastmath": set(fastmath),
        "error_model": "numpy",
        "no_cfunc_wrapper": True,
        "no_cpython_wrapper": no_cpython_wrapper,
    }
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache is writable.
        dispatcher = numba.njit(**options)(function)
    dispatcher.compile = _with_working_directory()(dispatcher.compile)
    return cast(Function, pause_garbage_collection(dispatcher))


@contextmanager
def _with_working_directory() -> Iterator[None]:
    """Work in the package's folder if the working directory was deleted: numba asks for its path."""
    try:
        Path.cwd()
    except FileNotFoundError:
        deleted = os.open(".", os.O_RDONLY)
        os.chdir(Path(__file__).parent)
        try:
            yield
        finally:
            os.fchdir(deleted)
            os.close(deleted)
    else:
        yield


def pause_garbage_collection(dispatcher: Any) -> Any:
    """Let a numba dispatcher compile without garbage collection, and return it.

    numba creates a hundred thousand objects per loop and keeps most of them, so collections would
    take a sixth of the time and free almost nothing.
    """
    dispatcher.compile = _pause_garbage_collection()(dispatcher.compile)
    return dispatcher


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    # With nested or concurrent compilations the first to start enables collection again.
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
