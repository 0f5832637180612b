"""A run that was begun for files that then turn out not to fit: nothing half written is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shiftproof.errors import InputError
from shiftproof.runs.folder import RUN_FILE


class Beginning:
    """What was at the place of a run before it was begun."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._had_folder = out.is_dir()
        self._had_run = (out / RUN_FILE).is_file()

    @contextmanager
    def undo_when_refused(self) -> Iterator[None]:
        """Take away the run where an InputError leaves the block, unless it was there before.

        To be entered once the run's folder is made: until then what lies there is another's.
        """
        try:
            yield
        except InputError:
            if not self._had_run:
                self._remove()
            raise

    def _remove(self) -> None:
        if not self._had_folder:
            shutil.rmtree(self._out, ignore_errors=True)
            return
        # The person's own empty folder stays.
        for path in self._out.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith("."):
                path.unlink()
