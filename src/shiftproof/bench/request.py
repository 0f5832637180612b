"""What a run over a grid is given, as one value, and the grid that its models and data make of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from shiftproof.bench import grid
from shiftproof.bench.arguments import (
    CorruptionLike,
    check_at_least_one,
    check_cells,
    check_encode,
    check_readable,
    check_severities,
    default_workers,
    grid_settings,
    name_corruptions,
)
from shiftproof.bench.classification import Classification
from shiftproof.bench.on_device import CorruptOn, OnDevice, check_place
from shiftproof.bench.protocol import Protocol
from shiftproof.bench.stream import Episode, episodes
from shiftproof.bench.task import AdapterLike, Prepared, Task
from shiftproof.bench.views import Encode, OnTheFly, View
from shiftproof.corruptions import COMMON
from shiftproof.data import ImageData, choose_images
from shiftproof.errors import InputError
from shiftproof.models.assumed import collect_assumed
from shiftproof.provenance import provenance
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.names import plain
from shiftproof.types import Cell, Settings

Corruptions: TypeAlias = "Sequence[CorruptionLike] | Mapping[str, CorruptionLike]"
Adapters: TypeAlias = "Sequence[AdapterLike] | Mapping[str, AdapterLike]"


@dataclass(frozen=True, eq=False, kw_only=True)
class GridRequest:
    """What is asked for: the arguments of :func:`run` under their names, with a task and a protocol.

    Raises:
        InputError: an argument that cannot be used, whatever the models and data are.
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
        check_place(self.corrupt_on)

    def lay_out(self, out: Path | None) -> Layout:
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
        return Layout(self, prepared, named, check_severities(self.severities))


@dataclass(frozen=True, eq=False)
class Layout:
    """A grid that can be measured: what is asked for, with its models and data.

    Attributes:
        request: what is asked for.
        prepared: models and data.
        corruptions: by name, what makes them.
        severities: rising.
    """

    request: GridRequest
    prepared: Prepared
    corruptions: Mapping[str, CorruptionLike]
    severities: Sequence[int]

    @property
    def batch_size(self) -> int:
        """Images of a batch."""
        asked = self.request.batch_size
        return self.prepared.batch_size if asked is None else asked

    @property
    def workers(self) -> int:
        """Processes that read and corrupt."""
        asked = self.request.workers
        return default_workers(self.prepared.device) if asked is None else asked

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order in which they are done."""
        return grid.cells_of(list(self.corruptions), self.severities, clean=self.prepared.has_clean)

    @functools.cached_property
    def view(self) -> View:
        """Gives an image in a cell."""
        return self.prepared.make_view(self.corruptions, self.request.seed, self.request.encode)

    @functools.cached_property
    def shown(self) -> View:
        """Gives the images of batches: the view, or one that leaves the corruption to the device.

        Raises:
            InputError: the device cannot corrupt these.
        """
        if self.request.corrupt_on == "workers":
            return self.view
        if not isinstance(self.request.task, Classification) or not isinstance(self.view, OnTheFly):
            raise InputError(
                "Batches are corrupted on the device for classifiers, whose images have one size, and "
                "are made as they are shown; leave out --corrupt-on for others, and for copies on disk."
            )
        return OnDevice(self.view, self.prepared.device)

    def list_episodes(self) -> list[Episode]:
        """Return the stretches between two resets.

        Raises:
            InputError: an order that needs labels, without any.
        """
        asked, samples = self.request, self.prepared.data.samples
        return episodes(self.cells, samples, asked.protocol, seed=asked.seed)

    def check_copies(self) -> None:
        """Raise an InputError where corrupted copies are read and a cell has none."""
        on_disk = self.prepared.corrupted
        if on_disk is not None:
            check_cells(on_disk.name, on_disk.cells, self.cells)

    def choose(self, images: int) -> Layout:
        """Return the grid of so many of the images."""
        return dataclasses.replace(self, prepared=_choose(self.prepared, images))

    def settings(self) -> Settings:
        """Return what decides the figures of the run."""
        asked = self.request
        found = grid_settings(
            self.prepared.data, self.shown, self.corruptions, self.severities,
            batch_size=self.batch_size, seed=asked.seed, protocol=asked.protocol.settings,
        )  # fmt: skip
        return plain({**self.prepared.settings, **found})

    def about(self) -> Settings:
        """Return what tells how the figures came about."""
        return {
            **self.prepared.about,
            "assumed": collect_assumed(self.prepared.models),
            "provenance": provenance(self.prepared.device, self.workers),
        }


def _choose(prepared: Prepared, images: int | str) -> Prepared:
    return dataclasses.replace(prepared, data=choose_images(prepared.data, images))
