"""How the predictions of the models of one task are recorded: the interface for a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from shiftproof.types import Image, Sample

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.base.events import Event


class Recorder(Protocol):
    """Collects the answers of one model in one cell, batch by batch."""

    def add(self, rows: Sequence[int], answers: Any, positions: Sequence[int]) -> None:
        """Record the answers for the samples with these indices in the cell."""

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record an unreadable file."""


class Recording(Protocol):
    """Batches, predicts and records with the models of one task."""

    def gather(self, images: Sequence[Image]) -> Any:
        """Return a batch in the models' input format."""

    def predict(self, model: Any, batch: Any) -> Any:
        """Return the model's predictions for a gathered batch."""

    def pick(self, answers: Any, places: Sequence[int]) -> Any:
        """Return the predictions for the images at these positions of the batch."""

    def recorder(self, samples: Sequence[Sample]) -> Any:
        """Return an empty recorder for a cell with these samples."""

    def resume(self, path: Path, samples: Sequence[Sample]) -> Any:
        """Return a recorder that continues a table of some of the samples.

        Raises:
            BrokenFileError: the table cannot be read.
            LookupError: the table is of other samples.
        """

    def write(self, path: Path, recorder: Any) -> None:
        """Write the recorded table, atomically."""


@runtime_checkable
class RecordingByModel(Protocol):
    """A recording that differs by model."""

    def of_model(self, name: str) -> Recording:
        """Return the recording of the model of that name in the run."""


def choose_recording(recording: Recording, name: str) -> Recording:
    """Return the recording of the model ``name``: its own, or the common one."""
    return recording.of_model(name) if isinstance(recording, RecordingByModel) else recording


@runtime_checkable
class Learner(Protocol):
    """A model that adapts while it predicts: an adapter, or an adapted detector or segmenter."""

    @property
    def events(self) -> Sequence[Event]:
        """Events since the last reset that readers of the results must know."""

    def reset(self) -> None:
        """Forget everything that was learned."""

    def frozen(self) -> AbstractContextManager[None]:
        """Predict without adaptation while the context lasts."""

    def end_epoch(self) -> None:
        """Mark the end of a pass over the whole target set."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return the adapted state."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a state."""
