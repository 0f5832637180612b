"""Embedding images shard by shard, resumably."""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from shiftproof.compute.processes import map_ordered
from shiftproof.compute.progress import progress
from shiftproof.compute.tuning import count_usable_cores
from shiftproof.data import ImageData
from shiftproof.data.readable import make_unreadable_error
from shiftproof.embed.folder import MANIFEST, EmbeddingFolder, MetadataRow, is_same_probe
from shiftproof.embed.image_source import Part, Picture, Pictures
from shiftproof.embed.sources import open_pictures
from shiftproof.errors import InputError, RunMismatchError, ShiftproofError
from shiftproof.io.border import show_name
from shiftproof.io.folder_locks import releases_locks
from shiftproof.models import EncoderLike, Preprocessing, TextEncoder
from shiftproof.provenance import provenance
from shiftproof.shards import (
    Arrays,
    Backend,
    Ray,
    Scheduled,
    check_finished,
    fill_parts,
    pack_files,
)
from shiftproof.shards.access import make_access_error
from shiftproof.types import F16, F32, Image, Settings

WHAT = "embed"

_GROUP = 4
"""Images that a worker reads at a time; few, so that all workers stay busy at the end of a
shard.
"""

_PROBE_VALUES = 16
"""Values of the probe that are stored."""

_Read: TypeAlias = "tuple[Image, int, int] | str"
"""A prepared image with its original height and width; or the error."""


@dataclass
class Embedded:
    """The report of a run.

    Attributes:
        path: the folder.
        width: dimension of the vectors.
        rows: number of vectors in the folder.
        written: number of shards that this run wrote.
        kept: number of shards that existed already.
        broken: from the name of each image without a vector to the reason.
        omissions: a sentence for everything at the source that is not used.
    """

    path: Path
    width: int
    rows: int = 0
    written: int = 0
    kept: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    omissions: tuple[str, ...] = ()

    def add_kept(self, record: Mapping[str, Any]) -> None:
        """Count a shard that existed already."""
        self.kept += 1
        self.rows += record["rows"]
        self.broken.update(record["broken"])


@releases_locks
def embed(
    encoder: EncoderLike,
    data: str | Path | ImageData | Pictures,
    out: str | Path,
    *,
    shard_size: int | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    backend: Backend | None = None,
) -> Embedded:
    """Write the vectors of all images of a dataset as shards.

    The layout is that of clip-retrieval: ``img_emb/img_emb_0.npy`` (float16) and
    ``metadata/metadata_0.parquet`` (``image_path``, ``caption``, and further columns), with a
    ``manifest.json`` and a record for each shard. An image that cannot be read, or whose vector is
    zero or not finite in float16, has no row and is listed in its shard's record. An interrupted
    run resumes at the first unfinished shard. Shards do not depend on ``workers``.

    Args:
        encoder: the encoder.
        data: a source for :func:`open_pictures`.
        out: a new or empty folder, or the folder of the run to resume.
        shard_size: images per shard, 10,000 by default; each tar is one shard.
        batch_size: images per batch of the encoder.
        workers: processes that read and resize images; None uses the number of cores minus one, 0
            none.
        split: which part of a dataset that has several.
        images: the folder of the images, if several are possible.
        root: for YOLO, the folder of the data, overriding the YAML file.
        backend: distribution of the shards: :class:`~shiftproof.shards.Scheduled` for one of
            several commands over one folder, :class:`~shiftproof.shards.Ray` for a cluster. None
            runs everything in this process.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: no images, none that can be read, a folder with other content, or numbers out of
            range.
        RunMismatchError: the folder was made with another encoder, other data or other settings; or
            the encoder changed between two shards. Finished shards stay.
        RunError: the disk is full, or a worker died repeatedly. Finished shards stay.
    """
    workers = _check_numbers(batch_size, workers)
    pictures = open_pictures(data, shard_size=shard_size, split=split, images=images, root=root)
    # The machines of a cluster may have images that this one does not.
    if not isinstance(backend, Ray) and not (Path(out) / MANIFEST).is_file():
        check_readable(pictures)
    identity, probe = identify(encoder), _probe(encoder)
    folder = EmbeddingFolder.create(
        Path(out),
        {"encoder": identity, "data": pictures.settings(), "dtype": "float16"},
        describe_provenance(encoder, workers, batch_size),
        probe,
        shared=isinstance(backend, Scheduled),
    )
    parts = folder.parts(pictures.parts)
    made = len(parts.missing()) if isinstance(backend, Ray) else 0
    job = _ShardJob(encoder, pictures, batch_size, identity, probe)
    if isinstance(backend, Ray):
        fill_parts(WHAT, make_shard, job, parts, backend)
    done = Embedded(folder.path, encoder.width, omissions=pictures.omissions)
    pending = _find_pending(folder, pictures.parts, done)
    done.written, done.kept = made, done.kept - made
    if backend is not None:
        pending = backend.share(pending)
    _write_shards(folder, job, pending, done, workers)
    if backend is not None:
        check_finished(WHAT, parts, backend)
    return done


