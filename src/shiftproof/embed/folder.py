"""A folder of embeddings: what it holds, whose it is, and how it is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError, RunMismatchError
from shiftproof.io import files, manifest
from shiftproof.io.text import read_object
from shiftproof.shards import FileParts
from shiftproof.types import Settings

MANIFEST = "manifest.json"

Content = Literal["img", "text"]
"""What was embedded, as clip-retrieval spells it in the names of folders and files."""

_LARGEST = 1e300

PROBE_TOLERANCE = 0.02
"""Of the largest number of the probe, that an encoder on another device may differ by."""


@dataclass(frozen=True)
class MetadataRow:
    """One line of a shard's metadata: an image's name and size in pixels, and what else is known.

    Of a text neither name nor size is written; its text is the ``caption`` among the columns.
    """

    name: str
    height: int
    width: int
    columns: Mapping[str, str | int | None]


class EmbeddingFolder:
    """The files of one set of embeddings.

    ``manifest.json`` (settings, which decide the numbers, and provenance), ``img_emb/img_emb_N.npy``
    (float16, one row per image that could be read), ``metadata/metadata_N.parquet`` (the same rows)
    and ``shards/shard_N.json`` (how many rows, and the images that could not be read). The last is
    written last: a shard that has it is done, and all are written atomically. Vectors of texts lie
    in ``text_emb/text_emb_N.npy``.
    """

    def __init__(self, path: Path, content: Content = "img") -> None:
        self.path = path
        self.content = content

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of the folders in it."""
        return (f"{self.content}_emb", "metadata", "shards")

    @classmethod
    def create(
        cls,
        path: Path,
        settings: Settings,
        about: Settings,
        probe: Sequence[float],
        *,
        content: Content = "img",
        shared: bool = False,
    ) -> EmbeddingFolder:
        """Make the folder, or resume the one that is there if it has the same settings.

        Args:
            path: the folder.
            settings: decide the numbers and must be equal to resume.
            about: only tells how they came about.
            probe: some numbers that the encoder gave for a fixed picture; what differs from them
                is another encoder, also where no fingerprint says so.
            content: what was embedded.
            shared: other workers of the same run may be at work there.

        Raises:
            RunMismatchError: the folder belongs to another encoder, other data or other settings.
            InputError: it holds other things, or cannot be written to.
        """
        folder = cls(path, content)
        there = manifest.begin(
            path,
            MANIFEST,
            {"settings": settings},
            what="embeddings",
            about={"probe": list(probe), **about},
            ours=folder.folders,
            shared=shared,
        )
        if not same_probe(there.get("probe"), probe):
            raise RunMismatchError(
                f"{path} holds embeddings of another encoder: this one gives other vectors for "
                f"the same {'picture' if content == 'img' else 'sentence'}. Choose another output "
                "folder, or delete this one to start anew."
            )
        folder.make_folders()
        return folder

    def make_folders(self) -> None:
        """Make the folders in it."""
        for name in self.folders:
            files.make_folder(self.path / name)

    def parts(self, count: int) -> FileParts:
        """Return the shards, of which there are so many, as parts that several may make."""
        inner = EmbeddingFolder(Path(), self.content)
        names = [
            (inner.vectors_file(number), inner.metadata_file(number), inner.record_file(number))
            for number in range(count)
        ]
        return FileParts(self.path, [[path.as_posix() for path in one] for one in names])

    def vectors_file(self, number: int) -> Path:
        """The rows of one shard."""
        name = f"{self.content}_emb"
        return self.path / name / f"{name}_{number}.npy"

    def metadata_file(self, number: int) -> Path:
        """What the rows of one shard are."""
        return self.path / "metadata" / f"metadata_{number}.parquet"

    def record_file(self, number: int) -> Path:
        """What says that a shard is done."""
        return self.path / "shards" / f"shard_{number}.json"

    def record(self, number: int) -> dict[str, Any] | None:
        """Return the record of a shard, or None where it is not done."""
        parts = (self.record_file(number), self.vectors_file(number), self.metadata_file(number))
        if not all(part.is_file() for part in parts):
            return None
        record = read_object(parts[0])
        rows, broken = record.get("rows"), record.get("broken")
        are_texts = isinstance(broken, dict) and all(isinstance(v, str) for v in broken.values())
        if type(rows) is not int or rows < 0 or not are_texts:
            raise BrokenFileError(
                f"{parts[0]}: expected the record of a shard, with its rows and its broken images. "
                "Delete it and start the same command again."
            )
        return record

    def write(
        self,
        number: int,
        name: str,
        vectors: NDArray[np.float16],
        rows: Sequence[MetadataRow],
        broken: Mapping[str, str],
    ) -> None:
        """Write one shard; until its last file is there it is not done.

        Raises:
            RunError: the disk is full.
        """
        with files.atomic(self.vectors_file(number)) as file:
            np.lib.format.write_array(file, vectors, allow_pickle=False)
        self._write_metadata(number, rows)
        files.write_json(
            self.record_file(number),
            {"name": name, "rows": len(rows), "broken": dict(broken)},
        )

    def _write_metadata(self, number: int, rows: Sequence[MetadataRow]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        extra = sorted({column for row in rows for column in row.columns} - {"caption"})
        captions = pa.array([row.columns.get("caption") for row in rows], pa.string())
        columns: dict[str, Any] = {"caption": captions}
        if self.content == "img":
            names = pa.array([row.name for row in rows], pa.string())
            columns = {"image_path": names, "caption": captions}
        for column in extra:
            kind = pa.int64() if column == "label" else pa.string()
            columns[column] = pa.array([row.columns.get(column) for row in rows], kind)
        if self.content == "img":
            columns["height"] = pa.array([row.height for row in rows], pa.int32())
            columns["width"] = pa.array([row.width for row in rows], pa.int32())
        with files.atomic(self.metadata_file(number)) as file:
            pq.write_table(pa.table(columns), file)


def same_probe(one: Any, other: Sequence[float]) -> bool:
    """Whether two encoders gave the same for one picture, but for the rounding of a device.

    ``one`` may be anything that a file holds.
    """
    if not isinstance(one, (list, tuple)) or len(one) != len(other):
        return False
    if not all(isinstance(number, int | float) and abs(number) < _LARGEST for number in one):
        return False
    if not all(isinstance(number, (int, float)) for number in one):
        return False
    values = np.array([float(number) for number in one])
    largest = float(np.abs(values).max()) if len(values) else 0.0
    close = np.allclose(values, other, rtol=0, atol=PROBE_TOLERANCE * largest, equal_nan=True)
    return bool(close)
