"""Folders behind URLs: a real object store, a web server with faults, and one in memory."""

import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from shiftproof import bench, storage
from shiftproof.data import open_data
from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.io import placeholders, remote
from shiftproof.io.fetched import list_fetched
from shiftproof.io.files import file_fingerprint, write_bytes
from shiftproof.io.images import read_image
from shiftproof.io.locations import Location
from shiftproof.shards import Ray, on_ray
from shiftproof.similarity import open_embeddings
from shiftproof.storage import claims, outgoing
from shiftproof.storage.store import Store
from support import tiny
from support.command import run_and_read
from support.stores import (
    IGNORES_LEFTOVERS,
    all_text_below,
    content,
    files_below,
    picture,
    serve_folder,
)

pytestmark = IGNORES_LEFTOVERS


CORRUPT = ["-c", "contrast", "-s", "1,3", "--workers", "0"]


# ---------------------------------------------------------------- an object store


def test_a_copy_in_a_bucket_is_the_one_on_a_disk(s3, tmp_path, capsys, cache):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        (photos / f"{number}.png").write_bytes(picture(number))
    assert run_and_read(capsys, "corrupt", photos, tmp_path / "copy", *CORRUPT)[0] == 0
    code, output = run_and_read(capsys, "corrupt", "s3://lab/photos", "s3://lab/copy", *CORRUPT)
    assert code == 0
    assert "8 images written to s3://lab/copy" in output
    assert str(cache) not in output
    assert content(s3, "lab/copy") == files_below(tmp_path / "copy")
    # Once more: all is there, on a machine that has nothing, too.
    before = s3.info("lab/copy/.shiftproof/contents.json")["LastModified"]
    os.environ[placeholders.CACHE] = str(tmp_path / "other")
    code, output = run_and_read(capsys, "corrupt", "s3://lab/photos", "s3://lab/copy", *CORRUPT)
    assert code == 0
    assert "8 existed already" in output
    assert content(s3, "lab/copy") == files_below(tmp_path / "copy")
    assert s3.info("lab/copy/.shiftproof/contents.json")["LastModified"] >= before
    names = [path for path in s3.find("lab/copy") if "/.shiftproof/" in path]
    assert names == ["lab/copy/.shiftproof/contents.json"]


KILLED = """
import os, signal, sys
from shiftproof import cli
from shiftproof.storage.store import Store

left = [int(sys.argv[1])]
put = Store._put

def put_some(self, local, name):
    if ".shiftproof" not in name:
        left[0] -= 1
        if left[0] < 0:
            # In the middle of a file: its parts are there, and nobody has put them together.
            import s3fs
            system = s3fs.S3FileSystem()
            begun = system.call_s3("create_multipart_upload", Bucket="lab", Key=f"killed/{name}")
            system.call_s3("upload_part", Bucket="lab", Key=f"killed/{name}", PartNumber=1,
                           UploadId=begun["UploadId"], Body=b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    put(self, local, name)

Store._put = put_some
cli.run(sys.argv[2:])
"""


def test_a_command_killed_while_it_sends_goes_on_elsewhere(s3, tmp_path, capsys):
    words = ["corrupt", "s3://lab/photos", "s3://lab/killed", *CORRUPT]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, "5", *words], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    sent = content(s3, "lab/killed")
    assert 0 < len(sent) < 9
    with pytest.raises(BrokenFileError, match="s3://lab/killed is not finished"):
        storage.fetch("s3://lab/killed")
    # From another machine the claim of the dead command holds for a while; from this one it does not.
    here = os.environ[placeholders.CACHE]
    os.environ[placeholders.CACHE] = str(tmp_path / "other")
    code, output = run_and_read(capsys, *words)
    assert code == 2
    assert "Another command writes to s3://lab/killed (process" in output
    os.environ[placeholders.CACHE] = here
    assert run_and_read(capsys, *words)[0] == 0
    assert run_and_read(capsys, *words[:2], "s3://lab/undisturbed", *words[3:])[0] == 0
    assert content(s3, "lab/killed") == content(s3, "lab/undisturbed")
    marks = ["lab/killed/.shiftproof/contents.json", "lab/undisturbed/.shiftproof/contents.json"]
    # How many commits there were depends on how long it took.
    killed_list, other_list = (json.loads(s3.cat_file(mark))["files"] for mark in marks)
    assert killed_list == other_list


