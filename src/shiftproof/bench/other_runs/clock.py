"""The seconds that a run with a budget has taken, over all times that it was started."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import final

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.text import read_json

CLOCK = "clock.json"
"""The file of a run that keeps them."""


def check_budget(seconds: float) -> None:
    """Raise an InputError unless ``seconds`` is a time above 0."""
    if isinstance(seconds, bool) or not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"Expected a budget above 0, in seconds, got {seconds!r}.")


@final
class Clock:
    """Total time of a run over all starts; ``budget`` is what it may take, None without a limit."""

    def __init__(self, path: Path, budget: float | None) -> None:
        self._path, self._budget = path, budget
        self._before = _read_seconds(path)
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """The total time so far, in seconds."""
        return self._before + time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """The seconds that are left of the budget, 0 or more."""
        return math.inf if self._budget is None else max(0.0, self._budget - self.seconds)

    @property
    def is_up(self) -> bool:
        """Whether the budget is used up."""
        return self._budget is not None and self.seconds >= self._budget

    @property
    def share(self) -> float:
        """The share of the budget that is used, at most 1."""
        return 0.0 if self._budget is None else min(1.0, self.seconds / self._budget)

    def save(self) -> None:
        """Keep the time, where there is a budget."""
        if self._budget is not None:
            files.write_json(self._path, {"seconds": round(self.seconds, 1)})


def _read_seconds(path: Path) -> float:
    """Return the time in a clock's file; 0 without a readable one."""
    try:
        return float(read_json(path)["seconds"])
    except (BrokenFileError, LookupError, TypeError, ValueError):
        return 0.0
