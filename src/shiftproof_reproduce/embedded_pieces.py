"""Writing the images of each piece and their embeddings, resumably."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof import Encoder, load_encoder
from shiftproof.compute.processes import map_ordered
from shiftproof.compute.progress import progress
from shiftproof.data import ImageArrays
from shiftproof.embed import embed
from shiftproof.io import atomic, make_folder, read_json, write_json
from shiftproof.similarity import open_embeddings
from shiftproof_reproduce import fashion
from shiftproof_reproduce.shifted_fashion import Gray, Piece, make_images, read_labels

SHARD_SIZE = 2000
"""Images per shard: about ten seconds of work, the maximum loss of an interruption."""


@dataclass(frozen=True)
class PieceFolder:
    """A folder of pieces, with ``images/NAME.npy`` and the embeddings ``embeddings/NAME``."""

    folder: Path

    def images(self, name: str) -> Gray:
        """Return the images of a piece."""
        read: Gray = np.load(self.folder / "images" / f"{name}.npy", allow_pickle=False)
        return read

    def vectors(self, name: str) -> NDArray[np.float32]:
        """Return the embeddings of a piece, ``(N, width)`` of length 1."""
        return open_embeddings(self.folder / "embeddings" / name, normalize=True).read()


def embed_pieces(
    pieces: Mapping[str, Piece],
    folder: Path,
    *,
    data: Path | None,
    side: int,
    seed: int,
    workers: int,
    show_progress: bool | None = None,
) -> dict[str, float]:
    """Make and embed all pieces, each in one worker, and return the CPU seconds of each.

    The largest piece comes first to keep all workers busy; 0 workers use this process. ``data`` is
    the folder of Fashion-MNIST, ``side`` the size of the encoder's input, and ``seed`` that of the
    shifts.
    """
    for name in ("images", "embeddings", "pieces"):
        make_folder(folder / name)
    seconds: dict[str, float] = {}
    images = sum(len(piece.rows) for piece in pieces.values())
    results = map_ordered(
        _embed_piece, pieces.items(), context=(folder, data, side, seed), workers=workers
    )
    with progress("Embedding", images, show=show_progress) as advance:
        for (name, piece), spent in zip(pieces.items(), results, strict=True):
            seconds[name] = spent
            advance(len(piece.rows), note=name)
    return seconds


def _embed_piece(context: tuple[Path, Path | None, int, int], item: tuple[str, Piece]) -> float:
    """Make and embed one piece, and return the CPU seconds; runs in a worker process."""
    folder, data, side, seed = context
    name, piece = item
    record = folder / "pieces" / f"{name}.json"
    if record.exists():
        return float(read_json(record)["seconds"])
    begun = time.process_time()
    read = _load_data(data)
    images = make_images(read, piece, seed=seed)
    with atomic(folder / "images" / f"{name}.npy") as file:
        np.save(file, images)
    source = ImageArrays(
        list(images), read_labels(read, piece), fashion.CLASSES, ids=piece.ids(), name=name
    )
    embed(
        _load_encoder(side), source, folder / "embeddings" / name, shard_size=SHARD_SIZE, workers=0
    )
    spent = round(time.process_time() - begun, 1)
    write_json(record, {"seconds": spent})
    return spent


@lru_cache(maxsize=1)
def _load_data(folder: Path | None) -> fashion.FashionMNIST:
    return fashion.load(folder)


@lru_cache(maxsize=1)
def _load_encoder(side: int) -> Encoder:
    return load_encoder("demo", size=side, resize=side)
