"""A keep-list applied: the embeddings, and the webdataset tars, of the rows that stay."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files, manifest
from shiftproof.io.arrays import open_array
from shiftproof.io.holding import frees_folders

from .sources import Embeddings, Source, natural, open_embeddings

Flags = NDArray[np.bool_]

_ROWS = 4096


@dataclass
class Subset:
    """What was written.

    Attributes:
        rows: rows that stay.
        shards: files of embeddings that this run wrote.
        tars: tars that it wrote.
        kept: files that were there.
        samples: samples in the tars.
    """

    rows: int
    shards: int = 0
    tars: int = 0
    kept: int = 0
    samples: int = 0


def read_keep(path: str | Path, rows: int) -> Flags:
    """Read a ``keep.npy`` ``(n,)`` bool, or the one in the folder that a pruning wrote.

    Raises:
        BrokenFileError: it is none.
        InputError: it is of another number of rows, or keeps nothing.
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
        raise InputError(f"{file} is of {values.shape[0]} rows, the embeddings have {rows}.")
    keep: Flags = values.read(0, rows)
    if not keep.any():
        raise InputError(f"{file} keeps nothing.")
    return keep


@frees_folders
def write_subset(
    train: Source, keep: Flags | str | Path, out: str | Path, *, tars: str | Path | None = None
) -> Subset:
    """Write the rows that stay as shards of embeddings, and the samples that stay as tars.

    ``img_emb/img_emb_N.npy`` (float16) and ``metadata/metadata_N.parquet`` for every shard, as
    clip-retrieval lays them out, and ``tars/`` with every tar under its own name. Goes on where an
    interrupted run stopped.

    Args:
        train: the embeddings that the keep-list is of.
        keep: ``(n,)`` bool, or where :func:`read_keep` finds it.
        out: a new or empty folder, or that of the same subset.
        tars: a folder of webdataset tars that are not compressed. Where there are as many as shards,
            each belongs to the shard at its place in the order; otherwise keys name the samples.

    Raises:
        InputError: a keep-list of other rows or that keeps nothing, tars without keys, or a key that
            names samples that stay and others that go.
        BrokenFileError: a damaged tar.
    """
    rows = open_embeddings(train)
    chosen = keep if isinstance(keep, np.ndarray) else read_keep(keep, len(rows))
    if chosen.shape != (len(rows),):
        raise InputError(f"Expected one value for each of {len(rows)} rows, got {chosen.shape}.")
    found = [] if tars is None else _tars(Path(tars))
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
        table = rows.metadata(number)
        if table is not None:
            import pyarrow
            import pyarrow.parquet

            with files.atomic(folder / "metadata" / f"metadata_{number}.parquet") as file:
                pyarrow.parquet.write_table(table.filter(pyarrow.array(here)), file)
        # The rows come last: with them the shard is done.
        with files.atomic(target) as file:
            head = {"descr": "<f2", "fortran_order": False, "shape": (int(here.sum()), rows.width)}
            np.lib.format.write_array_header_1_0(file, head)
            for block in rows.blocks(_ROWS, [number]):
                part = here[block.start : block.start + len(block.values)]
                file.write(block.values[part].astype("<f2").tobytes())
        done.shards += 1


def _write_tars(
    folder: Path, rows: Embeddings, keep: Flags, tars: Sequence[Path], done: Subset
) -> None:
    files.make_folder(folder)
    keys = [_keys(rows, number) for number in range(len(rows.shards))]
    if len(tars) == len(rows.shards):
        parts = np.split(keep, rows.starts[1:-1])
        chosen = [
            _chosen(of_shard, part, shard.name)
            for of_shard, part, shard in zip(keys, parts, rows.shards, strict=True)
        ]
    else:
        everywhere = _chosen([key for of_shard in keys for key in of_shard], keep, "the metadata")
        chosen = [everywhere] * len(tars)
    for tar, stay in zip(tars, chosen, strict=True):
        target = folder / tar.name
        if target.is_file():
            done.kept += 1
            continue
        done.samples += _filter(tar, target, stay, whole=len(tars) == len(rows.shards))
        done.tars += 1


def _keys(rows: Embeddings, number: int) -> list[str]:
    keys = rows.sample_keys(number)
    if keys is None:
        raise InputError(
            f"{rows.shards[number].name}: expected keys of samples in its metadata (a column key); "
            "there are none, so no tar can be filtered."
        )
    return keys


def _chosen(keys: Sequence[str], keep: Flags, where: str) -> set[str]:
    """Return the keys that stay."""
    stay = {key for key, kept in zip(keys, keep.tolist(), strict=True) if kept}
    both = stay & {key for key, kept in zip(keys, keep.tolist(), strict=True) if not kept}
    if both:
        raise InputError(
            f"{len(both)} keys of {where} name both samples that stay and samples that go, such as "
            f"{min(both)!r}. Filter with as many tars as there are shards, in the same order."
        )
    return stay


def _filter(source: Path, target: Path, chosen: set[str], *, whole: bool) -> int:
    """Copy the samples of a tar that stay, member by member, and return how many.

    ``whole``: the tar must have all of them.
    """
    found: set[str] = set()
    with files.atomic(target) as file:
        try:
            with (
                tarfile.open(source, mode="r:") as old,
                tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as new,
            ):
                for member in old:
                    key = _key_of(member.name)
                    if not member.isreg() or key not in chosen:
                        continue
                    found.add(key)
                    new.addfile(member, old.extractfile(member))
        except (tarfile.TarError, EOFError) as error:
            raise BrokenFileError(f"{source}: the tar is damaged ({error}).") from error
        if whole and found != chosen:
            raise InputError(
                f"{source} lacks {len(chosen - found)} of {len(chosen)} samples that stay, such as "
                f"{min(chosen - found)!r}. Expected the tars that were embedded, in the same order."
            )
    return len(found)


def _tars(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("*.tar") if path.is_file()]
    if not found:
        raise InputError(f"{folder}: expected webdataset tars (*.tar), found none.")
    return sorted(found, key=lambda path: natural(path.name))


def _key_of(member: str) -> str:
    """Return a sample's key as webdataset does: up to the first dot of the last part of its name."""
    folder, slash, base = member.rpartition("/")
    return folder + slash + base.partition(".")[0]
