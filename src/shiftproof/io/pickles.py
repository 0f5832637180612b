"""Pickles of plain values, of which nothing runs but what is allowed by name."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import reason_of


def read_plain_pickle(path: Path, allowed: Collection[tuple[str, str]]) -> Any:
    """Read a pickle of plain values, of which nothing runs but what ``allowed`` names.

    Args:
        path: the file.
        allowed: module and name of each function or class that it may name.

    Raises:
        BrokenFileError: it is missing, no pickle, or names anything else.
    """

    class Plain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in allowed:
                raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
            return super().find_class(module, name)

    try:
        with path.open("rb") as file:
            return Plain(file).load()
    except OSError as error:
        raise BrokenFileError(f"{path}: cannot be read ({reason_of(error)}).") from error
    except Exception as error:  # a damaged pickle raises anything
        raise BrokenFileError(
            f"{path}: not a pickle of plain values ({reason_of(error)})."
        ) from error
