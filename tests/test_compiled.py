"""Compiling loops: without garbage collection, a working directory, or linear algebra."""

import gc
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from shiftproof.compute.compiled import compiled, pause_garbage_collection


def add_up(count):
    total = 0
    for n in range(count):
        total += n
    return total


def add_text(count):
    return count + "text"


def test_compiling_collects_no_garbage():
    loop, collects = numba.njit(add_up), []
    compile_loop = loop.compile

    def watch(signature):
        collects.append(gc.isenabled())
        return compile_loop(signature)

    loop.compile = watch
    assert pause_garbage_collection(loop)(5) == 10
    assert collects == [False]
    assert gc.isenabled()


def test_garbage_is_collected_again_after_code_that_cannot_be_compiled():
    with pytest.raises(numba.TypingError):
        pause_garbage_collection(numba.njit(add_text))(1)
    assert gc.isenabled()


def test_garbage_that_was_not_collected_before_is_not_collected_after():
    gc.disable()
    try:
        assert pause_garbage_collection(numba.njit(add_up))(4) == 6
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_loop_is_compiled_where_the_working_directory_was_deleted(tmp_path, monkeypatch):
    names = {}
    exec("def add_up(count):\n    return sum([n for n in range(count)])", names)  # has no cache
    deleted = tmp_path / "deleted"
    deleted.mkdir()
    monkeypatch.chdir(deleted)
    deleted.rmdir()
    assert compiled(names["add_up"])(4) == 6
    with pytest.raises(FileNotFoundError):
        Path.cwd()


LINEAR_ALGEBRA = """
import sys
import numba
import numpy as np
from shiftproof.compute.compiled import compiled

def add_up(values):
    return values.sum()

def multiply(one, other):
    return one @ other

values = np.array([[1.0, 2.0], [3.0, 4.0]])
print(compiled(add_up)(values), "scipy.linalg" in sys.modules)
print(numba.njit(multiply)(values, values).tolist(), "scipy.linalg" in sys.modules)
"""


def test_scipy_is_imported_by_functions_with_linear_algebra_alone(tmp_path):
    pytest.importorskip("scipy")
    script = tmp_path / "script.py"
    script.write_text(LINEAR_ALGEBRA, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["10.0 False", "[[7.0, 10.0], [15.0, 22.0]] True"]
