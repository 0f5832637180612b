"""Every example runs, from an empty folder."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import tiny

TESTS = Path(__file__).parent
EXAMPLES = sorted((TESTS.parent / "examples").glob("*.py"))

SAYS = {
    "01": "same key, same pixels: True\nother key, other snow: True",
    "02": "clean error",
    "03": "the repaired model is a EfficientNet",
    "04": "1 are missing: fog",
}


def test_there_are_examples():
    assert [path.name[:2] for path in EXAMPLES] == list(SAYS)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path, monkeypatch, capsys):
    """In this process: that a script's own functions reach workers is said of the engine."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert SAYS[path.name[:2]] in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="There is no bash here.")
def test_slurm_starts_the_tasks_of_an_array(tmp_path):
    """A Slurm that gives two tasks their numbers, and a shiftproof that says how it was called."""
    program = tmp_path / "shiftproof"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m shiftproof "$@"\n')
    program.chmod(0o755)
    script = EXAMPLES[0].with_name("slurm.sh")
    photos = str(tiny.write_photos(tmp_path / "photos"))
    words = ["python:support.tiny:make_model", photos, "run", "--corruptions", "contrast"]
    words += ["--severities", "3"]
    outputs = []
    for task in (1, 0):
        slurm = {
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": "2",
            "SLURM_CPUS_PER_TASK": "1",
            "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])),
        }
        done = subprocess.run(
            ["bash", script, *words], cwd=tmp_path, env={**os.environ, **slurm},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "This worker's share is done. Benchmark: 1 of 2 parts" in outputs[0]
    assert "scores" in outputs[1]
    assert {path.stem for path in tmp_path.rglob("*.parquet")} == {"clean", "contrast-3"}
