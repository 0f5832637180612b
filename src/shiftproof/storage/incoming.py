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
from shiftproof.storage.copies import Copy, choose_placeholders
from shiftproof.storage.store import Listed, Store

_INDEX = "index.json"
"""Size and state of each file in the store when it was fetched."""

_NAME_OTHERS = (".csv", ".json", ".yaml", ".yml")
"""Suffixes of files that describe a dataset: their whole folder is fetched."""


def fetch(url: str, *, show: bool | None = None) -> Path:
    """Return the local path of a remote folder or file.

    The whole folder is listed, and files that changed since the last call are fetched again. Images
    and archives are placeholders, whose content is fetched when they are read; at most 20 GB of it
    are cached (``SHIFTPROOF_CACHE_GB``). The cache is ``~/.cache/shiftproof``
    (``SHIFTPROOF_CACHE``); it may be deleted between commands.

    Args:
        url: fsspec URL of a folder or file. Of a JSON, CSV or YAML file the whole folder is fetched.
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


def holds_tars(url: str) -> bool:
    """Whether a URL names tars, which are read without a local copy: a tar, or a brace pattern."""
    return is_tar(url.partition("?")[0]) or has_braces(url)


def _fetch_file(url: str, listed: Listed, show: bool | None) -> Path:
    address, mark, query = url.partition("?")
    folder, _, name = address.rpartition("/")
    if PurePosixPath(name).suffix.lower() in _NAME_OTHERS and not query:
        return _fetch_folder(Store(folder), Store(folder).list(), show, url=url) / name
    return _fetch_folder(Store(folder + mark + query), {name: listed}, show, url=url, of=url) / name


def _fetch_folder(
    store: Store, listed: dict[str, Listed], show: bool | None, *, url: str, of: str = ""
) -> Path:
    copy = Copy.of(Store(store.address), f"in {of}")
    if not of:
        check_complete(store, listed)
    shown = {name: about for name, about in listed.items() if not _is_hidden(name)}
    with copy.lock(wait=True):
        copy.prepare()
        before = _read_index(copy.base / _INDEX)
        for name in list(copy.names()):
            if name not in shown:
                (copy.root / name).unlink()
        changed = {
            name: about.size
            for name, about in shown.items()
            if about.state is None
            or before.get(name) != [about.size, about.state]
            or not copy.has(name, about.size)
        }
        later = choose_placeholders(shown)
        copy.record_placeholders(later)
        copy.make_placeholders({name: size for name, size in changed.items() if name in later})
        copy.fetch({name: size for name, size in changed.items() if name not in later}, show)
        files.write_json(
            copy.base / _INDEX, {name: [about.size, about.state] for name, about in shown.items()}
        )
        note_fetched(url, copy.base / _INDEX, fetch)
    _check_cases(copy, shown)
    return copy.root


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _read_index(path: Path) -> dict[str, list[int | str | None]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_cases(copy: Copy, listed: dict[str, Listed]) -> None:
    """Refuse names that differ only in case if the local file system ignores case."""
    if len({name.casefold() for name in listed}) == len(listed):
        return
    for name, about in listed.items():
        if not copy.has(name, about.size):
            raise InputError(
                f"{copy.store}: this machine makes one file of {show_name(name)} and another that "
                "differs by capitals alone; rename one there."
            )
