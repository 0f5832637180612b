"""What a folder of results says of the work it belongs to, held against the work that is to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shiftproof.errors import RunMismatchError

_TOLD = 3


def check_same(path: Path, there: Any, here: Any, *, what: str) -> None:
    """Refuse to go on in a folder that belongs to other work.

    Args:
        path: the folder.
        there: the settings that it was begun with.
        here: those of now.
        what: what the folder holds, for the error.

    Raises:
        RunMismatchError: they differ.
    """
    found = differences(there, here)
    if found:
        more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise RunMismatchError(
            f"{path} holds {what} with other settings: {'; '.join(found[:_TOLD])}{more}. Choose "
            "another output folder, or delete this one to start anew."
        )


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Return where two settings differ, one phrase each.

    >>> differences({"k": 1, "tests": {"art": 5}}, {"k": 1, "tests": {"art": 6}})
    ['tests.art was 5, now 6']
    """
    if isinstance(there, dict) and isinstance(here, dict):
        found: list[str] = []
        for key in dict.fromkeys([*there, *here]):
            found += differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
        return found
    return [] if there == here else [f"{name} was {_short(there)}, now {_short(here)}"]


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
