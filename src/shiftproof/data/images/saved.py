"""Datasets saved to disk by Hugging Face's ``datasets``; the library is not needed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, final

import numpy as np

from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.data.images.labels import LabelReader
from shiftproof.data.images.rows import RowImages, RowTable, choose_image_column, read_file_version
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io.border import convert_errors, is_utf8, open_regular, show_name
from shiftproof.io.text import read_json


def is_saved_dataset(path: Path) -> bool:
    """Return whether ``save_to_disk`` wrote a folder, of one split or several."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


@final
class SavedDataset(RowImages):
    """A folder written by ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``.

    Ids are row numbers, prefixed by the split's name if there are splits. Labels are in the column
    ``label`` (``labels``, ``cls``, ``class``), or in the only one of the type ClassLabel, whose
    names are then looked up in the model's classes.

    Args:
        root: the folder.
        split: which split; required if there are several.
        classes: the model's classes. None uses the names of the ClassLabel column ``label``.
        class_map: from label to class, for labels that the model does not have.
        labeled: None reads labels if there are any; False ignores them; True requires them.
        label_key: the label column, if several are possible.
        column: the image column, if several have images and none is named ``image``.

    Raises:
        InputError: no such split, or no column of images.
        BrokenFileError: a file is missing, damaged, or refers to one outside its folder.
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
        folder, prefix = _find_split_folder(Path(root), split)
        self._files, features = _read_description(folder)
        image_column = choose_image_column(folder, features, column)
        counts = [_check_table(path, _open_table(path), image_column) for path in self._files]
        self._starts = np.cumsum([0, *counts])
        reader = LabelReader(classes, class_map=class_map, labeled=labeled, key=label_key)
        count = int(self._starts[-1])
        with convert_errors(folder, "its columns are not what dataset_info.json says"):
            super().__init__(folder, folder.name, prefix, count, features, image_column, reader)

    def read_image_bytes(self, row: int) -> bytes | None:
        """Return the encoded image of a row, or None if the row has none."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        path = self._files[index]
        with convert_errors(path, "it has changed while it was read"):
            cell = _open_table(path)[self.column][row - int(self._starts[index])].as_py()
        content: bytes | None = None if cell is None else cell.get("bytes")
        return content

    def list_tables(self) -> list[RowTable]:
        """Return the Arrow files, in order."""
        pairs = zip(self._files, itertools.pairwise(self._starts.tolist()), strict=True)
        return [
            RowTable(path, self.column, self.prefix, start, end - start)
            for path, (start, end) in pairs
        ]

    def read_column(self, column: str) -> list[Any]:
        """Return a column of all rows."""
        return [value for path in self._files for value in _open_table(path)[column].to_pylist()]


def list_splits(root: Path) -> list[str]:
    """Return the names of the splits; none if the folder is a single split.

    Raises:
        BrokenFileError: ``dataset_dict.json`` is not in the format of datasets.
    """
    path = root / "dataset_dict.json"
    if not path.is_file():
        return []
    with convert_errors(path, "expected the names of splits"):
        return [_check_file_name(path, name) for name in read_json(path)["splits"]]


def _find_split_folder(root: Path, split: str | None) -> tuple[Path, str]:
    """Return the folder of a split, and the prefix of its ids."""
    if not (root / "dataset_dict.json").is_file():
        if split is not None:
            raise InputError(f"{root} holds one split, so the split {split!r} has no effect.")
        return root, ""
    splits = list_splits(root)
    if split is None and len(splits) == 1:
        split = splits[0]
    if split is None:
        raise InputError(f"{root} holds the splits {', '.join(splits)}; give one of them.")
    if split not in splits:
        raise UnknownNameError.of(f"split of {root}", split, splits)
    return root / split, f"{split}/"


def _read_description(folder: Path) -> tuple[tuple[Path, ...], Mapping[str, Any]]:
    """Return a split's files and its columns' features, from ``datasets``' two JSON files."""
    path = folder / "state.json"
    with convert_errors(path, "not as datasets writes it"):
        state = read_json(path)
        names = [_check_file_name(path, entry["filename"]) for entry in state["_data_files"]]
        is_selection = bool(state.get("_indices_data_files"))
    if is_selection:
        raise InputError(
            f"{folder} is a selection of rows; save it again with a newer version of datasets, "
            "or after flatten_indices()."
        )
    path = folder / "dataset_info.json"
    with convert_errors(path, "not as datasets writes it"):
        features = dict(read_json(path).get("features") or {})
    return tuple(folder / name for name in names), features


def _check_file_name(where: Path, name: Any) -> str:
    """Check that ``name`` is the name of a file or folder in that of ``where``, and return it."""
    if not isinstance(name, str) or not is_utf8(name):
        raise BrokenFileError(f"{where}: expected the name of a file or folder, got {name!r:.60}.")
    if PureWindowsPath(name).name != name or name in ("", ".", "..") or "\0" in name:
        raise BrokenFileError(f"{where} names a file outside of its folder: {show_name(name)}.")
    return name


def _open_table(path: Path) -> Any:
    return _open_table_version(path, read_file_version(path))


@functools.lru_cache(maxsize=64)
def _open_table_version(path: Path, version: str) -> Any:
    """Memory-map one version of a file, which is cached."""
    import pyarrow
    import pyarrow.ipc

    with open_regular(path), convert_errors(path, "no Arrow file that can be read"):
        table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
        # Otherwise an offset outside the file would crash the process when a row is read.
        table.validate(full=True)
        return table


def read_arrow_batches(path: Path, rows: int) -> tuple[Any, Iterator[Any]]:
    """Return the schema of an Arrow file, and its rows in batches of at most ``rows``.

    Raises:
        BrokenFileError: it is damaged.
    """
    table = _open_table(path)
    return table.schema, iter(table.to_batches(max_chunksize=rows))


def count_other_bytes(path: Path, column: str) -> int:
    """Return the size in bytes of all columns but one."""
    table = _open_table(path)
    return int(table.nbytes - table[column].nbytes)


def _check_table(path: Path, table: Any, column: str) -> int:
    """Check that the images are bytes within the file, and return its number of rows."""
    import pyarrow

    with convert_errors(path, f"expected images in the column {show_name(column)}"):
        column_type = table.schema.field(column).type
        content_type = column_type.field("bytes").type
        is_binary = pyarrow.types.is_binary(content_type)
        if not (is_binary or pyarrow.types.is_large_binary(content_type)):
            raise TypeError(f"it holds {content_type}")
        if len(table) > path.stat().st_size:
            raise ValueError(f"{pluralize(len(table), 'row is', 'rows are')} claimed")
    return len(table)
