"""How commands end: on terminals of few letters, without room for the output, by signals."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof import cli
from shiftproof.cli import ending
from shiftproof.cli.printing import print_json
from shiftproof.cli.verbs import VERBS

PROGRAM = [sys.executable, "-m", "shiftproof"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for number in range(40):
        pixels = rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def printed_in(monkeypatch):
    """A function that turns standard output to another encoding, and gives one that reads it."""

    def turn(encoding):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        ending.allow_any_text()

        def read():
            stream.flush()
            return stream.buffer.getvalue().decode(encoding)

        return read

    return turn


# ---------------------------------------------------------------- few letters


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_every_help_and_every_list_can_be_printed_in_few_letters(printed_in, encoding):
    printed = printed_in(encoding)
    for words in ([], *([verb] for verb in VERBS)):
        assert cli.run([*words, "--help"]) == 0
    assert cli.run(["models"]) == 0
    assert cli.run(["corruptions"]) == 0
    assert printed().count("Usage: ") == 1 + len(VERBS)


def test_what_an_encoding_lacks_is_spelt(printed_in):
    printed = printed_in("ascii")
    print("a · b → c", "20.0\u00a0%", "K\u00e4the", "\U0001f600", "\udc80")
    assert printed() == "a - b -> c 20.0 % K\\xe4the \\U0001f600 \\udc80\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_json_stays_what_it_is(printed_in, tmp_path, encoding):
    printed = printed_in(encoding)
    value = {"name": "K\u00e4the · \U0001f600"}
    (tmp_path / "scores.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    print_json((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert json.loads(printed()) == value


# ---------------------------------------------------------------- no room


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["corruptions"], ["--version"]])
def test_standard_output_on_a_full_disk_is_one_sentence(words):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: Standard output cannot be written to (no space left on device). What is finished is "
        "kept."
    ]


def test_without_a_working_directory_work_goes_on_and_what_needs_it_says_so(photos, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = (
        "import os, sys; from shiftproof import cli; os.rmdir(os.getcwd());"
        "codes = [cli.run(words.split()) for words in sys.argv[1:]]; print(codes)"
    )
    one = f"corrupt {photos / '00.png'} {tmp_path / 'out'} -c fog -s 1 -w 1"
    relative = f"corrupt {photos / '00.png'} out -c fog -s 1 -w 0"
    done = subprocess.run(
        [sys.executable, "-c", script, one, relative, "corruptions"],
        cwd=gone,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )
    assert done.stdout.splitlines()[-1] == "[0, 2, 0]", done
    assert "fault of shiftproof" not in done.stderr
    assert len(list((tmp_path / "out").rglob("*.png"))) == 1


# ---------------------------------------------------------------- signals


@contextlib.contextmanager
def started(words, target, *, heeds=""):
    """Start a command, and give it when it has written its first image."""
    script = f"import signal; {heeds}from shiftproof import cli; cli.main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 240
        while not list(target.rglob("[0-9]*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield process


def alive(group):
    """The processes of a group that are no zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of_group) == group and state != "Z":
            found.append(int(entry.parent.name))
    return found


def check_nothing_is_left(process):
    """Check that five seconds later no process of a command is there."""
    deadline = time.monotonic() + 5
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive(process.pid) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_signal_to_the_main_process_ends_its_workers(photos, tmp_path, name):
    target = tmp_path / "out"
    number = signal.Signals[name]
    words = ["corrupt", photos, target, "-c", "blur", "--workers", "2"]
    # Whoever started the tests may have had them ignore a signal, as nohup does.
    heeds = "" if name == "SIGKILL" else f"signal.signal(signal.{name}, signal.SIG_DFL); "
    with started(words, target, heeds=heeds) as process:
        os.kill(process.pid, number)
        _, error = process.communicate(timeout=60)
        check_nothing_is_left(process)
    if name == "SIGKILL":
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert error.strip().splitlines()[-1] == (
            f"Stopped by {name}. What is finished is kept; the same command resumes there."
        )
        assert not list(target.rglob(".*"))


def test_semaphores_that_a_traceback_keeps_are_released_before_the_end():
    script = (
        "from loky import ProcessPoolExecutor; from shiftproof.cli.ending import leave\n"
        "pool = ProcessPoolExecutor(1); pool.submit(int).result(); pool.shutdown(kill_workers=True)\n"
        "cycle = [pool]; cycle.append(cycle); del pool, cycle; leave(130)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_signal_that_is_ignored_stays_so(photos, tmp_path):
    ignoring = "signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    words = ["corrupt", photos / "00.png", tmp_path / "out", "-c", "blur", "-w", "0"]
    with started(words, tmp_path / "out", heeds=ignoring) as process:
        os.kill(process.pid, signal.SIGHUP)
        assert process.wait(60) == 0


def die_and_wait(error):
    class Dying:
        def __del__(self):
            raise error

    Dying()
    time.sleep(10)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ending.Stopped(signal.SIGTERM)])
def test_what_is_raised_while_python_cleans_up_is_sent_again(error):
    held = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(type(error)), ending.handle_signals():
            die_and_wait(error)
    finally:
        signal.signal(signal.SIGINT, held)
