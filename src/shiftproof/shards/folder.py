"""The folder of a job's parts: one file per shard, and a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError
from shiftproof.io import files, manifest
from shiftproof.io.arrays import read_arrays, write_arrays
from shiftproof.io.folder_locks import lock_for_setup
from shiftproof.io.text import read_object
from shiftproof.types import Settings

Arrays: TypeAlias = dict[str, NDArray[Any]]
"""The result of a job for a shard: arrays of numbers or texts by name."""


PARTS_FILE = "manifest.json"

_SUPERSEDED = "superseded"


class Parts(Protocol):
    """Storage of a job's parts; small to pickle."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def shards(self) -> int:
        """Total number of parts."""

    def missing(self) -> list[int]:
        """Return the shards that have no part yet."""

    def write(self, number: int, part: Arrays) -> None:
        """Write the part of one shard atomically."""


class PartFolder:
    """A folder with ``manifest.json`` and ``part-00000.npz`` for every finished shard.

    Parts are written atomically and deterministically, so it does not matter if two workers write
    the same part. Small to pickle.

    Attributes:
        path: the folder.
        shards: total number of parts.
    """

    def __init__(self, path: Path, shards: int) -> None:
        self.path = path
        self.shards = shards

    @classmethod
    def create(cls, path: Path, name: str, shards: int, settings: Settings) -> PartFolder:
        """Create the folder, or resume an existing one of the same job.

        Args:
            path: the folder.
            name: name of the job.
            shards: number of shards.
            settings: the settings that determine the parts' content, such as fingerprints of the
                data.

        Raises:
            RunMismatchError: it belongs to another job.
            InputError: it has other content, or is not writable.
        """
        of_job = {"job": name, "shards": shards, "settings": settings}
        _clear_superseded(path, of_job)
        manifest.begin(path, PARTS_FILE, of_job, what="parts of a job")
        return cls(path, shards)

    def part_file(self, number: int) -> Path:
        """Return the file of one shard's part."""
        return self.path / f"part-{number:05d}.npz"

    def missing(self) -> list[int]:
        """Return the shards that have no part yet."""
        return [number for number in range(self.shards) if not self.part_file(number).is_file()]

    def write(self, number: int, part: Arrays) -> None:
        """Write the part of one shard.

        Raises:
            RunError: the disk is full.
        """
        write_arrays(self.part_file(number), part)

    def read(self, number: int) -> Arrays:
        """Return the part of one shard.

        Raises:
            BrokenFileError: it is missing or damaged.
        """
        try:
            return read_arrays(self.part_file(number))
        except BrokenFileError as error:
            raise BrokenFileError(f"{error} Delete it and start the same command again.") from error

    def each(self) -> Iterator[Arrays]:
        """Yield all parts, in the order of the shards, one at a time."""
        for number in range(self.shards):
            yield self.read(number)


def mark_superseded(path: Path) -> None:
    """Let a job with other settings replace the parts of a folder; one with the same keeps them.

    Raises:
        BrokenFileError: its manifest is damaged.
    """
    files.write_json(path / PARTS_FILE, {**read_object(path / PARTS_FILE), _SUPERSEDED: True})


def _clear_superseded(path: Path, of_job: Settings) -> None:
    """Remove parts that :func:`mark_superseded` marked, unless they belong to this job."""
    if not (path / PARTS_FILE).is_file():
        return
    with lock_for_setup(path):
        there = read_object(path / PARTS_FILE)
        if _SUPERSEDED not in there or not manifest.describe_differences(
            {key: there.get(key) for key in of_job}, json.loads(json.dumps(of_job))
        ):
            return
        for part in path.glob("part-*.npz"):
            part.unlink(missing_ok=True)
        files.write_json(path / PARTS_FILE, {"format": manifest.FORMAT, **of_job})


@dataclass(frozen=True)
class FileParts:
    """Parts stored as files of a run's folder: a part is the bytes of its files, by name.

    Attributes:
        path: the folder of the run.
        files: for each part the files, below the folder, whose existence means that it is done. A
            part may have further files, which are written first.
    """

    path: Path
    files: Sequence[Sequence[str]]

    @property
    def shards(self) -> int:
        """Number of parts."""
        return len(self.files)

    def missing(self) -> list[int]:
        """Return the parts with a missing file."""
        return [number for number in range(self.shards) if not self._has(number)]

    def write(self, number: int, part: Arrays) -> None:
        """Write the files of a part; those that mark it as done come last, in order.

        Raises:
            RunError: the disk is full.
        """
        last = self.files[number]
        for name in (*(other for other in part if other not in last), *last):
            path = self.path / name
            files.make_folder(path.parent)
            files.write_bytes(path, part[name].tobytes())

    def _has(self, number: int) -> bool:
        return all((self.path / name).is_file() for name in self.files[number])


def pack_files(folder: Path) -> Arrays:
    """Return the files below a folder as a part of :class:`FileParts`: ``(N,)`` uint8 of each."""
    return {
        path.relative_to(folder).as_posix(): np.frombuffer(path.read_bytes(), np.uint8)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
