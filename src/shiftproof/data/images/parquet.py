"""Images in Parquet files, as the Hugging Face hub and ``Dataset.to_parquet`` write them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, final

import numpy as np

from shiftproof.classes import Classes
from shiftproof.data.disk import all_files
from shiftproof.data.images.labels import StatedLabels
from shiftproof.data.images.rows import RowImages, RowTable, choose_image_column, read_state
from shiftproof.data.splits import split_of
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io.border import check_names, convert_errors, open_regular
from shiftproof.io.parquet import check_footer
from shiftproof.io.tars import sort_key

_SHARD = re.compile(r"(.+?)-\d+-of-\d+(?:-[0-9a-f]+)?")
"""The hub's name of a shard: split, number, count, and possibly a hash."""


def is_parquet(name: str) -> bool:
    """Return whether a file name has the suffix of Parquet."""
    return name.lower().endswith(".parquet")


@dataclass(frozen=True)
class ParquetFiles:
    """The Parquet files of one split, in order.

    Attributes:
        home: the given file or folder.
        split: name of the split, or "" for a single given file.
        paths: the files.
    """

    home: Path
    split: str
    paths: tuple[Path, ...]


def list_parquet_splits(root: Path) -> list[ParquetFiles]:
    """Return the splits of Parquet files, by their names.

    ``train-00000-of-00002.parquet`` is of the split ``train``; ``0000.parquet`` of the split that
    is its folder's name; any other of the split in its name, or else a split of its own.
    """
    if root.is_file():
        return [ParquetFiles(root, "", (root,))]
    names = sorted(filter(is_parquet, all_files(root)), key=sort_key)
    check_names(root, names)
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(_split_name(PurePosixPath(name)), []).append(name)
    return [
        ParquetFiles(root, split, tuple(root / name for name in found))
        for split, found in grouped.items()
    ]


def _split_name(path: PurePosixPath) -> str:
    shard = _SHARD.fullmatch(path.stem)
    if shard is not None:
        return shard[1]
    if path.stem.isdecimal() and len(path.parts) > 1:
        return path.parts[-2]
    told = split_of(path.name)
    return path.stem if path.stem.isalpha() or len(told) != 1 else next(iter(told))


@final
class ParquetImages(RowImages):
    """The images of Parquet files, one per row, with labels from a column.

    A column of images holds ``struct<bytes, path>`` or bytes alone. Metadata written by
    ``datasets`` names the columns and classes; without it, columns are recognized by their types.
    Ids are row numbers, prefixed by the split's name if a folder was given: the same ids as for the
    data saved by ``save_to_disk``. Reading an image loads its row group.

    Args:
        root: a file, or a folder of files.
        split: which split; required if there are several. classes, class_map, labeled, label_key,
        column: as for :class:`~shiftproof.data.SavedDataset`.

    Raises:
        InputError: no Parquet files, no such split, or no column of images.
        BrokenFileError: a file is damaged, or the files' columns differ.
        LabelError: labels that are not among the classes, or several candidate columns.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        classes: Classes | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
        label_key: str | None = None,
        column: str | None = None,
    ) -> None:
        found = _choose(Path(root), split)
        self._paths = found.paths
        features = _read_features(found.paths[0])
        chosen = choose_image_column(found.home, features, column)
        groups = [
            (number, group, rows)
            for number, path in enumerate(found.paths)
            for group, rows in enumerate(_group_sizes(path, chosen))
        ]
        self._groups = [(number, group) for number, group, _ in groups]
        self._starts = np.cumsum([0, *(rows for _, _, rows in groups)])
        stated = StatedLabels(classes, class_map=class_map, labeled=labeled, key=label_key)
        prefix = f"{found.split}/" if found.split else ""
        name = found.home.resolve().stem
        count = int(self._starts[-1])
        with convert_errors(found.home, "its columns are not what its metadata say"):
            super().__init__(found.home, name, prefix, count, features, chosen, stated)

    def image_bytes(self, row: int) -> bytes | None:
        """Return the encoded image of a row, or None if the row has none."""
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        number, group = self._groups[place]
        path = self._paths[number]
        with convert_errors(path, "it has changed while it was read"):
            images = _images(path, read_state(path), group, self.column)
            value = images[row - int(self._starts[place])].as_py()
        found: bytes | None = value.get("bytes") if isinstance(value, dict) else value
        return found

    def tables(self) -> list[RowTable]:
        """Return the Parquet files, in order."""
        sizes = [0] * len(self._paths)
        for (number, _), rows in zip(self._groups, np.diff(self._starts), strict=True):
            sizes[number] += int(rows)
        starts = np.cumsum([0, *sizes]).tolist()
        return [
            RowTable(path, self.column, self.prefix, start, rows)
            for path, start, rows in zip(self._paths, starts, sizes, strict=False)
        ]

    def values(self, column: str) -> list[Any]:
        """Return a column of all rows."""
        found = []
        for path in self._paths:
            with convert_errors(path, f"no column {column} that can be read"):
                found += _open(path).read([column])[column].to_pylist()
        return found


def _choose(root: Path, split: str | None) -> ParquetFiles:
    splits = {found.split: found for found in list_parquet_splits(root)}
    if not splits:
        raise InputError(f"{root} holds no Parquet files.")
    if split is not None and root.is_file():
        raise InputError(f"{root} holds one split, so the split {split!r} has no effect.")
    if split is None:
        if len(splits) > 1:
            raise InputError(
                f"{root} holds the splits {', '.join(splits)}; give one of them (--split)."
            )
        return next(iter(splits.values()))
    if split not in splits:
        raise UnknownNameError.of(f"split of {root}", split, splits)
    return splits[split]


def _open(path: Path) -> Any:
    return _open_state(path, read_state(path))


@functools.lru_cache(maxsize=64)
def _open_state(path: Path, state: str) -> Any:
    """Open a Parquet file whose footer was checked, without loading its content."""
    import pyarrow.parquet as pq

    with open_regular(path) as file, convert_errors(path, "no Parquet table that can be read"):
        check_footer(file, path.stat().st_size)
        return pq.ParquetFile(path, memory_map=True)


def _read_features(path: Path) -> dict[str, Any]:
    """Return the feature of each column, from ``datasets``' metadata or by its type."""
    schema = _open(path).schema_arrow
    with convert_errors(path, "what datasets wrote of its columns is not as it writes it"):
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = dict(((told.get("info") or {}).get("features")) or {})
    return {field.name: features.get(field.name) or _guess_feature(field.type) for field in schema}


