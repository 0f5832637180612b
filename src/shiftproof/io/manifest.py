"""Manifests of output folders: creating them, and checking them on resuming."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from shiftproof.errors import BrokenFileError, InputError, RunMismatchError
from shiftproof.io import files
from shiftproof.io.folder_locks import lock_folder
from shiftproof.io.text import read_json, read_object

FORMAT = 1

_RENAMED_KEYS = {"labelled": "labeled"}
"""Renamed keys of settings in folders of earlier versions."""

_NOT_DECISIVE = ("broken", "format", "left aside", "provenance")
"""Keys of a copy's manifest, which has its settings beside them."""

_MAX_SHOWN = 3


def begin(
    folder: Path,
    name: str,
    settings: dict[str, Any],
    *,
    what: str,
    about: dict[str, Any] | None = None,
    unnamed: Collection[str] = (),
    ours: Collection[str] = (),
    shared: bool = False,
    why: str = "",
) -> dict[str, Any]:
    """Create a folder for these settings, or resume an existing one.

    Within a function that :func:`~shiftproof.io.folder_locks.releases_locks` marks, the folder is held: no
    other process may begin there until the function ends.

    Args:
        folder: the folder.
        name: of the JSON file in it that holds the settings.
        settings: determine the results, and must be equal to resume.
        what: what the folder holds, for errors: "a run".
        about: further content of the file, which need not be equal.
        unnamed: keys anywhere in the settings that need not be equal, such as names of data.
        ours: names of subfolders of this kind of output; while they are empty, it counts as not
            begun.
        shared: others may work there at the same time, as workers of a batch scheduler do.
        why: a sentence for the error, such as why this output cannot be extended.

    Returns:
        What the file says.

    Raises:
        RunMismatchError: it belongs to other work.
        BrokenFileError: the file is damaged.
        InputError: it holds other things, cannot be written to, or another process works there.
    """
    file = folder / name
    # Checked before anything is created, so that a refused folder stays unchanged.
    if not file.is_file():
        _check_empty(folder, name, what, ours)
        files.make_folder(folder)
    else:
        _read_same(file, settings, what, unnamed, why)
    lock_folder(folder, shared=shared)
    # Another process may just have created it.
    if file.is_file():
        return _read_same(file, settings, what, unnamed, why)
    _check_empty(folder, name, what, ours)
    begun = {"format": FORMAT, **settings, **(about or {})}
    files.write_json(file, begun)
    return begun


def check_target(folder: Path, name: str, *, what: str, ours: Collection[str] = ()) -> None:
    """Refuse an unusable output folder before long work; creates nothing.

    Arguments as for :func:`begin`, which may still refuse a folder with other settings.

    Raises:
        InputError: it is a file, has other content, or cannot be written to.
    """
    if (folder / name).is_file():
        return
    _check_empty(folder, name, what, ours)
    existing = next((one for one in (folder, *folder.absolute().parents) if one.exists()), None)
    if existing is not None and not existing.is_dir():
        raise InputError(f"{existing} is a file; expected a folder for {folder}.")
    if existing is not None and not os.access(existing, os.W_OK | os.X_OK):
        raise files.explain_disk_error(
            existing / name, PermissionError(errno.EACCES, "permission denied")
        )


def _check_empty(folder: Path, name: str, what: str, ours: Collection[str]) -> None:
    """Refuse a folder with other content than remains of killed processes and system files."""
    if not folder.is_dir():
        if folder.exists():
            raise InputError(f"{folder} is a file; expected a folder.")
        return
    try:
        others = [path for path in folder.iterdir() if path.name[0] != "."]
        strange = [path for path in others if path.name not in ours or not _has_no_output(path)]
    except OSError as error:
        raise files.explain_disk_error(folder / name, error) from error
    if strange and not (folder / name).is_file():
        raise InputError(
            f"{folder} is not empty and holds no {what.removeprefix('a ')} (no {name}). Choose "
            "another output folder, or empty it."
        )


def _has_no_output(path: Path) -> bool:
    return path.is_dir() and all(inner.name[0] == "." for inner in path.iterdir())


