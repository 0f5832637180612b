"""A folder of embeddings: its files, ownership and resuming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shiftproof.errors import BrokenFileError, RunMismatchError
from shiftproof.io import files, manifest
from shiftproof.io.text import read_object
from shiftproof.shards import FileParts
from shiftproof.types import F16, Settings

MANIFEST = "manifest.json"

Content = Literal["img", "text"]
"""Modality, as in clip-retrieval's names of folders and files."""

_MAX_PROBE = 1e300

PROBE_TOLERANCE = 0.02
"""Tolerance between devices, relative to the largest value of the probe."""


@dataclass(frozen=True)
class MetadataRow:
    """One row of a shard's metadata: an image's name and size in pixels, and further columns.

    For a text, name and size are not written; the column ``caption`` has the text.
    """

    name: str
    height: int
    width: int
    columns: Mapping[str, str | int | None]


class EmbeddingFolder:
    """The files of one set of embeddings.

    ``manifest.json`` (settings, which decide the numbers, and provenance),
    ``img_emb/img_emb_N.npy`` (float16, one row per image that could be read),
    ``metadata/metadata_N.parquet`` (the same rows) and ``shards/shard_N.json`` (the number of rows,
    and the unreadable images). The latter is written last and marks the shard as done; all files
    are written atomically. Vectors of texts are in ``text_emb/text_emb_N.npy``.
    """

    def __init__(self, path: Path, content: Content = "img") -> None:
        self.path = path
        self.content = content

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the subfolders."""
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
        """Create the folder, or resume an existing one with the same settings.

        ``settings`` determine the vectors and must be equal to resume; ``about`` is provenance.
        Some values of the encoder's vector of a fixed image (``probe``) identify encoders without a
        fingerprint. ``shared`` says that other workers of the same run may write to the folder.

        Raises:
            RunMismatchError: the folder belongs to another encoder, other data or other settings.
            InputError: it has other content, or is not writable.
        """
        folder = cls(path, content)
        there = manifest.begin(
            path,
            MANIFEST,
            {"settings": settings},
            what="embeddings",
            about={"probe": list(probe), **about},
            subfolders=folder.folders,
            shared=shared,
        )
        if not is_same_probe(there.get("probe"), probe):
            raise RunMismatchError(
                f"{path} holds embeddings of another encoder: this one gives other vectors for "
                f"the same {'picture' if content == 'img' else 'sentence'}. Choose another output "
                "folder, or delete this one to start anew."
            )
        folder.make_folders()
        return folder

    def make_folders(self) -> None:
        """Create the subfolders."""
        for name in self.folders:
            files.make_folder(self.path / name)

    def parts(self, count: int) -> FileParts:
        """Return ``count`` shards as parts for several workers."""
        inner = EmbeddingFolder(Path(), self.content)
        names = [
            (inner.vectors_file(number), inner.metadata_file(number), inner.record_file(number))
            for number in range(count)
        ]
        return FileParts(self.path, [[path.as_posix() for path in one] for one in names])

    def vectors_file(self, number: int) -> Path:
        """The vectors of one shard."""
        name = f"{self.content}_emb"
        return self.path / name / f"{name}_{number}.npy"

    def metadata_file(self, number: int) -> Path:
        """The metadata of one shard's rows."""
        return self.path / "metadata" / f"metadata_{number}.parquet"

    def record_file(self, number: int) -> Path:
        """The record that marks a shard as done."""
        return self.path / "shards" / f"shard_{number}.json"

    def record(self, number: int) -> dict[str, Any] | None:
        """Return the record of a shard, or None if it is not done."""
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
        vectors: F16,
        rows: Sequence[MetadataRow],
        broken: Mapping[str, str],
    ) -> None:
        """Write one shard; its last file marks it as done.

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


def is_same_probe(one: Any, other: Sequence[float]) -> bool:
    """Return whether two encoders gave the same probe, up to rounding of the device.

    ``one`` may be any JSON value.
    """
    if not isinstance(one, (list, tuple)) or len(one) != len(other):
        return False
    if not all(isinstance(number, int | float) and abs(number) < _MAX_PROBE for number in one):
        return False
    if not all(isinstance(number, (int, float)) for number in one):
        return False
    values = np.array([float(number) for number in one])
    largest = float(np.abs(values).max()) if len(values) else 0.0
    close = np.allclose(values, other, rtol=0, atol=PROBE_TOLERANCE * largest, equal_nan=True)
    return bool(close)
