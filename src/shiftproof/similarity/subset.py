"""Applying a keep-list to embeddings and to webdataset tars."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from shiftproof.counts import pluralize
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files, manifest
from shiftproof.io.arrays import open_array
from shiftproof.io.folder_locks import releases_locks
from shiftproof.io.tars import copy_header, open_tar, sort_key, split_key
from shiftproof.similarity.sources import Embeddings, Source, check_flags, open_embeddings
from shiftproof.types import Flags

_ROWS = 4096


@dataclass
class Subset:
    """Counts of the written files.

    Attributes:
        rows: number of kept rows.
        shards: number of embedding files that this run wrote.
        tars: number of tars that it wrote.
        kept: number of files that existed already.
        samples: number of samples in the tars.
    """

    rows: int
    shards: int = 0
    tars: int = 0
    kept: int = 0
    samples: int = 0


def read_keep(path: str | Path, rows: int) -> Flags:
    """Read a ``keep.npy`` ``(n,)`` bool, or the one in a folder written by a pruning.

    Raises:
        BrokenFileError: the file is not such an array.
        InputError: it has another number of rows, or keeps nothing.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "keep.npy"
    values = open_array(file)
    if values.dtype != np.bool_ or len(values.shape) != 1:
        raise BrokenFileError(
            f"{file}: expected one true or false for each row, got {values.dtype} {values.shape}."
        )
    if values.shape != (rows,):
        raise InputError(
            f"{file} has {pluralize(values.shape[0], 'row')}, the embeddings have {rows:,}."
        )
    keep: Flags = values.read(0, rows)
    if not keep.any():
        raise InputError(f"{file} keeps nothing.")
    return keep


@releases_locks
def write_subset(
    train: Source, keep: Flags | str | Path, out: str | Path, *, tars: str | Path | None = None
) -> Subset:
    """Write the kept rows as shards of embeddings, and the kept samples as tars.

    ``img_emb/img_emb_N.npy`` (float16) and ``metadata/metadata_N.parquet`` for every shard, as
    clip-retrieval lays them out, and ``tars/`` with every tar under its own name. Resumes an
    interrupted run.

    Args:
        train: the embeddings of the keep-list.
        keep: ``(n,)`` bool, or a path for :func:`read_keep`.
        out: a new or empty folder, or that of the same subset.
        tars: a folder of uncompressed webdataset tars. If there are as many as shards, they are
            paired in order; otherwise samples are matched by key.

    Raises:
        InputError: a keep-list of other rows or without kept rows, tars without keys, or a key
            shared by kept and dropped samples.
        BrokenFileError: a damaged tar.
    """
    rows = open_embeddings(train)
    chosen = keep if isinstance(keep, np.ndarray) else read_keep(keep, len(rows))
    chosen = check_flags(chosen, len(rows), "keep")
    found = [] if tars is None else _list_tars(Path(tars))
    rows.check_first()
    folder = Path(out)
    settings = {
        "train": rows.fingerprint(),
        "keep": files.fingerprint([np.packbits(chosen).tobytes()]),
        "tars": [tar.name for tar in found],
    }
    manifest.begin(folder, "subset.json", settings, what="subset")
    done = Subset(int(chosen.sum()))
    _write_shards(folder, rows, chosen, done)
    if found:
        _write_tars(folder / "tars", rows, chosen, found, done)
    return done


def _write_shards(folder: Path, rows: Embeddings, keep: Flags, done: Subset) -> None:
    for name in ("img_emb", "metadata"):
        files.make_folder(folder / name)
    for number in range(len(rows.shards)):
        target = folder / "img_emb" / f"img_emb_{number}.npy"
        if target.is_file():
            done.kept += 1
            continue
        here = keep[rows.starts[number] : rows.starts[number + 1]]
        if rows.columns(number):
            with files.atomic(folder / "metadata" / f"metadata_{number}.parquet") as file:
                _write_metadata(file, rows.metadata(number), here)
        # The rows are written last: they mark the shard as done.
        with files.atomic(target) as file:
            head = {"descr": "<f2", "fortran_order": False, "shape": (int(here.sum()), rows.width)}
            np.lib.format.write_array_header_1_0(file, head)
            for block in rows.blocks(_ROWS, [number]):
                part = here[block.start : block.start + len(block.values)]
                file.write(block.values[part].astype("<f2").tobytes())
        done.shards += 1


