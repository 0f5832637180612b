"""How the parts of the GPU benchmark measure: time on the device, within a budget, errors kept."""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

MIN_REPEATS, MAX_REPEATS = 5, 50
"""Limits of the repeats of a call."""


@dataclass(frozen=True)
class Setting:
    """Where a part runs, and for how long.

    Attributes:
        device: as torch spells it.
        quick: whether sizes are tiny, to see that everything runs.
        seconds: that the part may take.
        start: when it began.
    """

    device: str
    quick: bool
    seconds: float
    start: float = field(default_factory=time.perf_counter)

    @property
    def on_gpu(self) -> bool:
        """Whether time is told by the device's own clock."""
        return self.device.startswith("cuda")

    @property
    def is_over(self) -> bool:
        """Whether the time of the part is used up."""
        return time.perf_counter() - self.start > self.seconds

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Return what a call gives, or what went wrong in it, so that the others still run."""
        if self.is_over:
            return {"skipped": f"the {self.seconds:.0f} s of this part were used up"}
        try:
            return call()
        except Exception as error:
            if self.on_gpu:
                torch.cuda.empty_cache()
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
            return {"error": f"{type(error).__name__} in {place}: {error}"[:500]}

    def wait(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def milliseconds(self, call: Callable[[], object], budget: float = 2.0) -> float:
        """Return the median milliseconds of a call, the device's work included.

        Repeated for ``budget`` seconds, after two calls that are not counted.
        """
        if self.quick:
            budget = 0.0
        for _ in range(1 if self.quick else 2):
            call()
        self.wait()
        times: list[float] = []
        begun = time.perf_counter()
        fewest = 1 if self.quick else MIN_REPEATS
        while len(times) < fewest or (
            time.perf_counter() - begun < budget and len(times) < MAX_REPEATS
        ):
            before = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - before)
        return statistics.median(times) * 1000

    def peak_megabytes(self, call: Callable[[], object]) -> float | None:
        """Return the most memory that the device's allocator held during a call; None elsewhere."""
        if not self.on_gpu:
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) / 1e6


def version_of(library: str) -> str | None:
    """Return the version of an installed library, or None."""
    import importlib.metadata

    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
