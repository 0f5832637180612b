"""Lists of the rows that stay, in the forms that other tools read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.counts import plural
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.arrays import read_array
from shiftproof.similarity.sources import Embeddings, check_flags
from shiftproof.types import Flags

UID = np.dtype([("f0", "<u8"), ("f1", "<u8")])
"""A uid of DataComp: 128 bits as 32 hex digits, the upper half first."""

_FORM = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""32 hex digits, or the same 128 bits as UUIDs are spelled."""


def find_misfit(train: Embeddings) -> str | None:
    """Return why DataComp's list of uids cannot be made of some rows, or None where it can.

    It takes 128 bits for every row: 32 hex digits, or a UUID, which is the same with dashes. Text
    of another form, numbers, and rows without a uid have no place in it.
    """
    for number, shard in enumerate(train.shards):
        columns = train.columns(number)
        if not columns:
            return f"{shard.name}: expected uids in a .parquet file beside it; there is none."
        if "uid" not in columns:
            return str(UnknownNameError.of(f"column of {shard.name}'s metadata", "uid", columns))
        place = 0
        for uids in train.key_batches(number, "uid"):
            for uid in uids:
                if uid is None or not _FORM.fullmatch(uid):
                    got = "nothing" if uid is None else repr(uid[:80])
                    return (
                        f"{shard.name}, row {place}: expected a uid of 32 hex digits, as DataComp has "
                        f"them, got {got}."
                    )
                place += 1
    return None


def has_uids(train: Embeddings) -> bool:
    """Whether the metadata of some shard has a column of uids."""
    return any("uid" in train.columns(number) for number in range(len(train.shards)))


def write_datacomp(path: Path, train: Embeddings, keep: Flags) -> int:
    """Write the uids of the rows that stay as DataComp's resharder takes them, and return how many.

    A ``.npy`` of ``(upper, lower)`` pairs of uint64, sorted, each once. UUIDs with dashes count as the
    32 hex digits that they hold.

    Raises:
        InputError: nothing stays; a uid is missing or of another form (:func:`find_misfit`); or one
            names rows that stay and rows that go.
    """
    keep = _check(train, keep)
    misfit = find_misfit(train)
    if misfit is not None:
        raise InputError(misfit)
    kept = np.unique(np.concatenate([uids[stays] for uids, stays in _pairs(train, keep)]))
    both = [np.intersect1d(kept, uids[~stays]) for uids, stays in _pairs(train, keep)]
    shared = np.unique(np.concatenate(both))
    if len(shared):
        raise InputError(
            f"{plural(len(shared), 'uid names', 'uids name')} both rows that stay and rows that go, such as "
            f"{_as_text(shared[0])}. Such a list cannot tell them apart; write keys with their shards "
            "instead (write_keys)."
        )
    with files.atomic(path) as file:
        np.save(file, kept)
    return len(kept)


def read_datacomp(path: Path) -> NDArray[np.void]:
    """Read a list of uids, ``(n,)`` pairs of uint64, as DataComp's resharder takes it.

    Raises:
        BrokenFileError: it is no array of pairs of uint64.
    """
    try:
        uids: NDArray[np.void] = read_array(path)
    except BrokenFileError as error:
        raise BrokenFileError(f"{path}: no list of uids. {error}") from error
    if uids.dtype != UID or uids.ndim != 1:
        raise BrokenFileError(f"{path}: expected pairs of uint64, got {uids.dtype}.")
    return uids


def write_keys(path: Path, train: Embeddings, keep: Flags) -> int:
    """Write a Parquet file with ``shard``, ``row`` and ``key`` of the rows that stay; return how many.

    ``shard`` is the file's name and ``row`` the place in it: together they name a row, which keys
    alone do not. ``key`` is missing where there is no metadata.

    Args:
        path: the file.
        train: the training set of n rows.
        keep: ``(n,)`` whether a row stays.

    Raises:
        InputError: nothing stays.
    """
    import pyarrow
    import pyarrow.parquet

    keep = _check(train, keep)
    schema = pyarrow.schema(
        [("shard", pyarrow.string()), ("row", pyarrow.int64()), ("key", pyarrow.string())]
    )
    with files.atomic(path) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for number, shard in enumerate(train.shards):
            first = place = int(train.starts[number])
            for keys in train.key_batches(number):
                rows = np.flatnonzero(keep[place : place + len(keys)])
                if len(rows):
                    names, chosen = [shard.name] * len(rows), [keys[row] for row in rows]
                    table = pyarrow.table([names, rows + (place - first), chosen], schema=schema)
                    writer.write_table(table)
                place += len(keys)
    return int(keep.sum())


def _check(train: Embeddings, keep: Flags) -> Flags:
    flags = check_flags(keep, len(train), "keep")
    if not flags.any():
        raise InputError("The list keeps nothing. Use a higher threshold or a larger size.")
    return flags


def _pairs(train: Embeddings, keep: Flags) -> Iterator[tuple[NDArray[np.void], Flags]]:
    """Yield some uids at a time, which are all of DataComp's form, with whether their rows stay."""
    place = 0
    for number in range(len(train.shards)):
        for uids in train.key_batches(number, "uid"):
            digits = "".join(uid or "" for uid in uids).replace("-", "")
            halves = np.frombuffer(bytes.fromhex(digits), dtype=">u8").astype("<u8")
            yield halves.view(UID), keep[place : place + len(uids)]
            place += len(uids)


def _as_text(uid: np.void) -> str:
    return f"{int(uid['f0']):016x}{int(uid['f1']):016x}"
