"""The valid files of an output behind a URL, listed in commits and, at the end, in one list.

A store writes single files atomically, but not several together. So files are uploaded first, and
become valid when the next commit lists them; readers accept an output that has ``contents.json``.

A store overwrites and removes files regardless of other writers. So commands that share an output keep all
commits while one of them is working: nothing is lost if a list is written late or removed early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from shiftproof.errors import BrokenFileError
from shiftproof.storage.store import OURS, Listed, Store

FORMAT = 1

FINISHED = f"{OURS}/contents.json"

_COMMIT = re.compile(rf"{re.escape(OURS)}/commit-(\d{{6,}})\.json")


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
        coming: files that were about to be replaced when the last commit was written: the store has
            the old or the new version.
        commits: names of the commits that list them.
        is_finished: whether the output is finished.
        last: number of the last commit, counted or removed, or -1. No number is given twice: another
            command would take the commit for one that it has read.
    """

    files: dict[str, Entry] = field(default_factory=dict)
    coming: dict[str, Entry] = field(default_factory=dict)
    commits: tuple[str, ...] = ()
    is_finished: bool = False
    last: int = -1

    @classmethod
    def read(cls, store: Store, listed: Iterable[str]) -> Contents:
        """Read the valid files of an output.

        Commits beside the list of a finished output are of a command that was at work when another
        finished it, or were not removed yet: to count those again changes nothing, since commits are
        removed in their order.

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
            told = _read(store, FINISHED)
            if type(told["last"]) is not int:
                raise _explain_damage(store, FINISHED)
            contents = cls(_read_entries(store, told["files"]), is_finished=True, last=told["last"])
        return contents._add_new(store, names)

    def _add_new(self, store: Store, listed: Iterable[str]) -> Contents:
        """Return the contents after those of the listed commits that are not in it."""
        contents = self
        for name in sorted(one for one in listed if one != FINISHED):
            if name not in contents.commits:
                contents = contents.add(_read(store, name), name, store)
        return contents

    def add(self, told: Mapping[str, Any], name: str, store: Store) -> Contents:
        """Return the contents after a commit."""
        kept = {file: entry for file, entry in self.files.items() if file not in told["removed"]}
        sent = _read_entries(store, told["files"])
        # Between the two commits of a file that is replaced another command's may stand.
        coming = {file: entry for file, entry in self.coming.items() if file not in sent}
        return replace(
            self,
            files=kept | sent,
            coming=coming | _read_entries(store, told["coming"]),
            commits=(*self.commits, name),
            last=max(self.last, _number(name)),
        )

    def read_later_commits(self, store: Store) -> Contents:
        """Return the contents after all commits of other commands, too.

        Raises:
            BrokenFileError: a list is damaged.
        """
        return _retry_if_removed(store, store.list(OURS), lambda names: self._go_on(store, names))

    def _go_on(self, store: Store, names: set[str]) -> Contents:
        if FINISHED in names:
            return Contents._read_all(store, names)
        known = self if not self.is_finished else Contents(last=self.last)
        return known._add_new(store, names)

    def next_name(self) -> str:
        """Return the name of the next commit."""
        return f"{OURS}/commit-{self.last + 1:06d}.json"

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
            shared: whether others write commits, too: then theirs are read before.
        """
        told = {"files": _to_json(sent), "coming": _to_json(coming), "removed": sorted(removed)}
        contents = self
        while shared and not store.create(contents.next_name(), _encode(told)):
            contents = contents.read_later_commits(store)
            if contents.is_finished:
                contents = contents.reopen(store, shared=True)
        if not shared:
            store.write(contents.next_name(), _encode(told))
        return contents.add(told, contents.next_name(), store)

    def reopen(self, store: Store, *, shared: bool = False) -> Contents:
        """Mark an output as unfinished, with the same files.

        Args:
            store: the output.
            shared: whether others write commits, too: then it has the files of those as well, and
                the commits stay.
        """
        if shared:
            return self._reopen_shared(store)
        told = self._describe_all()
        begun = Contents(last=self.last)
        store.write(begun.next_name(), _encode(told))
        store.remove(sorted(self.commits))
        store.remove([FINISHED])
        return begun.add(told, begun.next_name(), store)

    def _reopen_shared(self, store: Store) -> Contents:
        contents = self
        while not store.create(contents.next_name(), _encode(told := contents._describe_all())):
            contents = contents.read_later_commits(store)
            if contents.commits and not contents.is_finished:  # another command has reopened it
                return contents
        store.remove([FINISHED])
        opened = replace(contents, is_finished=False)
        return opened.add(told, contents.next_name(), store)

    def _describe_all(self) -> dict[str, Any]:
        return {"files": _to_json(self.files), "coming": {}, "removed": []}

    def finish(self, store: Store, *, shared: bool = False) -> Contents:
        """Mark the output as finished.

        Args:
            store: the output.
            shared: whether others write commits, too: then theirs are counted, and all stay until
                :meth:`clear`.
        """
        if not shared:
            self._write_list(store)
            store.remove(sorted(self.commits))
            return replace(self, commits=(), is_finished=True)
        contents = self.read_later_commits(store)
        while not (contents.is_finished and contents._is_listed(store)):
            contents._write_list(store)
            # Others may have sent more meanwhile, or have written a list with less over this one.
            contents = contents.read_later_commits(store)
        return contents

    def _is_listed(self, store: Store) -> bool:
        """Return whether the list of the finished output is this one."""
        try:
            return bool(_read(store, FINISHED)["files"] == _to_json(self.files))
        except BrokenFileError:  # there is none
            return False

    def _write_list(self, store: Store) -> None:
        store.write(FINISHED, _encode({"files": _to_json(self.files), "last": self.last}))

    def clear(self, store: Store) -> None:
        """Remove the commits of a finished output, when no other command is at work on it.

        They stay if the list is not this one any more: then somebody has begun anew, or has written
        one with less and was killed.
        """
        if self._is_listed(store):
            store.remove(sorted(self.commits))


