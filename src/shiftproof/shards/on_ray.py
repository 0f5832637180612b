"""The shards of a job as tasks of Ray: in this process's own Ray, or on a cluster."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import socket
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof._version import __version__
from shiftproof.compute.tuning import ATTEMPTS, count_usable_cores, tune_own_process
from shiftproof.errors import InputError, MissingExtraError, RunError
from shiftproof.io.fetched import Fetched, list_fetched, list_secret
from shiftproof.io.placeholders import CACHE, find_cache
from shiftproof.lazy import import_extra
from shiftproof.shards.backends import Function
from shiftproof.shards.folder import Arrays, Parts

_ENVIRONMENT = {
    # No usage statistics, and no warning about a default that will change.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Set here because a worker would set it while threads of Ray read the environment.
    "OMP_WAIT_POLICY": "PASSIVE",
}

_OBJECT_STORE = 256 * 10**6
"""Size of the object store in bytes; it holds a few parts at a time and spills to disk."""

_CONNECT_SECONDS = 10.0
"""Timeout in seconds to connect to a cluster; Ray itself retries for minutes."""

_WAIT_SECONDS = 5.0
"""Seconds without a part after which the machines are counted again, as some may have joined."""


@dataclass(frozen=True)
class Ray:
    """Runs shards as tasks of Ray Core, which get the job's context and return their part.

    Parts are written by this process as they arrive: only this machine needs access to their
    folder, while the data must be available on every machine under the same path or URL.

    Attributes:
        address: address of a cluster, such as "auto" or "ray://host:10001"; None starts and stops
            Ray in this process, or uses the session that the caller has started. A cluster that
            happens to run on this machine is not joined.
        workers: number of concurrent tasks; None uses one per core of all machines, including those
            that join later; with GPUs at most as many as fit on these.
        gpus: number of GPUs per task; with 0.5 two tasks share one.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"Expected 1 worker or more on Ray, got {self.workers}.")
        if not 0 <= self.gpus < float("inf"):
            raise InputError(
                f"Expected 0 GPUs or more for a task (--gpus-per-task), got {self.gpus:g}."
            )

    def share(self, shards: Sequence[int]) -> list[int]:
        """Return all of them."""
        return list(shards)

    def work(
        self, function: Function, context: Any, parts: Parts, shards: Sequence[int]
    ) -> Generator[int, None, None]:
        """Compute the parts as tasks."""
        if not shards:
            return  # starting Ray takes seconds
        with self._session() as ray:
            _check_gpus(ray, self.gpus)
            yield from _run_tasks(ray, function, context, parts, shards, self)

    def describe_workers(self, shards: Sequence[int]) -> str:
        """Return nothing: there are no other workers."""
        return ""

    def processes(self) -> int:
        """Return the number of workers on this machine."""
        return count_usable_cores() if self.workers is None else self.workers

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        with _set_environment(_ENVIRONMENT):
            ray = import_extra("ray", "ray")
            if ray.is_initialized():
                yield ray
                return
            self._start(ray)
            try:
                yield ray
            finally:
                ray.shutdown()

    def _start(self, ray: Any) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self.address is None:
            options |= {
                # Without it Ray joins any cluster that runs on this machine.
                "address": "local",
                "num_cpus": self.processes(),
                "object_store_memory": _OBJECT_STORE,
                "include_dashboard": False,
            }
        else:
            options["address"] = self.address
            if list_fetched() or CACHE in os.environ:
                # Copies of files behind URLs have the same paths on all machines.
                options["runtime_env"] = {"env_vars": {CACHE: str(find_cache())}}
            _check_address(self.address)
        for left in reversed(range(ATTEMPTS)):
            try:
                ray.init(**options)
                return
            except (Exception, SystemExit) as error:
                # Ray's timeout of 30 seconds may be too short on a busy machine, and the exception
                # may be of any type.
                ray.shutdown()
                if left and self.address is None:
                    continue
                where = self.address or "on this machine"
                raise RunError(f"Ray could not be reached or started ({where}): {error}") from error


