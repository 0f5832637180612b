"""Mapping a function over items in this process or in worker processes, with recovery of killed
ones.

The results come in the order of the items and do not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import pickle
import signal
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from shiftproof.compute.progress import console
from shiftproof.compute.tuning import ATTEMPTS, end_with_parent, tune_own_process
from shiftproof.errors import InputError, RunError
from shiftproof.io.folder_locks import current_scope, on_exit

if TYPE_CHECKING:
    from loky.process_executor import ProcessPoolExecutor

__all__ = ["limit_items", "map_ordered", "start_workers"]

Context = TypeVar("Context")
Item = TypeVar("Item")
Result = TypeVar("Result")

IDLE_SECONDS = 60
"""Seconds after which idle workers exit."""

START_SECONDS = 600.0
"""Timeout for the first worker to start, in seconds."""

ITEM_SECONDS = 6 * 3600.0
"""Default timeout of one item, in seconds; see the environment variable ``LIMIT``."""

LIMIT = "SHIFTPROOF_ITEM_SECONDS"

_limit: ContextVar[float | None] = ContextVar("_limit", default=None)
"""Timeout set by a caller, which takes precedence over the variable."""

_MAX_INLINE_BYTES = 1 << 15
"""Bytes of a job that are sent with each item; workers read a longer one from a file."""

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)

_LOKY_ENVIRONMENT = {"LOKY_MAX_MEMORY_LEAK_SIZE": "4e9"}
"""A worker grows by 300 MB when it compiles loops and reads a large image, which loky would treat
as a memory leak, with a warning and a restart.
"""


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
    ``workers=0`` items run in this process, each when its result is requested. The same happens,
    with a message on standard error, if the system has no shared memory for worker processes. At
    most ``workers + lookahead`` items are running or finished but not yet yielded, which bounds
    memory. A killed worker is replaced and its items run again. Workers exit with this process.
    Within a function decorated with :func:`~shiftproof.io.folder_locks.releases_locks` they are
    reused by later calls, with their imports and compiled loops, and exit at its end.

    Raises:
        RunError: an item crashed its worker ``ATTEMPTS`` times, or was not finished within six
            hours (:func:`limit_items` or ``SHIFTPROOF_ITEM_SECONDS`` sets another limit); no worker
            could start, or one had too little memory.
        InputError: the variable is not a number above 0.
        Exception: any exception of ``function``, raised at that item's position.
    """
    if workers < 0:
        raise ValueError(f"Expected a number of workers of 0 or more, got {workers}.")
    if workers == 0:
        for item in items:
            yield function(context, item)
        return
    pool = _take_pool(workers)
    try:
        pool.begin(function, context)
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
    with contextlib.closing(_map_in_processes(pool, iter(items), workers + lookahead)) as results:
        yield from results


def start_workers(workers: int, modules: Sequence[str] = ()) -> None:
    """Start worker processes for the next :func:`map_ordered` while this process prepares the work.

    Has an effect only within a function decorated with
    :func:`~shiftproof.io.folder_locks.releases_locks`, at whose end they exit.

    Args:
        workers: number of processes; 0 starts none.
        modules: modules that they import meanwhile.
    """
    scope = current_scope()
    if workers < 1 or scope is None:
        return
    pool = _take_pool(workers)
    try:
        pool.start(modules)
    except OSError:
        return  # reported when they are needed
    scope.add_resource(_POOLS, pool)


_POOLS = "pools of worker processes"


def _take_pool(workers: int) -> _Pool:
    """Return idle worker processes of the current function, or new ones."""
    scope = current_scope()
    for pool in scope.list_resources(_POOLS) if scope is not None else ():
        if pool.workers == workers and scope is not None:
            scope.remove_resource(_POOLS, pool)
            return cast(_Pool, pool)
    new = _Pool(workers)
    # However the work ends, before its folder is unlocked.
    on_exit(functools.partial(new.end, kill=True))
    return new


def _return_pool(pool: _Pool) -> None:
    """Keep idle worker processes for the next call in the same function."""
    scope = current_scope()
    if scope is None:
        pool.end(kill=False)
    else:
        scope.add_resource(_POOLS, pool)


