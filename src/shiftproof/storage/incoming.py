"""Inputs behind URLs: a local copy whose images are fetched when they are read."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.border import show_name
from shiftproof.io.fetched import note_fetched
from shiftproof.io.locations import has_braces
from shiftproof.io.tars import is_tar
from shiftproof.storage.contents import check_complete
from shiftproof.storage.copies import LocalCopy, choose_placeholders
from shiftproof.storage.store import ListedFile, Store

_INDEX = "index.json"
"""Size and state of each file in the store when it was fetched."""

_DESCRIPTION_SUFFIXES = (".csv", ".json", ".yaml", ".yml")
"""Suffixes of files that describe a dataset: their whole folder is fetched."""


def fetch(url: str, *, show: bool | None = None) -> Path:
    """Return the local path of a remote folder or file.

    The whole folder is listed, and files that changed since the last call are fetched again. Images
    and archives are placeholders, whose content is fetched when they are read; at most 20 GB of it
    are cached (``SHIFTPROOF_CACHE_GB``). The cache is ``~/.cache/shiftproof``
    (``SHIFTPROOF_CACHE``); it may be deleted between commands.

    Args:
        url: fsspec URL of a folder or file. For a JSON, CSV or YAML file the whole folder is fetched.
        show: whether to show progress; by default on a terminal only.

    Raises:
        BrokenFileError: the URL does not exist, or it is the unfinished output of a command.
        InputError: no credentials, or the store refuses them.
        MissingExtraError: a package for the protocol is not installed.
        RunError: the store does not answer.
    """
    store = Store(url.rstrip("/"))
    listed = store.list()
    if not listed:
        raise BrokenFileError(f"{store} does not exist; expected a folder or a file.")
    if "" not in listed:
        return _fetch_folder(store, listed, show, url=url)
    return _fetch_file(url, listed[""], show)


def is_tar_url(url: str) -> bool:
    """Return whether a URL is that of tars, also as a brace pattern; they are read without a local copy."""
    return is_tar(url.partition("?")[0]) or has_braces(url)


def _fetch_file(url: str, listed: ListedFile, show: bool | None) -> Path:
    address, separator, query = url.partition("?")
    folder, _, name = address.rpartition("/")
    if PurePosixPath(name).suffix.lower() in _DESCRIPTION_SUFFIXES and not query:
        return _fetch_folder(Store(folder), Store(folder).list(), show, url=url) / name
    store = Store(folder + separator + query)
    return _fetch_folder(store, {name: listed}, show, url=url, file_url=url) / name


def _fetch_folder(
    store: Store, listed: dict[str, ListedFile], show: bool | None, *, url: str, file_url: str = ""
) -> Path:
    copy = LocalCopy.of(store, f"in {file_url}")
    if not file_url:
        check_complete(store, listed)
    visible = {name: file for name, file in listed.items() if not _is_hidden(name)}
    with copy.lock(wait=True):
        copy.prepare()
        before = _read_index(copy.base / _INDEX)
        for name in list(copy.list_names()):
            if name not in visible:
                (copy.root / name).unlink()
        changed = {
            name: file.size
            for name, file in visible.items()
            if file.state is None
            or before.get(name) != [file.size, file.state]
            or not copy.has(name, file.size)
        }
        copy.update(changed, choose_placeholders(visible), show)
        files.write_json(
            copy.base / _INDEX, {name: [file.size, file.state] for name, file in visible.items()}
        )
        note_fetched(url, copy.base / _INDEX, fetch)
    _check_cases(copy, visible)
    return copy.root


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _read_index(path: Path) -> dict[str, list[int | str | None]]:
    try:
        index = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}


def _check_cases(copy: LocalCopy, listed: dict[str, ListedFile]) -> None:
    """Refuse names that differ only in case if the local file system ignores case."""
    if len({name.casefold() for name in listed}) == len(listed):
        return
    for name, file in listed.items():
        if not copy.has(name, file.size):
            raise InputError(
                f"{copy.store}: {show_name(name)} and another name differ only in upper and lower case, "
                "which this machine does not distinguish; rename one there."
            )