def test_a_run_in_a_bucket_has_the_bytes_of_one_on_a_disk(s3, tmp_path, capsys):
    photos = tiny.write_photos(tmp_path / "photos", per_class=1)
    s3.put(str(photos), "lab/classes/", recursive=True)
    grid = {"corruptions": ["contrast"], "severities": [1], "workers": 0}
    bench.run(tiny.make_model(), photos, out=tmp_path / "run", **grid)
    with storage.write_to("s3://lab/run") as out:
        bench.run(tiny.make_model(), storage.fetch("s3://lab/classes/photos"), out=out, **grid)
    there, here = content(s3, "lab/run"), files_below(tmp_path / "run")
    assert there.keys() == here.keys()
    assert {n for n in here if here[n] != there[n]} <= {"run.json"}
    settings = [json.loads(each["run.json"])["settings"] for each in (there, here)]
    assert settings[0] == settings[1]
    code, output = run_and_read(capsys, "report", "s3://lab/run")
    assert code == 0, output
    assert "s3://lab/run/report.html" in output
    assert b"<html" in content(s3, "lab/run")["report.html"]
    assert run_and_read(capsys, "report", "s3://lab/run", "--out", "s3://lab/page.html")[0] == 0
    assert b"<html" in s3.cat_file("lab/page.html")


@pytest.mark.parametrize("verb", ["corrupt", "embed", "bench"])
def test_no_such_bucket(s3, capsys, verb):
    words = {
        "corrupt": ["s3://nowhere/photos", "s3://lab/x", *CORRUPT],
        "embed": ["--model", "demo", "--data", "s3://nowhere/photos", "--out", "s3://lab/x"],
        "bench": ["--model", "demo", "--data", "demo", "--out", "s3://nowhere/x"],
    }[verb]
    code, output = run_and_read(capsys, verb, *words)
    assert code == 2
    assert "s3://nowhere/" in output
    assert "bucket does not exist" in output.lower()
    assert not s3.exists("lab/x")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://Bad!Bucket/photos", 'Invalid bucket name "Bad!Bucket"'),
        ("s3://a b/photos", 'Invalid bucket name "a b"'),
        ("s3:///photos", "names no bucket; expected s3://BUCKET/FOLDER"),
        ("http://[bad/photos", "is not a valid URL (Invalid IPv6 URL)"),
    ],
)
def test_an_address_that_cannot_be_is_asked_for_once(s3, monkeypatch, capsys, url, said):
    def wait(seconds):
        raise AssertionError("asked again")

    monkeypatch.setattr(remote.time, "sleep", wait)
    code, output = run_and_read(
        capsys, "embed", "--model", "demo", "--data", url, "--out", "s3://lab/x"
    )
    assert code == 2
    assert said in output
    assert "attempts" not in output


def test_a_bucket_without_permission(s3, tmp_path, monkeypatch, capsys):
    import s3fs

    with serve_folder(tmp_path) as refusing:
        refusing.faults[:] = [403] * 20
        monkeypatch.setenv("AWS_ENDPOINT_URL", refusing.url)
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(
            InputError, match=r"s3://lab/photos cannot be listed: the store denies access"
        ):
            storage.fetch("s3://lab/photos")
        assert len(refusing.asked) < 5
    s3fs.S3FileSystem.clear_instance_cache()


def test_no_credentials(s3, monkeypatch):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=r"s3://lab/photos cannot be reached: no credentials"):
        storage.fetch("s3://lab/photos")
    s3fs.S3FileSystem.clear_instance_cache()


# ---------------------------------------------------------------- what a web server does wrong


@pytest.fixture
def web(tmp_path):
    served = tmp_path / "served"
    (served / "photos").mkdir(parents=True)
    for number in range(2):
        (served / "photos" / f"{number}.png").write_bytes(picture(number))
    with serve_folder(served) as server:
        yield server


