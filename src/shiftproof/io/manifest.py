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
"""Keys of a copy's manifest that are not settings."""

_MAX_SHOWN = 3


def begin(
    folder: Path,
    name: str,
    settings: dict[str, Any],
    *,
    what: str,
    about: dict[str, Any] | None = None,
    ignored: Collection[str] = (),
    subfolders: Collection[str] = (),
    shared: bool = False,
    why: str = "",
) -> dict[str, Any]:
    """Create a folder for these settings, or resume an existing one.

    Within a function that :func:`~shiftproof.io.folder_locks.releases_locks` marks, the folder is locked:
    other processes are refused until the function ends.

    Args:
        folder: the folder.
        name: name of the JSON file in it with the settings.
        settings: determine the results, and must be equal to resume.
        what: what the folder holds, for errors: "a run".
        about: further content of the file, which need not be equal.
        ignored: keys anywhere in the settings that need not be equal, such as names of data.
        subfolders: names of subfolders of this kind of output; a folder with only these, empty, counts
            as empty.
        shared: whether other processes may work there at the same time, as workers of a batch scheduler
            do.
        why: a sentence for the error, such as why this output cannot be extended.

    Returns:
        The content of the file.

    Raises:
        RunMismatchError: it has other settings.
        BrokenFileError: the file is damaged.
        InputError: it has other content, cannot be written to, or another process works there.
    """
    file = folder / name
    # Checked before anything is created, so that a refused folder stays unchanged.
    if not file.is_file():
        _check_empty(folder, name, what, subfolders)
        files.make_folder(folder)
    else:
        _read_same(file, settings, what, ignored, why)
    lock_folder(folder, shared=shared)
    # Another process may just have created it.
    if file.is_file():
        return _read_same(file, settings, what, ignored, why)
    _check_empty(folder, name, what, subfolders)
    content = {"format": FORMAT, **settings, **(about or {})}
    files.write_json(file, content)
    return content


def check_target(folder: Path, name: str, *, what: str, subfolders: Collection[str] = ()) -> None:
    """Refuse an unusable output folder before long work; creates nothing.

    Arguments as for :func:`begin`, which may still refuse a folder with other settings.

    Raises:
        InputError: it is a file, has other content, or cannot be written to.
    """
    if (folder / name).is_file():
        return
    _check_empty(folder, name, what, subfolders)
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    if existing is not None and not existing.is_dir():
        raise InputError(f"{existing} is a file; expected a folder for {folder}.")
    if existing is not None and not os.access(existing, os.W_OK | os.X_OK):
        raise files.explain_disk_error(
            existing / name, PermissionError(errno.EACCES, "permission denied")
        )


def _check_empty(folder: Path, name: str, what: str, subfolders: Collection[str]) -> None:
    """Refuse a folder with other content than remains of killed processes and system files."""
    if not folder.is_dir():
        if folder.exists():
            raise InputError(f"{folder} is a file; expected a folder.")
        return
    try:
        visible = [path for path in folder.iterdir() if path.name[0] != "."]
        foreign = [
            path for path in visible if path.name not in subfolders or not _has_no_output(path)
        ]
    except OSError as error:
        raise files.explain_disk_error(folder / name, error) from error
    if foreign and not (folder / name).is_file():
        raise InputError(
            f"{folder} is not empty and holds no {what.removeprefix('a ')} (no {name}). Choose "
            "another output folder, or empty it."
        )


def _has_no_output(path: Path) -> bool:
    return path.is_dir() and all(inner.name[0] == "." for inner in path.iterdir())


def _read_same(
    file: Path, settings: dict[str, Any], what: str, ignored: Collection[str], why: str
) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise BrokenFileError(
            f"{file}: expected an object of settings, got a {type(content).__name__}. Choose another "
            "output folder, or delete this one to start anew."
        )
    previous = update_keys({key: content.get(key) for key in settings})
    check_same(
        file.parent,
        _drop_keys(previous, ignored),
        _drop_keys(settings, ignored),
        what=what,
        why=why,
    )
    return content


