"""What a folder of results says of the work it belongs to, held against the work that is to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shiftproof.errors import InputError, RunMismatchError
from shiftproof.io import files
from shiftproof.io.text import read_json

FORMAT = 1

_TOLD = 3


def begin(
    folder: Path,
    name: str,
    settings: dict[str, Any],
    *,
    what: str,
    about: dict[str, Any] | None = None,
) -> None:
    """Make a folder for work with these settings, or go on with the one that is there.

    Args:
        folder: the folder.
        name: of the JSON file in it that holds the settings.
        settings: decide what comes out, and must be equal to go on.
        what: what the folder holds, for errors.
        about: goes into the file, too, and need not be equal.

    Raises:
        RunMismatchError: it belongs to other work.
        InputError: it holds other things, or cannot be written to.
    """
    file = folder / name
    if file.is_file():
        there = read_json(file)
        known = there if isinstance(there, dict) else {}
        same = {key: known.get(key) for key in settings}
        check_same(folder, same, settings, what=what)
        return
    # Another worker may have begun a moment ago: its file may be on the way, or there by now.
    others = folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir())
    if others and not file.is_file():
        raise InputError(
            f"{folder} is not empty and holds no {what} (no {name}). Choose another output folder, or "
            "empty it."
        )
    files.make_folder(folder)
    files.write_json(file, {"format": FORMAT, **settings, **(about or {})})


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