def test_a_connection_that_is_cut_is_no_end_of_a_file(web):
    photos = storage.fetch(f"{web.url}/photos")
    web.faults[:] = ["cut"]
    assert file_fingerprint(photos / "0.png") == file_fingerprint(
        placeholders.ensure_local(photos / "0.png")
    )
    assert (photos / "0.png").read_bytes() == picture(0)
    web.faults[:] = ["cut"] * 50
    with pytest.raises(RunError, match=rf"1\.png could not be read in {remote.ATTEMPTS} attempts"):
        read_image(photos / "1.png")
    assert placeholders.is_placeholder(photos / "1.png")
    web.faults.clear()
    assert read_image(photos / "1.png").shape == (24, 24, 3)


def test_a_file_that_is_read_where_it_lies_is_never_a_part(web, tmp_path):
    np.save(tmp_path / "served" / "rows.npy", np.eye(4, dtype=np.float32))
    whole = (tmp_path / "served" / "rows.npy").read_bytes()
    place = Location.of(f"{web.url}/rows.npy")
    web.faults[:] = [500, "cut"]
    with place.open() as file:
        assert file.read() == whole
    with place.open() as file:
        web.faults[:] = ["cut"] * 50
        with pytest.raises(RunError, match="could not be read in"):
            file.read()
    web.faults[:] = [403] * 50
    with pytest.raises(InputError, match="the store denies access"):
        place.read(0, 4)
    web.faults.clear()
    with pytest.raises(InputError, match="the server sends only whole files"):
        place.read(0, 4)


def test_nothing_can_be_written_to_a_web_server(web, capsys):
    code, output = run_and_read(capsys, "corrupt", f"{web.url}/photos", f"{web.url}/copy", *CORRUPT)
    assert code == 2
    assert f"{web.url}/copy cannot be written to: nothing is sent to web servers" in output


def test_secrets_of_urls_are_written_nowhere(web, tmp_path, capsys, memory, cache):
    address = web.url.replace("://", "://ada:hunter2@") + "/photos"
    code, output = run_and_read(capsys, "corrupt", address, "memory://copy", *CORRUPT)
    assert code == 0, output
    code, more = run_and_read(capsys, "data", f"{address}/none.png")
    assert code == 2
    with pytest.raises(
        RunError, match=r"^https://\*\*\*@127.0.0.1:1/photos could not be listed in"
    ):
        storage.fetch("https://ada:hunter2@127.0.0.1:1/photos")
    assert "http://***@127.0.0.1" in more
    written = all_text_below(cache) + b"".join(content(memory, "/copy").values())
    assert b"hunter2" not in written
    assert "hunter2" not in output + more


# ---------------------------------------------------------------- what comes, and when


def fill(memory, count=6):
    for number in range(count):
        memory.pipe_file(f"/data/{number}.png", picture(number))
    memory.pipe_file("/data/notes.txt", b"six pictures")


def test_images_come_when_they_are_read(memory):
    fill(memory)
    folder = storage.fetch("memory://data")
    assert (folder / "notes.txt").read_bytes() == b"six pictures"
    assert all(placeholders.is_placeholder(path) for path in folder.glob("*.png"))
    assert [path.stat().st_size for path in sorted(folder.glob("*.png"))] == [
        len(picture(number)) for number in range(6)
    ]
    read_image(folder / "3.png")
    assert [
        path.name for path in folder.glob("*.png") if not placeholders.is_placeholder(path)
    ] == ["3.png"]
    assert (folder / "3.png").read_bytes() == picture(3)


def test_what_has_changed_comes_anew(memory):
    fill(memory)
    folder = storage.fetch("memory://data")
    for number in range(6):
        read_image(folder / f"{number}.png")
    memory.pipe_file("/data/1.png", picture(1)[:-1] + b"\0")
    memory.rm_file("/data/2.png")
    assert storage.fetch("memory://data") == folder
    assert placeholders.is_placeholder(folder / "1.png")
    assert not placeholders.is_placeholder(folder / "0.png")
    assert not (folder / "2.png").exists()
    memory.rm_file("/data/1.png")
    with pytest.raises(BrokenFileError, match=r"memory://data/1\.png cannot be read"):
        read_image(folder / "1.png")


