import json
import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from shiftproof import corrupt
from shiftproof.cli.corruption_choice import read_choice
from shiftproof.cli.options import parse_severities
from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io.folder_locks import lock_folder, releases_locks
from support.command import run

PROGRAM = [sys.executable, "-m", "shiftproof"]


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(3)
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png", "sub/c.jpg"):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / name)
    return folder


# ---------------------------------------------------------------- lists


def test_lists_of_corruptions():
    assert list(read_choice("common")) == list(COMMON)
    assert list(read_choice("fog, snow")) == ["fog", "snow"]
    assert list(read_choice("noise")) == ["gaussian_noise", "shot_noise", "impulse_noise"]
    assert list(read_choice("all")) == [*COMMON, *HOLDOUT]
    assert list(read_choice("fog,weather")) == ["fog", "snow", "frost", "brightness"]
    with pytest.raises(UnknownNameError, match="Did you mean 'frost'"):
        read_choice("frots")
    with pytest.raises(InputError, match="at least one"):
        read_choice(" , ")


def test_corruptions_of_a_tree_are_names_too():
    assert list(read_choice("drizzle,fog", ["drizzle"])) == ["drizzle", "fog"]
    assert list(read_choice("noise", ["noise"])) == ["noise"]
    with pytest.raises(UnknownNameError, match="Did you mean 'drizzle'"):
        read_choice("drizle", ["drizzle"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1-5", [1, 2, 3, 4, 5]), ("3", [3]), ("5,1", [1, 5]), ("1-2,2-3", [1, 2, 3])],
)
def test_lists_of_severities(text, expected):
    assert parse_severities(text) == expected


@pytest.mark.parametrize("text", ["0", "6", "0-3", "3-1", "two", "", "1.5", "-1"])
def test_wrong_severities(text):
    with pytest.raises(InputError, match="1 to 5"):
        parse_severities(text)


def test_every_corruption_is_listed_with_what_it_does(capsys):
    assert run("corruptions", "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in entries][:19] == [*COMMON, *HOLDOUT]
    assert all(e["description"] for e in entries)
    assert run("corruptions") == 0
    assert "jpeg_compression" in capsys.readouterr().out


def test_models_and_adapters_are_listed(capsys):
    assert run("models") == 0
    shown = capsys.readouterr().out
    for word in ("timm", "torchvision", "onnx", "file", "demo", "batchnorm", "open_clip"):
        assert word in shown
    assert run("models", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert "open_clip" in output["encoders"]
    assert "ultralytics" in output["detectors"]
    assert list(output) == [
        "models",
        "detectors",
        "segmenters",
        "encoders",
        "text_towers",
        "adapters",
        "dense_adapters",
    ]


# ---------------------------------------------------------------- corrupt


def test_corrupt_writes_the_tree_and_goes_on(photos, tmp_path, capsys):
    target = tmp_path / "out"
    words = ("corrupt", photos, target, "-c", "fog,contrast", "-s", "2,4", "--workers", "2")
    assert run(*words) == 0
    assert "12 images written" in capsys.readouterr().out
    written = sorted(p.relative_to(target).as_posix() for p in target.rglob("*.png"))
    assert written == sorted(
        f"{c}/{s}/{n}.png"
        for c in ("fog", "contrast")
        for s in (2, 4)
        for n in ("a", "sub/b", "sub/c")
    )
    # The key is the name of the source, not that of the written file: c.jpg becomes c.png.
    source = np.asarray(Image.open(photos / "sub" / "c.jpg"))
    expected = corrupt(source, "fog", severity=4, seed=0, key="sub/c.jpg")
    np.testing.assert_array_equal(np.asarray(Image.open(target / "fog/4/sub/c.png")), expected)

    (target / "fog" / "4" / "a.png").unlink()
    before = (target / "fog" / "2" / "a.png").stat().st_mtime_ns
    assert run(*words[:-1], "0") == 0
    assert "1 image written" in capsys.readouterr().out
    assert (target / "fog" / "2" / "a.png").stat().st_mtime_ns == before


def test_corrupt_one_image(photos, tmp_path):
    assert run("corrupt", photos / "a.png", tmp_path / "out", "-c", "snow", "-s", "3") == 0
    assert (tmp_path / "out" / "snow" / "3" / "a.png").is_file()


def test_corrupt_names_broken_files_and_does_the_others(photos, tmp_path, capsys):
    (photos / "z.jpg").write_bytes(b"")
    assert run("corrupt", photos, tmp_path / "out", "-c", "fog", "-s", "1", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["written"] == 3
    assert done["broken"] == {"z.jpg": "z.jpg: the file is empty."}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["broken"] == done["broken"]
    assert manifest["seed"] == 0


def test_two_sources_that_would_share_a_name_keep_their_suffix(photos, tmp_path):
    Image.open(photos / "a.png").save(photos / "a.jpg")
    assert run("corrupt", photos, tmp_path / "out", "-c", "fog", "-s", "1") == 0
    names = sorted(p.name for p in (tmp_path / "out" / "fog" / "1").iterdir() if p.is_file())
    assert names == ["a.jpg.png", "a.png.png"]


def test_a_target_with_other_settings_is_refused(photos, tmp_path, capsys):
    assert run("corrupt", photos, tmp_path / "out", "-c", "fog", "-s", "1") == 0
    assert run("corrupt", photos, tmp_path / "out", "-c", "fog", "-s", "1", "--seed", "5") == 2
    assert "other settings: seed was 0, now" in capsys.readouterr().err


def test_the_sheet_is_drawn(photos, tmp_path):
    assert run("corruptions", "--show", photos / "a.png", "--out", tmp_path / "s.png") == 0
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape[1] > 6 * 50
    assert sheet.shape[0] > 19 * 40


# ---------------------------------------------------------------- errors and exit codes

BENCH = ["bench", "--model", "demo", "--data", "photos", "--out", "r", "--unlabeled"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["corrupt", "nowhere", "out"], "nowhere does not exist"),
        (["corrupt", "photos", "out", "-c", "fgo"], "Did you mean 'fog'"),
        (["corrupt", "photos", "out", "-s", "0"], "from 1 to 5"),
        (["corrupt", "photos", "out", "-s", "6"], "from 1 to 5"),
        (
            ["corrupt", "photos", "out", "--format", "webp"],
            "'webp' is not one of 'png', 'jpeg', 'source'",
        ),
        (["corrupt", "photos"], "Missing argument"),
        (["corupt"], "No such command"),
        (["bench", "--model", "demmo", "--data", "photos", "--out", "r"], "demo"),
        (["bench", "--data", "photos", "--out", "r"], "Missing option"),
        ([*BENCH, "--protocol", "onlin"], "Did you mean 'online'"),
        ([*BENCH, "--protocol", "online:epochs=2"], "offline:epochs=2"),
        ([*BENCH, "--protocol", "online:order=sorted"], "expected labels, or order=shuffled"),
        ([*BENCH, "-c", "fgo"], "Did you mean 'fog'"),
        ([*BENCH, "--budget", "0"], "budget of time above 0"),
        ([*BENCH, "--budget", "0min"], "such as 45s, 10min or 1.5h"),
        ([*BENCH, "--budget", "soon"], "got 'soon'"),
        ([*BENCH, "--budget", "1h", "-a", "batchnorm"], "leave out --adapt"),
        ([*BENCH, "--compare", "--dry-run"], "--compare decides the number of images itself"),
        (["breaking", *BENCH[1:], "-c", "fgo"], "Did you mean 'fog'"),
        (["report", "photos"], "holds no run"),
        (["report", "photos", "--colour"], "No such option"),
        (["corruptions", "--show", "photos/a.png", "--out", "s.gif"], ".png or .jpg"),
        (["corruptions", "--show", "text.jpg", "--out", "s.png"], "not an image"),
    ],
)
def test_bad_input_is_one_clear_sentence_and_exit_code_2(
    words, said, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty").mkdir()
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "r").exists()


def test_a_failure_of_ours_is_exit_code_1_and_debug_shows_where(monkeypatch, capsys):
    def broken(*args, **options):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("shiftproof.report.write_sheet", broken)
    assert run("corruptions", "--show", "a.png") == 1
    assert "ZeroDivisionError: by nought. This is a fault of shiftproof" in capsys.readouterr().err
    assert run("corruptions", "--show", "a.png", "--debug") == 1
    output = capsys.readouterr().err
    assert "Traceback (most recent call last)" in output
    assert "in broken" in output
    assert output.strip().endswith("ZeroDivisionError: by nought")


def test_full_memory_is_no_fault_of_ours(monkeypatch, capsys):
    def broken(*args, **options):
        raise MemoryError("Unable to allocate 8.00 GiB")

    monkeypatch.setattr("shiftproof.report.write_sheet", broken)
    assert run("corruptions", "--show", "a.png") == 1
    output = capsys.readouterr().err
    assert output.startswith("error: Memory is full (Unable to allocate 8.00 GiB).")
    assert "fault of shiftproof" not in output


@pytest.mark.parametrize("words", [["--timeout", "0"], ["--timeout=-3"], ["--timeout", "nan"]])
def test_a_time_limit_that_is_none_is_bad_input(words, capsys):
    assert run("corruptions", *words) == 2
    assert "--timeout: expected seconds above 0" in capsys.readouterr().err


def test_help_has_examples(capsys):
    for verb in ("demo", "bench", "corrupt", "report", "models", "corruptions"):
        assert run(verb, "--help") == 0
        assert "Example" in capsys.readouterr().out
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("shiftproof ")


def test_ctrl_c_is_exit_code_130_and_what_is_finished_is_kept(tmp_path):
    rng = np.random.default_rng(3)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(
            folder / f"{number:02}.png"
        )
    target = tmp_path / "out"
    words = ["corrupt", folder, target, "-c", "noise", "--workers", "1"]
    # A shell has what it starts in the background ignore Ctrl-C, this test among it.
    heeding = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from shiftproof import cli; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", heeding, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not list(target.rglob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in error
    assert "Traceback" not in error
    assert "leaked" not in error
    for path in target.rglob("*.png"):
        Image.open(path).load()


def test_progress_is_shown_on_a_terminal_only(photos, tmp_path):
    words = [*PROGRAM, "corrupt", str(photos), str(tmp_path / "out"), "-c", "contrast", "-w", "0"]
    words += ["-s", "1-5"]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=slave, env={**os.environ, "TERM": "xterm"}
    )
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:
        pass  # the terminal closes with the program
    process.communicate()
    assert seen.count(b"Corrupting") > 1  # beside the line that announces it
    quiet = subprocess.run([*words[:-1], "1"], capture_output=True, text=True, check=False)
    assert quiet.stderr.count("Corrupting") == 1


def test_frost_from_the_photographs_that_somebody_has(photos, tmp_path, capsys):
    rng = np.random.default_rng(9)
    ice = tmp_path / "ice"
    ice.mkdir()
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        Image.fromarray(rng.integers(0, 40, (90, 120, 3), dtype=np.uint8)).save(ice / name)
    words = ("corrupt", photos, tmp_path / "out", "-c", "frost,fog", "-s", "3", "-w", "0")
    assert run(*words, "--frost-dir", ice) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["corruptions"]["fog"] == "fog"
    assert manifest["corruptions"]["frost"].startswith("frost with frost1.png, frost2.png")
    source = np.asarray(Image.open(photos / "a.png")).astype(float)
    frosted = np.asarray(Image.open(tmp_path / "out" / "frost" / "3" / "a.png")).astype(float)
    # Severity 3 is 0.7 image + 0.7 ice, and this ice is at most 40 bright.
    assert (frosted - 0.7 * source).max() < 0.7 * 45
    assert run(*words) == 2
    assert "other settings: corruptions" in capsys.readouterr().err
    assert run(*words[:2], tmp_path / "other", *words[3:], "--frost-dir", tmp_path) == 2
    assert "frost1.png is not in" in capsys.readouterr().err


def test_bench_and_report_from_the_command_line(tmp_path, capsys):
    words = ("bench", "--model", "demo", "--data", "demo", "--out", tmp_path / "run",
             "-c", "contrast", "-s", "4", "--adapt", "batchnorm batchnorm:prior=0", "-w", "0",
             "--images", "6", "--protocol", "online:reset=never,order=dirichlet")  # fmt: skip
    assert run(*words) == 0
    output = capsys.readouterr().out
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["protocol"]["reset"] == "never"
    assert settings["protocol"]["concentration"] == 0.1
    assert "Contrast" in output
    assert "no mCE: 14 of the 15 corruptions were not run" in " ".join(output.split())
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000
    assert run(*words, "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert [m["name"] for m in scores["models"]] == ["source", "batchnorm", "batchnorm-prior-0"]
    assert run("report", tmp_path / "run", "--table", "csv") == 0
    assert capsys.readouterr().out.count("contrast") >= 1
    assert run("report", tmp_path / "run", "--out", tmp_path / "page.html") == 0
    assert "Dirichlet, concentration 0.1" in (tmp_path / "page.html").read_text()


def test_constants_for_small_images(photos, tmp_path, capsys):
    assert run("corrupt", photos / "a.png", tmp_path / "c", "-c", "fog", "-s", "3",
               "--constants", "cifar-10-c") == 0  # fmt: skip
    written = np.asarray(Image.open(tmp_path / "c/fog/3/a.png"))
    clean = np.asarray(Image.open(photos / "a.png"))
    assert np.array_equal(
        written, corrupt(clean, "fog", severity=3, variant="cifar-10-c", key="a.png")
    )
    assert run("corrupt", photos, tmp_path / "d", "-c", "rain", "--constants", "cifar-10-c") == 2
    assert "no constants for rain" in capsys.readouterr().err
    assert run("corrupt", photos, tmp_path / "d", "--constants", "cifar") == 2
    assert "Did you mean 'cifar-10-c'" in capsys.readouterr().err


def test_a_label_set_restricts_the_model(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for folder in ("n01443537", "n01484850"):  # goldfish and great white shark are of ImageNet-R
        (tmp_path / "r" / folder).mkdir(parents=True)
        image = rng.integers(0, 255, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "r" / folder / "a.png")
    assert run("bench", "-m", "demo", "-d", tmp_path / "r", "-o", tmp_path / "run", "-c", "fog",
               "-s", "1", "--label-set", "imagenet-r", "--workers", "0") == 0  # fmt: skip
    settings = json.loads((tmp_path / "run/run.json").read_text())["settings"]
    assert settings["models"]["source"]["classes"]["count"] == 200
    assert run("bench", "-m", "demo", "-d", tmp_path / "r", "-o", tmp_path / "run2",
               "--label-set", "imagenet-q") == 2  # fmt: skip
    assert "Did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["corrupt", "stylize"])
def test_a_copy_into_a_folder_of_its_own_source_can_be_made_again(photos, tmp_path, verb):
    words = (verb, photos, photos / "copy", "-w", 0)
    words += ("-s", "3", "-c", "contrast") if verb == "corrupt" else ()
    assert run(*words) == 0
    made = {path: path.read_bytes() for path in (photos / "copy").rglob("*") if path.is_file()}
    assert len(made) == 4
    assert run(*words) == 0
    assert {p: p.read_bytes() for p in (photos / "copy").rglob("*") if p.is_file()} == made
    assert run(*words, "--dry-run") == 0


def test_a_run_within_its_own_data_goes_on(photos, capsys):
    words = ("bench", "-m", "demo", "-d", photos, "-o", photos / "run", "-w", 0,
             "-s", "3", "-c", "contrast")  # fmt: skip
    assert run(*words, "--unlabeled") == 0
    scores = (photos / "run" / "scores.json").read_bytes()
    assert list((photos / "run").rglob("*.jpg"))
    assert run(*words, "--unlabelled") == 0
    assert (photos / "run" / "scores.json").read_bytes() == scores
    capsys.readouterr()
    assert run("data", photos) == 0
    output = capsys.readouterr()
    assert "3 images" in output.out
    assert "run/: an output of shiftproof" in output.out + output.err


def test_a_second_command_in_a_folder_at_work_is_refused(photos, tmp_path, capsys):
    words = ["corrupt", photos, tmp_path / "out", "-c", "contrast", "-s", "1", "-w", "0"]

    @releases_locks
    def work():
        (tmp_path / "out").mkdir()
        lock_folder(tmp_path / "out")
        return subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, text=True)

    refused = work()
    assert refused.returncode == 2
    assert f"Another command is running in {tmp_path / 'out'} (process {os.getpid()} on " in (
        refused.stderr
    )
    assert list((tmp_path / "out").iterdir()) == []
    assert run(*words) == 0
