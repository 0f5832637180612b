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
from shiftproof.compute.tuning import ATTEMPTS, tune_own_process, usable_cores
from shiftproof.errors import InputError, MissingExtraError, RunError
from shiftproof.io.fetched import Fetched, list_fetched, list_secret
from shiftproof.io.placeholders import CACHE, find_cache
from shiftproof.lazy import import_extra
from shiftproof.shards.backends import Function
from shiftproof.shards.folder import Arrays, Parts

_QUIET = {
    # No usage statistics, and no warning of a setting that is about to change.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # What a worker would set for itself, while threads of Ray read the environment.
    "OMP_WAIT_POLICY": "PASSIVE",
}

_OBJECT_STORE = 256 * 10**6
"""Size of the object store in bytes; it holds a few parts at a time and spills to disk."""

_KNOCK_SECONDS = 10.0
"""Timeout of a cluster's address; Ray itself retries for minutes."""

_GLANCE_SECONDS = 5.0
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
            yield from _tasks(ray, function, context, parts, shards, self)

    def whose(self, shards: Sequence[int]) -> str:
        """Say nothing: there is nobody else."""
        return ""

    def processes(self) -> int:
        """Return the number of workers on this machine."""
        return usable_cores() if self.workers is None else self.workers

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        with _own_environment(_QUIET):
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
                # Copies of what is behind URLs lie under the same paths on all machines.
                options["runtime_env"] = {"env_vars": {CACHE: str(find_cache())}}
            _knock(self.address)
        for left in reversed(range(ATTEMPTS)):
            try:
                ray.init(**options)
                return
            except (Exception, SystemExit) as error:
                # Its timeout of 30 seconds may be too short on a busy machine, and it raises any
                # exception.
                ray.shutdown()
                if left and self.address is None:
                    continue
                where = self.address or "on this machine"
                raise RunError(f"Ray could not be reached or started ({where}): {error}") from error


