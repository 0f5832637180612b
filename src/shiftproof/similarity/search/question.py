"""What a question is: what it keeps of the pairs of rows, how that is joined, and how it lies on disk."""

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
    """What has been found so far for one chunk of test rows."""

    def enter(self, engine: Engine, block: Block, here: slice) -> Tally:
        """Compare a block of training rows with the chunk; ``here`` are its places among all of them."""

    def fork(self) -> Partial:
        """Return a state for another thread: itself where threads write to different rows."""

    def join(self, others: Sequence[Partial]) -> None:
        """Take in what other threads have found, of which one may be itself."""


class Answer(Protocol[FoundOut]):
    """What has been found so far for one test set."""

    def begin(self, engine: Engine) -> Partial:
        """Return what is found for the next chunk of test rows, in their order."""

    def finish(self, certificate: Certificate, skipped: Flags) -> FoundOut:
        """Return what was found; ``skipped`` ``(n,)`` are the training rows that cannot be used."""


class Question(Protocol[Found]):
    """What is asked of all pairs of a training row and a test row. Small to pickle, but for arrays."""

    @property
    def name(self) -> str:
        """Of the search, and of the folder of its parts."""

    @property
    def k(self) -> int:
        """Training rows that each test row keeps, which takes memory; 0 where it keeps none."""

    @property
    def dense(self) -> int:
        """Training rows that one thread compares before the others begin with what it has found."""

    @property
    def found(self) -> type[Found]:
        """What is found: a dataclass of arrays of numbers or flags, and of certificates."""

    def settings(self) -> Settings:
        """Return what decides what is found, beside rows and ``k``."""

    def start(self, name: str, train_rows: int, test_rows: int) -> Answer[Found]:
        """Begin with a test set, and so many training rows to be searched."""

    def merge(self, parts: Sequence[Found]) -> Found:
        """Join what was found in neighboring shards of the training rows; associative."""


# ---------------------------------------------------------------- what was found, on the disk


def pack_found(found: Any) -> Arrays:
    """Return a dataclass of arrays and certificates as arrays alone; flags take a bit each."""
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
    """Return what :func:`pack_found` was given.

    Raises:
        KeyError: something is missing.
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