def _guess_feature(kind: Any) -> dict[str, str]:
    import pyarrow as pa

    held = kind.field("bytes").type if _has_bytes(kind) else kind
    if pa.types.is_binary(held) or pa.types.is_large_binary(held):
        return {"_type": "Image"}
    return {"_type": "Value", "dtype": str(kind)}


def read_parquet_batches(path: Path, rows: int) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a Parquet file, and its rows in batches of at most ``rows``.

    Raises:
        BrokenFileError: it is damaged, at once or while its rows are read.
    """
    return _open(path).schema_arrow, _read_batches(path, rows)


def _read_batches(path: Path, rows: int) -> Iterator[Any]:
    with convert_errors(path, "its rows cannot be read"):
        count = 0
        for batch in _open(path).iter_batches(batch_size=rows):
            batch.validate(full=True)
            count += len(batch)
            yield batch
        if count != _open(path).metadata.num_rows:
            raise BrokenFileError(f"{path} has other rows than it claims.")


def count_other_bytes(path: Path, column: str) -> int:
    """Return the size in bytes of all columns but one."""
    meta = _open(path).metadata
    groups = [meta.row_group(at) for at in range(meta.num_row_groups)]
    columns = [group.column(at) for group in groups for at in range(group.num_columns)]
    return sum(
        int(chunk.total_compressed_size)
        for chunk in columns
        if chunk.path_in_schema.partition(".")[0] != column
    )


def _has_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind)) and kind.get_field_index("bytes") >= 0


def _group_sizes(path: Path, column: str) -> list[int]:
    """Check that a column has images, and return the number of rows of each row group."""
    with convert_errors(path, f"expected images in the column {column}"):
        file = _open(path)
        kind = file.schema_arrow.field(column).type
        if _guess_feature(kind) != {"_type": "Image"}:
            raise TypeError(f"it holds {kind}")
        sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        if min(sizes, default=0) < 0 or sum(sizes) > path.stat().st_size:
            raise ValueError(f"{sum(sizes)} rows are claimed")
    return sizes


@functools.lru_cache(maxsize=2)
def _images(path: Path, state: str, group: int, column: str) -> Any:
    """Return the images of a row group; cached, since neighbors are read one after the other."""
    with convert_errors(path, f"its images of row group {group} cannot be read"):
        file = _open(path)
        kind = file.schema_arrow.field(column).type
        wanted = f"{column}.bytes" if _has_bytes(kind) else column
        table = file.read_row_group(group, columns=[wanted])
        table.validate(full=True)
        if len(table) != file.metadata.row_group(group).num_rows:
            raise BrokenFileError(f"{path}: row group {group} has other rows than it claims.")
        return table[column]
