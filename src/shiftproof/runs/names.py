"""Names of a run: folders named after them, and choosing among the known ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from shiftproof.errors import UnknownNameError


def make_folder_name(name: str, default: str) -> str:
    """Return a valid folder name for a model's name, such as "batchnorm:prior=0".

    ``default`` is used if no valid character is left.
    """
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or default


def choose_names(names: Sequence[str] | None, known: Collection[str], what: str) -> list[str]:
    """Return ``names``, all known ones by default.

    Raises:
        UnknownNameError: a name is unknown; ``what`` says what it names.
    """
    for name in names or ():
        if name not in known:
            raise UnknownNameError.of(what, name, known)
    return list(names or known)
