"""The shards of a job as tasks of Ray: in this process's own Ray, or on a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shiftproof.compute.processes import ATTEMPTS
from shiftproof.compute.tuning import tune_own_process, usable_cores
from shiftproof.errors import InputError, MissingExtraError, RunError
from shiftproof.shards.backends import Function
from shiftproof.shards.folder import Arrays, PartFolder

_QUIET = {
    # Nothing is sent anywhere, and no warning of a setting that is about to change.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_OBJECT_STORE = 256 * 10**6
"""Bytes: parts pass through it, a few at a time; what does not fit goes to the disk."""


@dataclass(frozen=True)
class Ray:
    """Tasks of Ray Core that are handed the job's context and send back their part.

    The parts are written here, each when it arrives: only this machine must reach their folder, while
    the data must be where every machine of the cluster finds it under the same path or URL.

    Attributes:
        address: of a cluster, such as "auto" or "ray://host:10001"; None starts Ray in this process
            and ends it again, or takes the one that the caller has started.
        workers: how many tasks at a time; None takes one per core.
    """

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"Expected 1 worker or more on Ray, got {self.workers}.")

    def share(self, shards: Sequence[int]) -> list[int]:
        """Return all of them."""
        return list(shards)

    def work(
        self, function: Function, context: Any, parts: PartFolder, shards: Sequence[int]
    ) -> Iterator[int]:
        """Make the parts as tasks."""
        if not shards:
            return  # starting Ray takes seconds
        with self._session() as ray:
            yield from _tasks(ray, function, context, parts, shards, self.workers)

    def whose(self, shards: Sequence[int]) -> str:
        """Say nothing: there is nobody else."""
        return ""

    def processes(self) -> int:
        """Return the number of workers on this machine."""
        return usable_cores() if self.workers is None else self.workers

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        with _own_environment(_QUIET):
            try:
                import ray
            except ImportError as error:
                raise MissingExtraError.of("ray", "ray") from error
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
                "num_cpus": self.processes(),
                "object_store_memory": _OBJECT_STORE,
                "include_dashboard": False,
            }
        else:
            options["address"] = self.address
        for left in reversed(range(ATTEMPTS)):
            try:
                ray.init(**options)
                return
            except Exception as error:
                # It gives itself 30 seconds, which on a busy machine may not do, and raises anything.
                ray.shutdown()
                if left and self.address is None:
                    continue
                where = self.address or "on this machine"
                raise RunError(f"Ray could not be reached or started ({where}): {error}") from error


def _tasks(
    ray: Any,
    function: Function,
    context: Any,
    parts: PartFolder,
    shards: Sequence[int],
    workers: int | None,
) -> Iterator[int]:
    window = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    # A task whose worker dies is done again; one that raises is not.
    task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_compute)
    sent = ray.put((function, context))
    under_way: dict[Any, int] = {}
    left = list(reversed(shards))
    while left or under_way:
        while left and len(under_way) < window:
            shard = left.pop()
            under_way[task.remote(sent, shard)] = shard
        (done, *_), _ = ray.wait(list(under_way), num_returns=1)
        shard = under_way.pop(done)
        parts.write(shard, _result(ray, done, shard))
        yield shard


def _result(ray: Any, done: Any, shard: int) -> Arrays:
    try:
        part: Arrays = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        # What the function raised, as it does on any other backend.
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RunError(
            f"Shard {shard} took its worker down {ATTEMPTS} times; often the memory is full. Use fewer "
            f"workers. Ray says: {str(error).splitlines()[0]}"
        ) from error
    return part


def _compute(job: tuple[Function, Any], shard: int) -> Arrays:
    tune_own_process()
    function, context = job
    return function(context, shard)


@contextlib.contextmanager
def _own_environment(values: dict[str, str]) -> Iterator[None]:
    """Set what is not set, for Ray's processes, and take away that and what Ray adds."""
    before = set(os.environ)
    os.environ.update({name: values[name] for name in values if name not in before})
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
