"""A run's folder: what it holds, whose it is, and how it is resumed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from shiftproof.errors import InputError
from shiftproof.io import files, manifest
from shiftproof.io.folder_locks import lock_exclusively, lock_for_setup
from shiftproof.io.text import read_object
from shiftproof.runs.extension import (
    KEY,
    Extension,
    find_settings,
    print_scores,
    read_extension,
    settle,
)
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
        self._measured = False

    @classmethod
    def create(
        cls,
        path: Path,
        kind: str,
        settings: Settings,
        about: Settings,
        *,
        shared: bool = False,
        extension: Extension | None = None,
        before: Settings | None = None,
        why: str = "",
    ) -> RunFolder:
        """Make the folder, or resume the run that is there if it has the same settings.

        Args:
            path: the folder.
            kind: "classification", "detection", ...
            settings: decide the numbers, and must be equal to resume.
            about: provenance, which only tells how they came about.
            shared: other workers of the same run may be at work there.
            extension: what the run that is there becomes; its settings are ``settings``.
            before: the settings of the run that is to be extended.
            why: a sentence for an error, such as why the run cannot be extended.

        Raises:
            RunMismatchError: the folder belongs to a run with other settings.
            InputError: the folder holds other things, or cannot be written to; or others are at work
                where a run is to be extended.
        """
        folder = cls(path)
        if not folder.run_file.is_file():
            folder._begin(kind, settings, about, shared=shared, why=why)
            return folder
        with lock_for_setup(path):
            told = read_object(folder.run_file)
            known = manifest.spell(find_settings(told))
            # Another worker of the extended run may have been here first.
            extends = extension is not None and known != settings
            if extends:
                manifest.check_same(path, known, before, what="a run")
            same = extends or known == settings
            if extension is not None and extends and shared:
                with lock_exclusively(path):
                    folder._extend(extension)
            # While a run is extended, the file has the settings of before.
            written = told.get("settings") if same else settings
            folder._begin(kind, written, about, shared=shared, why=why)
            if extension is not None and extends and not shared:
                folder._extend(extension)
        return folder

    def _begin(self, kind: str, settings: Any, about: Settings, *, shared: bool, why: str) -> None:
        manifest.begin(
            self.path,
            RUN_FILE,
            {"kind": kind, "settings": manifest.spell(settings)},
            what="a run",
            about=about,
            shared=shared,
            why=why,
        )

    def _extend(self, extension: Extension) -> None:
        """Write into ``run.json`` what the run becomes."""
        told = self.info()
        earlier = self.extension
        if earlier is not None and told.get("settings") != earlier.settings:
            # It was not measured yet, and becomes a part of this one.
            extension = msgspec.structs.replace(
                extension,
                added=f"{earlier.added}; {extension.added}",
                assumed={**earlier.assumed, **extension.assumed},
            )
        renamed = {} if earlier is None else earlier.renamed
        whole = msgspec.structs.replace(
            extension,
            scores=print_scores(self.scores_file),
            renamed={**renamed, **extension.renamed},
        )
        files.write_json(self.run_file, {**told, KEY: msgspec.to_builtins(whole)})

    @property
    def extension(self) -> Extension | None:
        """What the run is being extended to, if it is."""
        return read_extension(read_object(self.run_file))

    @property
    def renamed(self) -> dict[str, str]:
        """New names of models by their old ones, while the run is being extended."""
        extension = self.extension
        return {} if extension is None else extension.renamed

    def show_extended(self) -> None:
        """Let :meth:`info` tell of the extended run from now on: all its cells are recorded."""
        self._measured = True

    def finish_extension(self) -> None:
        """Write into ``run.json`` that the run is the larger one, after ``scores.json``."""
        told = read_object(self.run_file)
        if KEY in told:
            files.write_json(self.run_file, settle(told, self.scores_file, measured=True))

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
        """Read ``run.json``: of a run that is being extended, what it is until that is measured."""
        return settle(read_object(self.run_file), self.scores_file, measured=self._measured)

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
def remove_if_refused(path: Path, *, shared: bool = False) -> Iterator[None]:
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
