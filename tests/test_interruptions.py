"""A kill at any change of the disk costs nothing but time: the same command ends with the same bytes.

``SHIFTPROOF_EVERY_CHANGE=1`` kills at each change, and twice in a row, not at some of them alone.
"""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shiftproof.cli import verbs
from support import interrupting
from support.interrupting import VERBS, WITH_TORCH

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are killed in forks")

KILLS = 0 if os.environ.get("SHIFTPROOF_EVERY_CHANGE") else 7


@pytest.fixture(scope="module")
def interrupt(tmp_path_factory):
    """A function that kills a verb at changes of the disk, in a process that imports all once.

    There are two of them: one without torch, which forks in a fifth of the time.
    """
    script = Path(__file__).parent / "support" / "interrupting.py"
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(with_torch):
            words = [sys.executable, script, tmp_path_factory.mktemp("x")]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(words, **pipes))
            stack.callback(process.stdin.close)
            return process

        def ask(verb):
            process = start(verb in WITH_TORCH)
            process.stdin.write(f"{verb} {KILLS}\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert answer["torch"] == (verb in WITH_TORCH), "see WITH_TORCH of interrupting.py"
            return answer

        yield ask


def test_every_verb_that_works_in_parts_is_among_them():
    in_parts = {
        verb
        for verb in verbs.VERBS
        if any(p.name == "worker" for p in verbs.load_verb(verb).params)
    }
    called = {"detect": "bench detection", "segment": "bench segmentation"}
    tried = {word for name in VERBS for word in (name, name.partition(" ")[0])}
    missing = {verb for verb in in_parts if called.get(verb, verb) not in tried}
    assert not missing, f"add {sorted(missing)} to VERBS of support/interrupting.py"


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_command_ends_as_if_it_had_not_been_killed(interrupt, verb):
    found = interrupt(verb)
    assert found["faults"] == []
    assert found["events"] > 5
    assert found["kills"] > min(KILLS, 5)


# ---------------------------------------------------------------- how many workers


@pytest.mark.parametrize("verb", ["audit", "score", "corrupt"])
def test_the_number_of_workers_is_provenance_and_nothing_else(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["shiftproof"])
    command = interrupting.command
    found = []
    for workers in (0, 2):

        def with_workers(*words, workers=workers):
            place = words.index("-w")
            return command(*words[: place + 1], workers, *words[place + 2 :])

        monkeypatch.setattr(interrupting, "command", with_workers)
        if not found:
            work = VERBS[verb](tmp_path)
        assert work(tmp_path / "out") == 0
        found.append(interrupting.without_provenance(interrupting.contents(tmp_path / "out")))
        shutil.rmtree(tmp_path / "out")
    assert found[0] == found[1]
