"""One verb under each fault of the system; the long form is ``benchmarks/faults.py``, over all verbs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "faults.py"

FAULTS = ("SIGINT", "worker-hangs", "full-disk", "read-only", "two-commands", "clock-back")

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@pytest.fixture(scope="module")
def outcomes():
    words = [sys.executable, SCRIPT, "--only", "corrupt", "--faults", ",".join(FAULTS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)["verbs"]["corrupt"]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_command_ends_as_if_there_had_been_no_fault(outcomes, fault):
    found = outcomes[fault]
    if "may be mounted" in found.get("left_out", ""):
        pytest.skip(found["left_out"])
    assert found.get("wrong", []) == []
    assert found["trials"] > 0
