"""The interface of a task: everything in which classification, detection and segmentation differ.

The grid, the episodes, the checkpoints, the records' files, resuming, the summary, the page and the
comparison of runs are the same for all. A task prepares models and data, records predictions, measures
the records, and stores images for the page.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from shiftproof.adapt import Adapter
from shiftproof.bench.arguments import CorruptionLike
from shiftproof.bench.cells.recording import Recording
from shiftproof.bench.cells.views import Encode, View
from shiftproof.corruptions import COMMON
from shiftproof.data import CorruptedData, ImageData
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.resamples import Replicates
from shiftproof.runs.scores.grid import Headline, Images, Measure
from shiftproof.runs.scores.shared import Resampling
from shiftproof.types import Cell, Settings

if TYPE_CHECKING:
    from shiftproof.bench.tasks.classification.calibrating import HeldOut

SOURCE = "source"
"""The name of the unadapted model."""

MakeView = Callable[[Mapping[str, CorruptionLike], int, Encode], View]

AdapterLike: TypeAlias = "str | Adapter | Callable[[Any], Adapter]"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Models and data of a run, prepared by a task.

    Attributes:
        models: models and adapters by name in the run; the first is the baseline of comparisons.
        titles: full names of the models by name in the run; those of an extended run that were not
            named again are here alone.
        data: the dataset.
        recording: records the predictions of these models.
        settings: settings of models and task that determine the results; equal when resuming.
        about: further information for the record of the run.
        make_view: creates the view of the images, from corruptions by name, seed and encoding.
        corrupted: corrupted copies to read instead of corrupting images, if any.
        has_clean: whether there are clean images.
        keeps_images: whether preprocessed images are cached on disk during the run, since they are
            smaller than the files.
        device: device of the models.
        batch_size: default batch size.
        held_out: labeled images for calibration before the models are measured.
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
        cells: cells with records, the clean one first if there is one.
        missing: expected cells without records.
    """

    cells: Sequence[Cell]
    missing: Sequence[Cell] = ()

    @property
    def corrupted(self) -> list[Cell]:
        """The corrupted cells."""
        return [cell for cell in self.cells if not cell.is_clean]

    @property
    def corruptions(self) -> list[str]:
        """The corruptions, in the order of the cells."""
        return list(dict.fromkeys(cell.corruption for cell in self.corrupted))

    @property
    def severities(self) -> list[int]:
        """The severities, sorted."""
        return sorted({cell.severity for cell in self.corrupted})

    @property
    def averaged(self) -> list[Cell]:
        """The cells in the mean of the benchmark, which excludes holdout corruptions."""
        common = [cell for cell in self.corrupted if cell.corruption in COMMON]
        return common or self.corrupted

    @property
    def has_clean(self) -> bool:
        """Whether the clean cell has records."""
        return any(cell.is_clean for cell in self.cells)


@dataclass(frozen=True, eq=False)
class Measured:
    """The measurements of a run's records.

    Attributes:
        measures: the measures of a cell; the first is shown in the charts of the grid.
        headlines: the summary measures of a model.
        cells: replicates by model, cell and measure.
        images: number of images, and unreadable ones.
        interval: the resampling of the replicates.
        claim: the benchmark's headline, such as "mCE"; None without one.
        reason: why the headline is not reported; None if it is.
        complete: whether the grid is that of the benchmark.
        summaries: replicates of headlines except ``clean`` and ``mean``, by model and headline.
        corruptions: further figures by model and corruption.
        numbers: numbers without intervals, by model and cell.
        counts: number of images by model and cell.
        details: task-specific results by model, for JSON.
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
    """Base class of tasks; concrete classes are final.

    Options such as a measure or a class map are arguments of the constructor. ``kind`` is the kind of
    its runs; for an unknown kind, the report shows the sections common to all tasks.
    """

    kind: str

    gallery_needs_models: bool = False
    """Whether the pictures for the page ask the models once more, so that all have to be at hand."""

    @abstractmethod
    def prepare(
        self,
        models: Any,
        data: Any,
        adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike],
        *,
        device: str,
    ) -> Prepared:
        """Load models, data and adapters given as text, and check that they fit together.

        Raises:
            InputError: an argument cannot be used.
        """

    @abstractmethod
    def begin(self, folder: RunFolder, prepared: Prepared) -> None:
        """Write files into the run's folder that :meth:`measure` needs in addition to the records."""

    def carry(self, folder: RunFolder, target: RunFolder, images: Collection[str]) -> None:
        """Copy the files of :meth:`begin` to another folder with records of a subset of the images.

        By default they are copied unchanged. Tasks whose files must match the records reduce them to
        these images.

        Args:
            folder: folder of the run.
            target: a new folder for :meth:`measure`.
            images: ids of the images with records in ``target``.
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
        """Measure the records of a run, using only the files in its folder.

        Raises:
            BrokenFileError: a file cannot be read, or two tables have different images.
        """

    @abstractmethod
    def save_gallery(
        self, folder: RunFolder, prepared: Prepared, view: View, cells: Sequence[Cell]
    ) -> None:
        """Write the images for the page, for a run with complete records of ``prepared.titles``."""
