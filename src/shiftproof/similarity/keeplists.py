"""Lists of the rows that stay, in the forms that other tools read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files

from .sources import Embeddings

UID = np.dtype([("f0", "<u8"), ("f1", "<u8")])
"""A uid of DataComp: 128 bits as 32 hex digits, the upper half first."""


def write_datacomp(path: Path, train: Embeddings, keep: NDArray[np.bool_]) -> int:
    """Write the uids of the rows that stay as DataComp's resharder takes them, and return how many.

    A ``.npy`` of ``(upper, lower)`` pairs of uint64, sorted, each once.

    Raises:
        InputError: nothing stays; no uids; or a uid that names rows that stay and rows that go.
    """
    _check(train, keep)
    parts = []
    for shard in range(len(train.shards)):
        keys = train.keys(shard, "uid")
        if keys is None:
            raise InputError(
                f"{train.shards[shard].name}: expected uids in a .parquet file beside it; there is none."
            )
        parts.append(_as_pairs(keys, train.shards[shard].name))
    uids = np.concatenate(parts)
    kept, gone = np.unique(uids[keep]), np.unique(uids[~keep])
    both = np.intersect1d(kept, gone)
    if len(both):
        raise InputError(
            f"{len(both)} uids name both rows that stay and rows that go, such as {_as_text(both[0])}. "
            "Such a list cannot tell them apart; write keys with their shards instead (write_keys)."
        )
    with files.atomic(path) as file:
        np.save(file, kept)
    return len(kept)


def read_datacomp(path: Path) -> NDArray[np.void]:
    """Read a list of uids.

    Raises:
        BrokenFileError: it is no sorted array of pairs of uint64.
    """
    try:
        uids: NDArray[np.void] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BrokenFileError(f"{path}: no list of uids ({error}).") from error
    if uids.dtype != UID or uids.ndim != 1:
        raise BrokenFileError(f"{path}: expected pairs of uint64, got {uids.dtype}.")
    return uids


def write_keys(path: Path, train: Embeddings, keep: NDArray[np.bool_]) -> int:
    """Write a Parquet file with ``shard``, ``row`` and ``key`` of the rows that stay; return how many.

    ``shard`` is the file's name and ``row`` the place in it: together they name a row, which keys
    alone do not. ``key`` is missing where there is no metadata.

    Raises:
        InputError: nothing stays.
    """
    import pyarrow
    import pyarrow.parquet

    _check(train, keep)
    schema = pyarrow.schema(
        [("shard", pyarrow.string()), ("row", pyarrow.int64()), ("key", pyarrow.string())]
    )
    with files.atomic(path) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for number, shard in enumerate(train.shards):
            rows = np.flatnonzero(keep[train.starts[number] : train.starts[number + 1]])
            if not len(rows):
                continue
            keys = train.keys(number)
            chosen = [None] * len(rows) if keys is None else [keys[row] for row in rows]
            names = [shard.name] * len(rows)
            writer.write_table(pyarrow.table([names, rows, chosen], schema=schema))
    return int(keep.sum())


def _check(train: Embeddings, keep: NDArray[np.bool_]) -> None:
    if keep.shape != (len(train),):
        raise InputError(
            f"Expected one value for each of {len(train)} rows, got shape {keep.shape}."
        )
    if not keep.any():
        raise InputError("The list keeps nothing. Use a higher threshold or a larger size.")


def _as_pairs(uids: list[str], name: str) -> NDArray[np.void]:
    try:
        return np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], dtype=UID)
    except ValueError as error:
        raise InputError(f"{name}: expected uids of 32 hex digits ({error}).") from error


def _as_text(uid: np.void) -> str:
    return f"{int(uid['f0']):016x}{int(uid['f1']):016x}"
