"""The interface of questions: reducing pairs of rows, merging results, and storing them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from shiftproof.shards import Arrays
from shiftproof.similarity.search.certificate import Certificate, Tally
from shiftproof.similarity.search.engine import Engine
from shiftproof.similarity.sources import Block
from shiftproof.types import Flags, Settings

Found = TypeVar("Found")
FoundOut = TypeVar("FoundOut", covariant=True)


class Partial(Protocol):
    """Partial result for one chunk of test rows."""

    def enter(self, engine: Engine, block: Block, here: slice) -> Tally:
        """Compare a block of training rows with the chunk; ``here`` is its slice of all of them."""

    def fork(self) -> Partial:
        """Return a partial result for another thread; itself if threads write to different rows."""

    def join(self, others: Sequence[Partial]) -> None:
        """Merge the partial results of other threads, which may include itself."""


class Answer(Protocol[FoundOut]):
    """Partial result for one test set."""

    def begin(self, engine: Engine) -> Partial:
        """Return the partial result for the next chunk of test rows."""

    def finish(self, certificate: Certificate, skipped: Flags) -> FoundOut:
        """Return the result; ``skipped`` ``(n,)`` marks unusable training rows."""


class Question(Protocol[Found]):
    """A question about all pairs of a training row and a test row; pickles small, except arrays."""

    @property
    def name(self) -> str:
        """Name of the search, and of the folder of its parts."""

    @property
    def k(self) -> int:
        """Number of training rows that each test row keeps in memory, or 0."""

    @property
    def dense(self) -> int:
        """Training rows that one thread compares before others start from its result."""

    @property
    def found(self) -> type[Found]:
        """Type of the result: a dataclass of arrays of numbers or flags, and of certificates."""

    def settings(self) -> Settings:
        """Return the settings that determine the result, besides rows and ``k``."""

    def start(self, name: str, train_rows: int, test_rows: int) -> Answer[Found]:
        """Start a test set with these numbers of rows."""

    def merge(self, parts: Sequence[Found]) -> Found:
        """Merge the results of neighboring shards of the training rows; associative."""


# ---------------------------------------------------------------- results on disk


def pack_found(found: Any) -> Arrays:
    """Convert a result to arrays, with one bit per flag."""
    arrays: Arrays = {}
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, Certificate):
            arrays[field.name] = np.array(json.dumps(dataclasses.asdict(value)))
        elif value.dtype == np.bool_:
            arrays[field.name] = np.packbits(value)
            arrays[f"{field.name}.count"] = np.array(len(value))
        else:
            arrays[field.name] = value
    return arrays


def unpack_found(kind: type[Found], arrays: Arrays) -> Found:
    """Convert arrays of :func:`pack_found` to a result.

    Raises:
        KeyError: an array is missing.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cast(Any, kind)):
        value = arrays[field.name]
        if value.dtype.kind == "U":
            values[field.name] = Certificate(**json.loads(str(value)))
        elif f"{field.name}.count" in arrays:
            count = int(arrays[f"{field.name}.count"])
            values[field.name] = np.unpackbits(value, count=count).astype(bool)
        else:
            values[field.name] = value
    return kind(**values)
