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
from shiftproof.storage.claims import (
    EXCLUSIVE,
    Claim,
    check_claims,
    is_claimed,
    name_copy_use,
    name_series,
)
from shiftproof.storage.contents import Contents, Entry
from shiftproof.storage.copies import LocalCopy, choose_placeholders, run_concurrently
from shiftproof.storage.store import STATE_FOLDER, ListedFile, Store

PAUSE = 5.0
"""Seconds between scans for finished files, or ten times the duration of the last scan."""

_CLOCK_TOLERANCE = 0.1
"""Seconds by which the date of a file may precede the time at which it was written."""

_UNFINISHED = re.compile(r"\..*\.part|\.away-.*|" + re.escape(LOCK_FILE))

_RECORD_FILE = "sent.jsonl"
"""Record of the uploaded files beside the local copy, a line for each upload."""

_OUTPUT_FILES = ("run.json", "manifest.json")
"""Files of an output that other tools have copied to the store, by which it is recognized."""

_SETTINGS_FILES = (*_OUTPUT_FILES, "stability.json")
"""Files with settings, which two commands that share an output may both write first."""


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
        worker: index and count of commands that share the output, such as those of a batch
            scheduler; each writes its own files, and the last fetches those of the others. Stores
            that do not say who was first to write a file (others than s3 and gs) are refused.
        show: whether to show the progress of fetching; by default on a terminal only.

    Raises:
        InputError: another command writes there, the store refuses it, or it holds other files.
        MissingExtraError: a package for the protocol is not installed.
        RunError: the store does not answer; finished files are kept locally, and the same call
            resumes.
    """
    store = Store(url.rstrip("/"))
    copy = _find_copy(store, worker)
    with copy.lock(wait=False):
        copy.prepare()
        claim = Claim.make(store, copy.base, worker)
        try:
            output = _Output.begin(copy, claim, show)
            with output.upload_files(), output.register_sharing():
                yield copy.root
        finally:
            claim.release()
        output.clear()


def find_output(url: str, worker: tuple[int, int] | None = None) -> Path:
    """Return the folder that :func:`write_to` yields for a URL."""
    return _find_copy(Store(url.rstrip("/")), worker).root


def _find_copy(store: Store, worker: tuple[int, int] | None) -> LocalCopy:
    return LocalCopy.of(store, name_copy_use(name_series(worker)))


def fetch_output(url: str, *, worker: tuple[int, int] | None = None) -> Path:
    """Check that :func:`write_to` can start at a URL now, and return a copy of its valid files.

    Nothing is written to the store, so whether it permits writing is not checked.

    Raises:
        InputError: another command writes there, it holds other files, it cannot be read or written
            to, or there is no such bucket.
        MissingExtraError: a package for the protocol is not installed.
        RunError: the store does not answer.
    """
    store = Store(url.rstrip("/"))
    check_claims(store, _find_copy(store, worker).base, worker)
    listed = store.list()
    contents = _read_contents(store, listed)
    copy = LocalCopy.of(store, "out, as it is")
    with copy.lock(wait=True):
        copy.prepare()
        _fetch_valid(copy, contents, listed)
    return copy.root


def _fetch_valid(copy: LocalCopy, contents: Contents, listed: dict[str, ListedFile]) -> None:
    """Replace a copy by the valid files; a file of another size than it should have is left out."""
    for name in list(copy.list_names()):
        (copy.root / name).unlink()
    sizes = {
        name: entry.size
        for name, entry in contents.files.items()
        if name not in contents.coming and name in listed and listed[name].size == entry.size
    }
    copy.update(sizes, choose_placeholders(sizes), None)


def find_output_file(url: str) -> Path:
    """Return the file that :func:`write_file_to` yields for a URL."""
    store = Store(url)
    return LocalCopy.of(store, "out").base / "file" / store.name


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
            stat = path.stat()
        except OSError:
            return None
        return cls(stat.st_size, stat.st_mtime_ns)


class _Output:
    """An output behind a URL, and its local copy."""

    def __init__(self, copy: LocalCopy, claim: Claim, contents: Contents) -> None:
        self._copy = copy
        self._claim = claim
        self._contents = contents
        self._stamps: dict[str, _FileStamp] = {}
        self._shared = claim.series != EXCLUSIVE
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._unchecked = 0

    # ------------------------------------------------------------ resuming

    @classmethod
    def begin(cls, copy: LocalCopy, claim: Claim, show: bool | None) -> _Output:
        """Fetch the valid files of the output, so that work can be resumed."""
        listed = copy.store.list()
        output = cls(copy, claim, _read_contents(copy.store, listed))
        output._synchronize(listed, show)
        return output

    def _synchronize(self, listed: dict[str, ListedFile], show: bool | None) -> None:
        sent = self._read_record()
        valid = {name: entry.as_json() for name, entry in self._contents.files.items()}
        # Finished files that were not uploaded are kept if no other machine has resumed meanwhile.
        if {name: record[:2] for name, record in sent.items()} != valid:
            for name in list(self._copy.list_names()):
                if name not in valid:
                    (self._copy.root / name).unlink()
        sizes = {name: self._find_remote_size(name, listed) for name in valid}
        changed = {
            name: size for name, size in sizes.items() if not self._is_same(name, sent.get(name))
        }
        # Files that were being replaced are fetched, since their content has to be checked.
        placeholders = choose_placeholders(valid) - self._contents.coming.keys()
        self._copy.update(changed, placeholders, show)
        for name in changed:
            if name not in placeholders:
                self._check_content(name)
        self._commit_replaced()
        for name in valid:
            self._record_stamp(name)
        self._write_record(list(valid), append=False)

    def _commit_replaced(self) -> None:
        """Commit the present version of files that were being replaced when a command was killed."""
        replaced = {name: _make_entry(self._copy.root / name) for name in self._contents.coming}
        if replaced:
            self._contents = self._contents.commit(
                self._copy.store, sent=replaced, coming={}, removed=(), shared=self._shared
            )

    def _find_remote_size(self, name: str, listed: dict[str, ListedFile]) -> int:
        """Return the size of a remote file, which must be that of a valid version."""
        file = listed.get(name)
        if file is None or file.size not in {entry.size for entry in self._list_entries(name)}:
            raise self._make_mismatch_error(name)
        return file.size

    def _list_entries(self, name: str) -> list[Entry]:
        entries = (self._contents.files.get(name), self._contents.coming.get(name))
        return [entry for entry in entries if entry is not None]

    def _check_content(self, name: str) -> None:
        digests = {entry.digest for entry in self._list_entries(name)}
        if "" not in digests and _compute_digest(self._copy.root / name) not in digests:
            raise self._make_mismatch_error(name)

    def _make_mismatch_error(self, name: str) -> BrokenFileError:
        return BrokenFileError(
            f"{self._copy.store}: {name} is not what was written there. Choose another output folder, "
            "or delete this one to start again."
        )

    def _is_same(self, name: str, record: list[int | str] | None) -> bool:
        stamp = _FileStamp.of(self._copy.root / name)
        if stamp is None or name in self._contents.coming:
            return False
        return record == [stamp.size, self._contents.files[name].digest, stamp.date]

    # ------------------------------------------------------------ uploading

    @contextlib.contextmanager
    def upload_files(self) -> Iterator[None]:
        """Upload finished files while the block runs, and the rest at its end."""
        thread = threading.Thread(target=self._upload_periodically, name="sending", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._end(thread)
            self._upload_last()
            raise
        self._end(thread)
        self._upload(everything=True)
        self._finish()

    def _end(self, thread: threading.Thread) -> None:
        self._ended.set()
        thread.join()

    @contextlib.contextmanager
    def register_sharing(self) -> Iterator[None]:
        """Register how to fetch the finished files of other commands, if the output is shared."""
        with contextlib.ExitStack() as stack:
            if self._shared:
                stack.enter_context(register_arrivals(self._copy.root, self._fetch_if_complete))
            yield

    def _fetch_if_complete(self, is_complete: Callable[[], bool]) -> None:
        """Upload finished files, and fetch those of others if, with these, nothing is missing."""
        with self._lock:
            self._upload(everything=True)
            self._contents = self._contents.read_later_commits(self._copy.store)
            sizes = {
                name: entry.size
                for name, entry in self._contents.files.items()
                if not (self._copy.root / name).exists()
            }
            # First only the names, since only the last command needs the content, which is large.
            self._copy.make_placeholders(sizes)
            try:
                if is_complete():
                    self._fetch_theirs(sizes)
            finally:
                for name in sizes.keys() - self._stamps.keys():
                    (self._copy.root / name).unlink(missing_ok=True)

    def _fetch_theirs(self, sizes: dict[str, int]) -> None:
        """Fetch the content of placeholders, except images and archives."""
        placeholders = choose_placeholders(self._contents.files)
        self._copy.record_placeholders(placeholders)
        fetched = {name: size for name, size in sizes.items() if name not in placeholders}
        self._copy.fetch(fetched, show=None)
        for name in fetched:
            self._check_content(name)
        for name in sizes:
            self._record_stamp(name)
        self._write_record(list(sizes))

    def _upload_periodically(self) -> None:
        pause = PAUSE
        while not self._ended.wait(pause):
            start = time.monotonic()
            # A store may fail now and answer later; the last upload must succeed.
            with contextlib.suppress(ShiftproofError, OSError), self._lock:
                self._claim.renew()
                self._upload()
            pause = max(PAUSE, 10 * (time.monotonic() - start))

    def _upload_last(self) -> None:
        """Upload the finished files of failed work; an error of the upload is only printed."""
        try:
            self._upload()
        except (ShiftproofError, OSError) as error:
            console.print(
                show_text(
                    f"The last finished files are only on this machine, not in {self._copy.store}: "
                    f"{error}"
                ),
                style="yellow", markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip

    def _upload(self, *, everything: bool = False) -> None:
        """Upload and commit changed files.

        Unless ``everything`` is set, files that were written after the start of the scan wait for
        the next one, since the scan may have missed files that were finished before them.
        """
        cutoff = None if everything else time.time_ns() - int(_CLOCK_TOLERANCE * 1e9)
        stamps = self._scan()
        # Files of others that were not fetched do not count as removed.
        known = self._stamps if self._shared else self._contents.files
        removed = [name for name in known if name not in stamps and name in self._contents.files]
        changed = {
            name: stamp
            for name, stamp in stamps.items()
            if stamp != self._stamps.get(name) and (cutoff is None or stamp.date < cutoff)
        }
        if changed or removed:
            self._upload_changes(changed, removed)

    def _upload_changes(self, changed: dict[str, _FileStamp], removed: list[str]) -> None:
        snapshot = self._take_snapshot(changed)
        try:
            entries = {name: _make_entry(path) for name, path in snapshot.items()}
            if self._shared:
                self._contents = self._contents.read_later_commits(self._copy.store)
                self._adopt_others(entries, changed)
            known = self._contents.files
            new = [name for name in entries if name not in known]
            replaced = [name for name in entries if name in known and entries[name] != known[name]]
            replaced.sort(key=lambda name: changed[name].date)
            if new or replaced or removed:
                self._commit(snapshot, entries, changed, new, replaced, removed)
        finally:
            shutil.rmtree(self._copy.base / "sending", ignore_errors=True)
        self._stamps = {name: stamp for name, stamp in self._stamps.items() if name not in removed}
        self._stamps |= changed
        self._write_record([*changed, *removed])
        self._free_space(sum(entries[name].size for name in new))

    def _commit(
        self,
        snapshot: dict[str, Path],
        entries: dict[str, Entry],
        changed: dict[str, _FileStamp],
        new: list[str],
        replaced: list[str],
        removed: list[str],
    ) -> None:
        store = self._copy.store
        self._claim.check()
        if not self._contents.commits or self._contents.is_finished:
            self._contents = self._contents.reopen(store, shared=self._shared)
        existing: list[str] = []

        def put(name: str) -> str:
            store.put(snapshot[name], name)
            return name

        def put_new(name: str) -> str:
            if not store.put_new(snapshot[name], name):
                existing.append(name)
            return name

        run_concurrently(put_new if self._shared else put, new, f"Sending to {store}", show=False)
        for name in existing:
            # Another command was first, or this one before it was killed.
            entries[name] = self._replace_by_remote(name, changed)
        self._contents = self._contents.commit(
            store,
            sent={name: entries[name] for name in new},
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
        """Replace files that another command has written, too, by its version.

        Files that were equal to those in the store and have changed here since are newer, and stay.
        """
        for name, entry in entries.items():
            remote = self._contents.files.get(name)
            if remote is not None and remote != entry and name not in self._stamps:
                entries[name] = self._replace_by_remote(name, changed)

    def _replace_by_remote(self, name: str, changed: dict[str, _FileStamp]) -> Entry:
        """Replace a file by the one in the store, which another command has written.

        Raises:
            RunMismatchError: it has the settings of other work.
        """
        path = self._copy.root / name
        remote = self._copy.base / "theirs"
        fetch(self._copy.store.join(name), remote, None)
        if PurePosixPath(name).name in _SETTINGS_FILES:
            check_same_work(path, remote)
        remote.replace(path)
        self._record_stamp(name)
        changed[name] = self._stamps[name]
        return _make_entry(path)

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
                    f"{self._copy.store}: {name} is missing or has another size than was written. Start "
                    "the same command again."
                )
        # Other commands may have sent more while the files were listed.
        self._contents = self._contents.finish(self._copy.store, shared=self._shared)

    def clear(self) -> None:
        """Remove the superfluous commits of a finished output, if no other command shares it any more."""
        if self._shared and self._contents.is_finished:
            # If it fails, the output is still complete: commits beside the list change nothing.
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
                if _UNFINISHED.fullmatch(name) or (stamp := _FileStamp.of(path)) is None:
                    continue
                # Files that became placeholders to free space are in the store.
                if is_placeholder(path) and full in self._stamps:
                    stamp = self._stamps[full]
                found[full] = stamp
        return found

    def _take_snapshot(self, changed: dict[str, _FileStamp]) -> dict[str, Path]:
        """Link to the present content of files, which may be replaced during the upload."""
        folder = files.make_folder(self._copy.base / "sending")
        snapshot: dict[str, Path] = {}
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
                snapshot[name] = path
        for name in changed.keys() - snapshot.keys():  # removed since the scan
            del changed[name]
        return snapshot

    def _record_stamp(self, name: str) -> None:
        if (stamp := _FileStamp.of(self._copy.root / name)) is not None:
            self._stamps[name] = stamp

    def _free_space(self, size: int) -> None:
        self._unchecked += size
        if self._unchecked * 16 >= read_limit():
            self._unchecked = 0
            self._copy.record_placeholders(choose_placeholders(self._contents.files))
            drop_oldest(self._copy.root, read_limit())

    # ------------------------------------------------------------ record of uploads

    def _read_record(self) -> dict[str, list[int | str]]:
        records: dict[str, list[int | str]] = {}
        with contextlib.suppress(OSError, ValueError):
            for line in (self._copy.base / _RECORD_FILE).read_text("utf-8").splitlines():
                records |= json.loads(line)
        return {name: record for name, record in records.items() if record}

    def _write_record(self, names: list[str], *, append: bool = True) -> None:
        records = {
            name: [*self._contents.files[name].as_json(), self._stamps[name].date]
            if name in self._contents.files and name in self._stamps
            else []
            for name in names
        }
        with (self._copy.base / _RECORD_FILE).open(
            "a" if append else "w", encoding="utf-8"
        ) as file:
            file.write(json.dumps(records) + "\n")


def _read_contents(store: Store, listed: dict[str, ListedFile]) -> Contents:
    contents = Contents.read(store, listed)
    return contents if contents.commits or contents.is_finished else _adopt(store, listed)


def _adopt(store: Store, listed: dict[str, ListedFile]) -> Contents:
    """Return the files of a folder that was written by other tools, such as a copied run.

    Raises:
        InputError: it holds other files.
    """
    names = [name for name in listed if not name.startswith(f"{STATE_FOLDER}/")]
    if "" in names:
        raise InputError(f"{store} is a file; expected a folder.")
    if names and listed.keys().isdisjoint(_OUTPUT_FILES):
        raise InputError(
            f"{store} is not empty and holds nothing that shiftproof has written. Choose another "
            "output folder, or empty it."
        )
    return Contents({name: Entry(listed[name].size, "") for name in names})


def _make_entry(path: Path) -> Entry:
    return Entry(path.stat().st_size, _compute_digest(path))


def _compute_digest(path: Path) -> str:
    """Return the fingerprint of a local file that is not a placeholder."""
    if is_placeholder(path):
        raise RunError(f"{path} is a placeholder that was not uploaded. Start again.")
    return files.file_fingerprint(path)
