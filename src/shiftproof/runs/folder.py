"""A run's folder: what it holds, whose it is, and how it is resumed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shiftproof.errors import InputError
from shiftproof.io import manifest
from shiftproof.io.text import read_object
from shiftproof.runs.names import folder_name
from shiftproof.types import Cell, Settings

RUN_FILE = "run.json"

_PARTS = {
    RUN_FILE, "records", "events", "cache", "gallery", "gallery.json", "scores.json", "report.html",
    "rounds",
}  # fmt: skip

_CONDITIONS = "conditions-"


class RunFolder:
    """The files of one run.

    ``run.json`` (settings and provenance), ``records/MODEL/CELL.parquet`` (one row per image),
    ``events/MODEL/EPISODE.json`` (what an adapter tells, where it told something), ``scores.json``,
    ``gallery.json`` with ``gallery/``, ``report.html``. A file that is there is complete:
    everything is written atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, path: Path, kind: str, settings: Settings, about: Settings, *, shared: bool = False
    ) -> RunFolder:
        """Make the folder, or resume the run that is there if it has the same settings.

        ``kind`` is "classification" or "detection". ``settings`` decide the numbers and must be
        equal to resume; ``about`` (provenance) only tells how they came about. ``shared`` says that
        other workers of the same run may be at work there.

        Raises:
            RunMismatchError: the folder belongs to a run with other settings.
            InputError: the folder holds other things, or cannot be written to.
        """
        manifest.begin(
            path,
            RUN_FILE,
            {"kind": kind, "settings": settings},
            what="a run",
            about=about,
            shared=shared,
        )
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a folder that a run has been written to.

        Raises:
            InputError: there is no run.
        """
        folder = cls(path)
        if not folder.run_file.is_file():
            raise InputError(
                f"{path} holds no run (no run.json). "
                "Give the folder that `shiftproof bench --out`, or another command, wrote."
            )
        return folder

    # ------------------------------------------------------------ places

    @property
    def run_file(self) -> Path:
        """Settings and provenance."""
        return self.path / RUN_FILE

    @property
    def scores_file(self) -> Path:
        """All figures with their intervals."""
        return self.path / "scores.json"

    @property
    def gallery_file(self) -> Path:
        """The pictures that the page shows, and what models said about them."""
        return self.path / "gallery.json"

    def conditions_file(self, by: str) -> Path:
        """The figures by condition, of the column ``by`` of some metadata."""
        return self.path / f"{_CONDITIONS}{folder_name(by, 'column')}.json"

    @property
    def conditions_files(self) -> list[Path]:
        """All figures by condition that were made of this run, in the order of their names."""
        return sorted(self.path.glob(f"{_CONDITIONS}*.json"))

    @property
    def task_files(self) -> list[Path]:
        """What the task wrote at the beginning, to measure the records by: files and folders."""
        return sorted(
            one
            for one in self.path.iterdir()
            if one.name not in _PARTS and not one.name.startswith((".", _CONDITIONS))
        )

    @property
    def cache(self) -> Path:
        """Decoded images and what adapters have learned while the run lasts; removed at its end."""
        return self.path / "cache"

    @property
    def rounds(self) -> Path:
        """Records of a run with a budget that are not in its own tables yet."""
        return self.path / "rounds"

    def records_file(self, model: str, cell: Cell) -> Path:
        """The record table of one model in one cell."""
        return cell_file(self.path, model, cell)

    def events_file(self, model: str, episode: str) -> Path:
        """What happened to one model between two resets."""
        return self.path / "events" / model / f"{episode}.json"

    def checkpoint(self, model: str, episode: str) -> Path:
        """The folder from which a model resumes in the middle of an episode."""
        return self.cache / "checkpoints" / model / episode

    # ------------------------------------------------------------ contents

    def info(self) -> dict[str, Any]:
        """Read ``run.json``."""
        return read_object(self.run_file)

    def has(self, model: str, cell: Cell) -> bool:
        """Whether this cell is done."""
        return self.records_file(model, cell).is_file()

    def drop_cache(self) -> None:
        """Remove what is only there to resume from."""
        shutil.rmtree(self.cache, ignore_errors=True)


def cell_file(folder: Path, model: str, cell: Cell) -> Path:
    """Return where the records of ``model`` in ``cell`` lie below the run's folder."""
    return folder / "records" / model / f"{cell}.parquet"


@contextlib.contextmanager
def leave_nothing_if_refused(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Take away a run that was begun within, when its input turns out to be unusable.

    Nothing was measured then, and settings that name a faulty file would refuse the mended one. A
    run that was there before stays, and one that is ``shared``, in which others may be at work.
    """
    was_there = path.exists()
    is_new = not shared and not RunFolder(path).run_file.exists()
    try:
        yield
    except InputError:
        if is_new and RunFolder(path).run_file.is_file():
            _remove_run(path, keep_folder=was_there)
        raise


def _remove_run(path: Path, *, keep_folder: bool) -> None:
    if not keep_folder:
        shutil.rmtree(path, ignore_errors=True)
        return
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif not entry.name.startswith("."):
            entry.unlink(missing_ok=True)