def check_readable(pictures: Pictures) -> None:
    """Check that at least one image can be read, before a folder is created.

    Raises:
        InputError: there is no image, or none can be read; the message has the error of the first.
    """
    count, first = 0, ""
    for number in range(pictures.parts):
        part = pictures.part(number)
        for picture in part.pictures:
            try:
                pictures.read(picture)
            except ShiftproofError as error:
                first = first or str(error)
            else:
                return
        count += len(part.pictures) + len(part.broken)
        first = first or next(iter(part.broken.values()), "")
    name = show_name(pictures.name)
    if not count:
        raise InputError(f"{name} holds no images; expected one at least.")
    raise make_unreadable_error(name, count, first)


@dataclass(frozen=True, eq=False)
class _ShardJob:
    """Everything that a machine of a cluster needs to compute a shard."""

    encoder: EncoderLike
    pictures: Pictures
    batch_size: int
    identity: Settings
    probe: list[float]

    def check_unchanged(self, number: int) -> None:
        """Raise an error if the encoder has changed since the start."""
        now = identify(self.encoder)
        if now != self.identity or not is_same_probe(self.probe, _probe(self.encoder)):
            raise RunMismatchError(
                f"The encoder {self.encoder.name} changed while shard {number} was made, so the shard "
                "was not written. Finished shards stay; embed with an encoder that is not trained "
                "meanwhile."
            )


def _check_numbers(batch_size: int, workers: int | None) -> int:
    """Check both numbers, and return that of the workers."""
    if batch_size < 1:
        raise InputError(f"Expected a batch size of 1 or more, got {batch_size}.")
    workers = max(count_usable_cores() - 1, 1) if workers is None else workers
    if workers < 0:
        raise InputError(f"Expected a number of workers of 0 or more, got {workers}.")
    return workers


def _write_shards(
    folder: EmbeddingFolder,
    job: _ShardJob,
    pending: Sequence[int],
    done: Embedded,
    workers: int,
) -> None:
    """Write the missing shards, and add them to the report.

    Raises:
        RunMismatchError: the encoder has changed meanwhile.
    """
    encoder, pictures = job.encoder, job.pictures
    known = pictures.count is not None
    total = pictures.count if pictures.count is not None else pictures.parts
    with progress("embed", total) as advance:
        # Progress of existing shards is approximate: broken images count as well.
        advance(done.rows + len(done.broken) if known else done.kept)
        for number, part, read in _open_parts(pictures, pending, encoder.preprocess, workers):
            shard = _Shard(encoder, job.batch_size)
            for picture, found in read:
                shard.add(picture, found)
                if known:
                    advance(note=part.name)
            vectors = shard.vectors()
            job.check_unchanged(number)
            broken = {**part.broken, **shard.broken}
            folder.write(number, part.name, vectors, shard.rows, broken)
            done.written += 1
            done.rows += len(shard.rows)
            done.broken.update(broken)
            if not known:
                advance(note=part.name)


def make_shard(job: _ShardJob, number: int) -> Arrays:
    """Return the files of one shard, computed on a cluster machine."""
    encoder, pictures = job.encoder, job.pictures
    shard = _Shard(encoder, job.batch_size)
    broken: dict[str, str] = {}
    name = ""
    for _, part, read in _open_parts(pictures, [number], encoder.preprocess, 0):
        for picture, found in read:
            shard.add(picture, found)
        name, broken = part.name, dict(part.broken)
    vectors = shard.vectors()
    broken |= shard.broken
    if broken and not shard.rows:
        raise make_access_error("the images", next(iter(broken.values())).removesuffix("."))
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as scratch:
        folder = EmbeddingFolder(Path(scratch))
        folder.make_folders()
        folder.write(number, name, vectors, shard.rows, broken)
        return pack_files(folder.path)