def test_no_more_is_kept_than_the_limit(memory, monkeypatch):
    fill(memory)
    folder = storage.fetch("memory://data")
    size = len(picture(0))
    monkeypatch.setenv(placeholders.LIMIT, str(3.5 * size / 1e9))
    for number in range(6):
        assert read_image(folder / f"{number}.png").shape == (24, 24, 3)
    kept = [path for path in folder.glob("*.png") if not placeholders.is_placeholder(path)]
    assert 0 < sum(path.stat().st_size for path in kept) <= 3.5 * size


def test_a_file_of_another_length_than_listed_is_refused(memory):
    fill(memory)
    folder = storage.fetch("memory://data")
    memory.pipe_file("/data/0.png", picture(0)[:100])
    with pytest.raises(RunError, match=r"bytes are listed, 100 were received"):
        read_image(folder / "0.png")


def test_a_strangers_folder_has_no_url_read(tmp_path):
    folder = tmp_path / "unpacked" / "photos"
    folder.mkdir(parents=True)
    (tmp_path / "unpacked" / "source.json").write_text('{"url": "memory://secret"}')
    (folder / "0.png").write_bytes(picture(0))
    os.utime(folder / "0.png", (86_400, 86_400))
    assert placeholders.find_origin(folder / "0.png") is None
    assert read_image(folder / "0.png").shape == (24, 24, 3)


def test_names_that_lead_out_of_the_folder(memory):
    fill(memory, 1)
    memory.store["/data/../../etc/cron.png"] = memory.store["/data/0.png"]
    with pytest.raises(InputError, match=r"which is not a valid file name on this machine"):
        Store("memory://data").list()


@pytest.mark.parametrize(
    ("protocol", "package"),
    [("gs", "gcsfs"), ("gcs", "gcsfs"), ("abfs", "adlfs"), ("az", "adlfs")],
)
def test_a_missing_package_is_named(monkeypatch, capsys, protocol, package):
    monkeypatch.setitem(sys.modules, package, None)
    there = f"{protocol}://bucket/photos"
    for words in (["data", there], ["corrupt", "demo", there, *CORRUPT]):
        code, output = run_and_read(capsys, *words)
        assert code == 2
        assert f"needs {package}, which is not installed" in output
        assert f'python -m pip install "{package}"' in output


def test_a_protocol_that_nobody_knows(capsys):
    code, output = run_and_read(capsys, "data", "nonsense://bucket/photos")
    assert code == 2
    assert "nonsense://bucket/photos cannot be reached (Protocol not known" in output


# ---------------------------------------------------------------- what is sent


def test_files_count_when_they_are_committed(memory, monkeypatch, tmp_path):
    def work():
        with storage.write_to("memory://out") as out:
            for name, data in (("manifest.json", b"{}"), ("a.npy", b"first")):
                write_bytes(out / name, data)
                # What was written a moment ago waits for the next look.
                os.utime(out / name, (1_700_000_000, 1_700_000_000))
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        work()
    assert content(memory, "/out") == {"manifest.json": b"{}", "a.npy": b"first"}
    memory.pipe_file("/out/b.npy", b"sent, and never committed")
    with pytest.raises(BrokenFileError, match="memory://out is not finished"):
        storage.fetch("memory://out")
    monkeypatch.setenv(placeholders.CACHE, str(tmp_path / "another machine"))
    with storage.write_to("memory://out") as out:
        assert files_below(out) == {"manifest.json": b"{}", "a.npy": b"first"}
        write_bytes(out / "a.npy", b"second")
        (out / "manifest.json").unlink()
        write_bytes(out / "c.npy", b"third")
    assert content(memory, "/out")["a.npy"] == b"second"
    assert "manifest.json" not in content(memory, "/out")
    listed = json.loads(memory.cat_file("/out/.shiftproof/contents.json"))
    assert sorted(listed["files"]) == ["a.npy", "c.npy"]