def _check_address(address: str) -> None:
    """Check that a cluster answers at an address.

    Raises:
        InputError: nothing answers at the address.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if found is None:
        return  # "auto", or a cluster's name, which Ray knows
    try:
        socket.create_connection((found[1], int(found[2])), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(
            f"Nothing answers at {address} ({reason}). Expected the address of a Ray cluster, such "
            "as host:6379 or ray://host:10001. Check that it is running and not behind a firewall."
        ) from error


def _check_gpus(ray: Any, gpus: float) -> None:
    available = ray.cluster_resources().get("GPU", 0)
    if gpus > available:
        raise InputError(
            f"Each task requests {gpus:g} GPUs, and the cluster has {available:g} in all; request "
            "fewer, or start it with machines that have more."
        )


def _check_secrets(job: bytes) -> None:
    if urls := list_secret(job):
        raise InputError(
            f"{', '.join(urls)}: the secret of a URL is not sent to a cluster, whose machines fetch the "
            "files themselves. Use the store's own credentials on each of them."
        )


def _run_tasks(
    ray: Any,
    function: Function,
    context: Any,
    parts: Parts,
    shards: Sequence[int],
    backend: Ray,
) -> Iterator[int]:
    pool = _ActorPool(ray, backend.gpus) if backend.gpus else _TaskPool(ray)
    # As bytes, so that modules missing on a machine are reported as such; in a list, so that a
    # worker gets a reference and reads them once for all its tasks.
    job = bytes(ray.cloudpickle.dumps((function, context)))
    if backend.address is not None and CACHE not in os.environ:
        _check_secrets(job)
    sent = _SentJob([ray.put(job)], str(Path.cwd()), __version__, tuple(list_fetched(job)))
    under_way: dict[Any, int] = {}
    left = list(reversed(shards))
    try:
        while left or under_way:
            window = _count_tasks(ray, backend)
            while left and len(under_way) < window:
                shard = left.pop()
                under_way[pool.start(sent, shard)] = shard
            pool.stop_idle()
            done, _ = ray.wait(list(under_way), num_returns=1, timeout=_WAIT_SECONDS)
            for one in done:
                shard = under_way.pop(one)
                if not pool.release(one, shard):
                    left.append(shard)
                    continue
                parts.write(shard, _get_part(ray, one, shard))
                yield shard
    finally:
        # The session may continue; and no reference may outlive a session that ends.
        for one in under_way:
            with contextlib.suppress(Exception):  # the cluster may be lost
                ray.cancel(one, force=True)
        with contextlib.suppress(Exception):
            pool.end()
        under_way.clear()
        sent.job.clear()


class _TaskPool:
    """Runs parts as tasks of Ray, whose worker processes are reused with their imports.

    A task is retried if its worker or machine dies, not if it raises.
    """

    def __init__(self, ray: Any) -> None:
        self._task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_compute)

    def start(self, sent: _SentJob, shard: int) -> Any:
        """Start a part, and return its reference."""
        return self._task.remote(sent, shard)

    def release(self, done: Any, shard: int) -> bool:
        """Return whether a finished reference holds a part or an error; False to start the part
        again.
        """
        return True

    def stop_idle(self) -> None:
        """Stop idle workers."""

    def end(self) -> None:
        """Stop all workers."""


class _ActorPool(_TaskPool):
    """Runs parts on actors of Ray, which keep their GPUs, imports and models between parts.

    Ray ends the process of a task with GPUs after each task, so every part would import torch and
    load its models again.
    """

    def __init__(self, ray: Any, gpus: float) -> None:
        self._ray = ray
        # Retried here, because Ray uses up its own retries within a second of losing a machine.
        self._new = ray.remote(num_cpus=1, num_gpus=gpus)(_GpuWorker)
        self._idle: list[Any] = []
        self._busy: dict[Any, Any] = {}
        self._losses: Counter[int] = Counter()

    def start(self, sent: _SentJob, shard: int) -> Any:
        worker = self._idle.pop() if self._idle else self._new.remote()
        reference = worker.compute.remote(sent, shard)
        self._busy[reference] = worker
        return reference

    def release(self, done: Any, shard: int) -> bool:
        self._idle.append(self._busy.pop(done))
        if self._is_answered(done):
            return True
        self._ray.kill(self._idle.pop())
        self._losses[shard] += 1
        return self._losses[shard] == ATTEMPTS

    def _is_answered(self, done: Any) -> bool:
        """Return whether a worker returned a part or raised an exception, rather than died."""
        try:
            self._ray.get(done)
        except self._ray.exceptions.RayTaskError:
            return True
        except self._ray.exceptions.RayError:
            return False
        return True

    def stop_idle(self) -> None:
        # Another actor may wait for the GPUs of an idle one.
        for worker in self._idle:
            self._ray.kill(worker)
        self._idle.clear()

    def end(self) -> None:
        self._idle += self._busy.values()
        self._busy.clear()
        self.stop_idle()


@dataclass(frozen=True)
class _SentJob:
    """The data a task needs to load the job.

    Attributes:
        job: the reference of function and context, in a list.
        place: working directory of the command.
        version: version of the command's shiftproof.
        fetched: the URLs whose copies the job reads.
    """

    job: list[Any]
    place: str
    version: str
    fetched: tuple[Fetched, ...] = ()


def _count_tasks(ray: Any, backend: Ray) -> int:
    """Return the number of concurrent tasks on the current machines."""
    resources = ray.cluster_resources()
    count = resources.get("CPU", 1) if backend.workers is None else backend.workers
    if backend.gpus:
        count = min(count, resources.get("GPU", 0) / backend.gpus)
    return max(1, int(count))


def _get_part(ray: Any, done: Any, shard: int) -> Arrays:
    """Return a copy of a part.

    The original is in Ray's object store. After an interruption, frames of the traceback may keep
    it alive until Ray has shut down, and releasing it then can crash the process.
    """
    try:
        part: Arrays = {name: np.array(values) for name, values in ray.get(done).items()}
    except ray.exceptions.RayTaskError as error:
        # The function's own exception, as on any other backend.
        cause = error.cause
        if isinstance(cause, ModuleNotFoundError) and not isinstance(cause, MissingExtraError):
            raise RunError(
                f"A machine of the cluster has no {cause.name or 'module that is needed'}. Install "
                f"shiftproof {__version__} with the same extras on all of them."
            ) from error
        raise cause from None
    except ray.exceptions.RayError as error:
        raise RunError(
            f"Shard {shard} crashed its worker {ATTEMPTS} times; often the memory is full. Use fewer "
            f"workers. Ray says: {str(error).splitlines()[0]}"
        ) from error
    return part


# ---------------------------------------------------------------- on a machine of the cluster


_loaded_job: dict[str, tuple[Function, Any]] = {}
"""Cache of this process's last job, which the next task usually shares."""


