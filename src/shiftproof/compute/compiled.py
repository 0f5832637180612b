"""Compiling inner loops with numba, with a cache on disk.

Imports numba, which takes half a second: import this inside functions, or from a file that is.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile ``function`` at its first call, and cache the result on disk if possible."""
    return _compile(function)


def compile_inner(function: Function) -> Function:
    """Like ``compiled``, for a function that is called only by compiled ones, not by Python."""
    # Without the wrapper for Python calls, which takes longer to compile than the function.
    return _compile(function, no_cpython_wrapper=True)


def compile_fused(function: Function) -> Function:
    """Like ``compiled``, but rounds a product and the sum after it once, as torch's kernels do."""
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
    return cast(Function, spare_garbage(dispatcher))


def spare_garbage(dispatcher: Any) -> Any:
    """Return what ``numba.njit`` made, which from now on compiles without collecting garbage.

    numba makes a hundred thousand objects for a loop and keeps most of them: to look through all of
    them over and over takes a sixth of the time and frees next to nothing.
    """
    dispatcher.compile = _pause_garbage()(dispatcher.compile)
    return dispatcher


@contextmanager
def _pause_garbage() -> Iterator[None]:
    # Of several threads, or functions that call each other, the first one resumes the collection.
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