def _read_same(
    file: Path, settings: dict[str, Any], what: str, unnamed: Collection[str], why: str
) -> dict[str, Any]:
    there = read_json(file)
    if not isinstance(there, dict):
        raise BrokenFileError(
            f"{file}: expected an object of settings, got a {type(there).__name__}. Choose another "
            "output folder, or delete this one to start anew."
        )
    known = spell({key: there.get(key) for key in settings})
    check_same(
        file.parent, _without(known, unnamed), _without(settings, unnamed), what=what, why=why
    )
    return there


def spell(settings: Any) -> Any:
    """Return settings of an earlier version with the keys that this one has."""
    if not isinstance(settings, dict):
        return settings
    return {_RENAMED_KEYS.get(key, key): spell(value) for key, value in settings.items()}


def _without(settings: Any, unnamed: Collection[str]) -> Any:
    if not isinstance(settings, dict) or not unnamed:
        return settings
    return {
        name: _without(value, unnamed) for name, value in settings.items() if name not in unnamed
    }


def check_same_work(here: Path, theirs: Path) -> None:
    """Check that two files of settings, which two commands have begun, are of the same work.

    Provenance and results so far may differ.

    Raises:
        RunMismatchError: they are of other work.
        BrokenFileError: one is damaged.
    """
    check_same(here.parent, _read_decisive(theirs), _read_decisive(here), what="work")


def _read_decisive(file: Path) -> dict[str, Any]:
    told = read_object(file)
    if "settings" in told:
        return {name: told[name] for name in ("kind", "job", "shards", "settings") if name in told}
    return {name: value for name, value in told.items() if name not in _NOT_DECISIVE}


def check_same(path: Path, there: Any, here: Any, *, what: str, why: str = "") -> None:
    """Check that a folder's settings are those of the current work.

    Raises:
        RunMismatchError: they differ.
    """
    found = describe_differences(there, here)
    if found:
        more = f"; and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
        raise RunMismatchError(
            f"{path} holds {what} with other settings: {'; '.join(found[:_MAX_SHOWN])}{more}. "
            f"{why and why + ' '}Choose another output folder, or delete this one to start anew."
        )


def describe_differences(there: Any, here: Any) -> list[str]:
    """Return the differences of two settings, one phrase each, the outermost first.

    >>> describe_differences({"k": 1, "tests": {"art": 5}}, {"k": 1, "tests": {"art": 6}})
    ['tests: art was 5, now 6']
    >>> describe_differences({"data": {"shard_size": 2, "fingerprint": "a"}}, {"data": {"shard_size": 3}})
    ['data: shard size was 2, now 3', 'data: another content']
    """
    # Fingerprints come last: the sentence shows the first few, and these say least.
    found = sorted(
        _find_differences(there, here), key=lambda one: (_has_fingerprints(one), len(one[0]))
    )
    return [_describe_difference(one) for one in found]


_DIGEST = re.compile("[0-9a-f]{32,128}")

# Not by a rule: a key may also be a name of the user's, as that of a test set.
_WORDS = {"batch_size": "batch size", "part_rows": "rows in a part", "shard_size": "shard size"}

Differing: TypeAlias = tuple[tuple[str, ...], Any, Any]
"""The keys that lead to a setting, what it was, and what it is now."""


def _find_differences(there: Any, here: Any, keys: tuple[str, ...] = ()) -> Iterator[Differing]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            yield from _find_differences(there.get(key), here.get(key), (*keys, key))
    elif there != here:
        yield keys, there, here


def _has_fingerprints(found: Differing) -> bool:
    keys, *values = found
    digests = all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in values)
    return keys[-1:] == ("fingerprint",) or digests


def _describe_difference(found: Differing) -> str:
    """Describe a difference; the outermost key "settings" is omitted."""
    keys, there, here = found
    words = [_WORDS.get(key, key) for key in (keys[1:] if keys[:1] == ("settings",) else keys)]
    if _has_fingerprints(found):
        owners = words[:-1] if words[-1] == "fingerprint" else words
        return ": ".join([*owners, "another content"])
    return f"{': '.join(words)} was {_shorten(there)}, now {_shorten(here)}"


def _shorten(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
