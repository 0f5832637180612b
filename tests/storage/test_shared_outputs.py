"""Several commands that share an output behind a URL: whatever comes first, the bytes of one command."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from shiftproof import cli, storage
from shiftproof.errors import BrokenFileError, InputError, RunMismatchError, UnfinishedError
from shiftproof.io import placeholders
from shiftproof.io.files import write_bytes
from shiftproof.shards import FileParts, Scheduled, check_finished
from shiftproof.storage import claims, copies, outgoing
from shiftproof.storage.contents import FINISHED, Contents, Entry
from shiftproof.storage.store import Store
from support import scored_results, tiny
from support.command import run_and_read
from support.few_resamples import set_replicates
from support.long_verbs import VERBS
from support.run_files import everything
from support.stores import IGNORES_LEFTOVERS, content, files_below

pytestmark = IGNORES_LEFTOVERS

STORE = Store("memory://out")


@pytest.fixture
def on_machine(tmp_path, monkeypatch):
    """Let what follows run on a machine of its own."""
    return lambda name: monkeypatch.setenv(placeholders.CACHE, str(tmp_path / name))


def shared(worker, of=2, url="memory://out"):
    return storage.write_to(url, worker=(worker, of), show=False)


# ---------------------------------------------------------------- the verbs


def test_workers_on_other_machines_score_into_one_bucket(s3, tmp_path, capsys, on_machine):
    _, models = scored_results.make("coco", None, tmp_path / "results")
    words = ["score", "-d", tmp_path / "results" / "data", "-w", "0"]
    for name, path in models.items():
        words += ["-p", f"{name}={path}"]
    assert run_and_read(capsys, *words, "-o", tmp_path / "one")[0] == 0
    out = "lab/scored"
    for worker in (2, 0, 1):
        on_machine(f"machine {worker}")
        code, output = run_and_read(
            capsys, *words, "-o", f"s3://{out}", "--worker", worker, "--of", "3"
        )
        assert code == 0, output
        assert ("This worker's share is done" in output) == (worker != 1)
    there, here = content(s3, out), files_below(tmp_path / "one")
    assert there.keys() == here.keys()
    assert {name for name in here if here[name] != there[name]} <= {"run.json", "report.html"}
    assert [p for p in s3.find(out) if "/.shiftproof/" in p] == [f"{out}/.shiftproof/contents.json"]


@pytest.mark.parametrize("verb", ["bench", "evaluate", "perturb", "embed", "corrupt"])
def test_long_verbs_are_shared_behind_a_url(verb, memory, tmp_path, on_machine, monkeypatch):
    set_replicates(monkeypatch, 20)
    photos = tiny.write_photos(tmp_path / "photos", per_class=2)
    VERBS[verb](photos, tmp_path / "one", None)
    for worker in (1, 0):
        on_machine(f"machine {worker}")
        with contextlib.suppress(UnfinishedError), shared(worker) as out:
            VERBS[verb](photos, out, Scheduled(worker, 2, 0))
            assert worker == 0
    remote = content(memory, "/out")
    for name, data in everything(tmp_path / "one").items():
        assert remote[name] == data, name
    assert memory.exists("/out/.shiftproof/contents.json")


def test_workers_at_one_time_copy_into_one_bucket(s3, tmp_path):
    options = ["-c", "contrast", "-s", "1,3", "--workers", "0"]
    words = [sys.executable, "-m", "shiftproof", "corrupt", "s3://lab/photos"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [*words, "s3://lab/together", *options, "--worker", str(worker), "--of", "2"], env=env
        )
        for worker in range(2)
    ]
    assert [one.wait(120) for one in started] == [0, 0]
    assert cli.run(["corrupt", "s3://lab/photos", str(tmp_path / "copy"), *options]) == 0
    assert content(s3, "lab/together") == files_below(tmp_path / "copy")
    assert s3.exists("lab/together/.shiftproof/contents.json")


# ---------------------------------------------------------------- who comes when


def begin(out, settings="same", by="a"):
    about = {"format": 1, "kind": "x", "settings": settings, "provenance": by}
    write_bytes(out / "run.json", json.dumps(about).encode())


def finish(out, own, worker):
    write_bytes(out / own, own.encode())
    check_finished("Work", FileParts(out, [("a",), ("b",)]), Scheduled(worker, 3))
    write_bytes(out / "sum", b"".join((out / name).read_bytes() for name in ("a", "b")))


def test_of_two_that_begin_together_the_settings_of_the_first_stand(memory, on_machine):
    def work():
        on_machine("one")
        with shared(0) as one:
            on_machine("two")
            with shared(1) as two:
                begin(one, by="first")
                begin(two, by="second")
                finish(two, "b", 1)

    with pytest.raises(UnfinishedError, match=r"missing: 0 \(of worker 0"):
        work()
    on_machine("one")
    with shared(0) as one:
        assert json.loads((one / "run.json").read_text())["provenance"] == "second"
        finish(one, "a", 0)
    assert content(memory, "/out").keys() == {"run.json", "a", "b", "sum"}
    assert memory.cat_file("/out/sum") == b"ab"
    listed = json.loads(memory.cat_file("/out/.shiftproof/contents.json"))["files"]
    assert set(listed) == {"run.json", "a", "b", "sum"}


def test_other_settings_are_refused_even_if_both_begin_together(memory, on_machine):
    def work():
        on_machine("one")
        with shared(0) as one:
            on_machine("two")
            with shared(1) as two:
                begin(one)
                begin(two, settings="others")
                with pytest.raises(UnfinishedError):
                    finish(one, "a", 0)
                finish(two, "b", 1)

    with pytest.raises(RunMismatchError, match="holds work with other settings"):
        work()
    assert content(memory, "/out").keys() == {"run.json", "a"}
    assert json.loads(memory.cat_file("/out/run.json"))["settings"] == "same"


def test_a_file_that_a_killed_worker_sent_and_never_counted_is_taken_over(memory, on_machine):
    none = {"files": {}, "coming": {}, "removed": []}
    memory.pipe_file("/out/.shiftproof/commit-000000.json", json.dumps(none).encode())
    memory.pipe_file("/out/a", b"a")
    on_machine("one")
    with shared(1) as out:
        begin(out)
        write_bytes(out / "b", b"b")
    on_machine("two")
    with shared(0) as out:
        finish(out, "a", 0)
    assert memory.cat_file("/out/sum") == b"ab"


def test_the_content_of_others_is_fetched_only_by_the_last(memory, on_machine, fetched):
    on_machine("one")
    with shared(1, of=3) as one:
        on_machine("two")
        with shared(2, of=3) as two:
            begin(one)
            with pytest.raises(UnfinishedError):
                finish(one, "b", 1)
            with pytest.raises(UnfinishedError):
                finish(two, "c", 2)
            assert fetched == []
            assert not (two / "b").exists()
            finish(two, "a", 2)
            assert sorted(fetched) == ["memory://out/b", "memory://out/run.json"]
    assert content(memory, "/out").keys() == {"run.json", "a", "b", "c", "sum"}


def test_a_store_that_fails_at_the_end_costs_nothing(memory, on_machine, monkeypatch):
    on_machine("one")
    with shared(1) as one:
        on_machine("two")
        with shared(0) as two:
            begin(one)
            with pytest.raises(UnfinishedError):
                finish(one, "b", 1)
            with monkeypatch.context() as patch:
                patch.setattr(copies, "fetch", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    finish(two, "a", 0)
            assert not (two / "b").exists()
            finish(two, "a", 0)
    assert memory.cat_file("/out/sum") == b"ab"


def test_a_worker_that_ends_while_another_sends_leaves_its_files_counted(
    memory, on_machine, monkeypatch
):
    ending = contextlib.ExitStack()
    commit = Contents.commit

    def commit_late(self, *rest, sent, **others):
        if "a" in sent:
            ending.close()
        return commit(self, *rest, sent=sent, **others)

    on_machine("one")
    begin(one := ending.enter_context(shared(1)))
    write_bytes(one / "b", b"b")
    on_machine("two")
    with shared(0) as two:
        write_bytes(two / "a", b"a")
        monkeypatch.setattr(Contents, "commit", commit_late)
    listed = json.loads(memory.cat_file("/out/.shiftproof/contents.json"))["files"]
    assert set(listed) == {"run.json", "a", "b"}
    assert memory.find("/out/.shiftproof") == ["/out/.shiftproof/contents.json"]


def test_commits_of_several_count_whoever_finishes_in_between(memory):
    store = Store("memory://out")

    def send(contents, name):
        return contents.commit(
            store, sent={name: Entry(1, name)}, coming={}, removed=(), shared=True
        )

    slow = send(send(Contents(), "a"), "b")
    quick = send(send(slow.read_later_commits(store), "c"), "d")
    quick.finish(store, shared=True)
    third = Contents.read(store, store.list(".shiftproof")).reopen(store, shared=True)
    third = send(third, "e")
    slow = send(slow, "f").read_later_commits(store)
    assert sorted(slow.files) == list("abcdef")
    slow.finish(store, shared=True)
    third = send(third, "g").read_later_commits(store)
    assert sorted(third.files) == list("abcdefg")


def send_one(contents, name, digest=None):
    entry = Entry(1, digest or name)
    return contents.commit(STORE, sent={name: entry}, coming={}, removed=(), shared=True)


def read_files():
    contents = Contents.read(STORE, STORE.list(".shiftproof"))
    return {name: entry.digest for name, entry in contents.files.items()}


@pytest.fixture
def interrupt(monkeypatch):
    """Let another command act right before one call of a method of a store."""

    def set_up(method, act, is_it=lambda *_: True):
        call = getattr(Store, method)

        def late(self, *rest):
            if is_it(*rest):
                monkeypatch.setattr(Store, method, call)
                act()
            return call(self, *rest)

        monkeypatch.setattr(Store, method, late)

    return set_up


def test_a_list_that_is_written_late_loses_nothing_sent_before(memory, interrupt):
    slow = send_one(Contents(), "a")
    quick = slow.read_later_commits(STORE)

    def send_and_finish():
        send_one(quick, "b").finish(STORE, shared=True)

    interrupt("write", send_and_finish, lambda name, _: name == FINISHED)
    ended = slow.finish(STORE, shared=True)
    assert read_files() == {"a": "a", "b": "b"}
    ended.clear(STORE)
    assert STORE.list(".shiftproof").keys() == {FINISHED}
    assert read_files() == {"a": "a", "b": "b"}


@pytest.mark.parametrize("method", ["create", "remove"])
def test_an_output_that_is_finished_while_another_reopens_it_keeps_all(memory, interrupt, method):
    send_one(Contents(), "a").finish(STORE)
    slow = Contents.read(STORE, STORE.list(".shiftproof"))
    quick = slow.read_later_commits(STORE)

    def send_and_finish():
        send_one(quick.reopen(STORE, shared=True), "b").finish(STORE, shared=True)

    interrupt(method, send_and_finish)
    slow = send_one(slow.reopen(STORE, shared=True), "c")
    assert read_files() == {"a": "a", "b": "b", "c": "c"}
    assert slow.read_later_commits(STORE).finish(STORE, shared=True).files.keys() == {"a", "b", "c"}


def test_a_file_that_was_replaced_stays_so_when_the_output_is_reopened(memory):
    first = send_one(send_one(Contents(), "a", "old"), "a", "new").finish(STORE, shared=True)
    opened = Contents.read(STORE, STORE.list(".shiftproof")).reopen(STORE, shared=True)
    assert opened.read_later_commits(STORE).files["a"].digest == "new"
    assert first.read_later_commits(STORE).files["a"].digest == "new"
    assert read_files() == {"a": "new"}


def test_commits_that_are_removed_while_they_are_read_stand_in_the_list(memory, interrupt):
    ended = send_one(send_one(Contents(), "a"), "b").finish(STORE, shared=True)
    interrupt("read", lambda: ended.clear(STORE), lambda name: name != FINISHED)
    assert read_files() == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[" * 100_000,
        b"[]",
        b'{"files": {"": [1, "x"]}}',
        b'{"files": {"a/../../b": [1, "x"]}}',
        b'{"files": {}, "removed": 3}',
        b'{"files": {}, "removed": "run.json"}',
        b'{"files": {}, "coming": []}',
    ],
    ids=["cut", "deep", "list", "no name", "outside", "number", "text", "coming"],
)
def test_a_damaged_commit_is_refused(memory, content):
    memory.pipe_file("/out/.shiftproof/commit-000000.json", content)
    with pytest.raises(BrokenFileError, match="is not a valid list of the output's files"):
        read_files()


def test_a_claim_of_any_depth_is_no_claim(memory, tmp_path):
    memory.pipe_file("/out/.shiftproof/claim-000001.json", b"[" * 100_000)
    assert claims.check_claims(STORE, tmp_path, None) == [1]


def test_two_that_finish_at_one_time_leave_all_files_counted(memory, on_machine, interrupt):
    """The list of the first is on its way when the second sends a file, finishes and ends."""
    ending = contextlib.ExitStack()
    on_machine("one")
    begin(one := ending.enter_context(shared(1)))
    on_machine("two")
    with shared(0) as two:
        write_bytes(two / "a", b"a")

        def end_the_other():
            write_bytes(one / "b", b"b")
            ending.close()

        interrupt("write", end_the_other, lambda name, _: name == FINISHED)
    listed = json.loads(memory.cat_file(f"/out/{FINISHED}"))["files"]
    assert set(listed) == {"run.json", "a", "b"}
    assert memory.find("/out/.shiftproof") == [f"/out/{FINISHED}"]


# ---------------------------------------------------------------- who may not


def test_one_worker_at_a_time_has_a_number(memory, on_machine):
    on_machine("one")
    with shared(0):
        on_machine("two")
        with pytest.raises(InputError, match="Another command writes to memory://out"):  # noqa: SIM117
            with shared(0):
                pass
        with pytest.raises(InputError, match="Another command writes to memory://out"):  # noqa: SIM117
            with storage.write_to("memory://out"):
                pass
    with storage.write_to("memory://out"):
        on_machine("three")
        with pytest.raises(InputError, match="Another command writes to memory://out"):  # noqa: SIM117
            with shared(0):
                pass
    assert not memory.find("/out")


def test_the_claim_of_a_worker_that_was_killed_here_is_free_at_once(memory):
    store = Store("memory://out")
    base = outgoing._find_copy(store, (0, 2)).base
    base.mkdir(parents=True)
    claims.Claim.make(store, base, (0, 2))
    with storage.write_to("memory://out") as out:
        write_bytes(out / "a", b"a")
    assert content(memory, "/out") == {"a": b"a"}


def test_stores_that_cannot_say_who_was_first_are_not_shared(tmp_path, capsys):
    words = ["corrupt", tmp_path, f"file://{tmp_path}/out", "--worker", "0", "--of", "2"]
    code, output = run_and_read(capsys, *words)
    assert code == 2
    assert "cannot be shared by several commands (--worker)" in " ".join(output.split())


@pytest.mark.parametrize("url", ["s3://lab/once", "memory://once"])
def test_a_file_is_sent_once_whoever_sends_it(s3, memory, tmp_path, url):
    store = Store(url)
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).write_text(name)
        assert store.put_new(tmp_path / name, "file") == (number == 0)
        assert store.create("claim", name.encode()) == (number == 0)
    assert (store.read("file"), store.read("claim")) == (b"one", b"one")
    with pytest.raises(InputError, match="there is no such bucket"):
        Store("s3://nowhere/x").put_new(tmp_path / "one", "file")
