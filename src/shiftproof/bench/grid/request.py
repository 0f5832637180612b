"""The arguments of a run over a grid, and the grid with loaded models and data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from shiftproof.bench.arguments import (
    CorruptionLike,
    check_at_least_one,
    check_cells,
    check_encode,
    check_readable,
    check_severities,
    choose_workers,
    make_grid_settings,
    name_corruptions,
)
from shiftproof.bench.cells import batching
from shiftproof.bench.cells.on_device import CorruptOn, OnDevice, check_corrupt_on
from shiftproof.bench.cells.protocol import Protocol
from shiftproof.bench.cells.stream import Episode, list_episodes
from shiftproof.bench.cells.views import Encode, OnTheFly, View
from shiftproof.bench.tasks.classification.task import Classification
from shiftproof.bench.tasks.interface import AdapterLike, Prepared, Task
from shiftproof.corruptions import COMMON
from shiftproof.data import ImageData, choose_images
from shiftproof.errors import InputError
from shiftproof.models.loading import collect_assumed
from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.info import normalize_settings
from shiftproof.types import Cell, Settings

Corruptions: TypeAlias = "Sequence[CorruptionLike] | Mapping[str, CorruptionLike]"
Adapters: TypeAlias = "Sequence[AdapterLike] | Mapping[str, AdapterLike]"


@dataclass(frozen=True, eq=False, kw_only=True)
class GridRequest:
    """The arguments of :func:`run`, with a task and a protocol.

    Raises:
        InputError: an argument cannot be used with any models and data.
    """

    models: Any
    data: ImageData | str | Path
    task: Task
    corruptions: Corruptions = COMMON
    severities: Sequence[int] = (1, 2, 3, 4, 5)
    adapters: Adapters = ()
    images: int | str | None = None
    batch_size: int | None = None
    protocol: Protocol = field(default_factory=Protocol)
    seed: int = 0
    encode: Encode = "none"
    corrupt_on: CorruptOn = "workers"
    workers: int | None = None
    device: str = "cpu"
    show_progress: bool | None = None

    def __post_init__(self) -> None:
        check_severities(self.severities)
        if self.batch_size is not None:
            check_at_least_one("batch_size", self.batch_size)
        check_encode(self.encode)
        check_corrupt_on(self.corrupt_on)

    def load(self, out: Path | None) -> LoadedGrid:
        """Load models and data, choose the images, and return the grid.

        Args:
            out: the folder of the run; in a new one at least one image has to be readable.

        Raises:
            InputError: models, data and corruptions that do not fit together, or no image is readable.
            UnknownNameError: no such corruption; says the nearest.
        """
        prepared = self.task.prepare(self.models, self.data, self.adapters, device=self.device)
        if self.images is not None:
            prepared = _choose(prepared, self.images)
        on_disk = prepared.corrupted
        if on_disk is None and (out is None or not RunFolder(out).run_file.is_file()):
            check_readable(prepared.data)
        others = [cell.corruption for cell in on_disk.cells] if on_disk else ()
        named = name_corruptions(self.corruptions, others)
        return LoadedGrid(self, prepared, named, check_severities(self.severities))


@dataclass(frozen=True, eq=False)
class LoadedGrid:
    """A grid that can be measured: a request with loaded models and data.

    Attributes:
        request: the request.
        prepared: models and data.
        corruptions: corruptions by name.
        severities: severities in rising order.
    """

    request: GridRequest
    prepared: Prepared
    corruptions: Mapping[str, CorruptionLike]
    severities: Sequence[int]

    @property
    def batch_size(self) -> int:
        """Number of images per batch."""
        size = self.request.batch_size
        return self.prepared.batch_size if size is None else size

    @property
    def workers(self) -> int:
        """Number of processes that read and corrupt images."""
        workers = self.request.workers
        return choose_workers(self.prepared.device) if workers is None else workers

    @property
    def cells(self) -> list[Cell]:
        """All cells, in processing order."""
        return batching.list_cells(
            list(self.corruptions), self.severities, clean=self.prepared.has_clean
        )

    @functools.cached_property
    def view(self) -> View:
        """Loads an image in a cell."""
        return self.prepared.make_view(self.corruptions, self.request.seed, self.request.encode)

    @functools.cached_property
    def batch_view(self) -> View:
        """The view for batches, which are corrupted by workers or on the device.

        Raises:
            InputError: these images cannot be corrupted on the device.
        """
        if self.request.corrupt_on == "workers":
            return self.view
        if not isinstance(self.request.task, Classification) or not isinstance(self.view, OnTheFly):
            raise InputError(
                "Only images of classifiers, which have one size, can be corrupted on the device, and only "
                "while they are read; leave out --corrupt-on for other models and for copies on disk."
            )
        return OnDevice(self.view, self.prepared.device)

    def list_episodes(self) -> list[Episode]:
        """Return the episodes: the streams between two resets.

        Raises:
            InputError: the order needs labels, and the data have none.
        """
        request, samples = self.request, self.prepared.data.samples
        return list_episodes(self.cells, samples, request.protocol, seed=request.seed)

    def check_copies(self) -> None:
        """Raise an InputError if corrupted copies are read and a cell has none."""
        on_disk = self.prepared.corrupted
        if on_disk is not None:
            check_cells(on_disk.name, on_disk.cells, self.cells)

    def choose_images(self, images: int) -> LoadedGrid:
        """Return the grid of this number of images."""
        return dataclasses.replace(self, prepared=_choose(self.prepared, images))

    def settings(self) -> Settings:
        """Return the settings that determine the results of the run."""
        request = self.request
        found = make_grid_settings(
            self.prepared.data, self.batch_view, self.corruptions, self.severities,
            batch_size=self.batch_size, seed=request.seed, protocol=request.protocol.settings,
        )  # fmt: skip
        return normalize_settings({**self.prepared.settings, **found})

    def about(self) -> Settings:
        """Return the provenance of the results."""
        return {
            **self.prepared.about,
            "assumed": collect_assumed(self.prepared.models),
            "provenance": provenance(self.prepared.device, self.workers),
        }


def _choose(prepared: Prepared, images: int | str) -> Prepared:
    return dataclasses.replace(prepared, data=choose_images(prepared.data, images))