def _compute(sent: _SentJob, shard: int) -> Arrays:
    tune_own_process()
    try:
        function, context = _open_job(sent)
        return function(context, shard)
    except MissingExtraError as error:
        raise MissingExtraError(f"{error} (On {socket.gethostname()}, of the cluster.)") from error


class _GpuWorker:
    """An actor that computes parts."""

    def compute(self, sent: _SentJob, shard: int) -> Arrays:
        """Compute a part."""
        return _compute(sent, shard)


def _open_job(sent: _SentJob) -> tuple[Function, Any]:
    """Return function and context, loaded once per process."""
    import ray

    [reference] = sent.job
    key = reference.hex()
    if key not in _loaded_job:
        if sent.version != __version__:
            raise RunError(
                f"{socket.gethostname()} has shiftproof {__version__}, and the command was started with "
                f"{sent.version}. Install the same version on all machines of the cluster."
            )
        # Paths and modules may be relative to the working directory of the command.
        with contextlib.suppress(OSError):
            os.chdir(sent.place)
        if sent.place not in sys.path:
            sys.path.append(sent.place)
        for one in sent.fetched:
            one.ensure_local()
        _loaded_job.clear()
        _loaded_job[key] = pickle.loads(ray.get(reference))
    return _loaded_job[key]


@contextlib.contextmanager
def _set_environment(values: dict[str, str]) -> Iterator[None]:
    """Set missing variables for Ray's processes, and afterwards remove these and those added by
    Ray.
    """
    before = set(os.environ)
    os.environ.update({name: values[name] for name in values if name not in before})
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
