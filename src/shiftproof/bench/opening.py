"""The first steps of runs over a grid: its images and cells are chosen, its folder is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.bench import grid
from shiftproof.bench.arguments import (
    CorruptionLike,
    check_cells,
    check_readable,
    name_corruptions,
)
from shiftproof.bench.kept_images import KeptImages
from shiftproof.bench.task import Prepared, Task
from shiftproof.bench.views import Encode, OnTheFly, View
from shiftproof.data import choose_images
from shiftproof.io import files
from shiftproof.models.assumed import collect_assumed
from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.names import plain
from shiftproof.types import Cell, Settings


@dataclass(frozen=True, eq=False)
class Layout:
    """What a grid is made of: corruptions by name, the view that makes the images, and the cells."""

    corruptions: Mapping[str, CorruptionLike]
    view: View
    cells: Sequence[Cell]


def select_images(prepared: Prepared, images: int | str | None, out: str | Path) -> Prepared:
    """Return what was prepared with some of its images, all of them by default.

    Args:
        prepared: models and data.
        images: as for :func:`run`.
        out: the folder of the run; in a new one at least one image has to be readable.

    Raises:
        InputError: no image is readable, or ``images`` names no part of them.
    """
    if images is not None:
        prepared = dataclasses.replace(prepared, data=choose_images(prepared.data, images))
    if prepared.corrupted is None and not RunFolder(Path(out)).run_file.is_file():
        check_readable(prepared.data)
    return prepared


def lay_out(
    prepared: Prepared,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike],
    severities: Sequence[int],
    *,
    seed: int,
    encode: Encode,
    clean: bool,
) -> Layout:
    """Return the grid of corruptions and severities, with a clean cell if ``clean``.

    Raises:
        InputError: a corruption is none, or the corrupted copies do not have a cell.
        UnknownNameError: no such corruption; says the nearest.
    """
    on_disk = prepared.corrupted
    named = name_corruptions(
        corruptions, [cell.corruption for cell in on_disk.cells] if on_disk else ()
    )
    cells = grid.cells_of(list(named), severities, clean=clean)
    if on_disk is not None:
        check_cells(on_disk, cells)
    return Layout(named, prepared.make_view(named, seed, encode), cells)


def open_folder(
    out: str | Path,
    kind: str,
    task: Task,
    prepared: Prepared,
    settings: Settings,
    view: View,
    workers: int,
    *,
    why: str,
) -> RunFolder:
    """Return the folder of a new run, or of one that goes on with the same settings.

    Args:
        out: the folder.
        kind: of the run.
        task: writes what it keeps beside the records.
        prepared: models and data, whose settings are added.
        settings: of the grid.
        view: its prepared images are kept below the run while it lasts.
        workers: for the provenance.
        why: the sentence that says why the run cannot be extended.

    Raises:
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    folder = RunFolder.create(
        Path(out),
        kind,
        plain({**prepared.settings, **settings}),
        {
            **prepared.about,
            "assumed": collect_assumed(prepared.models),
            "provenance": provenance(prepared.device, workers),
        },
        why=why,
    )
    keep_images(folder, view)
    task.begin(folder, prepared)
    return folder


def keep_images(folder: RunFolder, view: View) -> None:
    """Keep the prepared images of a view below the run while it lasts."""
    if isinstance(view, OnTheFly):
        view.cache = files.make_folder(folder.cache)


def keep_images_here(view: View) -> None:
    """Keep the prepared images of a view in each process of a cluster, which shares no disk for them."""
    if isinstance(view, OnTheFly):
        view.kept = KeptImages()