def test_a_finished_output_that_lost_a_file_is_not_read(memory):
    with storage.write_to("memory://out") as out:
        np.save(out / "0.npy", np.eye(3, dtype=np.float32))
    assert len(open_embeddings("memory://out")) == 3
    memory.pipe_file("/out/0.npy", memory.cat_file("/out/0.npy")[:-4])
    with pytest.raises(BrokenFileError, match=r"0\.npy should have 164 bytes, but has 160"):
        open_embeddings("memory://out")
    memory.rm_file("/out/.shiftproof/contents.json")
    memory.pipe_file("/out/.shiftproof/commit-000000.json", b"{}")
    with pytest.raises(BrokenFileError, match="is not finished"):
        open_embeddings("memory://out")


def test_a_store_that_fails_is_asked_again_and_work_goes_on_later(memory, monkeypatch):
    put = Store._put
    answers = [ConnectionError("no route")] * 2 + [None] * 100

    def fail(self, local, name):
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        put(self, local, name)

    monkeypatch.setattr(Store, "_put", fail)
    with storage.write_to("memory://out") as out:
        write_bytes(out / "a", b"a")
    assert content(memory, "/out") == {"a": b"a"}
    answers[:] = [ConnectionError("no route")] * 100
    with pytest.raises(RunError, match=r"could not be written in 3 attempts \(no route\)"):  # noqa: SIM117
        with storage.write_to("memory://out") as out:
            write_bytes(out / "b", b"b")
    answers[:] = [None] * 100
    with storage.write_to("memory://out") as out:
        assert (out / "b").read_bytes() == b"b"  # it had been finished here
    assert content(memory, "/out") == {"a": b"a", "b": b"b"}


@pytest.mark.parametrize("arrived", [False, True])
def test_a_file_that_was_being_replaced_may_be_the_one_or_the_other(
    memory, monkeypatch, tmp_path, arrived
):
    with storage.write_to("memory://out") as out:
        write_bytes(out / "manifest.json", b"old")
    put = Store._put

    def lose(self, local, name):
        if name != "manifest.json" or arrived:
            put(self, local, name)
        if name == "manifest.json":
            raise ConnectionError("no route")

    def work():
        with storage.write_to("memory://out") as out:
            write_bytes(out / "manifest.json", b"newer")

    monkeypatch.setattr(Store, "_put", lose)
    with pytest.raises(RunError, match="could not be written"):
        work()
    monkeypatch.setattr(Store, "_put", put)
    monkeypatch.setenv(placeholders.CACHE, str(tmp_path / "another machine"))
    with storage.write_to("memory://out") as out:
        assert (out / "manifest.json").read_bytes() == (b"newer" if arrived else b"old")
    assert json.loads(memory.cat_file("/out/.shiftproof/contents.json"))["files"]["manifest.json"][
        0
    ] == (5 if arrived else 3)
    memory.pipe_file("/out/manifest.json", b"another's")
    with pytest.raises(BrokenFileError, match=r"manifest\.json is not what was written there"):  # noqa: SIM117
        with storage.write_to("memory://out"):
            pass


def test_two_do_not_write_to_one_url(memory, monkeypatch, tmp_path):
    with storage.write_to("memory://out"):
        with pytest.raises(InputError, match="Another command of this machine is at work"):  # noqa: SIM117
            with storage.write_to("memory://out"):
                pass
        monkeypatch.setenv(placeholders.CACHE, str(tmp_path / "other machine"))
        with pytest.raises(InputError, match=r"Another command writes to memory://out \(process"):  # noqa: SIM117
            with storage.write_to("memory://out"):
                pass
    assert not memory.find("/out")
    # Of a machine that was lost ten minutes ago.
    lost = {"token": "x", "renewed": time.time() - claims.EXPIRES_AFTER - 1}
    memory.pipe_file("/out/.shiftproof/claim-000003.json", json.dumps(lost).encode())
    with storage.write_to("memory://out") as out:
        write_bytes(out / "a", b"a")
        assert memory.exists("/out/.shiftproof/claim-000004.json")
    assert content(memory, "/out") == {"a": b"a"}