def update_keys(settings: Any) -> Any:
    """Return settings of an earlier version with the keys of this version."""
    if not isinstance(settings, dict):
        return settings
    return {_RENAMED_KEYS.get(key, key): update_keys(value) for key, value in settings.items()}


def _drop_keys(settings: Any, ignored: Collection[str]) -> Any:
    if not isinstance(settings, dict) or not ignored:
        return settings
    return {
        name: _drop_keys(value, ignored) for name, value in settings.items() if name not in ignored
    }


def check_same_work(ours: Path, theirs: Path) -> None:
    """Check that the files of settings of two commands are of the same work.

    Provenance and results so far may differ.

    Raises:
        RunMismatchError: they are of different work.
        BrokenFileError: one is damaged.
    """
    check_same(ours.parent, _read_decisive(theirs), _read_decisive(ours), what="work")


def _read_decisive(file: Path) -> dict[str, Any]:
    content = read_object(file)
    if "settings" in content:
        return {
            name: content[name] for name in ("kind", "job", "shards", "settings") if name in content
        }
    return {name: value for name, value in content.items() if name not in _NOT_DECISIVE}


def check_same(path: Path, previous: Any, current: Any, *, what: str, why: str = "") -> None:
    """Check that a folder's settings are those of the current work.

    Raises:
        RunMismatchError: they differ.
    """
    differences = describe_differences(previous, current)
    if differences:
        rest = (
            f"; and {len(differences) - _MAX_SHOWN} more" if len(differences) > _MAX_SHOWN else ""
        )
        raise RunMismatchError(
            f"{path} holds {what} with other settings: {'; '.join(differences[:_MAX_SHOWN])}{rest}. "
            f"{why and why + ' '}Choose another output folder, or delete this one to start anew."
        )


def describe_differences(previous: Any, current: Any) -> list[str]:
    """Return the differences of two settings, one phrase each, the least nested first.

    >>> describe_differences({"k": 1, "tests": {"art": 5}}, {"k": 1, "tests": {"art": 6}})
    ['tests: art was 5, now 6']
    >>> describe_differences({"data": {"shard_size": 2, "fingerprint": "a"}}, {"data": {"shard_size": 3}})
    ['data: shard size was 2, now 3', 'data: other content']
    """
    # Fingerprints come last: errors show the first few differences, and these say least.
    differences = sorted(
        _find_differences(previous, current),
        key=lambda difference: (_has_fingerprints(difference), len(difference[0])),
    )
    return [_describe_difference(difference) for difference in differences]


_DIGEST = re.compile("[0-9a-f]{32,128}")

# Not by a rule: a key may also be a user's name, as that of a test set.
_WORDS = {"batch_size": "batch size", "part_rows": "rows in a part", "shard_size": "shard size"}

Difference: TypeAlias = tuple[tuple[str, ...], Any, Any]
"""The keys that lead to a setting, what it was, and what it is now."""


def _find_differences(
    previous: Any, current: Any, keys: tuple[str, ...] = ()
) -> Iterator[Difference]:
    if isinstance(previous, dict) and isinstance(current, dict):
        for key in dict.fromkeys([*previous, *current]):
            yield from _find_differences(previous.get(key), current.get(key), (*keys, key))
    elif previous != current:
        yield keys, previous, current


def _has_fingerprints(difference: Difference) -> bool:
    keys, *values = difference
    digests = all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in values)
    return keys[-1:] == ("fingerprint",) or digests


def _describe_difference(difference: Difference) -> str:
    """Describe a difference; the outermost key "settings" is omitted."""
    keys, previous, current = difference
    words = [_WORDS.get(key, key) for key in (keys[1:] if keys[:1] == ("settings",) else keys)]
    if _has_fingerprints(difference):
        owners = words[:-1] if words[-1] == "fingerprint" else words
        return ": ".join([*owners, "other content"])
    return f"{': '.join(words)} was {_shorten(previous)}, now {_shorten(current)}"


def _shorten(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
