"""What a command imports before it says its first line: everybody waits for it every time."""

import json
import os
import subprocess
import sys

import pytest

from shiftproof.cli.verbs import VERBS
from support.verb_commands import COMMANDS

HEAVY = {"torch", "cv2", "numba", "pyarrow", "loky", "psutil", "jinja2", "scipy", "onnxruntime"}

STARTS = {
    ("data", "nowhere"): HEAVY | {"shiftproof.bench", "shiftproof.data.copies.changed_copy"},
    ("corrupt", "nowhere", "out"): HEAVY | {"shiftproof.bench", "numpy"},
    ("bench", "--model", "timm:one", "--data", "nowhere", "--out", "out"): HEAVY | {"numpy"},
    ("detect", "--model", "torchvision:one", "--data", "nowhere.json", "--out", "out"): HEAVY
    | {"numpy"},
    ("score", "--predictions", "nowhere", "--data", "data.yaml", "--out", "out"): HEAVY | {"numpy"},
    ("dedup", "nowhere.npy", "--threshold", "0.9", "--out", "out"): HEAVY | {"shiftproof.bench"},
}

RUN = """
import sys
from shiftproof.cli import main
try:
    main()
finally:
    print(" ".join(sys.modules), file=sys.stdout)
"""


@pytest.mark.parametrize("words", STARTS, ids=lambda words: words[0])
def test_a_missing_input_is_told_before_what_is_heavy_is_imported(words, tmp_path):
    command = [sys.executable, "-c", RUN, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert not set(done.stdout.split()) & STARTS[words]


UNUSED = {"numpy", "PIL", "msgspec", "fsspec", "multiprocessing", "rich.progress", "asyncio"}
"""What no announcement needs, but most work."""

FIRST_LINES = """
import io, json, os, sys
from shiftproof import cli

class Told(io.StringIO):
    def write(self, text):
        here = json.dumps({"line": text, "modules": list(sys.modules)}) + "\\n"
        os.write(1, here.encode())
        os._exit(0)

for words in json.load(sys.stdin):
    if os.fork() == 0:
        sys.stdout = sys.stderr = Told()
        cli.run(words)
        os._exit(1)
    os.wait()
"""
"""Runs each command in a fork, to the first thing that it prints."""


@pytest.fixture(scope="module")
def first_lines(tmp_path_factory):
    """The first line of every verb, and the modules that are imported by then."""
    commands = {verb: (verb, *words) for verb, words in COMMANDS.items()}
    commands["a URL"] = ("data", "s3://ada:secret@bucket/photos")
    folder = tmp_path_factory.mktemp("first_lines")
    for name in ("photos", "blocks", "found"):
        (folder / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LINES],
        input=json.dumps(list(commands.values())),
        capture_output=True,
        text=True,
        cwd=folder,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(commands, lines, strict=True))


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")


def test_there_is_a_command_of_every_verb():
    assert list(COMMANDS) == list(VERBS), (
        "expected a command of each verb in support/verb_commands.py, in the order of VERBS"
    )


@forks
@pytest.mark.parametrize("verb", [*VERBS, "a URL"])
def test_no_verb_imports_what_is_heavy_before_its_first_line(verb, first_lines):
    heavy = set(first_lines[verb]["modules"]) & (HEAVY | UNUSED)
    assert not heavy, (
        f"{sorted(heavy)}: call announce() first, and import what the work needs below it"
    )


@forks
def test_the_first_line_says_what_was_understood(first_lines):
    lines = {verb: " ".join(one["line"].split()) for verb, one in first_lines.items()}
    assert lines["bench"] == (
        "Measuring python:own:classify on photos, corruptions fog, severity 3, into out"
    )
    assert lines["prune"] == "Pruning train by the rule gap-matched, for sketch, into out"
    assert lines["data"] == "Looking at photos"
    assert lines["a URL"] == "Opening s3://***@bucket/photos"
