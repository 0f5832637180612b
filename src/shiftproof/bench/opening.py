"""The folder of a run over a grid, and the images that are kept while it lasts."""

from __future__ import annotations

from pathlib import Path

from shiftproof.bench.kept_images import KeptImages
from shiftproof.bench.request import Layout
from shiftproof.bench.views import OnTheFly, View
from shiftproof.io import files
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.names import plain
from shiftproof.types import Settings


def open_folder(out: Path, kind: str, layout: Layout, changed: Settings, *, why: str) -> RunFolder:
    """Return the folder of a new run, or of one that goes on with the same settings.

    Args:
        out: the folder.
        kind: of the run.
        layout: the grid, whose prepared images are kept below the run while it lasts.
        changed: the settings in which the run is another than one over the grid.
        why: the sentence that says why the run cannot be extended.

    Raises:
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    settings = plain({**layout.settings(), **changed})
    folder = RunFolder.create(out, kind, settings, layout.about(), why=why)
    keep_images(folder, layout.view)
    layout.request.task.begin(folder, layout.prepared)
    return folder


def keep_images(folder: RunFolder, view: View) -> None:
    """Keep the prepared images of a view below the run while it lasts."""
    if isinstance(view, OnTheFly):
        view.cache = files.make_folder(folder.cache)


def keep_images_here(view: View) -> None:
    """Keep the prepared images of a view in each process of a cluster, which shares no disk for them."""
    if isinstance(view, OnTheFly):
        view.kept = KeptImages()
