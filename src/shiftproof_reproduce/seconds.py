"""The CPU seconds of each part of an experiment, summed over interrupted runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from shiftproof.errors import BrokenFileError
from shiftproof.io import read_json, write_json

FILE = "seconds.json"


class Seconds:
    """The CPU seconds of the experiment in a folder.

    Attributes:
        spent: seconds by part.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.spent: dict[str, float] = {}
        with contextlib.suppress(BrokenFileError, AttributeError, TypeError, ValueError):
            self.spent = {str(part): float(spent) for part, spent in read_json(self._path).items()}

    @contextlib.contextmanager
    def count(self, part: str) -> Iterator[None]:
        """Add what is spent in the block to a part."""
        begun = time.process_time()
        try:
            yield
        finally:
            spent = self.spent.get(part, 0.0) + time.process_time() - begun
            self.spent[part] = round(spent, 1)
            write_json(self._path, self.spent)
