"""Experiment trackers by name, and logging a run to one of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.integrations.logged import Logged, collect
from shiftproof.runs.run import AnyRun

Write: TypeAlias = Callable[[Logged, "str | None"], str]
"""Logs a run to a destination, None for the tracker's default, and returns its location."""

TRACKERS: Mapping[str, str] = {
    "mlflow": "shiftproof.integrations.to_mlflow",
    "wandb": "shiftproof.integrations.to_wandb",
    "tensorboard": "shiftproof.integrations.to_tensorboard",
}
"""From name to the module with its ``check`` and ``write``."""


def log_run(run: AnyRun[Any], to: str) -> str:
    """Log a finished run, and return its location.

    Args:
        run: a run of any kind.
        to: ``mlflow``, ``wandb`` or ``tensorboard``, optionally with a folder or URI after a colon:
            ``mlflow:mlruns``, ``mlflow:http://localhost:5000``, ``tensorboard:logs``.

    Raises:
        UnknownNameError: no such tracker.
        InputError: nothing after the colon.
        MissingExtraError: its library is not installed.
    """
    name, where = split_destination(to)
    write: Write = importlib.import_module(TRACKERS[name]).write
    return write(collect(run), where)


def check_tracker(to: str) -> None:
    """Check that a tracker can be used, before long work begins.

    Raises:
        UnknownNameError, InputError, MissingExtraError: as :func:`log_run`.
    """
    name, _ = split_destination(to)
    importlib.import_module(TRACKERS[name]).check()


def split_destination(to: str) -> tuple[str, str | None]:
    """Return the name of a tracker and the destination after it.

    >>> split_destination("mlflow:http://localhost:5000")
    ('mlflow', 'http://localhost:5000')
    """
    name, colon, where = to.partition(":")
    if name not in TRACKERS:
        raise UnknownNameError.of("logger", name, TRACKERS)
    if colon and not where:
        raise InputError(f"Expected a folder or an address after {to!r}, such as {name}:logs.")
    return name, where or None