class _Pool:
    """Worker processes with their current job, which can be replaced by new ones.

    Attributes:
        workers: number of processes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._job = _Job.of(None)
        self._limit = 0.0
        self._pool: ProcessPoolExecutor | None = None
        self._alive: Future[None] | None = None

    def begin(self, function: Callable[[Any, Any], Any], context: Any) -> None:
        """Set the workers' job; starts them if necessary.

        Raises:
            OSError: they cannot be started here.
        """
        self._job = _Job.of((function, context))
        self._limit = _read_time_limit()
        if self._pool is None:
            self.start()
            return
        try:
            self._alive = self._pool.submit(_load_job, self._job.number, self._job.location)
        except BrokenProcessPool:  # they died while idle
            self.end(kill=True)
            self.start()

    def start(self, modules: Sequence[str] = ()) -> None:
        # loky takes 40 ms to import: not in every command, as not all start workers.
        from loky.process_executor import ProcessPoolExecutor

        self._pool = ProcessPoolExecutor(
            max_workers=self.workers,
            timeout=IDLE_SECONDS,
            initializer=_initialize,
            initargs=(os.getpid(), tuple(modules)),
            env=dict.fromkeys(_ONE_THREAD, "1") | _LOKY_ENVIRONMENT,
        )
        self._alive = self._pool.submit(_load_job, self._job.number, self._job.location)

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
        future: Future[Any] = self._pool.submit(_call, self._job.number, self._job.location, item)
        return future

    @property
    def has_started(self) -> bool:
        """Return whether a worker has started."""
        return self._alive is not None and self._alive.done() and not self._alive.exception()

    def wait_for_start(self) -> None:
        """Wait until a worker has started; later deaths are caused by an item.

        Raises:
            RunError: no worker started within :data:`START_SECONDS`.
        """
        assert self._alive is not None
        try:
            self._alive.result(START_SECONDS)
        except TimeoutError as error:
            if not self._alive.done():
                raise RunError(
                    f"No worker process started within {START_SECONDS:g} s; often memory is short. "
                    "Use fewer workers, or 0."
                ) from error

    def result(self, item: Any, future: Future[Any]) -> Any:
        """Wait for the result of an item."""
        try:
            return future.result(self._limit)
        except TimeoutError as error:
            if future.done():
                raise  # the function's own
            raise RunError(
                f"A worker has not finished one item in {self._limit:g} s ({item!r:.200}) and "
                "was stopped; finished work is kept. If an item needs longer, set --timeout "
                f"or {LIMIT}."
            ) from error

    def end(self, *, kill: bool) -> None:
        """Stop the workers, gracefully or by killing them.

        Waiting lets loky release its semaphores. Signals are deferred meanwhile: their exceptions
        would leave workers running.
        """
        if self._pool is not None:
            with _defer_signals():
                self._pool.shutdown(wait=True, kill_workers=kill)
            self._pool = None


@dataclass(frozen=True, eq=False)
class _Job:
    """A job of the workers: its number, and its pickled content or the path of a file that exists
    as long as this object.
    """

    number: int
    location: bytes | str

    @classmethod
    def of(cls, work: tuple[Callable[[Any, Any], Any], Any] | None) -> _Job:
        from loky.backend.reduction import dumps

        content = bytes(dumps(work))
        if len(content) <= _MAX_INLINE_BYTES:
            return cls(next(_NUMBERS), content)
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("shiftproof-job")
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
        else:
            descriptor, path = tempfile.mkstemp(prefix="shiftproof-job-")
        job = cls(next(_NUMBERS), path)
        weakref.finalize(job, _close_job_file, descriptor, path)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        return job


_NUMBERS = itertools.count()


def _close_job_file(descriptor: int, path: str) -> None:
    os.close(descriptor)
    if not path.startswith("/proc/"):
        Path(path).unlink(missing_ok=True)


def _map_in_processes(pool: _Pool, items: Iterator[Any], window: int) -> Generator[Any, None, None]:
    waiting: deque[tuple[Any, Future[Any]]] = deque()
    unsent: deque[Any] = deque()  # taken from the caller, not yet sent to a worker
    attempts = 0
    try:
        while True:
            try:
                unsent.extend(itertools.islice(items, window - len(waiting) - len(unsent)))
                if unsent:
                    pool.wait_for_start()
                # After a worker has died, one item at a time shows which one crashes it.
                while unsent and (not attempts or not waiting):
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
                        f"A worker process died {ATTEMPTS} times at the same item "
                        f"({first!r:.200}); often the memory is full. Use fewer workers."
                    ) from error
                pool.replace()
                unsent.extendleft(item for item, _ in reversed(waiting))
                waiting.clear()
                continue
            waiting.popleft()
            attempts = 0
            yield result
    finally:
        # Also if the caller closes the generator early; idle workers may be kept.
        if waiting or unsent:
            pool.end(kill=True)
        else:
            _return_pool(pool)


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


def _read_time_limit() -> float:
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
def _defer_signals() -> Iterator[None]:
    """Defer signals until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

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
        for number in received:
            signal.raise_signal(number)


# ---------------------------------------------------------------- in a worker


_number: int | None = None
_function: Callable[[Any, Any], Any] | None = None
_context: Any = None
_load_error: Exception | None = None


def _initialize(parent: int, modules: Sequence[str]) -> None:
    """Set up a worker: it exits with its parent, and leaves Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    tune_own_process()
    for module in modules:
        # An import error is raised later, when the work needs the module.
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def _load_job(number: int, location: bytes | str) -> None:
    """Load a job, unless it is the loaded one.

    Called after the set-up, so that the worker exits with its parent even during imports.
    """
    global _number, _function, _context, _load_error
    if number == _number:
        return
    _function = _context = _load_error = None
    try:
        job = pickle.loads(Path(location).read_bytes() if isinstance(location, str) else location)
        _function, _context = job or (None, None)
    except Exception as error:
        # Raised at the first item: here loky would print it and retry.
        _load_error = _convert_memory_error(error)
    _number = number


def _call(number: int, location: bytes | str, item: Any) -> Any:
    _load_job(number, location)
    if _load_error is not None:
        raise _load_error
    assert _function is not None
    try:
        return _function(_context, item)
    except Exception as error:
        told = _convert_memory_error(error)
        if told is error:
            raise
        raise told from error


_MEMORY_MESSAGES = ("failed to map segment", "cannot allocate memory", "insufficient memory")
"""Messages of out-of-memory errors that libraries raise as other exceptions."""


def _convert_memory_error(error: Exception) -> Exception:
    """Return a clear error if a worker ran out of memory, else the error itself."""
    text = str(error).lower()
    if not isinstance(error, MemoryError) and not any(words in text for words in _MEMORY_MESSAGES):
        return error
    return RunError(
        "A worker process had too little memory. What is finished is kept; start the same command "
        "again with fewer workers, or 0."
    )
