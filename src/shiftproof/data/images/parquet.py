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
from shiftproof.counts import pluralize
from shiftproof.data.disk import list_files
from shiftproof.data.images.labels import LabelReader
from shiftproof.data.images.rows import RowImages, RowTable, choose_image_column, read_file_version
from shiftproof.data.splits import parse_splits
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
        source: the given file or folder.
        split: name of the split, or "" for a single given file.
        paths: the files.
    """

    source: Path
    split: str
    paths: tuple[Path, ...]


def list_parquet_splits(root: Path) -> list[ParquetFiles]:
    """Return the splits of Parquet files, by their names.

    ``train-00000-of-00002.parquet`` is of the split ``train``; ``0000.parquet`` of the split that
    is its folder's name; any other of the split in its name, or else a split of its own.
    """
    if root.is_file():
        return [ParquetFiles(root, "", (root,))]
    names = sorted(filter(is_parquet, list_files(root)), key=sort_key)
    check_names(root, names)
    by_split: dict[str, list[str]] = {}
    for name in names:
        by_split.setdefault(_find_split_name(PurePosixPath(name)), []).append(name)
    return [
        ParquetFiles(root, split, tuple(root / name for name in split_names))
        for split, split_names in by_split.items()
    ]


def _find_split_name(path: PurePosixPath) -> str:
    shard = _SHARD.fullmatch(path.stem)
    if shard is not None:
        return shard[1]
    if path.stem.isdecimal() and len(path.parts) > 1:
        return path.parts[-2]
    splits = parse_splits(path.name)
    return path.stem if path.stem.isalpha() or len(splits) != 1 else next(iter(splits))


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
        files = _choose_split(Path(root), split)
        self._paths = files.paths
        features = _read_features(files.paths[0])
        image_column = choose_image_column(files.source, features, column)
        groups = [
            (file, group, rows)
            for file, path in enumerate(files.paths)
            for group, rows in enumerate(_read_group_sizes(path, image_column))
        ]
        self._groups = [(file, group) for file, group, _ in groups]
        self._starts = np.cumsum([0, *(rows for _, _, rows in groups)])
        reader = LabelReader(classes, class_map=class_map, labeled=labeled, key=label_key)
        prefix = f"{files.split}/" if files.split else ""
        name = files.source.resolve().stem
        count = int(self._starts[-1])
        with convert_errors(files.source, "its columns are not what its metadata say"):
            super().__init__(files.source, name, prefix, count, features, image_column, reader)

    def read_image_bytes(self, row: int) -> bytes | None:
        """Return the encoded image of a row, or None if the row has none."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        file, group = self._groups[index]
        path = self._paths[file]
        with convert_errors(path, "it has changed while it was read"):
            images = _read_group_images(path, read_file_version(path), group, self.column)
            cell = images[row - int(self._starts[index])].as_py()
        content: bytes | None = cell.get("bytes") if isinstance(cell, dict) else cell
        return content

    def list_tables(self) -> list[RowTable]:
        """Return the Parquet files, in order."""
        sizes = [0] * len(self._paths)
        for (file, _), rows in zip(self._groups, np.diff(self._starts), strict=True):
            sizes[file] += int(rows)
        starts = np.cumsum([0, *sizes]).tolist()
        return [
            RowTable(path, self.column, self.prefix, start, rows)
            for path, start, rows in zip(self._paths, starts, sizes, strict=False)
        ]

    def read_column(self, column: str) -> list[Any]:
        """Return a column of all rows."""
        values = []
        for path in self._paths:
            with convert_errors(path, f"no column {column} that can be read"):
                values += _open(path).read([column])[column].to_pylist()
        return values


def _choose_split(root: Path, split: str | None) -> ParquetFiles:
    splits = {files.split: files for files in list_parquet_splits(root)}
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
    return _open_version(path, read_file_version(path))


@functools.lru_cache(maxsize=64)
def _open_version(path: Path, version: str) -> Any:
    """Open one version of a Parquet file, which is cached; only its footer is read."""
    import pyarrow.parquet as pq

    with open_regular(path) as file, convert_errors(path, "no Parquet table that can be read"):
        check_footer(file, path.stat().st_size)
        return pq.ParquetFile(path, memory_map=True)


def _read_features(path: Path) -> dict[str, Any]:
    """Return the feature of each column, from ``datasets``' metadata or by its type."""
    schema = _open(path).schema_arrow
    with convert_errors(path, "its metadata are not those that datasets writes"):
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = dict((metadata.get("info") or {}).get("features") or {})
    return {field.name: features.get(field.name) or _guess_feature(field.type) for field in schema}


def _guess_feature(column_type: Any) -> dict[str, str]:
    import pyarrow as pa

    value_type = column_type.field("bytes").type if _has_bytes(column_type) else column_type
    if pa.types.is_binary(value_type) or pa.types.is_large_binary(value_type):
        return {"_type": "Image"}
    return {"_type": "Value", "dtype": str(column_type)}


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
            raise BrokenFileError(f"{path} has another number of rows than its footer says.")


def count_other_bytes(path: Path, column: str) -> int:
    """Return the size in bytes of all columns but one."""
    metadata = _open(path).metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    return sum(
        int(chunk.total_compressed_size)
        for chunk in chunks
        if chunk.path_in_schema.partition(".")[0] != column
    )


def _has_bytes(column_type: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(column_type)) and column_type.get_field_index("bytes") >= 0


def _read_group_sizes(path: Path, column: str) -> list[int]:
    """Check that a column has images, and return the number of rows of each row group."""
    with convert_errors(path, f"expected images in the column {column}"):
        file = _open(path)
        column_type = file.schema_arrow.field(column).type
        if _guess_feature(column_type) != {"_type": "Image"}:
            raise TypeError(f"it holds {column_type}")
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        if min(sizes, default=0) < 0 or sum(sizes) > path.stat().st_size:
            raise ValueError(f"{pluralize(sum(sizes), 'row is', 'rows are')} claimed")
    return sizes


@functools.lru_cache(maxsize=2)
def _read_group_images(path: Path, version: str, group: int, column: str) -> Any:
    """Return the images of a row group; cached, since neighbors are read one after the other."""
    with convert_errors(path, f"its images of row group {group} cannot be read"):
        file = _open(path)
        column_type = file.schema_arrow.field(column).type
        name = f"{column}.bytes" if _has_bytes(column_type) else column
        table = file.read_row_group(group, columns=[name])
        table.validate(full=True)
        if len(table) != file.metadata.row_group(group).num_rows:
            raise BrokenFileError(
                f"{path}: row group {group} has another number of rows than the footer says."
            )
        return table[column]
