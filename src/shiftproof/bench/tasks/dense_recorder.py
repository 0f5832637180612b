"""Recorders common to detectors and segmenters: images of any size, one prediction per image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from shiftproof.models.detectors.class_match import ClassMatch
from shiftproof.types import I32, Image, Sample

Stored = TypeVar("Stored")
Records = TypeVar("Records")
Prediction = TypeVar("Prediction")

MakeTable: TypeAlias = "Callable[[list[str], I32, list[Stored], list[str | None]], Records]"
"""Makes a record table from ids, positions, stored values, and errors of unreadable images."""


class DenseRecorder(Generic[Stored, Records]):
    """Collects the stored values of the images in one cell, batch by batch.

    Args:
        samples: the images of the cell.
        placeholder: the stored value of unreadable images.
        make_table: makes the record table.
        convert: returns the stored value of a prediction; by default the prediction itself.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        placeholder: Stored,
        make_table: MakeTable[Stored, Records],
        convert: Callable[[Sample, Any], Stored] = lambda _, prediction: prediction,
    ) -> None:
        self._samples, self._placeholder, self._make_table, self._convert = (
            samples,
            placeholder,
            make_table,
            convert,
        )
        self._stored: dict[int, Stored] = {}
        self._position: dict[int, int] = {}
        self._error: dict[int, str] = {}

    def add(
        self, rows: Sequence[int], predictions: Sequence[Any], positions: Sequence[int]
    ) -> None:
        """Record the predictions for some images, given by their indices among the samples."""
        for row, prediction, position in zip(rows, predictions, positions, strict=True):
            self._stored[row] = self._convert(self._samples[row], prediction)
            self._position[row] = position

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record a file that could not be read."""
        self._position[row] = position
        self._error[row] = reason

    def add_table(
        self,
        ids: Sequence[str],
        positions: I32,
        stored: Sequence[Stored],
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
                self._stored[row] = stored[at]
            else:
                self._error[row] = reason

    def finish(self) -> Records:
        """Return the table of the samples that were seen, in their order."""
        rows = sorted(self._position)
        return self._make_table(
            [self._samples[row].id for row in rows],
            np.array([self._position[row] for row in rows], dtype=np.int32),
            [self._stored.get(row, self._placeholder) for row in rows],
            [self._error.get(row) for row in rows],
        )


class DenseRecording(ABC, Generic[Prediction]):
    """Batching and predicting with models for images of any size, in the classes of the data."""

    def __init__(self) -> None:
        # By the model itself: ids change when models are pickled.
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

    def pick(self, predictions: list[Prediction], places: Sequence[int]) -> list[Prediction]:
        """Return the predictions for some of the images."""
        return [predictions[place] for place in places]

    @abstractmethod
    def predict(self, model: Any, batch: Sequence[Image]) -> list[Prediction]:
        """Return the prediction for each image, in the data's classes."""

    @abstractmethod
    def recorder(self, samples: Sequence[Sample]) -> DenseRecorder[Any, Any]:
        """Return an empty recorder."""

    @abstractmethod
    def resume(self, path: Path, samples: Sequence[Sample]) -> DenseRecorder[Any, Any]:
        """Return a recorder that continues a table."""

    @abstractmethod
    def write(self, path: Path, recorder: DenseRecorder[Any, Any]) -> None:
        """Write the table of a recorder."""
