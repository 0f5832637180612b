"""Estimating the cost of embedding by running it for about ten seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shiftproof.compute.needs import Needs, measure_memory
from shiftproof.compute.tuning import count_usable_cores
from shiftproof.data import ImageData
from shiftproof.embed.extract import read_pictures
from shiftproof.embed.image_source import Pictures
from shiftproof.embed.sources import open_pictures
from shiftproof.embed.text_source import Texts, open_texts
from shiftproof.embed.texts import choose_shard_size
from shiftproof.errors import InputError
from shiftproof.io.border import show_name
from shiftproof.models import EncoderLike, TextEncoder

Item = TypeVar("Item")

TRIED_SECONDS = 5.0
"""Seconds of reading images, and of embedding them, until the current batch ends."""

_ROW_BYTES = 24
"""Bytes of metadata per row beside the image's name: height, width, and Parquet overhead."""


@dataclass(frozen=True)
class EmbeddingForecast:
    """Estimated cost of embedding.

    Attributes:
        images: number of images; for tars assuming that each has as many as the first.
        shards: number of shards.
        read_seconds: time to read all images in one process.
        encode_seconds: time of the encoder for all images.
        workers: number of reading processes.
        device: device of the encoder.
        memory: bytes of memory of all processes.
        disk: bytes written to disk.
        tried: number of images measured.
    """

    images: int
    shards: int
    read_seconds: float
    encode_seconds: float
    workers: int
    device: str
    memory: int
    disk: int
    tried: int

    @property
    def needs(self) -> Needs:
        """Resources on this machine: on a CPU, reading and encoding share the cores; with a GPU
        they overlap.
        """
        reading = self.read_seconds / max(self.workers, 1)
        is_shared = self.workers == 0 or self.device == "cpu"
        both = reading + self.encode_seconds
        seconds = both if is_shared else max(reading, self.encode_seconds)
        return Needs(seconds, self.memory, self.disk, self.shards)


def forecast_embedding(
    encoder: EncoderLike,
    data: str | Path | ImageData | Pictures,
    *,
    shard_size: int | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
) -> EmbeddingForecast:
    """Estimate the cost of :func:`embed` with the same arguments; writes nothing.

    The first images of the first shard represent the others, so it is a rough estimate.

    Raises:
        InputError: as embed, and if none of the measured images can be read.
    """
    pictures = open_pictures(data, shard_size=shard_size, split=split, images=images, root=root)
    first = pictures.part(0)
    start, found, count = time.perf_counter(), [], 0
    for picture in first.pictures:
        found += read_pictures((pictures, encoder.preprocess), (picture,))
        count += 1
        if time.perf_counter() - start > TRIED_SECONDS:
            break
    reading = time.perf_counter() - start
    usable = [one[0] for one in found if not isinstance(one, str)]
    if not usable:
        raise InputError(
            f"{show_name(pictures.name)}: none of the images tried for the estimate can be read."
        )
    total = pictures.count
    if total is None:
        total = len(first.pictures) * pictures.parts
    names = sum(len(picture.name) for picture in first.pictures[:count]) / count
    workers = max(count_usable_cores() - 1, 1) if workers is None else workers
    return EmbeddingForecast(
        images=total,
        shards=pictures.parts,
        read_seconds=reading / count * total,
        encode_seconds=_time_encoder(encoder.encode, usable, batch_size) * total,
        workers=workers,
        device=str(encoder.settings.get("device", "cpu")),
        memory=measure_memory(workers),
        disk=round(total * (2 * encoder.width + names + _ROW_BYTES)),
        tried=count,
    )


@dataclass(frozen=True)
class TextForecast:
    """Estimated cost of embedding texts.

    Attributes:
        texts: number of texts.
        shards: number of shards.
        encode_seconds: time of the encoder for all texts.
        device: device of the encoder.
        memory: bytes of memory of the process.
        disk: bytes written to disk.
        tried: number of texts measured.
    """

    texts: int
    shards: int
    encode_seconds: float
    device: str
    memory: int
    disk: int
    tried: int

    @property
    def needs(self) -> Needs:
        """Resources on this machine."""
        return Needs(self.encode_seconds, self.memory, self.disk, self.shards)


def forecast_texts(
    encoder: TextEncoder,
    texts: str | Path | Sequence[str] | Texts,
    *,
    shard_size: int | None = None,
    batch_size: int = 256,
) -> TextForecast:
    """Estimate the cost of :func:`embed_texts` with the same arguments; writes nothing.

    The first texts represent the others.

    Raises:
        InputError: as embed_texts.
    """
    size = choose_shard_size(shard_size, batch_size)
    opened = open_texts(texts)
    tried = opened.captions[:batch_size]
    kept = sum(len(text.encode()) for text in (*opened.captions, *_list_values(opened)))
    return TextForecast(
        texts=len(opened),
        shards=-(-len(opened) // size),
        encode_seconds=_time_encoder(encoder.encode, tried, batch_size) * len(opened),
        device=str(encoder.device),
        memory=measure_memory(0),
        disk=len(opened) * (2 * encoder.width + _ROW_BYTES) + kept,
        tried=len(tried),
    )


def _list_values(texts: Texts) -> Iterator[str]:
    return itertools.chain.from_iterable(texts.columns.values())


def _time_encoder(
    encode: Callable[[list[Item]], object], items: Sequence[Item], batch_size: int
) -> float:
    """Return the seconds per item in batches, without the first batch."""
    batch = list(itertools.islice(itertools.cycle(items), batch_size))
    encode(batch)
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < TRIED_SECONDS:
        encode(batch)
        count += len(batch)
    return (time.perf_counter() - start) / count