class _Shard:
    """Collects images into batches, and the vectors of a shard."""

    def __init__(self, encoder: EncoderLike, batch_size: int) -> None:
        self._encoder = encoder
        self._batch_size = batch_size
        self._waiting: list[tuple[MetadataRow, Image]] = []
        self._vectors: list[F16] = []
        self.rows: list[MetadataRow] = []
        self.broken: dict[str, str] = {}

    def add(self, picture: Picture, found: _Read) -> None:
        if isinstance(found, str):
            self.broken[picture.name] = found
            return
        image, height, width = found
        self._waiting.append((MetadataRow(picture.name, height, width, picture.columns), image))
        if len(self._waiting) == self._batch_size:
            self._encode()

    def vectors(self) -> F16:
        """Return all vectors; call it once, at the end."""
        if self._waiting:
            self._encode()
        empty = np.zeros((0, self._encoder.width), np.float16)
        return np.concatenate([empty, *self._vectors])

    def _encode(self) -> None:
        vectors = self._encoder.encode([image for _, image in self._waiting])
        with np.errstate(over="ignore", under="ignore"):
            kept = vectors.astype(np.float16)
        usable = np.asarray(np.isfinite(kept).all(axis=1) & (kept != 0).any(axis=1))
        for (row, _), good in zip(self._waiting, usable, strict=True):
            if good:
                self.rows.append(row)
            else:
                self.broken[row.name] = (
                    f"{row.name}: the encoder's vector is zero or not finite in float16."
                )
        self._vectors.append(kept[usable])
        self._waiting.clear()


def _find_pending(folder: EmbeddingFolder, parts: int, done: Embedded) -> list[int]:
    """Return the missing shards; the records of existing ones are added to ``done``."""
    pending = []
    for number in range(parts):
        record = folder.record(number)
        if record is None:
            pending.append(number)
            continue
        done.add_kept(record)
    return pending


def describe_provenance(
    encoder: EncoderLike | TextEncoder, workers: int, batch_size: int
) -> dict[str, Any]:
    """Return the provenance of the vectors of a folder, beyond the settings that determine them."""
    return {
        **provenance(str(encoder.settings.get("device", "unknown")), workers),
        "assumed": list(getattr(encoder, "assumed", ())),
        "batch_size": batch_size,
    }


def _open_parts(
    pictures: Pictures, numbers: Sequence[int], preprocess: Preprocessing, workers: int
) -> Iterator[tuple[int, Part, Iterator[tuple[Picture, _Read]]]]:
    """Yield the parts with their images, prefetched across parts.

    The images of a part must be consumed before the next part.
    """
    opened: deque[Part] = deque()

    def groups() -> Iterator[tuple[Picture, ...]]:
        for number in numbers:
            part = pictures.part(number)
            opened.append(part)
            # An empty part yields an empty group, to keep the order.
            for start in range(0, max(len(part.pictures), 1), _GROUP):
                yield part.pictures[start : start + _GROUP]

    results = map_ordered(
        read_pictures, groups(), context=(pictures, preprocess), workers=workers, lookahead=2
    )

    def images(part: Part, first: list[_Read]) -> Iterator[tuple[Picture, _Read]]:
        found = first
        for place, picture in enumerate(part.pictures):
            if place and place % _GROUP == 0:
                found = next(results)
            yield picture, found[place % _GROUP]

    with contextlib.closing(results):
        for number in numbers:
            first = next(results)
            part = opened.popleft()
            yield number, part, images(part, first)


def read_pictures(
    context: tuple[Pictures, Preprocessing], group: tuple[Picture, ...]
) -> list[_Read]:
    """Read and resize some images; runs in a worker."""
    pictures, preprocess = context
    found: list[_Read] = []
    for picture in group:
        try:
            image = pictures.read(picture)
            height, width = image.shape[:2]
            found.append((preprocess.geometry(image), height, width))
        except ShiftproofError as error:
            text = str(error)
            found.append(text if text.startswith(picture.name) else f"{picture.name}: {text}")
    return found


def identify(encoder: EncoderLike | TextEncoder) -> Settings:
    """Return the settings that determine an encoder's vectors: all except the device."""
    return {name: value for name, value in encoder.settings.items() if name != "device"}


def _probe(encoder: EncoderLike) -> list[float]:
    """Return some values of the vector of a fixed image."""
    y, x = np.mgrid[:96, :128]
    picture = np.stack([2 * x, 2 * y, 128 + 100 * np.sin(x / 5)], axis=2).astype(np.uint8)
    (vector,) = encoder.encode([encoder.preprocess.geometry(picture)])
    return round_probe(vector)


def round_probe(vector: F32) -> list[float]:
    """Return some values of a vector; JSON has no non-finite numbers."""
    return [round(float(value), 6) for value in np.nan_to_num(vector[:_PROBE_VALUES])]
