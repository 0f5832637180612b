"""Compiling loops: without garbage collection, and without a working directory."""

import gc
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
