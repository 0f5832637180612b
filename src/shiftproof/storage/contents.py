"""The valid files of an output behind a URL, listed in commits and, at the end, in one list.

A store writes single files atomically, but not several together. So files are uploaded first, and
become valid when the next commit lists them; readers accept an output that has ``contents.json``.

A store overwrites and removes files regardless of other writers. So commands that share an output keep
all commits while one of them is working: nothing is lost if a list is written late or removed early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.storage.store import STATE_FOLDER, ListedFile, Store

FORMAT = 1

FINISHED = f"{STATE_FOLDER}/contents.json"

_COMMIT = re.compile(rf"{re.escape(STATE_FOLDER)}/commit-(\d{{6,}})\.json")


@dataclass(frozen=True)
class Entry:
    """An uploaded file: size in bytes, and fingerprint of its content; "" if unknown."""

    size: int
    digest: str

    def as_json(self) -> list[int | str]:
        """Return the entry for JSON."""
        return [self.size, self.digest]


@dataclass(frozen=True)
class Contents:
    """The valid files of an output.

    Attributes:
        files: entries by file name.
        coming: the new versions of files that were about to be replaced when the last commit was
            written: the store has the old or the new version.
        commits: names of the commits that list the files.
        is_finished: whether the output is finished.
        last: number of the last commit, read or removed, or -1. Numbers are never reused: another
            command would mistake the commit for one that it has read.
    """

    files: dict[str, Entry] = field(default_factory=dict)
    coming: dict[str, Entry] = field(default_factory=dict)
    commits: tuple[str, ...] = ()
    is_finished: bool = False
    last: int = -1

    @classmethod
    def read(cls, store: Store, listed: Iterable[str]) -> Contents:
        """Read the valid files of an output.

        If a finished output has commits, too, these are of a command that was working when another
        finished it, or they were not removed yet: adding those again changes nothing, since commits
        are removed in order.

        Args:
            store: the output.
            listed: the names of all its files.

        Raises:
            BrokenFileError: a list is damaged.
        """
        return _retry_if_removed(store, listed, lambda names: cls._read_all(store, names))

    @classmethod
    def _read_all(cls, store: Store, names: set[str]) -> Contents:
        contents = cls()
        if FINISHED in names:
            content = _read(store, FINISHED)
            contents = cls(
                _read_entries(store, content["files"]), is_finished=True, last=content["last"]
            )
        return contents._add_new(store, names)

    def _add_new(self, store: Store, listed: Iterable[str]) -> Contents:
        """Return the contents after the listed commits that it does not have yet."""
        contents = self
        for name in sorted(name for name in listed if name != FINISHED):
            if name not in contents.commits:
                contents = contents.add(_read(store, name), name, store)
        return contents

    def add(self, commit: Mapping[str, Any], name: str, store: Store) -> Contents:
        """Return the contents after a commit."""
        kept = {file: entry for file, entry in self.files.items() if file not in commit["removed"]}
        sent = _read_entries(store, commit["files"])
        # A commit of another command may be between the two commits of a replaced file.
        coming = {file: entry for file, entry in self.coming.items() if file not in sent}
        return replace(
            self,
            files=kept | sent,
            coming=coming | _read_entries(store, commit["coming"]),
            commits=(*self.commits, name),
            last=max(self.last, _parse_number(name)),
        )

    def read_later_commits(self, store: Store) -> Contents:
        """Return the contents after the later commits of other commands.

        Raises:
            BrokenFileError: a list is damaged.
        """
        return _retry_if_removed(
            store, store.list(STATE_FOLDER), lambda names: self._update(store, names)
        )

    def _update(self, store: Store, names: set[str]) -> Contents:
        if FINISHED in names:
            return Contents._read_all(store, names)
        # A list that was removed is no longer valid: another command has reopened the output.
        known = Contents(last=self.last) if self.is_finished else self
        return known._add_new(store, names)

    @property
    def next_name(self) -> str:
        """The name of the next commit."""
        return f"{STATE_FOLDER}/commit-{self.last + 1:06d}.json"

    def commit(
        self,
        store: Store,
        *,
        sent: Mapping[str, Entry],
        coming: Mapping[str, Entry],
        removed: Iterable[str],
        shared: bool = False,
    ) -> Contents:
        """Write a commit, and return the contents after it.

        Args:
            store: the output.
            sent: files that were uploaded.
            coming: the new versions of files that will be replaced next.
            removed: files that are no longer valid, and may be removed.
            shared: whether other commands write commits, too: then theirs are read first.
        """
        commit = {"files": _to_json(sent), "coming": _to_json(coming), "removed": sorted(removed)}
        contents = self
        while shared and not store.create(contents.next_name, _encode(commit)):
            contents = contents.read_later_commits(store)
            if contents.is_finished:
                contents = contents.reopen(store, shared=True)
        if not shared:
            store.write(contents.next_name, _encode(commit))
        return contents.add(commit, contents.next_name, store)

    def reopen(self, store: Store, *, shared: bool = False) -> Contents:
        """Mark an output as unfinished, with the same files.

        Args:
            store: the output.
            shared: whether other commands write commits, too: then it has their files as well, and
                the commits stay.
        """
        if shared:
            return self._reopen_shared(store)
        commit = self._make_full_commit()
        store.write(self.next_name, _encode(commit))
        store.remove(sorted(self.commits))
        store.remove([FINISHED])
        return Contents(last=self.last).add(commit, self.next_name, store)

    def _reopen_shared(self, store: Store) -> Contents:
        contents = self
        while not store.create(contents.next_name, _encode(commit := contents._make_full_commit())):
            contents = contents.read_later_commits(store)
            if contents.commits and not contents.is_finished:  # another command has reopened it
                return contents
        store.remove([FINISHED])
        return replace(contents, is_finished=False).add(commit, contents.next_name, store)

    def _make_full_commit(self) -> dict[str, Any]:
        return {"files": _to_json(self.files), "coming": {}, "removed": []}

    def finish(self, store: Store, *, shared: bool = False) -> Contents:
        """Mark the output as finished.

        Args:
            store: the output.
            shared: whether other commands write commits, too: then theirs are included, and all stay
                until :meth:`clear`.
        """
        if not shared:
            self._write_list(store)
            store.remove(sorted(self.commits))
            return replace(self, commits=(), is_finished=True)
        contents = self.read_later_commits(store)
        while not (contents.is_finished and contents._is_listed(store)):
            contents._write_list(store)
            # Others may have sent more meanwhile, or have overwritten this list by a shorter one.
            contents = contents.read_later_commits(store)
        return contents

    def _is_listed(self, store: Store) -> bool:
        """Return whether the list of the finished output has these files."""
        try:
            return bool(_read(store, FINISHED)["files"] == _to_json(self.files))
        except BrokenFileError:  # it does not exist
            return False

    def _write_list(self, store: Store) -> None:
        store.write(FINISHED, _encode({"files": _to_json(self.files), "last": self.last}))

    def clear(self, store: Store) -> None:
        """Remove the commits of a finished output, if no other command is working on it.

        They stay if the list has other files: then another command has reopened the output, or was
        killed after it had written a shorter list.
        """
        if self._is_listed(store):
            store.remove(sorted(self.commits))


def _retry_if_removed(
    store: Store, listed: Iterable[str], read: Callable[[set[str]], Contents]
) -> Contents:
    """Read the listed commits and lists; if one was removed meanwhile, list and read them again."""
    names = _choose_lists(listed)
    while True:
        try:
            return read(names)
        except BrokenFileError:
            existing = _choose_lists(store.list(STATE_FOLDER))
            if names <= existing:
                raise
            names = existing


def _choose_lists(listed: Iterable[str]) -> set[str]:
    return {name for name in listed if name == FINISHED or _COMMIT.fullmatch(name)}


def check_complete(store: Store, listed: dict[str, ListedFile]) -> None:
    """Refuse to read a folder that is or contains an unfinished output.

    Raises:
        BrokenFileError: an output is unfinished, or one of its files is missing or has another size.
    """
    prefixes = {
        name[: name.index(f"{STATE_FOLDER}/")]
        for name in listed
        if f"/{STATE_FOLDER}/" in f"/{name}"
    }
    for prefix in sorted(prefixes):
        if prefix + FINISHED not in listed:
            raise BrokenFileError(
                f"{store.join(prefix) if prefix else store} is not finished: the command that writes it "
                "is at work or was interrupted. Start that command again, or give another folder."
            )
        for name, entry in _read_entries(store, _read(store, prefix + FINISHED)["files"]).items():
            file = listed.get(prefix + name)
            if file is None or file.size != entry.size:
                found = "but does not exist" if file is None else f"but has {file.size:,}"
                raise BrokenFileError(
                    f"{store}: {prefix}{name} should have {entry.size:,} bytes, {found}. Write the "
                    "output again, or copy it whole."
                )


def _encode(content: Mapping[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, **content}, indent=1, ensure_ascii=False).encode() + b"\n"


def _to_json(entries: Mapping[str, Entry]) -> dict[str, list[int | str]]:
    return {name: entries[name].as_json() for name in sorted(entries)}


def _read(store: Store, name: str) -> dict[str, Any]:
    try:
        content = json.loads(store.read(name).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _make_damage_error(store, name) from error
    if not isinstance(content, dict):
        raise _make_damage_error(store, name)
    content = {"coming": {}, "removed": [], "last": -1, **content}
    types = {"files": dict, "coming": dict, "removed": list, "last": int}
    if any(type(content.get(key)) is not expected for key, expected in types.items()):
        raise _make_damage_error(store, name)
    return content


def _parse_number(commit_name: str) -> int:
    match = _COMMIT.fullmatch(commit_name)
    return int(match[1]) if match else -1


def _read_entries(store: Store, values: Mapping[str, Any]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name, value in values.items():
        is_inside = {"", ".", ".."}.isdisjoint(name.split("/"))
        is_entry = isinstance(value, list) and [type(item) for item in value] == [int, str]
        if not (is_inside and is_entry):
            raise _make_damage_error(store, STATE_FOLDER)
        entries[name] = Entry(*value)
    return entries


def _make_damage_error(store: Store, name: str) -> BrokenFileError:
    return BrokenFileError(
        f"{store}: {name} is not a valid list of the output's files. Delete the folder "
        f"{STATE_FOLDER} there, and the output with it, to start again."
    )
