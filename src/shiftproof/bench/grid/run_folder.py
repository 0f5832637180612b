"""The folder of a run over a grid, and its caches of images."""

from __future__ import annotations

from pathlib import Path

from shiftproof.bench.cells.image_cache import ImageCache
from shiftproof.bench.cells.views import OnTheFly, View
from shiftproof.bench.grid.request import LoadedGrid
from shiftproof.io import files
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.info import normalize_settings
from shiftproof.types import Settings


def open_folder(
    out: Path, kind: str, grid: LoadedGrid, changed: Settings, *, why: str
) -> RunFolder:
    """Return the folder of a new run, or of one that is resumed with the same settings.

    Args:
        out: the folder.
        kind: the kind of the run.
        grid: the grid; its prepared images are cached below the folder.
        changed: the settings that differ from those of a run over the grid.
        why: a sentence on why the run cannot be extended.

    Raises:
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    settings = normalize_settings({**grid.settings(), **changed})
    folder = RunFolder.create(out, kind, settings, grid.about(), why=why)
    cache_images_on_disk(folder, grid.view)
    grid.request.task.begin(folder, grid.prepared)
    return folder


def cache_images_on_disk(folder: RunFolder, view: View) -> None:
    """Cache the prepared images of a view below the run."""
    if isinstance(view, OnTheFly):
        view.cache = files.make_folder(folder.cache)


def cache_images_per_process(view: View) -> None:
    """Cache the prepared images of a view in each process of a cluster, where no disk is shared."""
    if isinstance(view, OnTheFly):
        view.process_cache = ImageCache()
