"""The folder of a job's parts: one file per shard, and whose they are."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError
from shiftproof.io import files, manifest
from shiftproof.io.arrays import read_arrays
from shiftproof.types import Settings

Arrays: TypeAlias = dict[str, NDArray[Any]]
"""What a job gives for a shard: arrays of numbers or texts by name."""


class Parts(Protocol):
    """Where the parts of a job are kept; small to pickle."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def shards(self) -> int:
        """How many parts there are when all is done."""

    def missing(self) -> list[int]:
        """Return the shards that have no part yet."""

    def write(self, number: int, part: Arrays) -> None:
        """Write the part of one shard, so that it counts as there when it is whole."""


class PartFolder:
    """``manifest.json`` and ``part-00000.npz`` for every shard that is done.

    A part that is there is whole: it is written atomically. The same arrays give the same bytes, so
    it does not matter which of two workers writes a part, or whether both do. Small to pickle.

    Attributes:
        path: the folder.
        shards: how many parts there are when all is done.
    """

    def __init__(self, path: Path, shards: int) -> None:
        self.path = path
        self.shards = shards

    @classmethod
    def create(cls, path: Path, name: str, shards: int, settings: Settings) -> PartFolder:
        """Make the folder, or resume the one that is there if it is the same job's.

        Args:
            path: the folder.
            name: of the job.
            shards: how many there are.
            settings: what decides the parts' content, such as fingerprints of the data.

        Raises:
            RunMismatchError: it is another job's.
            InputError: it holds other things, or cannot be written to.
        """
        of_job = {"job": name, "shards": shards, "settings": settings}
        manifest.begin(path, "manifest.json", of_job, what="parts of a job")
        return cls(path, shards)

    def part_file(self, number: int) -> Path:
        """The part of one shard."""
        return self.path / f"part-{number:05d}.npz"

    def missing(self) -> list[int]:
        """Return the shards that have no part yet."""
        return [number for number in range(self.shards) if not self.part_file(number).is_file()]

    def write(self, number: int, part: Arrays) -> None:
        """Write the part of one shard.

        Raises:
            RunError: the disk is full.
        """
        with files.atomic(self.part_file(number)) as file, zipfile.ZipFile(file, "w") as archive:
            for name, values in part.items():
                # A date is in every entry; ZipInfo's own is always the same.
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asanyarray(values), allow_pickle=False)

    def read(self, number: int) -> Arrays:
        """Return the part of one shard.

        Raises:
            BrokenFileError: it is not there, or damaged.
        """
        try:
            return read_arrays(self.part_file(number))
        except BrokenFileError as error:
            raise BrokenFileError(f"{error} Delete it and start the same command again.") from error

    def each(self) -> Iterator[Arrays]:
        """Yield all parts, in the order of the shards, one at a time."""
        for number in range(self.shards):
            yield self.read(number)


@dataclass(frozen=True)
class FileParts:
    """Parts that are files of a run's folder: a part is the bytes of its files, by name.

    Attributes:
        path: the folder of the run.
        files: of each part the files that are there when it is done, below the folder. A part may
            bring others beside them, which are written first.
    """

    path: Path
    files: Sequence[Sequence[str]]

    @property
    def shards(self) -> int:
        """How many parts there are."""
        return len(self.files)

    def missing(self) -> list[int]:
        """Return the parts of whose files one is not there."""
        return [number for number in range(self.shards) if not self._has(number)]

    def write(self, number: int, part: Arrays) -> None:
        """Write the files of a part, those that say that it is done in their order at the end.

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
