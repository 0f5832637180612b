"""Lists of the kept rows, in formats that other tools read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.counts import pluralize
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.arrays import read_array
from shiftproof.similarity.sources import Embeddings, check_flags
from shiftproof.types import Flags

UID = np.dtype([("f0", "<u8"), ("f1", "<u8")])
"""A uid of DataComp: the upper and the lower 64 of 128 bits."""

_UID_FORM = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""32 hex digits, with or without the dashes of a UUID."""


def explain_missing_uids(train: Embeddings) -> str | None:
    """Return why DataComp's list of uids cannot be written, or None if it can.

    It needs for every row a uid of 32 hex digits, or a UUID, which is the same with dashes.
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
                if uid is None or not _UID_FORM.fullmatch(uid):
                    got = "nothing" if uid is None else repr(uid[:80])
                    return (
                        f"{shard.name}, row {place}: expected a uid of 32 hex digits, as DataComp has "
                        f"them, got {got}."
                    )
                place += 1
    return None


def has_uids(train: Embeddings) -> bool:
    """Return whether the metadata of any shard has a column of uids."""
    return any("uid" in train.columns(number) for number in range(len(train.shards)))


def write_datacomp(path: Path, train: Embeddings, keep: Flags) -> int:
    """Write the uids of the kept rows for DataComp's resharder, and return their number.

    The file is an ``.npy`` of unique ``(upper, lower)`` pairs of uint64, sorted. Dashes of UUIDs
    are ignored.

    Raises:
        InputError: no row is kept; a uid is missing or of another form
            (:func:`explain_missing_uids`); or kept and dropped rows share a uid.
    """
    keep = _check_keep(train, keep)
    reason = explain_missing_uids(train)
    if reason is not None:
        raise InputError(reason)
    kept = np.unique(np.concatenate([uids[stays] for uids, stays in _iterate_uids(train, keep)]))
    both = [np.intersect1d(kept, uids[~stays]) for uids, stays in _iterate_uids(train, keep)]
    shared = np.unique(np.concatenate(both))
    if len(shared):
        raise InputError(
            f"{pluralize(len(shared), 'uid is', 'uids are')} shared by kept and dropped rows, such as "
            f"{_format_uid(shared[0])}. A list of uids cannot tell them apart; write keys with their shards "
            "instead (write_keys)."
        )
    with files.atomic(path) as file:
        np.save(file, kept)
    return len(kept)


def read_datacomp(path: Path) -> NDArray[np.void]:
    """Read a list of uids in the format of DataComp's resharder, ``(n,)`` pairs of uint64.

    Raises:
        BrokenFileError: the file is not an array of pairs of uint64.
    """
    try:
        uids: NDArray[np.void] = read_array(path)
    except BrokenFileError as error:
        raise BrokenFileError(f"{path}: no list of uids. {error}") from error
    if uids.dtype != UID or uids.ndim != 1:
        raise BrokenFileError(f"{path}: expected pairs of uint64, got {uids.dtype}.")
    return uids


def write_keys(path: Path, train: Embeddings, keep: Flags) -> int:
    """Write a Parquet file with ``shard``, ``row`` and ``key`` of the kept rows; return their
    number.

    ``shard`` is the file's name and ``row`` the index in it: together they identify a row, which
    keys alone do not. ``key`` is null without metadata.

    Args:
        path: the file.
        train: the training set of n rows.
        keep: ``(n,)`` bool, the rows to keep.

    Raises:
        InputError: no row is kept.
    """
    import pyarrow
    import pyarrow.parquet

    keep = _check_keep(train, keep)
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


def _check_keep(train: Embeddings, keep: Flags) -> Flags:
    flags = check_flags(keep, len(train), "keep")
    if not flags.any():
        raise InputError("The list keeps nothing. Use a higher threshold or a larger size.")
    return flags


def _iterate_uids(train: Embeddings, keep: Flags) -> Iterator[tuple[NDArray[np.void], Flags]]:
    """Yield batches of uids, all of DataComp's form, with whether their rows are kept."""
    place = 0
    for number in range(len(train.shards)):
        for uids in train.key_batches(number, "uid"):
            digits = "".join(uid or "" for uid in uids).replace("-", "")
            halves = np.frombuffer(bytes.fromhex(digits), dtype=">u8").astype("<u8")
            yield halves.view(UID), keep[place : place + len(uids)]
            place += len(uids)


def _format_uid(uid: np.void) -> str:
    return f"{int(uid['f0']):016x}{int(uid['f1']):016x}"
