"""Fingerprints of functions change with the values that they bring along, and with nothing else."""

import functools
import subprocess
import sys

import numpy as np
import pytest

from shiftproof.io.function_code import fingerprint_function

LIMIT = 3
SIZES = [3, 5]
CALLS = 0


def scale(image, factor=2, *, offset=0):
    return image * factor + offset


def read_global(image):
    return [image * LIMIT for _ in SIZES]


def count_calls(image):
    global CALLS
    CALLS += 1
    return image


def halve(image):
    return image / divisor()


def divisor():
    return 2


def close_over(value):
    return lambda image: image + value


class Shift:
    def __init__(self, by):
        self.by = by
        self._cache = {}

    def __call__(self, image):
        self._cache[len(self._cache)] = image
        return np.roll(image, self.by)

    def method(self, image):
        return image


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by

    def __call__(self, image):
        return image


def of(function):
    return fingerprint_function(function)


@pytest.mark.parametrize(
    "make",
    [
        lambda value: functools.partial(scale, factor=value),
        lambda value: functools.partial(scale, value),
        lambda value: functools.partial(functools.partial(scale, offset=value), factor=1),
        close_over,
        lambda value: close_over((1, [value])),
        lambda value: close_over({"a": {value}}),
        lambda value: close_over(np.array([value])),
        lambda value: close_over(np.array([{"by": value}, None])),
        lambda value: close_over(Shift(value)),
        lambda value: close_over(close_over(value)),
        Shift,
        Slotted,
        lambda value: Shift(value).method,
        lambda value: functools.partial(Shift(value)),
    ],
)
def test_values_count(make):
    assert of(make(1)) == of(make(1))
    assert of(make(1)) != of(make(2))
    assert of(make(1.0)) != of(make(1))


def test_values_of_the_module_count(monkeypatch):
    before = of(read_global)
    assert before == of(read_global)
    for name, value in (("LIMIT", 4), ("SIZES", [3, 7])):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[__name__], name, value)
            assert of(read_global) != before
    assert of(read_global) == before


def test_what_calls_leave_behind_does_not_count():
    shift, before = Shift(1), of(Shift(1))
    shift(np.zeros(3))
    assert of(shift) == before
    count_calls(1)


def test_what_a_function_collects_does_not_count():
    seen, names, limit = [], set(), 2

    def collect(image):
        seen.append(image)
        for name in (image,):
            names.add(name)
        SIZES.extend([])
        return image + limit

    before = of(collect)
    collect(1)
    assert seen
    assert of(collect) == before
    limit = 3
    assert of(collect) != before


def test_compiled_and_cached_functions_are_their_source():
    numba = pytest.importorskip("numba")
    limit = 2

    @numba.njit
    def add(value):
        return value + limit

    @functools.lru_cache
    def subtract(value):
        return value - limit

    for function in (add, subtract):
        before = of(function)
        function(1)
        assert of(function) == before


def test_helpers_count_where_they_are_asked_for(monkeypatch):
    before = fingerprint_function(halve)
    assert before == fingerprint_function(halve)
    other = close_over(3)
    other.__module__, other.__qualname__ = __name__, divisor.__qualname__
    monkeypatch.setattr(sys.modules[__name__], "divisor", other)
    assert fingerprint_function(halve) != before


def test_tensors_and_weights_count():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 2)
    before = of(close_over(layer))
    assert of(close_over(layer)) == before
    with torch.no_grad():
        layer.weight += 1
    assert of(close_over(layer)) != before
    assert of(close_over(torch.ones(2))) != of(close_over(torch.zeros(2)))
    assert of(close_over(torch.ones(()))) != of(close_over(torch.zeros(())))


def test_cycles_end():
    shift = Shift(1)
    shift.me = shift
    shift.by = [shift]
    assert of(shift) == of(shift)
    ring = []
    ring.append(ring)
    assert of(close_over(ring)) == of(close_over(ring))


def test_another_process_finds_the_same():
    code = """
import functools
from shiftproof.io.function_code import fingerprint_function
def scale(image, factor, words):
    return image
print(fingerprint_function(functools.partial(scale, factor=0.1, words={"b", "a", "c", "d"})))
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(3)
    }
    assert len(found) == 1
