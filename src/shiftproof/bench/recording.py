"""How the answers of one kind of model are kept: what a passage through the grid asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from shiftproof.types import Image, Sample

if TYPE_CHECKING:
    import torch

    from shiftproof.adapt.events import Event


class Recorder(Protocol):
    """Collects the answers of one model in one cell, batch by batch."""

    def add(self, rows: Sequence[int], answers: Any, positions: Sequence[int]) -> None:
        """Record the answers for samples that are given by their places among the cell's."""

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record a file that could not be read."""


class Recording(Protocol):
    """What tells classifiers from detectors while the grid is filled."""

    def gather(self, images: Sequence[Image]) -> Any:
        """Return a batch in the form in which models of this kind take it."""

    def predict(self, model: Any, batch: Any) -> Any:
        """Return the model's answers for a gathered batch."""

    def pick(self, answers: Any, places: Sequence[int]) -> Any:
        """Return the answers for some of the images of the batch."""

    def recorder(self, samples: Sequence[Sample]) -> Any:
        """Return an empty recorder for a cell with these samples."""

    def resume(self, path: Path, samples: Sequence[Sample]) -> Any:
        """Return a recorder that continues a table of some of the samples.

        Raises:
            BrokenFileError: it cannot be read.
            LookupError: it is of other samples.
        """

    def write(self, path: Path, recorder: Any) -> None:
        """Write what a recorder has as a table, atomically."""


@runtime_checkable
class RecordingByModel(Protocol):
    """A recording that keeps the answers of each model in a way of its own."""

    def of_model(self, name: str) -> Recording:
        """Return how the answers of the model of that name in the run are kept."""


def recording_of(recording: Recording, name: str) -> Recording:
    """Return how the answers of the model ``name`` are kept: alike for all, or in its own way."""
    return recording.of_model(name) if isinstance(recording, RecordingByModel) else recording


@runtime_checkable
class Learner(Protocol):
    """What learns while it predicts: an adapter, or an adapted detector."""

    @property
    def events(self) -> Sequence[Event]:
        """What happened since the last reset that a reader of the results must know."""

    def reset(self) -> None:
        """Forget everything that was learned."""

    def frozen(self) -> AbstractContextManager[None]:
        """Predict and learn nothing while the context lasts."""

    def end_epoch(self) -> None:
        """Take note that one pass over the whole target set is through."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that was learned."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up a state."""