def _knock(address: str) -> None:
    """Check that a cluster answers at an address.

    Raises:
        InputError: nothing answers at the address.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if found is None:
        return  # "auto", or a cluster's name, which Ray knows
    try:
        socket.create_connection((found[1], int(found[2])), _KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(
            f"Nothing answers at {address} ({reason}). Expected the address of a Ray cluster, such "
            "as host:6379 or ray://host:10001; is it up, and does a firewall stand between?"
        ) from error


def _check_gpus(ray: Any, gpus: float) -> None:
    there = ray.cluster_resources().get("GPU", 0)
    if gpus > there:
        raise InputError(
            f"Each task asks for {gpus:g} GPUs, and the cluster has {there:g} in all; ask for fewer, "
            "or begin it with machines that have them."
        )


def _check_secrets(job: bytes) -> None:
    if urls := list_secret(job):
        raise InputError(
            f"{', '.join(urls)}: the secret of a URL is not sent to a cluster, whose machines fetch the "
            "files themselves. Use the store's own credentials on each of them."
        )


def _tasks(
    ray: Any,
    function: Function,
    context: Any,
    parts: Parts,
    shards: Sequence[int],
    asked: Ray,
) -> Iterator[int]:
    crew = _GpuCrew(ray, asked.gpus) if asked.gpus else _Crew(ray)
    # As bytes, so that modules missing on a machine are reported as such; in a list, so that a
    # worker gets a reference and reads them once for all its tasks.
    job = bytes(ray.cloudpickle.dumps((function, context)))
    if asked.address is not None and CACHE not in os.environ:
        _check_secrets(job)
    sent = _Sent([ray.put(job)], str(Path.cwd()), __version__, tuple(list_fetched(job)))
    under_way: dict[Any, int] = {}
    left = list(reversed(shards))
    try:
        while left or under_way:
            window = _window(ray, asked)
            while left and len(under_way) < window:
                shard = left.pop()
                under_way[crew.start(sent, shard)] = shard
            crew.dismiss_idle()
            done, _ = ray.wait(list(under_way), num_returns=1, timeout=_GLANCE_SECONDS)
            for one in done:
                shard = under_way.pop(one)
                if not crew.release(one, shard):
                    left.append(shard)
                    continue
                parts.write(shard, _result(ray, one, shard))
                yield shard
    finally:
        # Of a session that goes on, and so that no reference outlives one that ends.
        for one in under_way:
            with contextlib.suppress(Exception):  # the cluster may be what was lost
                ray.cancel(one, force=True)
        with contextlib.suppress(Exception):
            crew.end()
        under_way.clear()
        sent.job.clear()


class _Crew:
    """Tasks of Ray, whose worker processes go on to the next task with all that they have imported.

    A task is retried if its worker or machine dies, not if it raises.
    """

    def __init__(self, ray: Any) -> None:
        self._task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_compute)

    def start(self, sent: _Sent, shard: int) -> Any:
        """Return a reference to the part that is begun."""
        return self._task.remote(sent, shard)

    def release(self, done: Any, shard: int) -> bool:
        """Return whether a reference has its part or an error, or the part must be begun again."""
        return True

    def dismiss_idle(self) -> None:
        """End workers that have nothing to do."""

    def end(self) -> None:
        """End all workers."""


class _GpuCrew(_Crew):
    """Actors of Ray, each of which keeps its GPUs, imports and models from part to part.

    Ray ends the process of a task with GPUs after each task, so that every part would import torch and
    load its models anew.
    """

    def __init__(self, ray: Any, gpus: float) -> None:
        self._ray = ray
        # Ray's own retries are used up within a second when a machine is lost, so they are made here.
        self._new = ray.remote(num_cpus=1, num_gpus=gpus)(_GpuWorker)
        self._idle: list[Any] = []
        self._busy: dict[Any, Any] = {}
        self._losses: Counter[int] = Counter()

    def start(self, sent: _Sent, shard: int) -> Any:
        worker = self._idle.pop() if self._idle else self._new.remote()
        reference = worker.compute.remote(sent, shard)
        self._busy[reference] = worker
        return reference

    def release(self, done: Any, shard: int) -> bool:
        self._idle.append(self._busy.pop(done))
        if self._has_part(done):
            return True
        self._ray.kill(self._idle.pop())
        self._losses[shard] += 1
        return self._losses[shard] == ATTEMPTS

    def _has_part(self, done: Any) -> bool:
        """Whether a worker gave a part or raised an error of its own, and did not die."""
        try:
            self._ray.get(done)
        except self._ray.exceptions.RayTaskError:
            return True
        except self._ray.exceptions.RayError:
            return False
        return True

    def dismiss_idle(self) -> None:
        # Another may wait for the GPUs that an idle one holds.
        for worker in self._idle:
            self._ray.kill(worker)
        self._idle.clear()

    def end(self) -> None:
        self._idle += self._busy.values()
        self._busy.clear()
        self.dismiss_idle()


@dataclass(frozen=True)
class _Sent:
    """What a task needs to open the job.

    Attributes:
        job: the reference of function and context, in a list.
        place: the working directory of the command.
        version: of the command's shiftproof.
        fetched: the URLs whose copies the job reads.
    """

    job: list[Any]
    place: str
    version: str
    fetched: tuple[Fetched, ...] = ()


def _window(ray: Any, asked: Ray) -> int:
    """Return the number of concurrent tasks on the current machines."""
    there = ray.cluster_resources()
    count = there.get("CPU", 1) if asked.workers is None else asked.workers
    if asked.gpus:
        count = min(count, there.get("GPU", 0) / asked.gpus)
    return max(1, int(count))


def _result(ray: Any, done: Any, shard: int) -> Arrays:
    """Return a part in memory of its own.

    What Ray gives lies in its object store. An interruption may keep it alive, in the frames of its
    traceback, until Ray has ended, and letting go of it then can crash the process.
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
            f"Shard {shard} took its worker down {ATTEMPTS} times; often the memory is full. Use fewer "
            f"workers. Ray says: {str(error).splitlines()[0]}"
        ) from error
    return part


# ---------------------------------------------------------------- on a machine of the cluster


_kept: dict[str, tuple[Function, Any]] = {}
"""Cache of this process's last job, which the next task usually shares."""


def _compute(sent: _Sent, shard: int) -> Arrays:
    tune_own_process()
    try:
        function, context = _open_job(sent)
        return function(context, shard)
    except MissingExtraError as error:
        raise MissingExtraError(f"{error} (On {socket.gethostname()}, of the cluster.)") from error


class _GpuWorker:
    """What an actor runs."""

    def compute(self, sent: _Sent, shard: int) -> Arrays:
        """Compute a part."""
        return _compute(sent, shard)


def _open_job(sent: _Sent) -> tuple[Function, Any]:
    """Return function and context; a process reads them once."""
    import ray

    [reference] = sent.job
    key = reference.hex()
    if key not in _kept:
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
            one.provide()
        _kept.clear()
        _kept[key] = pickle.loads(ray.get(reference))
    return _kept[key]


@contextlib.contextmanager
def _own_environment(values: dict[str, str]) -> Iterator[None]:
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
