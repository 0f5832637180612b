"""Every example runs, from an empty folder."""

import os
import shutil
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


@pytest.mark.skipif(shutil.which("bash") is None, reason="There is no bash here.")
def test_slurm_starts_the_tasks_of_an_array(tmp_path):
    """A Slurm that gives two tasks their numbers, and a shiftproof that says how it was called."""
    program = tmp_path / "shiftproof"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m shiftproof "$@"\n')
    program.chmod(0o755)
    script = EXAMPLES[0].with_name("slurm.sh")
    words = ["demo", "demo", "run", "--corruptions", "contrast", "--severities", "3"]
    said = []
    for task in (1, 0):
        slurm = {
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": "2",
            "SLURM_CPUS_PER_TASK": "1",
            "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]]),
        }
        done = subprocess.run(
            ["bash", script, *words], cwd=tmp_path, env={**os.environ, **slurm},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "This worker's share is done. Benchmark: 1 of 2 parts" in said[0]
    assert "scores" in said[1]
    assert {path.stem for path in tmp_path.rglob("*.parquet")} == {"clean", "contrast-3"}
