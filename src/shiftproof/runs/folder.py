"""A run's folder: its files, its settings, and resuming."""

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
    fingerprint_scores,
    read_extension,
    read_requested_settings,
    resolve_extension,
)
from shiftproof.runs.names import make_folder_name
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
    ``events/MODEL/EPISODE.json`` (the events of an adapter, if there are any), ``scores.json``,
    ``gallery.json`` with ``gallery/``, ``report.html``. Existing files are complete:
    all are written atomically.
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
        """Create the folder, or resume the run in it if it has the same settings.

        Args:
            path: the folder.
            kind: "classification", "detection", ...
            settings: the settings that determine the results; must be equal to resume.
            about: provenance, which may differ.
            shared: whether other workers of the same run may work there.
            extension: the extension of the run in the folder; its settings are ``settings``.
            before: the settings of the run to extend.
            why: a sentence to add to an error, such as why the run cannot be extended.

        Raises:
            RunMismatchError: the folder belongs to a run with other settings.
            InputError: the folder has other content, or cannot be written to; or other processes work
                in a run to extend.
        """
        folder = cls(path)
        if not folder.run_file.is_file():
            folder._begin(kind, settings, about, shared=shared, why=why)
            return folder
        with lock_for_setup(path):
            info = read_object(folder.run_file)
            known = manifest.update_keys(read_requested_settings(info))
            # Another worker may have begun the extension.
            new_extension = None if known == settings else extension
            if new_extension is not None:
                manifest.check_same(path, known, before, what="a run")
                if shared:
                    with lock_exclusively(path):
                        folder._extend(new_extension)
            # While a run is extended, the file has its previous settings.
            is_same = new_extension is not None or known == settings
            written = info.get("settings") if is_same else settings
            folder._begin(kind, written, about, shared=shared, why=why)
            if new_extension is not None and not shared:
                folder._extend(new_extension)
        return folder

    def _begin(self, kind: str, settings: Any, about: Settings, *, shared: bool, why: str) -> None:
        manifest.begin(
            self.path,
            RUN_FILE,
            {"kind": kind, "settings": manifest.update_keys(settings)},
            what="a run",
            about=about,
            shared=shared,
            why=why,
        )

    def _extend(self, extension: Extension) -> None:
        """Write the extension into ``run.json``."""
        info = self.info()
        earlier = self.extension
        if earlier is not None and info.get("settings") != earlier.settings:
            # An extension that was not measured yet becomes part of this one.
            extension = msgspec.structs.replace(
                extension,
                added=f"{earlier.added}; {extension.added}",
                assumed={**earlier.assumed, **extension.assumed},
            )
        renamed = {} if earlier is None else earlier.renamed
        complete = msgspec.structs.replace(
            extension,
            scores=fingerprint_scores(self.scores_file),
            renamed={**renamed, **extension.renamed},
        )
        files.write_json(self.run_file, {**info, KEY: msgspec.to_builtins(complete)})

    @property
    def extension(self) -> Extension | None:
        """The unfinished extension of the run, if any."""
        return read_extension(read_object(self.run_file))

    @property
    def renamed(self) -> dict[str, str]:
        """New names of models by old name, during an extension."""
        extension = self.extension
        return {} if extension is None else extension.renamed

    def show_extended(self) -> None:
        """Make :meth:`info` return the extended run from now on, since all its cells are recorded."""
        self._measured = True

    def finish_extension(self) -> None:
        """Complete an extension in ``run.json``, after ``scores.json`` is written."""
        info = read_object(self.run_file)
        if KEY in info:
            files.write_json(
                self.run_file, resolve_extension(info, self.scores_file, measured=True)
            )

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of a run.

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

    # ------------------------------------------------------------ paths

    @property
    def run_file(self) -> Path:
        """Settings and provenance."""
        return self.path / RUN_FILE

    @property
    def scores_file(self) -> Path:
        """All scores with their intervals."""
        return self.path / "scores.json"

    @property
    def gallery_file(self) -> Path:
        """The pictures of the page, with the models' predictions."""
        return self.path / "gallery.json"

    def conditions_file(self, by: str) -> Path:
        """The scores by condition, for the column ``by`` of the metadata."""
        return self.path / f"{_CONDITIONS}{make_folder_name(by, 'column')}.json"

    @property
    def conditions_files(self) -> list[Path]:
        """The existing files of scores by condition, sorted by name."""
        return sorted(self.path.glob(f"{_CONDITIONS}*.json"))

    @property
    def task_files(self) -> list[Path]:
        """The files and folders written by the task's ``begin``, which ``measure`` needs."""
        return sorted(
            path
            for path in self.path.iterdir()
            if path.name not in _PARTS and not path.name.startswith((".", _CONDITIONS))
        )

    @property
    def cache(self) -> Path:
        """Decoded images, and states of adapters; removed at the end of the run."""
        return self.path / "cache"

    @property
    def rounds(self) -> Path:
        """Records of a run with a budget that are not in its tables yet."""
        return self.path / "rounds"

    def records_file(self, model: str, cell: Cell) -> Path:
        """The record table of one model in one cell."""
        return make_cell_path(self.path, model, cell)

    def events_file(self, model: str, episode: str) -> Path:
        """The events of one model between two resets."""
        return self.path / "events" / model / f"{episode}.json"

    def checkpoint(self, model: str, episode: str) -> Path:
        """The folder of a model's state, from which it resumes within an episode."""
        return self.cache / "checkpoints" / model / episode

    # ------------------------------------------------------------ contents

    def info(self) -> dict[str, Any]:
        """Read ``run.json``; during an extension, the version before it."""
        return resolve_extension(
            read_object(self.run_file), self.scores_file, measured=self._measured
        )

    def has(self, model: str, cell: Cell) -> bool:
        """Whether this cell is done."""
        return self.records_file(model, cell).is_file()

    def drop_cache(self) -> None:
        """Remove the files that are only needed to resume."""
        shutil.rmtree(self.cache, ignore_errors=True)


def make_cell_path(folder: Path, model: str, cell: Cell) -> Path:
    """Return the path of the records of ``model`` in ``cell`` below the run's folder."""
    return folder / "records" / model / f"{cell}.parquet"


@contextlib.contextmanager
def remove_if_refused(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Remove a run that was begun in the block if its input turns out to be invalid.

    Nothing was measured then, and the settings of an invalid file would not match the corrected one.
    An existing run is kept, as is a ``shared`` one, in which others may work.
    """
    existed = path.exists()
    is_new = not shared and not RunFolder(path).run_file.exists()
    try:
        yield
    except InputError:
        if is_new and RunFolder(path).run_file.is_file():
            _remove_run(path, keep_folder=existed)
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