def test_who_was_given_up_sends_nothing_more(memory):
    def work():
        with storage.write_to("memory://out") as out:
            write_bytes(out / "a", b"a")
            memory.pipe_file("/out/.shiftproof/claim-000002.json", b"{}")

    with pytest.raises(RunError, match="was taken over by another command"):
        work()
    assert content(memory, "/out") == {}
    assert memory.exists("/out/.shiftproof/claim-000002.json")


def test_files_are_sent_while_work_goes_on(memory, monkeypatch):
    monkeypatch.setattr(outgoing, "PAUSE", 0.02)
    with storage.write_to("memory://out") as out:
        write_bytes(out / "a", b"a")
        until = time.monotonic() + 20
        while not memory.exists("/out/.shiftproof/commit-000001.json"):
            assert time.monotonic() < until
            time.sleep(0.02)
        assert memory.cat_file("/out/a") == b"a"


def test_other_peoples_folders_are_left_alone(memory, capsys):
    fill(memory)
    code, output = run_and_read(capsys, "corrupt", "memory://data", "memory://data", *CORRUPT)
    assert code == 2
    assert "memory://data is not empty and holds nothing that shiftproof has written" in output
    assert sorted(content(memory, "/data")) == [*(f"{n}.png" for n in range(6)), "notes.txt"]


def test_what_only_plans_writes_nothing(s3, memory, capsys, monkeypatch, tmp_path):
    fill(memory)
    words = ["corrupt", "memory://data", "memory://out", *CORRUPT, "--dry-run"]
    code, output = run_and_read(capsys, *words)
    assert code == 0, output
    assert memory.find("/out") == []
    # What a command would meet there, a plan meets too.
    for url, what in {
        "memory://data": "is not empty and holds nothing that shiftproof has written",
        "s3://nowhere/out": "bucket does not exist",
        "https://127.0.0.1:1/out": "nothing is sent to web servers",
    }.items():
        code, output = run_and_read(capsys, "corrupt", "memory://data", url, *CORRUPT, "--dry-run")
        assert code == 2
        assert what in " ".join(output.split())
    with storage.write_to("memory://out"):
        monkeypatch.setenv(placeholders.CACHE, str(tmp_path / "other machine"))
        before = memory.find("/out")
        code, output = run_and_read(capsys, *words)
        assert (code, memory.find("/out")) == (2, before)
        assert "Another command writes to memory://out" in output


def test_a_plan_counts_what_is_behind_the_url(memory, capsys, monkeypatch, tmp_path):
    fill(memory)
    words = ["corrupt", "memory://data", "memory://out", "-c", "contrast", "--workers", "0"]
    assert run_and_read(capsys, *words, "-s", "1,3")[0] == 0
    monkeypatch.setenv(placeholders.CACHE, str(tmp_path / "other machine"))
    before = content(memory, "/out")
    code, output = run_and_read(capsys, *words, "-s", "1,3,5", "--dry-run")
    assert code == 0, output
    assert "2 cells are there, 1 is added: contrast at 5" in " ".join(output.split())
    assert content(memory, "/out") == before


def test_copies_that_other_machines_would_write_for_nobody(memory, monkeypatch, capsys):
    fill(memory)
    monkeypatch.delenv(placeholders.CACHE)
    words = ["--engine", "ray", "--address", "10.0.0.1:6379"]
    code, output = run_and_read(
        capsys, "corrupt", "memory://data", "memory://out", *CORRUPT, *words
    )
    assert code == 2
    assert "set SHIFTPROOF_CACHE to a folder on a disk that all machines share" in output


