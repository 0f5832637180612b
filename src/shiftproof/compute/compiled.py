"""How inner loops are compiled: at their first call, and kept on disk for the next process.

Imports numba, which takes half a second: import this inside functions, or from a file that is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile ``function`` at its first call and keep the result on disk where that is possible."""
    return _compile(function)


def compile_inner(function: Function) -> Function:
    """Do as ``compiled`` for a function that only compiled ones call: Python cannot."""
    # It needs no wrapper that takes Python's arrays apart, which takes longer to compile than it does.
    return _compile(function, no_cpython_wrapper=True)


def _compile(function: Function, *, no_cpython_wrapper: bool = False) -> Function:
    # C does not call these, and a wrapper for it takes time to compile.
    options: Any = {
        "nogil": True,
        "error_model": "numpy",
        "no_cfunc_wrapper": True,
        "no_cpython_wrapper": no_cpython_wrapper,
    }
    try:
        return cast(Function, numba.njit(cache=True, **options)(function))
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written.
        return cast(Function, numba.njit(**options)(function))
