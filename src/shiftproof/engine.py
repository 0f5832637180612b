"""Map a function over items: in this process or in worker processes that may die.

The results come in the order of the items and do not depend on the number of workers.
"""

from __future__ import annotations

import itertools
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from loky.process_executor import ProcessPoolExecutor

from shiftproof.errors import RunError
from shiftproof.process import tune_own_process

Context = TypeVar("Context")
Item = TypeVar("Item")
Result = TypeVar("Result")

ATTEMPTS = 3
"""How often one item may take its worker down before the work is given up."""

IDLE_SECONDS = 60
"""Workers end by themselves after this, so that a killed parent leaves none behind."""

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


def map_ordered(
    function: Callable[[Context, Item], Result],
    items: Iterable[Item],
    *,
    context: Context,
    workers: int = 0,
    lookahead: int = 3,
) -> Iterator[Result]:
    """Yield ``function(context, item)`` for every item, in order, while the caller works on the last.

    ``context`` is sent to each worker once; an item should be small: send paths, not arrays.
    With ``workers=0`` all of it runs here, one item at a time, when it is asked for.
    At most ``workers + lookahead`` items are under way or waiting to be taken, which bounds memory.
    A worker that is killed is replaced and its items are done again.

    Raises:
        RunError: an item took its worker down ``ATTEMPTS`` times.
        Exception: whatever ``function`` raises, at that item's place in the order.
    """
    if workers < 0:
        raise ValueError(f"Expected a number of workers of 0 or more, got {workers}.")
    if workers == 0:
        for item in items:
            yield function(context, item)
        return
    yield from _in_processes(function, iter(items), context, workers, workers + lookahead)


def _in_processes(
    function: Callable[[Context, Item], Result],
    items: Iterator[Item],
    context: Context,
    workers: int,
    window: int,
) -> Iterator[Result]:
    def start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=workers,
            timeout=IDLE_SECONDS,
            initializer=_initialise,
            initargs=(function, context),
            env=dict.fromkeys(_ONE_THREAD, "1"),
        )

    pool = start()
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    unsent: deque[Item] = deque()  # taken from the caller, not yet with a worker
    finished = False
    attempts = 0
    try:
        while True:
            try:
                unsent.extend(itertools.islice(items, window - len(waiting) - len(unsent)))
                while unsent:
                    waiting.append((unsent[0], pool.submit(_call, unsent[0])))
                    unsent.popleft()
                if not waiting:
                    break
                result = waiting[0][1].result()
            except BrokenProcessPool as error:
                attempts += 1
                if attempts >= ATTEMPTS:
                    first = waiting[0][0] if waiting else unsent[0]
                    raise RunError(
                        f"A worker process died {ATTEMPTS} times at the same place "
                        f"({first!r:.200}); often the memory is full. Use fewer workers."
                    ) from error
                pool.shutdown(wait=True, kill_workers=True)
                pool = start()
                unsent.extendleft(item for item, _ in reversed(waiting))
                waiting.clear()
                continue
            waiting.popleft()
            attempts = 0
            yield result
        finished = True
    finally:
        # Waiting lets loky put its semaphores away; killed workers are gone at once.
        pool.shutdown(wait=True, kill_workers=not finished)


_function: Callable[[Any, Any], Any]
_context: Any


def _initialise(function: Callable[[Any, Any], Any], context: Any) -> None:
    """Set up a worker: it is ours alone, but Ctrl-C is the parent's business."""
    global _function, _context
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tune_own_process()
    _function, _context = function, context


def _call(item: Any) -> Any:
    return _function(_context, item)
