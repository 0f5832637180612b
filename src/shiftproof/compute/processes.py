"""Mapping a function over items in this process or in worker processes, with recovery of killed
ones.

The results come in the order of the items and do not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from loky.backend.reduction import dumps
from loky.process_executor import ProcessPoolExecutor

from shiftproof.compute.progress import console
from shiftproof.compute.tuning import end_with_parent, tune_own_process
from shiftproof.errors import InputError, RunError
from shiftproof.io.holding import at_end

__all__ = ["limit_items", "map_ordered"]

Context = TypeVar("Context")
Item = TypeVar("Item")
Result = TypeVar("Result")

ATTEMPTS = 3
"""Number of times that an item may crash its worker before the job fails."""

IDLE_SECONDS = 60
"""Seconds after which idle workers exit."""

START_SECONDS = 600.0
"""Timeout for the first worker to start, in seconds."""

ITEM_SECONDS = 6 * 3600.0
"""Default timeout of one item, in seconds; see the environment variable ``LIMIT``."""

LIMIT = "SHIFTPROOF_ITEM_SECONDS"

_limit: ContextVar[float | None] = ContextVar("_limit", default=None)
"""Timeout set by a caller, which takes precedence over the variable."""

_SENT = 1 << 15
"""Maximum bytes of a job sent through a pipe, half of the pipe's capacity. loky writes to it before
it closes its own reading end, so a longer job would block forever if the worker dies before
reading."""

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)

_ROOM_TO_GROW = {"LOKY_MAX_MEMORY_LEAK_SIZE": "4e9"}
"""A worker grows by 300 MB when it compiles loops and reads a large image, which loky would treat
as a memory leak, with a warning and a restart."""


def map_ordered(
    function: Callable[[Context, Item], Result],
    items: Iterable[Item],
    *,
    context: Context,
    workers: int = 0,
    lookahead: int = 3,
) -> Generator[Result, None, None]:
    """Yield ``function(context, item)`` for every item, in order, while the caller processes the
    previous one.

    ``context`` is sent to each worker once; an item should be small: send paths, not arrays. With
    ``workers=0`` items are computed lazily in this process; this is also the fallback, with a
    warning, if the system has no shared memory. At most ``workers + lookahead`` items are in
    progress or waiting to be consumed, which bounds memory. A killed worker is replaced and its
    items are retried; workers exit with this process.

    Raises:
        RunError: an item crashed its worker ``ATTEMPTS`` times, or was not finished within six
            hours (:func:`limit_items` or ``SHIFTPROOF_ITEM_SECONDS`` sets another limit); no worker
            could start, or one had too little memory.
        InputError: the variable is no number above 0.
        Exception: any exception of ``function``, raised at that item's position.
    """
    if workers < 0:
        raise ValueError(f"Expected a number of workers of 0 or more, got {workers}.")
    if workers == 0:
        for item in items:
            yield function(context, item)
        return
    pool = _Pool(function, context, workers)
    # In any case, before the folder is deleted.
    at_end(functools.partial(pool.end, kill=True))
    try:
        pool.start()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        console.print(
            f"Working in one process: others cannot be started here ({reason.lower()}; often "
            "/dev/shm is missing or full, or the working directory was deleted).",
            style="yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        for item in items:
            yield function(context, item)
        return
    # Closed explicitly: errors during garbage collection would be lost.
    with contextlib.closing(_in_processes(pool, iter(items), workers + lookahead)) as results:
        yield from results


class _Pool:
    """A pool of worker processes that can be restarted."""

    def __init__(self, function: Callable[[Any, Any], Any], context: Any, workers: int) -> None:
        # Deserialized in the worker after its setup, so that it exits with this process even during
        # imports.
        self._job = self._place(bytes(dumps((function, context))))
        self._workers = workers
        self._limit = _item_seconds()
        self._pool: ProcessPoolExecutor | None = None
        self._alive: Future[None] | None = None

    def _place(self, job: bytes) -> bytes | str:
        """Return the job, or the temporary file that holds a long one."""
        if len(job) <= _SENT or not hasattr(os, "memfd_create"):
            return job
        descriptor = os.memfd_create("shiftproof-job")
        weakref.finalize(self, os.close, descriptor)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(job)
        return f"/proc/{os.getpid()}/fd/{descriptor}"

    def start(self) -> None:
        self._pool = ProcessPoolExecutor(
            max_workers=self._workers,
            timeout=IDLE_SECONDS,
            initializer=_initialize,
            initargs=(os.getpid(), self._job),
            env=dict.fromkeys(_ONE_THREAD, "1") | _ROOM_TO_GROW,
        )
        self._alive = self._pool.submit(_nothing)

    def replace(self) -> None:
        """Kill the workers and start new ones."""
        self.end(kill=True)
        try:
            self.start()
        except OSError as error:
            raise RunError(
                f"A worker process died, and no other can be started ({error.strerror or error}). "
                "Use fewer workers, or 0."
            ) from error

    def submit(self, item: Any) -> Future[Any]:
        assert self._pool is not None
        future: Future[Any] = self._pool.submit(_call, item)
        return future

    @property
    def has_started(self) -> bool:
        """Return whether a worker has started."""
        return self._alive is not None and self._alive.done() and not self._alive.exception()

    def result(self, item: Any, future: Future[Any]) -> Any:
        """Wait for the result of an item."""
        assert self._alive is not None
        try:
            self._alive.result(START_SECONDS)
        except TimeoutError as error:
            if not self._alive.done():
                raise RunError(
                    f"No worker process was there after {START_SECONDS:g} s; often memory is short. "
                    "Use fewer workers, or 0."
                ) from error
        try:
            return future.result(self._limit)
        except TimeoutError as error:
            if future.done():
                raise  # the function's own
            raise RunError(
                f"A worker has not finished one item in {self._limit:g} s ({item!r:.200}), so the "
                "work was given up; what is finished is kept. If an item needs longer, set --timeout "
                f"or {LIMIT}."
            ) from error

    def end(self, *, kill: bool) -> None:
        """Stop the workers, gracefully or by killing them.

        Waiting lets loky release its semaphores. Signals are deferred meanwhile: their exceptions
        would leave workers running.
        """
        if self._pool is not None:
            with _signals_held():
                self._pool.shutdown(wait=True, kill_workers=kill)
            self._pool = None


def _in_processes(pool: _Pool, items: Iterator[Any], window: int) -> Generator[Any, None, None]:
    waiting: deque[tuple[Any, Future[Any]]] = deque()
    unsent: deque[Any] = deque()  # consumed from the caller, not yet submitted to a worker
    finished = False
    attempts = 0
    try:
        while True:
            try:
                unsent.extend(itertools.islice(items, window - len(waiting) - len(unsent)))
                while unsent:
                    waiting.append((unsent[0], pool.submit(unsent[0])))
                    unsent.popleft()
                if not waiting:
                    break
                result = pool.result(*waiting[0])
            except BrokenProcessPool as error:
                attempts += 1
                if attempts >= ATTEMPTS:
                    if not pool.has_started:
                        raise RunError(
                            f"The worker processes died {ATTEMPTS} times while they started; often "
                            "memory is short. Use fewer workers, or 0."
                        ) from error
                    first = waiting[0][0] if waiting else unsent[0]
                    raise RunError(
                        f"A worker process died {ATTEMPTS} times at the same place "
                        f"({first!r:.200}); often the memory is full. Use fewer workers."
                    ) from error
                pool.replace()
                unsent.extendleft(item for item, _ in reversed(waiting))
                waiting.clear()
                continue
            waiting.popleft()
            attempts = 0
            yield result
        finished = True
    finally:
        pool.end(kill=not finished)


@contextlib.contextmanager
def limit_items(seconds: float) -> Iterator[None]:
    """Limit the time of a worker process for one item within the block.

    Raises:
        InputError: no number of seconds above 0.
    """
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise InputError(f"--timeout: expected seconds above 0, got {seconds:g}.")
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


def _item_seconds() -> float:
    own = _limit.get()
    if own is not None:
        return own
    text = os.environ.get(LIMIT)
    if text is None:
        return ITEM_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise InputError(f"{LIMIT}: expected seconds above 0, got {text!r:.40}.")
    return seconds


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Defer signals until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and callable(signal.getsignal(number)):
            before[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


# ---------------------------------------------------------------- in a worker


_function: Callable[[Any, Any], Any] | None = None
_context: Any = None
_fault: Exception | None = None


def _initialize(parent: int, job: bytes | str) -> None:
    """Set up a worker: it exits with its parent, and leaves Ctrl-C to the parent."""
    global _function, _context, _fault
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    tune_own_process()
    try:
        _function, _context = pickle.loads(Path(job).read_bytes() if isinstance(job, str) else job)
    except Exception as error:
        # Raised at the first item: here loky would print it and retry.
        _fault = _name_shortage(error)


def _nothing() -> None:
    """Be there."""


def _call(item: Any) -> Any:
    if _fault is not None:
        raise _fault
    assert _function is not None
    try:
        return _function(_context, item)
    except Exception as error:
        told = _name_shortage(error)
        if told is error:
            raise
        raise told from error


_SHORTAGE = ("failed to map segment", "cannot allocate memory", "insufficient memory")
"""Messages of out-of-memory errors that libraries raise as other exceptions."""


def _name_shortage(error: Exception) -> Exception:
    """Return a clear error if a worker ran out of memory, else the error itself."""
    text = str(error).lower()
    if not isinstance(error, MemoryError) and not any(words in text for words in _SHORTAGE):
        return error
    return RunError(
        "A worker process had too little memory. What is finished is kept; start the same command "
        "again with fewer workers, or 0."
    )