def _write_metadata(file: IO[bytes], batches: Iterator[Any], keep: Flags) -> None:
    import pyarrow
    import pyarrow.parquet

    place = 0
    writer = None
    with contextlib.ExitStack() as stack:
        for batch in batches:
            if writer is None:
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(file, batch.schema))
            here = pyarrow.array(keep[place : place + batch.num_rows])
            writer.write_batch(batch.filter(here))
            place += batch.num_rows


def _write_tars(
    folder: Path, rows: Embeddings, keep: Flags, tars: Sequence[Path], done: Subset
) -> None:
    files.make_folder(folder)
    whole = len(tars) == len(rows.shards)
    if whole:
        # Checked before anything is written; only one shard's keys are in memory at a time.
        for number in range(len(rows.shards)):
            _choose_keys_of(rows, number, keep)
    else:
        everywhere = _choose_keys(
            (pair for number in range(len(rows.shards)) for pair in _flag_keys(rows, number, keep)),
            "the metadata",
        )
    for number, tar in enumerate(tars):
        target = folder / tar.name
        if target.is_file():
            done.kept += 1
            continue
        kept_keys = _choose_keys_of(rows, number, keep) if whole else everywhere
        done.samples += _filter_tar(tar, target, kept_keys, whole=whole)
        done.tars += 1


def _choose_keys_of(rows: Embeddings, number: int, keep: Flags) -> set[str]:
    """Return the kept keys of a shard."""
    return _choose_keys(_flag_keys(rows, number, keep), rows.shards[number].name)


def _flag_keys(rows: Embeddings, number: int, keep: Flags) -> Iterator[tuple[str, bool]]:
    """Yield the keys of a shard's rows, each with whether its row is kept."""
    batches = rows.sample_keys(number)
    name = rows.shards[number].name
    if batches is None:
        raise InputError(
            f"{name}: expected keys of samples in its metadata (a column key); there are none, so no "
            "tar can be filtered."
        )
    place = int(rows.starts[number])
    for keys in batches:
        for key, kept in zip(keys, keep[place : place + len(keys)].tolist(), strict=True):
            if key is not None:
                yield key, kept
            elif kept:
                raise InputError(
                    f"{name}: expected a key for every kept row, got none for row "
                    f"{place - int(rows.starts[number])}; no tar can be filtered by it."
                )
            place += 1


def _choose_keys(keys: Iterable[tuple[str, bool]], where: str) -> set[str]:
    """Return the kept keys."""
    kept_keys: set[str] = set()
    dropped_keys: set[str] = set()
    for key, is_kept in keys:
        (kept_keys if is_kept else dropped_keys).add(key)
    both = kept_keys & dropped_keys
    if both:
        raise InputError(
            f"{pluralize(len(both), 'key')} of {where} {'is' if len(both) == 1 else 'are'} shared by "
            f"kept and dropped samples, such as "
            f"{min(both)!r}. Filter with as many tars as there are shards, in the same order."
        )
    return kept_keys


def _filter_tar(source: Path, target: Path, chosen: set[str], *, whole: bool) -> int:
    """Copy the kept samples of a tar, member by member, and return their number.

    ``whole``: whether the tar must have all of them.
    """
    found: set[str] = set()
    with files.atomic(target) as file:
        with (
            open_tar(source) as old,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as new,
        ):
            for member in old.members():
                key = split_key(member.name)[0]
                if not member.isreg() or key not in chosen:
                    continue
                found.add(key)
                new.addfile(copy_header(member), io.BytesIO(old.read(member)))
        if whole and found != chosen:
            raise InputError(
                f"{source} lacks {len(chosen - found)} of {pluralize(len(chosen), 'kept sample')}, such as "
                f"{min(chosen - found)!r}. Expected the tars that were embedded, in the same order."
            )
    return len(found)


def _list_tars(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("*.tar") if path.is_file()]
    if not found:
        raise InputError(f"{folder}: expected webdataset tars (*.tar), found none.")
    return sorted(found, key=lambda path: sort_key(path.name))
