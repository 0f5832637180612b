"""Embedding texts shard by shard, resumably."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.compute.progress import progress
from shiftproof.embed.extract import (
    WHAT,
    Embedded,
    describe_provenance,
    identify,
    round_probe,
)
from shiftproof.embed.folder import EmbeddingFolder, MetadataRow
from shiftproof.embed.sources import SHARD_SIZE
from shiftproof.embed.text_source import Texts, open_texts
from shiftproof.errors import InputError
from shiftproof.io.folder_locks import releases_locks
from shiftproof.models import TextEncoder
from shiftproof.models.encoders.texts import PROBE
from shiftproof.shards import (
    Arrays,
    Backend,
    Ray,
    Scheduled,
    check_finished,
    fill_parts,
    pack_files,
)
from shiftproof.types import F16


@releases_locks
def embed_texts(
    encoder: TextEncoder,
    texts: str | Path | Sequence[str] | Texts,
    out: str | Path,
    *,
    shard_size: int | None = None,
    batch_size: int = 256,
    backend: Backend | None = None,
) -> Embedded:
    """Write the vectors of texts as shards.

    The layout is that of clip-retrieval: ``text_emb/text_emb_0.npy`` (float16) and
    ``metadata/metadata_0.parquet`` (``caption``, and the other columns of the file), with a
    ``manifest.json`` and a record for each shard. A text whose vector is zero or not finite in
    float16 has no row and is listed in its shard's record. An interrupted run resumes at the first
    unfinished shard.

    Args:
        encoder: the text encoder.
        texts: a source for :func:`open_texts`.
        out: a new or empty folder, or the folder of the run to resume.
        shard_size: texts per shard, 10,000 by default.
        batch_size: texts per batch of the encoder.
        backend: distribution of the shards, as for :func:`embed`.

    Raises:
        UnfinishedError: this worker's share is done, but not all the others'.
        InputError: no texts, a folder with other content, or numbers out of range.
        RunMismatchError: the folder was made with another encoder, other texts or other settings.
        RunError: the disk is full. Finished shards stay.
    """
    size = choose_shard_size(shard_size, batch_size)
    opened = open_texts(texts)
    [probe] = encoder.encode([PROBE])
    folder = EmbeddingFolder.create(
        Path(out),
        {
            "encoder": identify(encoder),
            "data": {**opened.settings(), "shard_size": size},
            "dtype": "float16",
        },
        describe_provenance(encoder, 0, batch_size),
        round_probe(probe),
        content="text",
        shared=isinstance(backend, Scheduled),
    )
    starts = range(0, len(opened), size)
    parts = folder.parts(len(starts))
    made = len(parts.missing()) if isinstance(backend, Ray) else 0
    if isinstance(backend, Ray):
        fill_parts(WHAT, _make_shard, _ShardJob(encoder, opened, size, batch_size), parts, backend)
    mine = set(parts.missing() if backend is None else backend.share(parts.missing()))
    done = Embedded(folder.path, encoder.width)
    with progress("embed", len(opened)) as advance:
        for number, start in enumerate(starts):
            stop = min(start + size, len(opened))
            record = folder.record(number)
            if record is None and number in mine:
                _write_shard(folder, number, encoder, opened, (start, stop), batch_size, done)
            elif record is not None:
                done.add_kept(record)
            advance(stop - start, note=opened.name)
    done.written, done.kept = done.written + made, done.kept - made
    if backend is not None:
        check_finished(WHAT, parts, backend)
    return done


def choose_shard_size(shard_size: int | None, batch_size: int) -> int:
    """Return how many texts make a shard.

    Raises:
        InputError: this number, or that of a batch, is below 1.
    """
    size = SHARD_SIZE if shard_size is None else shard_size
    for what, value in (("shard", size), ("batch", batch_size)):
        if value < 1:
            raise InputError(f"Expected a {what} size of 1 or more, got {value}.")
    return size


@dataclass(frozen=True, eq=False)
class _ShardJob:
    """The job of a cluster machine: everything to compute a shard."""

    encoder: TextEncoder
    texts: Texts
    size: int
    batch_size: int


def _make_shard(job: _ShardJob, number: int) -> Arrays:
    """Return the files of one shard, computed on a cluster machine."""
    span = number * job.size, min((number + 1) * job.size, len(job.texts))
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as scratch:
        folder = EmbeddingFolder(Path(scratch), "text")
        folder.make_folders()
        done = Embedded(folder.path, job.encoder.width)
        _write_shard(folder, number, job.encoder, job.texts, span, job.batch_size, done)
        return pack_files(folder.path)


def _write_shard(
    folder: EmbeddingFolder,
    number: int,
    encoder: TextEncoder,
    texts: Texts,
    span: tuple[int, int],
    batch_size: int,
    done: Embedded,
) -> None:
    """Embed the texts from ``span[0]`` up to ``span[1]`` and write them as a shard."""
    start, stop = span
    vectors = _encode(encoder, texts.captions[start:stop], batch_size)
    usable = np.asarray(np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1))
    kept = [start + int(place) for place in np.flatnonzero(usable)]
    broken = {
        f"text {start + int(place)}": "the encoder's vector is zero or not finite in float16."
        for place in np.flatnonzero(~usable)
    }
    name = f"{texts.name}, from text {start} on"
    folder.write(number, name, vectors[usable], [_make_row(texts, place) for place in kept], broken)
    done.written += 1
    done.rows += len(kept)
    done.broken.update(broken)


def _encode(encoder: TextEncoder, texts: Sequence[str], batch_size: int) -> F16:
    parts = [
        encoder.encode(texts[start : start + batch_size])
        for start in range(0, len(texts), batch_size)
    ]
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate(parts).astype(np.float16)


def _make_row(texts: Texts, place: int) -> MetadataRow:
    others = {name: values[place] for name, values in texts.columns.items()}
    return MetadataRow("", 0, 0, {**others, "caption": texts.captions[place]})
