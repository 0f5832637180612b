"""One command at a time in a folder, and nothing left of the dead."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap

import pytest

from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.folder_locks import LOCK_FILE, lock_folder, releases_locks


@contextlib.contextmanager
def another_process(script, *words):
    """A process that has run a script as far as its first line of output."""
    words = [sys.executable, "-c", textwrap.dedent(script), *map(str, words)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()


HOLDER = """
    import sys
    from pathlib import Path
    from shiftproof.io.folder_locks import releases_locks, lock_folder
    @releases_locks
    def work():
        lock_folder(Path(sys.argv[1]), shared=len(sys.argv) > 2)
        print("there", flush=True)
        sys.stdin.read()
    work()
"""


@releases_locks
def work(folder, *, shared=False, then=lambda: None):
    lock_folder(folder, shared=shared)
    return then()


def test_while_one_process_works_there_another_is_told_who_it_is(tmp_path):
    with another_process(HOLDER, tmp_path) as process:
        with pytest.raises(InputError, match=rf"running in .* \(process {process.pid} on .* since"):
            work(tmp_path)
        process.stdin.close()
        process.wait()
        assert list(tmp_path.iterdir()) == []
        work(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    with another_process(HOLDER, tmp_path) as process:
        process.kill()
        process.wait()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == process.pid
    work(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_those_who_share_a_folder_work_there_together_and_nobody_else(tmp_path):
    with another_process(HOLDER, tmp_path, "shared"):
        work(tmp_path, shared=True)
        assert (tmp_path / LOCK_FILE).exists()
        with pytest.raises(InputError, match="Another command is running"):
            work(tmp_path)


def test_two_threads_of_one_process_are_two_commands(tmp_path):
    import threading

    refused = []

    def other():
        try:
            work(tmp_path)
        except InputError as error:
            refused.append(error)

    def then():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    work(tmp_path, then=then)
    assert len(refused) == 1


def test_within_a_folder_that_is_held_everything_is(tmp_path):
    (tmp_path / "parts").mkdir()
    work(tmp_path, then=lambda: work(tmp_path / "parts", then=lambda: work(tmp_path)))
    assert list(tmp_path.rglob("*")) == [tmp_path / "parts"]


def test_an_error_lets_go_too(tmp_path):
    with pytest.raises(ZeroDivisionError):
        work(tmp_path, then=lambda: 1 // 0)
    work(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"process": -1, "host": 3}', b"\xff"])
def test_a_lock_file_that_says_anything(tmp_path, content):
    (tmp_path / LOCK_FILE).write_bytes(content)
    work(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("process", [os.getppid(), 2**40, 0, "x", None])
def test_where_a_disk_has_no_locks_the_file_decides(tmp_path, monkeypatch, process):
    monkeypatch.setattr("shiftproof.io.folder_locks.lock", lambda *_, **__: None)
    host = os.uname().nodename
    (tmp_path / LOCK_FILE).write_text(json.dumps({"process": process, "host": host}))
    if process == 2**40:
        work(tmp_path)
    else:
        with pytest.raises(InputError, match=r"or delete .*\.shiftproof\.lock if it has ended"):
            work(tmp_path)


# ---------------------------------------------------------------- unfinished files

WRITER = """
    import sys
    from pathlib import Path
    from shiftproof.io import files
    with files.atomic(Path(sys.argv[1])) as file:
        file.write(b"half")
        print("there", flush=True)
        sys.stdin.read()
"""


def test_what_a_dead_process_had_begun_goes_and_what_a_living_one_writes_stays(tmp_path):
    inner = tmp_path / "records"
    inner.mkdir()
    with another_process(WRITER, inner / "dead.npy") as process:
        process.kill()
        process.wait()
    (inner / ".by_hand.part").touch()
    (inner / "named.abcd1234.part").touch()
    with another_process(WRITER, inner / "alive.npy") as process:
        assert len(list(inner.glob(".*.npy.*.part"))) == 2
        work(tmp_path)
        assert [path.name.split(".")[1] for path in inner.glob(".*.npy.*.part")] == ["alive"]
        process.stdin.close()
        process.wait()
        assert (inner / "alive.npy").read_bytes() == b"half"
    assert sorted(path.name for path in inner.iterdir()) == [
        ".by_hand.part",
        "alive.npy",
        "named.abcd1234.part",
    ]


@pytest.mark.parametrize("age", [3600, 48 * 3600])
def test_where_a_disk_has_no_locks_age_decides(tmp_path, monkeypatch, age):
    monkeypatch.setattr(files, "lock", lambda *_, **__: None)
    left = tmp_path / ".x.npy.abcd1234.part"
    left.touch()
    when = left.stat().st_mtime - age
    os.utime(left, (when, when))
    files.clear_unfinished(tmp_path)
    assert left.exists() == (age == 3600)


def test_a_file_that_was_taken_for_abandoned_before_it_was_locked_is_begun_anew(
    tmp_path, monkeypatch
):
    taken = []
    lock = files.lock

    def taken_first(descriptor, **options):
        if options.get("wait") and not taken:
            taken.extend(tmp_path.glob(".*.part"))
            taken[0].unlink()
        return lock(descriptor, **options)

    monkeypatch.setattr(files, "lock", taken_first)
    files.write_bytes(tmp_path / "x", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert taken
