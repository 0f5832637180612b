"""The loggers by name, and the one function that hands a run to any of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.integrations.logged import Logged, collect
from shiftproof.runs.run import AnyRun

Write: TypeAlias = Callable[[Logged, "str | None"], str]
"""Writes what is logged to a place, None for the logger's own, and says where that is."""

TRACKERS: Mapping[str, str] = {
    "mlflow": "shiftproof.integrations.to_mlflow",
    "wandb": "shiftproof.integrations.to_wandb",
    "tensorboard": "shiftproof.integrations.to_tensorboard",
}
"""Name to the module that has its ``check`` and ``write``."""


def log_run(run: AnyRun[Any], to: str) -> str:
    """Log a finished run, and return where it is.

    Args:
        run: of any kind.
        to: ``mlflow``, ``wandb`` or ``tensorboard``, with a folder or an address behind a colon:
            ``mlflow:mlruns``, ``mlflow:http://localhost:5000``, ``tensorboard:logs``.

    Raises:
        UnknownNameError: no such logger.
        InputError: nothing behind the colon.
        MissingExtraError: its library is not installed.
    """
    name, where = split_place(to)
    write: Write = importlib.import_module(TRACKERS[name]).write
    return write(collect(run), where)


def check_tracker(to: str) -> None:
    """See that a logger can be used before long work begins.

    Raises:
        UnknownNameError, InputError, MissingExtraError: as :func:`log_run`.
    """
    name, _ = split_place(to)
    importlib.import_module(TRACKERS[name]).check()


def split_place(to: str) -> tuple[str, str | None]:
    """Return the name of a logger and the place behind it.

    >>> split_place("mlflow:http://localhost:5000")
    ('mlflow', 'http://localhost:5000')
    """
    name, colon, where = to.partition(":")
    if name not in TRACKERS:
        raise UnknownNameError.of("logger", name, TRACKERS)
    if colon and not where:
        raise InputError(f"Expected a folder or an address behind {to!r}, such as {name}:logs.")
    return name, where or None