def test_a_machine_of_a_cluster_fetches_what_the_command_has_fetched(s3, cache, tmp_path):
    storage.fetch("s3://lab/photos")
    [fetched] = [one for one in list_fetched() if one.url == "s3://lab/photos"]
    photo = fetched.index.parent / "photos" / "2.png"
    dated = photo.stat().st_ctime_ns
    fetched.ensure_local()  # on a machine that has it, nothing is done
    assert photo.stat().st_ctime_ns == dated
    cache.rename(tmp_path / "on the machine of the command")
    reference = SimpleNamespace(hex=lambda: "of this test")
    sent = on_ray._SentJob([reference], str(tmp_path), on_ray.__version__, (fetched,))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setitem(
            sys.modules, "ray", SimpleNamespace(get=lambda _: pickle.dumps((read_image, photo)))
        )
        patch.setattr(on_ray, "_loaded_job", {})
        function, path = on_ray._open_job(sent)
    assert np.array_equal(function(path), np.asarray(Image.open(io.BytesIO(picture(2)))))


def test_only_what_a_job_reads_is_fetched_elsewhere(memory, web):
    fill(memory)
    photos = storage.fetch("memory://data")
    storage.fetch(f"{web.url}/photos")
    data = open_data(photos, classes=None)
    job = pickle.dumps((read_image, data))
    assert [one.url for one in list_fetched(job)] == ["memory://data"]


def test_urls_with_secrets_are_not_sent_to_a_cluster(web):
    storage.fetch(web.url.replace("://", "://ada:hunter2@") + "/photos")
    assert "hunter2" not in repr(list_fetched())


def test_a_job_that_reads_a_url_with_a_secret_is_refused_on_a_cluster(web, monkeypatch):
    photos = storage.fetch(web.url.replace("://", "://ada:hunter2@") + "/photos")
    monkeypatch.delenv(placeholders.CACHE)
    ray = SimpleNamespace(remote=lambda **_: lambda task: task, cloudpickle=pickle)
    tasks = on_ray._run_tasks(ray, read_image, photos, None, [0], Ray("auto"))
    with pytest.raises(InputError, match="the secret of a URL is not sent to a cluster") as refused:
        next(tasks)
    assert "hunter2" not in str(refused.value)
    assert f"***@{web.url.partition('://')[2]}/photos" in str(refused.value)


def test_the_settings_file_may_name_urls(memory, tmp_path, monkeypatch, capsys):
    fill(memory)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shiftproof.toml").write_text('[embed]\nout = "memory://vectors"\n')
    code, output = run_and_read(capsys, "embed", "--model", "none:such", "--data", "memory://data")
    assert code == 2
    assert "shiftproof.toml gives --out memory://vectors" in output
    assert memory.find("/vectors") == []


def test_the_python_of_the_page(memory, capsys):
    page = Path(__file__).parents[2].joinpath("docs", "storage.md").read_text("utf-8")
    code, said = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)[0]
    exec(compile(code, "docs/storage.md", "exec"), {"__name__": "page"})  # "storage.md"
    assert capsys.readouterr().out == said


def test_a_local_disk_is_a_store_too(tmp_path):
    with storage.write_to(f"file://{tmp_path}/out") as out:
        (out / "deep").mkdir()
        write_bytes(out / "deep" / "a.txt", b"a")
    assert (tmp_path / "out" / "deep" / "a.txt").read_bytes() == b"a"
    assert (storage.fetch(f"file://{tmp_path}/out") / "deep" / "a.txt").read_bytes() == b"a"
    assert [path.name for path in (tmp_path / "out").rglob("*.part")] == []


def test_a_run_in_a_bucket_is_extended_there(s3, tmp_path):
    photos = tiny.write_photos(tmp_path / "photos", per_class=1)
    models = {"one": tiny.make_model(), "two": tiny.make_model()}
    grid = {"severities": [1], "workers": 0}
    for asked, corruptions in ((models["one"], ["contrast"]), (models, ["contrast", "brightness"])):
        with storage.write_to("s3://lab/extended") as out:
            bench.run(asked, photos, out=out, corruptions=corruptions, **grid)
    bench.run(models, photos, out=tmp_path / "run", corruptions=corruptions, **grid)
    there, here = content(s3, "lab/extended"), files_below(tmp_path / "run")
    assert there.keys() == here.keys()
    assert {n for n in here if here[n] != there[n]} == {"run.json"}
