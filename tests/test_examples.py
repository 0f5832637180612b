"""Every example runs, from an empty folder."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))

SAYS = {
    "01": "same key, same pixels: True\nother key, other snow: True",
    "02": "clean error",
    "03": "the repaired model is a EfficientNet",
    "04": "1 are missing: fog",
}


def test_there_are_examples():
    assert [path.name[:2] for path in EXAMPLES] == list(SAYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[path.name[:2]] in done.stdout
