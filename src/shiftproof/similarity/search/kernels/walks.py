"""The loops over tiles, which pass all pairs that bounds cannot exclude to a question's state.

There is one loop for each kind of tile. It is compiled for each question, with the methods of the
question's state (:class:`~shiftproof.similarity.search.engine.State`) inlined, and cached on disk
for built-in questions. numba does not cache functions made by other functions; therefore the
methods are not passed but looked up by the state's type.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.extending import overload

from shiftproof.compute.compiled import compiled
from shiftproof.io import files
from shiftproof.similarity.search.certificate import BROKEN, CANDIDATES, GROUPS, RECHECKED
from shiftproof.similarity.search.kernels.maxima import MEMBERS
from shiftproof.similarity.search.kernels.products import exact_product, whole_product
from shiftproof.similarity.search.tiles import Candidates, Maxima, ProductTile, Tile
from shiftproof.types import F32, I32, I64

LOWEST = np.float32(-4.0)
"""Below all similarities."""

_ROUNDED = np.float32(1e-6)
"""Upper bound of the float32 rounding of a threshold and of its difference from a product."""

_METHODS = ("floor", "stop", "enter")


def visit_pairs(tile: Tile, rows: F32, tests: F32, state: Any, counts: I64) -> None:
    """Pass all candidate pairs of a tile to a state, with their exact products.

    Args:
        tile: of training rows and test rows.
        rows: ``(n, width)`` float32, the block of training rows.
        tests: ``(m, width)`` float32, the chunk of test rows.
        state: a :class:`~shiftproof.similarity.search.engine.State`.
        counts: see :attr:`~shiftproof.similarity.search.certificate.Tally.counts`.
    """
    kinds = type(tile), type(state)
    with _LOCK:
        if kinds not in _COMPILED:
            _COMPILED[kinds] = _compile(_LOOPS[type(tile)], type(state))
    _COMPILED[kinds](tile, rows, tests, state, counts)


_COMPILED: dict[tuple[type, type], Any] = {}
_LOCK = threading.Lock()

_OPTIONS: dict[str, Any] = {"error_model": "numpy"}

Function = TypeVar("Function", bound=Callable[..., Any])


def _inline(function: Function) -> Function:
    """Compile a function that is inlined into a loop and cached with it."""
    return cast(Function, numba.njit(**_OPTIONS)(function))


def _compile(loop: Callable[..., None], state: type) -> Any:
    """Return the loop for a type of state; built-in ones are cached until a method changes."""
    function = FunctionType(loop.__code__, loop.__globals__, loop.__name__)
    methods = [getattr(state, name).__code__ for name in _METHODS]
    content = [f"{code.co_code!r}{code.co_consts}{code.co_names}".encode() for code in methods]
    function.__qualname__ = f"{loop.__name__}-{state.__qualname__}-{files.fingerprint(content)}"
    if state.__module__.startswith("shiftproof."):
        return compiled(function)
    # Reading the cache requires that the state can be imported.
    return numba.njit(nogil=True, **_OPTIONS)(function)


# ---------------------------------------------------------------- a state's methods, by its type


def _floor(self: Any, row: int, test: int) -> float:
    raise NotImplementedError


def _stop(self: Any, row: int) -> int:
    raise NotImplementedError


def _enter(self: Any, row: int, test: int, value: float) -> None:
    raise NotImplementedError


def _strip(function: Any) -> Any:
    """Return a function without annotations, which numba would compare as text."""
    return FunctionType(function.__code__, function.__globals__, function.__name__)


def _find_floor(self: Any, row: Any, test: Any) -> Any:
    return _strip(self.instance_class.floor)


def _find_stop(self: Any, row: Any) -> Any:
    return _strip(self.instance_class.stop)


def _find_enter(self: Any, row: Any, test: Any, value: Any) -> Any:
    return _strip(self.instance_class.enter)


_overload: Any = overload

for _stub, _find in ((_floor, _find_floor), (_stop, _find_stop), (_enter, _find_enter)):
    _overload(_stub, jit_options=_OPTIONS)(_strip(_find))


# ---------------------------------------------------------------- maxima of groups


def _visit_maxima(tile: Maxima, rows: F32, tests: F32, state: Any, counts: I64) -> None:
    size = tests.shape[0]
    for i in range(rows.shape[0]):
        stop = min(size, _stop(state, i))
        if not tile.chosen[i] or stop <= 0:
            continue
        row_maxima = tile.maxima[i]
        floor = _floor(state, i, 0) if tile.largest else 0.0
        limit = _limit(floor, tile.reach[i], tile.scale)
        top_group = _largest_group(row_maxima)
        if row_maxima[top_group] < limit:
            continue
        for turn in range(-1, row_maxima.shape[0]):
            # The group with the largest sum comes first, to raise the limit early.
            group = top_group if turn < 0 else turn
            if row_maxima[group] < limit or (turn >= 0 and group == top_group):
                continue
            counts[GROUPS] += 1
            first = group // tile.lanes * MEMBERS * tile.lanes + group % tile.lanes
            for member in range(MEMBERS):
                test = first + member * tile.lanes
                if test >= stop:
                    break
                counts[CANDIDATES] += 1
                total = whole_product(tile.whole[i], tile.tests[group, member]) + tile.bias[test]
                if total < limit:
                    continue
                counts[RECHECKED] += 1
                _enter(state, i, test, exact_product(rows[i], tests[test]))
                stop = min(size, _stop(state, i))
                if tile.largest:
                    limit = _limit(_floor(state, i, 0), tile.reach[i], tile.scale)
            if stop <= 0:
                break


@compiled
def _largest_group(row_maxima: I32) -> int:
    """Return the first group whose maximum is the largest."""
    largest = row_maxima[0]
    for group in range(1, row_maxima.shape[0]):  # a maximum without its index is vectorized
        largest = max(largest, row_maxima[group])
    for group in range(row_maxima.shape[0]):
        if row_maxima[group] == largest:
            return group
    return 0


@compiled
def _limit(value: float, reach: float, scale: float) -> int:
    """Return the smallest integer sum of any product of at least ``value``."""
    limit = np.floor((value - reach) / scale) - 1.0
    whole: int = np.int32(max(min(limit, 1073741824.0), -1073741824.0))
    return whole


# ---------------------------------------------------------------- float32 products


def _visit_product_tile(tile: ProductTile, rows: F32, tests: F32, state: Any, counts: I64) -> None:
    low = np.empty(0 if tile.largest else tile.columns, np.float32)
    for j in range(low.shape[0]):
        low[j] = max(_floor(state, 0, tile.first + j), LOWEST)
    for place in range(tile.scores.shape[0]):
        row = tile.places[place]
        columns = min(tile.columns, _stop(state, row) - tile.first)
        if columns <= 0:
            continue
        scores = tile.scores[place][:columns]
        if tile.largest:
            _visit_largest(tile, scores, rows[row], row, tests, state, counts)
        else:
            _visit_above(tile, scores, rows[row], row, tests, state, counts, low)


@_inline
def _visit_largest(
    tile: ProductTile, scores: F32, values: F32, row: int, tests: F32, state: Any, counts: I64
) -> None:
    top = np.float64(_largest(scores))
    if top + tile.slack < _floor(state, row, 0):
        return
    # The largest product is at least this.
    limit = max(_floor(state, row, 0), top - tile.slack) - tile.slack
    for j in range(scores.shape[0]):
        if scores[j] >= limit:
            counts[RECHECKED] += 1
            test = tile.first + j
            _enter(state, row, test, exact_product(values, tests[test]))


@_inline
def _visit_above(
    tile: ProductTile,
    scores: F32,
    values: F32,
    row: int,
    tests: F32,
    state: Any,
    counts: I64,
    low: F32,
) -> None:
    limit = np.float32(-tile.slack - _ROUNDED)
    if not _any_above(scores, low, limit):
        return
    for j in range(scores.shape[0]):
        if scores[j] - low[j] > limit:
            counts[RECHECKED] += 1
            test = tile.first + j
            _enter(state, row, test, exact_product(values, tests[test]))
            if _stop(state, row) <= test:
                return
            low[j] = max(_floor(state, row, test), LOWEST)


@compiled
def _largest(scores: F32) -> float:
    """Return the maximum of finite values, compared as integers, which vectorizes."""
    whole = scores.view(np.int32)
    largest = np.int32(-2147483648)
    for j in range(whole.shape[0]):
        # Negative floats have the reverse order of integers.
        turned = np.int32(np.int32(whole[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))
        largest = max(largest, np.int32(whole[j] ^ turned))
    turned = np.int32(np.int32(largest >> np.int32(31)) & np.int32(0x7FFFFFFF))
    out = np.empty(1, np.int32)
    out[0] = largest ^ turned
    value: float = out.view(np.float32)[0]
    return value


@compiled
def _any_above(scores: F32, low: F32, limit: float) -> bool:
    """Return whether a score exceeds its ``low`` by more than ``limit``; counting vectorizes."""
    found = 0
    for j in range(scores.shape[0]):
        found += np.int32(scores[j] - low[j] > limit)
    return found > 0


# ---------------------------------------------------------------- candidates


def _visit_candidates(tile: Candidates, rows: F32, tests: F32, state: Any, counts: I64) -> None:
    for place in range(tile.row.shape[0]):
        row, test = tile.row[place], tile.test[place]
        estimate, error = tile.estimate[place], tile.error[row]
        if test >= _stop(state, row) or estimate + error < _floor(state, row, test):
            continue
        value = exact_product(rows[row], tests[test])
        counts[RECHECKED] += 1
        if np.abs(value - estimate) > error:
            counts[BROKEN] += 1
        _enter(state, row, test, value)


_LOOPS: dict[type, Callable[..., None]] = {
    Maxima: _visit_maxima,
    ProductTile: _visit_product_tile,
    Candidates: _visit_candidates,
}