def _retry_if_removed(
    store: Store, listed: Iterable[str], read: Callable[[set[str]], Contents]
) -> Contents:
    """Read lists, and if one is not there any more that was listed, all that are there now."""
    names = _choose_lists(listed)
    while True:
        try:
            return read(names)
        except BrokenFileError:
            there = _choose_lists(store.list(OURS))
            if names <= there:
                raise
            names = there


def _choose_lists(listed: Iterable[str]) -> set[str]:
    return {name for name in listed if name == FINISHED or _COMMIT.fullmatch(name)}


def check_complete(store: Store, listed: dict[str, Listed]) -> None:
    """Refuse to read a folder that is or contains an unfinished output.

    Raises:
        BrokenFileError: an output is unfinished, or one of its files is missing or has another size.
    """
    homes = {name[: name.index(f"{OURS}/")] for name in listed if f"/{OURS}/" in f"/{name}"}
    for home in sorted(homes):
        if home + FINISHED not in listed:
            raise BrokenFileError(
                f"{store.at(home) if home else store} is not finished: the command that writes it is at "
                "work or was interrupted. Start that command again, or give another folder."
            )
        for name, entry in _read_entries(store, _read(store, home + FINISHED)["files"]).items():
            there = listed.get(home + name)
            if there is None or there.size != entry.size:
                came = "it is not there" if there is None else f"it has {there.size:,}"
                raise BrokenFileError(
                    f"{store}: {home}{name} should have {entry.size:,} bytes, {came}. Write the "
                    "output again, or copy it whole."
                )


def _encode(told: Mapping[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, **told}, indent=1, ensure_ascii=False).encode() + b"\n"


def _to_json(entries: Mapping[str, Entry]) -> dict[str, list[int | str]]:
    return {name: entries[name].as_json() for name in sorted(entries)}


def _read(store: Store, name: str) -> dict[str, Any]:
    try:
        told = json.loads(store.read(name).decode("utf-8-sig"))
    except ValueError as error:
        raise _explain_damage(store, name) from error
    if not isinstance(told, dict) or not isinstance(told.get("files"), dict):
        raise _explain_damage(store, name)
    return {"coming": {}, "removed": [], "last": -1, **told}


def _number(commit: str) -> int:
    found = _COMMIT.fullmatch(commit)
    return int(found[1]) if found else -1


def _read_entries(store: Store, told: Any) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name, pair in told.items() if isinstance(told, dict) else ():
        inside = not {"", ".", ".."}.intersection(PurePosixPath(name).parts) and name[0] != "/"
        if not (inside and isinstance(pair, list) and [type(one) for one in pair] == [int, str]):
            raise _explain_damage(store, OURS)
        found[name] = Entry(*pair)
    return found


def _explain_damage(store: Store, name: str) -> BrokenFileError:
    return BrokenFileError(
        f"{store}: {name} says in no known way which files are there. Delete the folder "
        f"{OURS} there, and the output with it, to start anew."
    )
