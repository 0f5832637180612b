"""What the recordings of detectors and segmenters share: images of any size, one answer for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from shiftproof.models.detectors.class_match import ClassMatch
from shiftproof.types import I32, Image, Sample

Kept = TypeVar("Kept")
Records = TypeVar("Records")
Answer = TypeVar("Answer")

Form: TypeAlias = "Callable[[list[str], I32, list[Kept], list[str | None]], Records]"
"""Makes the table of ids, positions, what is kept of each image, and the reasons of broken ones."""


class DenseRecorder(Generic[Kept, Records]):
    """Collects what is kept of each image in one cell, batch by batch.

    Args:
        samples: the images of the cell.
        nothing: stands for an image that could not be read.
        form: makes the table.
        keep: what is kept of an answer for an image; the answer itself by default.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        nothing: Kept,
        form: Form[Kept, Records],
        keep: Callable[[Sample, Any], Kept] = lambda _, answer: answer,
    ) -> None:
        self._samples, self._nothing, self._form, self._keep = samples, nothing, form, keep
        self._kept: dict[int, Kept] = {}
        self._position: dict[int, int] = {}
        self._error: dict[int, str] = {}

    def add(self, rows: Sequence[int], answers: Sequence[Any], positions: Sequence[int]) -> None:
        """Record the answers for some images, given by their places among the samples."""
        for row, answer, position in zip(rows, answers, positions, strict=True):
            self._kept[row] = self._keep(self._samples[row], answer)
            self._position[row] = position

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record a file that could not be read."""
        self._position[row] = position
        self._error[row] = reason

    def add_table(
        self,
        ids: Sequence[str],
        positions: I32,
        kept: Sequence[Kept],
        errors: Sequence[str | None],
    ) -> None:
        """Continue from the table of some of the samples.

        Raises:
            LookupError: the table is of other samples.
        """
        places = {sample.id: row for row, sample in enumerate(self._samples)}
        for at, (name, reason) in enumerate(zip(ids, errors, strict=True)):
            row = places[name]
            self._position[row] = int(positions[at])
            if reason is None:
                self._kept[row] = kept[at]
            else:
                self._error[row] = reason

    def finish(self) -> Records:
        """Return the table of the samples that were seen, in their order."""
        rows = sorted(self._position)
        return self._form(
            [self._samples[row].id for row in rows],
            np.array([self._position[row] for row in rows], dtype=np.int32),
            [self._kept.get(row, self._nothing) for row in rows],
            [self._error.get(row) for row in rows],
        )


class DenseRecording(ABC, Generic[Answer]):
    """Batches and predicts with models that take images of any size, in the classes of the data."""

    def __init__(self) -> None:
        # By the model itself: its id is another one where both are sent to.
        self._matches: list[tuple[Any, ClassMatch]] = []

    def add(self, model: Any, match: ClassMatch) -> None:
        """Store the class match of a model."""
        self._matches.append((model, match))

    def match_of(self, model: Any) -> ClassMatch:
        """Return the class match of a model."""
        return next(match for one, match in self._matches if one is model)

    def gather(self, images: Sequence[Image]) -> list[Image]:
        """Return the images: they may be of any sizes."""
        return list(images)

    def pick(self, answers: list[Answer], places: Sequence[int]) -> list[Answer]:
        """Return the answers for some of the images."""
        return [answers[place] for place in places]

    @abstractmethod
    def predict(self, model: Any, batch: Sequence[Image]) -> list[Answer]:
        """Return the answer for each image, in the data's classes."""

    @abstractmethod
    def recorder(self, samples: Sequence[Sample]) -> DenseRecorder[Any, Any]:
        """Return an empty recorder."""

    @abstractmethod
    def resume(self, path: Path, samples: Sequence[Sample]) -> DenseRecorder[Any, Any]:
        """Return a recorder that continues a table."""

    @abstractmethod
    def write(self, path: Path, recorder: DenseRecorder[Any, Any]) -> None:
        """Write the table of a recorder."""
