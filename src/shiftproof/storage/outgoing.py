"""Outputs behind URLs: a local folder whose finished files are uploaded as they appear."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.compute.progress import console
from shiftproof.errors import BrokenFileError, InputError, RunError, ShiftproofError
from shiftproof.io import files
from shiftproof.io.arrivals import register_arrivals
from shiftproof.io.border import show_as, show_text
from shiftproof.io.folder_locks import LOCK_FILE
from shiftproof.io.manifest import check_same_work
from shiftproof.io.placeholders import drop_oldest, fetch, is_placeholder, read_limit
from shiftproof.storage.claims import ALONE, Claim, check_claims, is_claimed, line_of, use_of
from shiftproof.storage.contents import Contents, Entry
from shiftproof.storage.copies import Copy, choose_placeholders, run_concurrently
from shiftproof.storage.store import OURS, Listed, Store

PAUSE = 5.0
"""Seconds between scans for finished files, or ten times the duration of the last scan."""

_CLOCK_TOLERANCE = 0.1
"""Seconds by which the date of a file may precede the time at which it was written."""

_UNFINISHED = re.compile(r"\..*\.part|\.away-.*|" + re.escape(LOCK_FILE))

_SENT = "sent.jsonl"
"""Record of the uploaded files, a line for each commit."""

_MARKS = ("run.json", "manifest.json")
"""Files by which an output is recognized that was copied to the store by other tools."""

_SETTINGS = (*_MARKS, "stability.json")
"""Files of settings: two commands that share an output may both begin one."""


@contextlib.contextmanager
def write_to(
    url: str, *, worker: tuple[int, int] | None = None, show: bool | None = None
) -> Iterator[Path]:
    """Yield a local folder whose files are uploaded to a URL.

    Existing files are fetched first, so that interrupted work can be resumed on any machine. While
    the block runs, finished files are uploaded; files become valid when a commit lists them, and the
    whole output becomes valid when the block ends without an error: ``.shiftproof/contents.json``
    is written then. A second writer to the same URL is refused. A block that changes nothing leaves
    the store unchanged.

    Args:
        url: fsspec URL of a folder in a writable store.
        worker: index and count of commands that share the output, as those of a batch scheduler do;
            each writes its own files, and the last fetches those of the others. Stores that do not
            say who was first to write a file (others than s3 and gs) are refused.
        show: whether to show the progress of fetching; by default on a terminal only.

    Raises:
        InputError: another command writes there, the store refuses it, or it holds other files.
        MissingExtraError: a package for the protocol is not installed.
        RunError: the store does not answer; finished files are kept locally, and the same call
            resumes.
    """
    store = Store(url.rstrip("/"))
    copy = _copy_of(store, worker)
    with copy.lock(wait=False):
        copy.prepare()
        claim = Claim.make(store, copy.base, worker)
        try:
            output = _Output.begin(copy, claim, show)
            with output.sending(), output.sharing():
                yield copy.root
        finally:
            claim.release()
        output.clear()


def find_output(url: str, worker: tuple[int, int] | None = None) -> Path:
    """Return the folder that :func:`write_to` yields for a URL."""
    return _copy_of(Store(url.rstrip("/")), worker).root


def _copy_of(store: Store, worker: tuple[int, int] | None) -> Copy:
    return Copy.of(store, use_of(line_of(worker)))


def fetch_output(url: str, *, worker: tuple[int, int] | None = None) -> Path:
    """Check that :func:`write_to` would begin at a URL now, and return a copy of what is valid there.

    Nothing is written to the store; whether it permits writing shows only when something is.

    Raises:
        InputError: another command writes there, it holds other files, or it cannot be read or
            written to; there is no such bucket.
        MissingExtraError: a package for the protocol is not installed.
        RunError: the store does not answer.
    """
    store = Store(url.rstrip("/"))
    check_claims(store, _copy_of(store, worker).base, worker)
    listed = store.list()
    contents = Contents.read(store, listed)
    if not contents.commits and not contents.is_finished:
        contents = _adopt(store, listed)
    copy = Copy.of(store, "out, as it is")
    with copy.lock(wait=True):
        copy.prepare()
        _fetch_valid(copy, contents, listed)
    return copy.root


def _fetch_valid(copy: Copy, contents: Contents, listed: dict[str, Listed]) -> None:
    """Make a copy anew; a file that is not as it was listed is left out, as one to be made again."""
    for name in list(copy.names()):
        (copy.root / name).unlink()
    sizes = {
        name: entry.size
        for name, entry in contents.files.items()
        if name not in contents.coming and name in listed and listed[name].size == entry.size
    }
    later = choose_placeholders(sizes)
    copy.record_placeholders(later)
    copy.make_placeholders({name: size for name, size in sizes.items() if name in later})
    copy.fetch({name: size for name, size in sizes.items() if name not in later}, None)


def find_output_file(url: str) -> Path:
    """Return the file that :func:`write_file_to` yields for a URL."""
    return Copy.of(Store(url), "out").base / "file" / Store(url).name


@contextlib.contextmanager
def write_file_to(url: str) -> Iterator[Path]:
    """Yield a local path; its file is uploaded to the URL when the block ends without an error.

    Raises:
        InputError: the store refuses it.
        RunError: the store does not answer.
    """
    path = find_output_file(url)
    files.make_folder(path.parent)
    show_as(str(path), str(Store(url)))
    path.unlink(missing_ok=True)
    yield path
    if path.is_file():
        Store(url).put(path, "")


@dataclass(frozen=True)
class _FileStamp:
    """Size and date of a local file, to detect changes."""

    size: int
    date: int

    @classmethod
    def of(cls, path: Path) -> _FileStamp | None:
        try:
            about = path.stat()
        except OSError:
            return None
        return cls(about.st_size, about.st_mtime_ns)


class _Output:
    """An output behind a URL, and its local copy."""

    def __init__(self, copy: Copy, claim: Claim, contents: Contents) -> None:
        self._copy = copy
        self._claim = claim
        self._contents = contents
        self._signs: dict[str, _FileStamp] = {}
        self._shared = claim.line != ALONE
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._unchecked = 0

    # ------------------------------------------------------------ resuming

    @classmethod
    def begin(cls, copy: Copy, claim: Claim, show: bool | None) -> _Output:
        """Fetch the valid files of the output, so that work can be resumed."""
        listed = copy.store.list()
        contents = Contents.read(copy.store, listed)
        if not contents.commits and not contents.is_finished:
            contents = _adopt(copy.store, listed)
        output = cls(copy, claim, contents)
        output._match(listed, show)
        return output

    def _match(self, listed: dict[str, Listed], show: bool | None) -> None:
        sent = self._read_sent()
        counted = {name: entry.as_json() for name, entry in self._contents.files.items()}
        # Finished files that were not uploaded are kept if no other machine resumed meanwhile.
        if {name: line[:2] for name, line in sent.items()} != counted:
            for name in list(self._copy.names()):
                if name not in counted:
                    (self._copy.root / name).unlink()
        sizes = {name: self._expect(name, listed) for name in counted}
        wanted = {
            name: size for name, size in sizes.items() if not self._is_same(name, sent.get(name))
        }
        # Of files that were being replaced the content is checked: either version may be there.
        later = choose_placeholders(counted) - self._contents.coming.keys()
        self._copy.record_placeholders(later)
        self._copy.make_placeholders({name: size for name, size in wanted.items() if name in later})
        self._copy.fetch({name: size for name, size in wanted.items() if name not in later}, show)
        for name in wanted:
            if name not in later:
                self._check_content(name)
        self._commit_replaced()
        for name in counted:
            self._record_stamp(name)
        self._write_sent(list(counted), anew=True)

    def _commit_replaced(self) -> None:
        """Commit the present version of files that were being replaced when a command was killed."""
        found = {}
        for name in self._contents.coming:
            path = self._copy.root / name
            found[name] = Entry(path.stat().st_size, _digest(path))
        if found:
            self._contents = self._contents.commit(
                self._copy.store, sent=found, coming={}, removed=(), shared=self._shared
            )

    def _expect(self, name: str, listed: dict[str, Listed]) -> int:
        """Return the size of a remote file, which must be a valid version of it."""
        there = listed.get(name)
        if there is None or there.size not in {entry.size for entry in self._list_entries(name)}:
            raise self._other(name)
        return there.size

    def _list_entries(self, name: str) -> list[Entry]:
        every = (self._contents.files.get(name), self._contents.coming.get(name))
        return [entry for entry in every if entry is not None]

    def _check_content(self, name: str) -> None:
        digests = {entry.digest for entry in self._list_entries(name)}
        if "" not in digests and _digest(self._copy.root / name) not in digests:
            raise self._other(name)

    def _other(self, name: str) -> BrokenFileError:
        return BrokenFileError(
            f"{self._copy.store}: {name} is not what was written there. Choose another output folder, "
            "or delete this one to start anew."
        )

    def _is_same(self, name: str, line: list[int | str] | None) -> bool:
        sign = _FileStamp.of(self._copy.root / name)
        if sign is None or name in self._contents.coming:
            return False
        return line == [sign.size, self._contents.files[name].digest, sign.date]

    # ------------------------------------------------------------ sending

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Upload finished files while the block runs, and the rest at its end."""
        thread = threading.Thread(target=self._send_periodically, name="sending", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._end(thread)
            self._send_last()
            raise
        self._end(thread)
        self._send_all()
        self._finish()

    def _end(self, thread: threading.Thread) -> None:
        self._ended.set()
        thread.join()

    @contextlib.contextmanager
    def sharing(self) -> Iterator[None]:
        """Register how to fetch the finished files of other commands, if the output is shared."""
        with contextlib.ExitStack() as stack:
            if self._shared:
                stack.enter_context(register_arrivals(self._copy.root, self._look))
            yield

    def _look(self, is_all_there: Callable[[], bool]) -> None:
        """Upload finished files, and fetch those of others if, with these, nothing is missing."""
        with self._lock:
            self._send_all()
            self._contents = self._contents.read_later_commits(self._copy.store)
            sizes = {
                name: entry.size
                for name, entry in self._contents.files.items()
                if not (self._copy.root / name).exists()
            }
            # First only the names: the content of all parts is large, and only the last command needs it.
            self._copy.make_placeholders(sizes)
            try:
                if is_all_there():
                    self._fetch_theirs(sizes)
            finally:
                for name in sizes.keys() - self._signs.keys():
                    (self._copy.root / name).unlink(missing_ok=True)

    def _fetch_theirs(self, sizes: dict[str, int]) -> None:
        """Fetch the content of placeholders, except images and archives."""
        later = choose_placeholders(self._contents.files)
        now = [name for name in sizes if name not in later]
        self._copy.record_placeholders(later)
        self._copy.fetch({name: sizes[name] for name in now}, show=None)
        for name in now:
            self._check_content(name)
        for name in sizes:
            self._record_stamp(name)
        self._write_sent(list(sizes))

    def _send_periodically(self) -> None:
        pause = PAUSE
        while not self._ended.wait(pause):
            begun = time.monotonic()
            # A store may fail now and answer later; the last upload must succeed.
            with contextlib.suppress(ShiftproofError, OSError), self._lock:
                self._claim.renew()
                self._send()
            pause = max(PAUSE, 10 * (time.monotonic() - begun))

    def _send_last(self) -> None:
        """Upload the finished files of failed work; its error is raised, not that of the upload."""
        try:
            self._send()
        except (ShiftproofError, OSError) as error:
            console.print(
                show_text(f"What was finished last is here, and not in {self._copy.store}: {error}"),
                style="yellow", markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip

    def _send_all(self) -> None:
        self._send(everything=True)

    def _send(self, *, everything: bool = False) -> None:
        """Upload and commit changed files.

        Unless ``everything`` is set, files that were written after the start of the scan wait for
        the next one, since the scan may have missed files that were finished before them.
        """
        latest = None if everything else time.time_ns() - int(_CLOCK_TOLERANCE * 1e9)
        there = self._scan()
        # Files of others that were not fetched do not count as removed.
        known = self._signs if self._shared else self._contents.files
        removed = [name for name in known if name not in there and name in self._contents.files]
        changed = {
            name: sign
            for name, sign in there.items()
            if sign != self._signs.get(name) and (latest is None or sign.date < latest)
        }
        if changed or removed:
            self._send_these(changed, removed)

    def _send_these(self, changed: dict[str, _FileStamp], removed: list[str]) -> None:
        held = self._snapshot(changed)
        try:
            entries = {
                name: Entry(path.stat().st_size, _digest(path)) for name, path in held.items()
            }
            if self._shared:
                self._contents = self._contents.read_later_commits(self._copy.store)
                self._adopt_others(entries, changed)
            known = self._contents.files
            fresh = [name for name in entries if name not in known]
            replaced = [name for name in entries if name in known and entries[name] != known[name]]
            replaced.sort(key=lambda name: changed[name].date)
            if fresh or replaced or removed:
                self._commit(held, entries, changed, fresh, replaced, removed)
        finally:
            shutil.rmtree(self._copy.base / "sending", ignore_errors=True)
        self._signs = {name: sign for name, sign in self._signs.items() if name not in removed}
        self._signs |= changed
        self._write_sent([*changed, *removed])
        self._make_room(sum(entries[name].size for name in fresh))

    def _commit(
        self,
        held: dict[str, Path],
        entries: dict[str, Entry],
        changed: dict[str, _FileStamp],
        fresh: list[str],
        replaced: list[str],
        removed: list[str],
    ) -> None:
        store = self._copy.store
        self._claim.check()
        if not self._contents.commits or self._contents.is_finished:
            self._contents = self._contents.reopen(store, shared=self._shared)
        there: list[str] = []

        def put(name: str) -> str:
            store.put(held[name], name)
            return name

        def put_new(name: str) -> str:
            if not store.put_new(held[name], name):
                there.append(name)
            return name

        run_concurrently(put_new if self._shared else put, fresh, f"Sending to {store}", show=False)
        for name in there:
            # Another command was first, or this one before it was killed.
            entries[name] = self._take(name, changed)
        self._contents = self._contents.commit(
            store,
            sent={name: entries[name] for name in fresh},
            coming={name: entries[name] for name in replaced},
            removed=removed,
            shared=self._shared,
        )
        store.remove(removed)
        # In the order in which they were written: summaries come after the files they summarize.
        for name in replaced:
            put(name)
        if replaced:
            self._contents = self._contents.commit(
                store,
                sent={name: entries[name] for name in replaced},
                coming={},
                removed=(),
                shared=self._shared,
            )

    def _adopt_others(self, entries: dict[str, Entry], changed: dict[str, _FileStamp]) -> None:
        """Take the version of another command for files that both have written.

        Files that were in step with the store and changed here since are newer than its own.
        """
        for name, entry in entries.items():
            theirs = self._contents.files.get(name)
            if theirs is not None and theirs != entry and name not in self._signs:
                entries[name] = self._take(name, changed)

    def _take(self, name: str, changed: dict[str, _FileStamp]) -> Entry:
        """Replace a file by the one in the store, which another command has written.

        Raises:
            RunMismatchError: it holds the settings of other work.
        """
        path = self._copy.root / name
        theirs = self._copy.base / "theirs"
        fetch(self._copy.store.at(name), theirs, None)
        if PurePosixPath(name).name in _SETTINGS:
            check_same_work(path, theirs)
        theirs.replace(path)
        self._record_stamp(name)
        changed[name] = self._signs[name]
        return Entry(path.stat().st_size, _digest(path))

    def _finish(self) -> None:
        if self._shared:
            self._contents = self._contents.read_later_commits(self._copy.store)
        if not self._contents.commits:
            return
        self._claim.check()
        listed = self._copy.store.list()
        for name, entry in self._contents.files.items():
            if name not in listed or listed[name].size != entry.size:
                raise RunError(
                    f"{self._copy.store}: {name} is not there as it was written. Start the same "
                    "command again."
                )
        # In a shared one others may have sent more, since to list all files takes its time.
        self._contents = self._contents.finish(self._copy.store, shared=self._shared)

    def clear(self) -> None:
        """Remove the superfluous commits of a finished output, once no command shares it."""
        if self._shared and self._contents.is_finished:
            # The output is whole either way: readers count commits beside the list once more.
            with contextlib.suppress(ShiftproofError):
                if not is_claimed(self._copy.store):
                    self._contents.clear(self._copy.store)

    # ------------------------------------------------------------ local files

    def _scan(self) -> dict[str, _FileStamp]:
        found: dict[str, _FileStamp] = {}
        for folder, _, names in os.walk(self._copy.root):
            inner = PurePosixPath(Path(folder).relative_to(self._copy.root).as_posix())
            for name in names:
                path = Path(folder, name)
                full = (inner / name).as_posix()
                if _UNFINISHED.fullmatch(name) or (sign := _FileStamp.of(path)) is None:
                    continue
                # Files that became placeholders to free space are in the store.
                if is_placeholder(path) and full in self._signs:
                    sign = self._signs[full]
                found[full] = sign
        return found

    def _snapshot(self, changed: dict[str, _FileStamp]) -> dict[str, Path]:
        """Keep the present content of files, even if they are replaced during the upload."""
        folder = files.make_folder(self._copy.base / "sending")
        held: dict[str, Path] = {}
        for number, name in enumerate(list(changed)):
            path = folder / str(number)
            with contextlib.suppress(FileNotFoundError):
                path.unlink(missing_ok=True)
                try:
                    os.link(self._copy.root / name, path)
                except FileNotFoundError:
                    raise
                except OSError:  # a disk without hard links
                    shutil.copyfile(self._copy.root / name, path)
                held[name] = path
        for name in changed.keys() - held.keys():  # removed since the scan
            del changed[name]
        return held

    def _record_stamp(self, name: str) -> None:
        if (sign := _FileStamp.of(self._copy.root / name)) is not None:
            self._signs[name] = sign

    def _make_room(self, size: int) -> None:
        self._unchecked += size
        if self._unchecked * 16 >= read_limit():
            self._unchecked = 0
            self._copy.record_placeholders(choose_placeholders(self._contents.files))
            drop_oldest(self._copy.root, read_limit())

    # ------------------------------------------------------------ record of uploads

    def _read_sent(self) -> dict[str, list[int | str]]:
        sent: dict[str, list[int | str]] = {}
        with contextlib.suppress(OSError, ValueError):
            for line in (self._copy.base / _SENT).read_text("utf-8").splitlines():
                sent |= json.loads(line)
        return {name: line for name, line in sent.items() if line}

    def _write_sent(self, names: list[str], *, anew: bool = False) -> None:
        line = {
            name: [*self._contents.files[name].as_json(), self._signs[name].date]
            if name in self._contents.files and name in self._signs
            else []
            for name in names
        }
        with (self._copy.base / _SENT).open("w" if anew else "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _adopt(store: Store, listed: dict[str, Listed]) -> Contents:
    """Return the files of a folder that was written by other tools, such as a copied run.

    Raises:
        InputError: it holds other files.
    """
    names = [name for name in listed if not name.startswith(f"{OURS}/")]
    if "" in names:
        raise InputError(f"{store} is a file; expected a folder.")
    if names and not any(mark in listed for mark in _MARKS):
        raise InputError(
            f"{store} is not empty and holds nothing that shiftproof has written. Choose another "
            "output folder, or empty it."
        )
    return Contents({name: Entry(listed[name].size, "") for name in names})


def _digest(path: Path) -> str:
    """Return the fingerprint of a file that is here."""
    if is_placeholder(path):
        raise RunError(f"{path} is a placeholder that was not uploaded. Start again.")
    return files.file_fingerprint(path)
