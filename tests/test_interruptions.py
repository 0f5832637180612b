"""A kill at any change of the disk costs nothing but time: the same command ends with the same bytes.

``SHIFTPROOF_EVERY_CHANGE=1`` kills at each change, and twice in a row, not at some of them alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from interrupting import VERBS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are killed in forks")

KILLS = 0 if os.environ.get("SHIFTPROOF_EVERY_CHANGE") else 7


@pytest.fixture(scope="module")
def interrupt(tmp_path_factory):
    """A function that kills a verb at changes of the disk, in one process that imports all once."""
    words = [
        sys.executable,
        Path(__file__).with_name("interrupting.py"),
        tmp_path_factory.mktemp("x"),
    ]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask(verb):
            process.stdin.write(f"{verb} {KILLS}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_command_ends_as_if_it_had_not_been_killed(interrupt, verb):
    found = interrupt(verb)
    assert found["faults"] == []
    assert found["events"] > 5
    assert found["kills"] > min(KILLS, 5)
