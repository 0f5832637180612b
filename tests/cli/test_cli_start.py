"""What a command imports before it says its first line: everybody waits for it every time."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "cv2", "numba", "pyarrow", "loky", "psutil", "jinja2", "scipy"}
GRID = {"shiftproof.bench.grid_run", "shiftproof.bench.anytime"}

STARTS = {
    ("data", "nowhere"): HEAVY | {"shiftproof.bench", "shiftproof.data.copies.export"},
    ("corrupt", "nowhere", "out"): HEAVY | {"shiftproof.bench"},
    ("detect", "--model", "torchvision:one", "--data", "nowhere.json", "--out", "out"): HEAVY
    | GRID,
    ("score", "--predictions", "nowhere", "--data", "data.yaml", "--out", "out"): HEAVY | GRID,
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
