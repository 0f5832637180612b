"""The contract of corruptions as a public check."""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Protocol

import numpy as np

from shiftproof.corruptions import CORRUPTIONS, CorruptionFunction, corrupt
from shiftproof.corruptions.checks import SEVERITIES
from shiftproof.types import Image

__all__ = ["check_corruption"]

SHAPES = ((1, 1, 3), (1, 1), (1, 50, 3), (50, 1, 3), (2, 3), (31, 17, 3), (31, 17), (64, 48, 3))
"""From one pixel to an ordinary small image, color and gray."""

OTHER_KEYS = 7
"""Number of further keys; a random corruption must differ for at least one of them."""


class _Run(Protocol):
    """The corruption that is checked."""

    def __call__(self, image: Image, severity: float, key: str = "key") -> Image: ...


def check_corruption(corruption: str | CorruptionFunction, *, variant: str | None = None) -> None:
    """Check that a corruption, by name or as a function, keeps the contract of corruptions.

    It returns uint8 of the input's shape, at any size, in color and gray, at every severity;
    neither changes its input nor shares memory with it; gives the same pixels for the same key,
    independent of memory layout, order of calls and thread; neither reads nor changes a global
    random state or a library's number of threads; and its pixels depend on the key exactly if the
    table says that it is random.

    Raises:
        AssertionError: the contract is violated; the message says where.

    >>> check_corruption("contrast")
    >>> check_corruption(lambda image, severity, rng: 255 - image)
    """
    label = (
        corruption if isinstance(corruption, str) else getattr(corruption, "__name__", "function")
    )

    def run(image: Image, severity: float, key: str = "key") -> Image:
        return corrupt(image, corruption, severity=severity, key=key, variant=variant)

    for shape in SHAPES:
        image = _make_image(shape)
        before = image.copy()
        for severity in SEVERITIES:
            where = f"{label}, severity {severity}, shape {shape}"
            result = run(image, severity)
            assert isinstance(result, np.ndarray), f"{where}: returned {type(result).__name__}"
            assert result.dtype == np.uint8, f"{where}: returned dtype {result.dtype}, not uint8"
            assert result.shape == shape, f"{where}: returned shape {result.shape}"
            assert np.array_equal(image, before), f"{where}: changed its input"
            assert not np.shares_memory(result, image), f"{where}: returned its input's memory"

    image = _make_image((64, 48, 3))
    expected = [run(image, severity) for severity in SEVERITIES]
    _check_layouts(label, image, run)
    _check_order(label, image, expected, run)
    _check_globals(label, image, expected[2], run)
    entry = CORRUPTIONS.get(corruption) if isinstance(corruption, str) else None
    if entry is not None:
        # A draw between two values is equal for every second key.
        others = ("another key", *map(str, range(OTHER_KEYS)))
        same = all(np.array_equal(run(image, 3, key=key), expected[2]) for key in others)
        assert same != entry.is_random, (
            f"{label}: another key gives {'the same' if same else 'other'} pixels, "
            f"but the table says is_random={entry.is_random}"
        )


def _make_image(shape: tuple[int, ...]) -> Image:
    """Return a smooth image with an edge, a flat area and some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = 120 + 70 * np.sin(x / 7.0) * np.cos(y / 5.0) + 60 * (x > y)
    if len(shape) == 3:
        values = values[..., np.newaxis] + np.array([20, 0, -30])
    noisy = np.clip(values + rng.normal(0, 8, size=shape), 0, 255)
    return np.asarray(noisy.astype(np.uint8))


def _check_layouts(label: str, image: Image, run: _Run) -> None:
    expected = run(image, 3)
    read_only = image.copy()
    read_only.flags.writeable = False
    layouts = {
        "a read-only array": read_only,
        "Fortran order": np.asfortranarray(image),
        "negative strides": np.ascontiguousarray(image[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
        "a cut-out of a larger array": np.pad(image, ((1, 2), (3, 4), (0, 0)))[1:-2, 3:-4],
    }
    for name, array in layouts.items():
        assert np.array_equal(run(array, 3), expected), f"{label}: other pixels for {name}"
    gray = _make_image(image.shape[:2])
    strided = np.repeat(gray[..., np.newaxis], 3, axis=2)[..., 1]
    same = np.array_equal(run(strided, 3), run(gray, 3))
    assert same, f"{label}: other pixels for a strided gray image"


def _check_order(label: str, image: Image, expected: list[Image], run: _Run) -> None:
    for severity in reversed(SEVERITIES):
        assert np.array_equal(run(image, severity), expected[severity - 1]), (
            f"{label}, severity {severity}: other pixels in another order of calls"
        )
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(partial(run, image), SEVERITIES * 2)
        for severity, result in zip(SEVERITIES * 2, results, strict=True):
            assert np.array_equal(result, expected[severity - 1]), (
                f"{label}, severity {severity}: other pixels in a thread"
            )


def _check_globals(label: str, image: Image, expected: Image, run: _Run) -> None:
    threads = _count_threads()
    # These global states are what is tested.
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(12345)  # noqa: NPY002
        random.seed(12345)
        before = pickle.dumps((np.random.get_state(), random.getstate()))  # noqa: NPY002
        result = run(image, 3)
        after = pickle.dumps((np.random.get_state(), random.getstate()))  # noqa: NPY002
        assert np.array_equal(result, expected), f"{label}: reads a global random state"
        assert after == before, f"{label}: moves a global random state"
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
    assert _count_threads() == threads, f"{label}: changes the number of threads of cv2 or numba"


def _count_threads() -> tuple[int | None, int | None]:
    """Return the numbers of threads of cv2 and of numba; None if not imported or not started.

    Asking numba for its number would start its threads and change OpenMP's number, which torch uses
    too.
    """
    cv2, numba = _get_module("cv2"), _get_module("numba")
    started = None
    if numba is not None:
        with contextlib.suppress(ValueError):  # no threading layer yet
            numba.threading_layer()
            started = int(numba.get_num_threads())
    return None if cv2 is None else int(cv2.getNumThreads()), started


def _get_module(name: str) -> ModuleType | None:
    return sys.modules.get(name)
