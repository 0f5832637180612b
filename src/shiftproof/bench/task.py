"""What a task is: all in which classification, detection and segmentation differ.

The grid, the episodes, the checkpoints, the records' files, resuming, the summary, the page and the
comparison of runs are the same for all. A task says how models and data are prepared, how answers are
recorded, what is measured of the records, and which pictures are kept.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from shiftproof.adapt import Adapter
from shiftproof.bench.arguments import CorruptionLike
from shiftproof.bench.calibrating import HeldOut
from shiftproof.bench.recording import Recording
from shiftproof.bench.views import Encode, View
from shiftproof.corruptions import COMMON
from shiftproof.data import CorruptedData, ImageData
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.resamples import Replicates
from shiftproof.runs.scores.grid import Headline, Images, Measure
from shiftproof.runs.scores.shared import Resampling
from shiftproof.types import Cell, Settings

SOURCE = "source"
"""The name of the model as it is, beside which the adapters stand."""

MakeView = Callable[[Mapping[str, CorruptionLike], int, Encode], View]

AdapterLike: TypeAlias = "str | Adapter | Callable[[Any], Adapter]"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Models and data of a run, prepared by a task.

    Attributes:
        models: name in the run to what predicts; the first is the one that others are held against.
        titles: name in the run to the model's name in full.
        data: the images.
        recording: how the answers of these models are kept.
        settings: of models and task: what decides the numbers, and must be equal to resume.
        about: what else the run is to say of them.
        make_view: gives the images in the cells, from corruptions by name, seed and encoding.
        corrupted: the corrupted copies that are read in the place of corrupting here, if they are.
        has_clean: whether there are clean images.
        keeps_images: whether what a view makes of an image before it corrupts it is kept on the disk
            while the run lasts, as it is smaller than the image.
        device: where the models run.
        batch_size: where none is asked for.
        held_out: labeled images on which the models are calibrated before they are measured.
    """

    models: Mapping[str, Any]
    titles: Mapping[str, str]
    data: ImageData
    recording: Recording
    settings: Settings
    about: Settings
    make_view: MakeView
    corrupted: CorruptedData | None = None
    has_clean: bool = True
    keeps_images: bool = False
    device: str = "cpu"
    batch_size: int = 64
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class Grid:
    """The cells of a run.

    Attributes:
        cells: those with records, the clean one first where there is one.
        missing: those that there should be, and are not.
    """

    cells: Sequence[Cell]
    missing: Sequence[Cell] = ()

    @property
    def corrupted(self) -> list[Cell]:
        """All but the clean one."""
        return [cell for cell in self.cells if not cell.is_clean]

    @property
    def corruptions(self) -> list[str]:
        """In the order of the cells."""
        return list(dict.fromkeys(cell.corruption for cell in self.corrupted))

    @property
    def severities(self) -> list[int]:
        """Rising."""
        return sorted({cell.severity for cell in self.corrupted})

    @property
    def averaged(self) -> list[Cell]:
        """The cells that enter the mean of the benchmark: the holdout corruptions never do."""
        common = [cell for cell in self.corrupted if cell.corruption in COMMON]
        return common or self.corrupted

    @property
    def has_clean(self) -> bool:
        """Whether the clean cell is among them."""
        return any(cell.is_clean for cell in self.cells)


@dataclass(frozen=True, eq=False)
class Measured:
    """What a task measures of the records of a run.

    Attributes:
        measures: the figures of a cell; the first is what the grid is drawn by.
        headlines: the figures of a model as a whole.
        cells: model to cell to name of a measure to its replicates.
        images: counts, and what could not be read.
        interval: how the replicates were drawn.
        claim: the benchmark's own headline, such as "mCE"; None where there is none.
        reason: why it is not claimed; None where it is.
        complete: whether the grid is the whole benchmark.
        summaries: model to name of a headline to its replicates, beside ``clean`` and ``mean``.
        corruptions: model to corruption to further figures of it.
        numbers: model to cell to numbers without intervals.
        counts: model to cell to the images that count there.
        details: model to what is the task's own, as JSON takes it.
    """

    measures: Sequence[Measure]
    headlines: Sequence[Headline]
    cells: Mapping[str, Mapping[Cell, Mapping[str, Replicates]]]
    images: Images
    interval: Resampling
    claim: str | None = None
    reason: str | None = None
    complete: bool = False
    summaries: Mapping[str, Mapping[str, Replicates]] = field(default_factory=dict)
    corruptions: Mapping[str, Mapping[str, Mapping[str, Replicates]]] = field(default_factory=dict)
    numbers: Mapping[str, Mapping[Cell, Mapping[str, float | None]]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[Cell, int]] = field(default_factory=dict)
    details: Mapping[str, Settings] = field(default_factory=dict)


class Task(ABC):
    """A kind of models and what is measured of them; a concrete one is final.

    Hyperparameters (a measure, a class map) go to its constructor. ``kind`` names the runs' kind: the
    page of a kind that the report does not know has all that is common to tasks.
    """

    kind: str

    @abstractmethod
    def prepare(
        self,
        models: Any,
        data: Any,
        adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike],
        *,
        device: str,
    ) -> Prepared:
        """Load models, data and adapters where they are given as text, and check that they fit together.

        Raises:
            InputError: something cannot be used.
        """

    @abstractmethod
    def begin(self, folder: RunFolder, prepared: Prepared) -> None:
        """Write into the run's folder what measuring will need beside the records."""

    def carry(self, folder: RunFolder, target: RunFolder, images: Collection[str]) -> None:
        """Lay what :meth:`begin` wrote into another folder, whose records are of some images only.

        Everything is copied as it is. A task that holds all records against what it wrote
        narrows that to those images.

        Args:
            folder: of the run.
            target: a new folder, in which :meth:`measure` is to be called.
            images: ids of the images whose records are there.
        """
        for path in folder.task_files:
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, target.path / path.name)

    @abstractmethod
    def measure(
        self,
        folder: RunFolder,
        models: Sequence[str],
        grid: Grid,
        *,
        workers: int,
        show_progress: bool | None,
    ) -> Measured:
        """Measure the records of a run; depends on the files in its folder alone.

        Raises:
            BrokenFileError: a file cannot be read, or two tables are not about the same images.
        """

    @abstractmethod
    def save_gallery(
        self, folder: RunFolder, prepared: Prepared, view: View, cells: Sequence[Cell]
    ) -> None:
        """Write the pictures that the page shows, for a run whose records are complete."""
