"""Data sets that Hugging Face's ``datasets`` saved to the disk; the library is not needed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, final

import numpy as np

from shiftproof.classes import Classes, name_classes
from shiftproof.data import ImageData
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import convert_errors, is_utf8, open_regular, show_name
from shiftproof.io.images import read_image
from shiftproof.io.text import read_json
from shiftproof.types import Image, Sample

_CAPTIONS = ("caption", "text")


def is_saved_dataset(path: Path) -> bool:
    """Whether ``save_to_disk`` wrote a folder: of one split, or of several."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


@final
class SavedDataset(ImageData):
    """A folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

    Ids are the rows' numbers, behind the split's name where there are splits. A column ``label``
    of the type ClassLabel gives labels and classes.

    Args:
        root: the folder.
        split: which of several splits; needed where there are several.

    Attributes:
        captions: id to text, of a column "caption" or "text".

    Raises:
        InputError: no such split, or no column of images.
        BrokenFileError: a file is missing, damaged, or names one outside of its folder.
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        home, prefix = _split_folder(Path(root), split)
        self._files, features = _described(home)
        self.column = _image_column(home, features)
        tables = [_table(path) for path in self._files]
        counts = [
            _check_table(*each, self.column) for each in zip(self._files, tables, strict=True)
        ]
        self._starts = np.cumsum([0, *counts])
        ids = [f"{prefix}{row:08}" for row in range(int(self._starts[-1]))]
        with convert_errors(home, "its columns are not what dataset_info.json says"):
            labels, classes = _labels(tables, features.get("label"))
            texts = _captions(tables, features)
        self.captions: dict[str, str] | None = None
        if texts is not None:
            self.captions = {
                key: value for key, value in zip(ids, texts, strict=True) if value is not None
            }
        self._rows = {key: row for row, key in enumerate(ids)}
        samples = [
            Sample(key, None if labels is None else labels[row]) for row, key in enumerate(ids)
        ]
        super().__init__(home.name, samples, classes)

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read, or lies outside of the data set.
        """
        data = self._bytes(self._rows[sample.id])
        if data is None:
            raise BrokenFileError(
                f"{sample.id}: the image is not in the data set, which has only its path."
            )
        try:
            return read_image(data)
        except BrokenFileError as error:
            reason = str(error).removeprefix("image: ")
            raise BrokenFileError(f"{sample.id}: {reason}") from error

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each image's bytes."""
        return [files.fingerprint([self._bytes(row) or b""]) for row in range(len(self))]

    def _bytes(self, row: int) -> bytes | None:
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        cell = _table(self._files[place])[self.column][row - int(self._starts[place])].as_py()
        found: bytes | None = None if cell is None else cell.get("bytes")
        return found


def _split_folder(root: Path, split: str | None) -> tuple[Path, str]:
    """Return the folder of a split, and what stands before its ids."""
    if not (root / "dataset_dict.json").is_file():
        if split is not None:
            raise InputError(f"{root} holds one split, so the split {split!r} has no effect.")
        return root, ""
    listed = root / "dataset_dict.json"
    with convert_errors(listed, "expected the names of splits"):
        splits = [_file_name(listed, name) for name in read_json(listed)["splits"]]
    if split is None and len(splits) == 1:
        split = splits[0]
    if split is None:
        raise InputError(f"{root} holds the splits {', '.join(splits)}; give one of them.")
    if split not in splits:
        raise UnknownNameError.of(f"split of {root}", split, splits)
    return root / split, f"{split}/"


def _described(home: Path) -> tuple[tuple[Path, ...], Mapping[str, Any]]:
    """Return the files of a split, and what its columns are, by ``datasets``' two JSON files."""
    path = home / "state.json"
    with convert_errors(path, "not as datasets writes it"):
        state = read_json(path)
        names = [_file_name(path, entry["filename"]) for entry in state["_data_files"]]
        is_selection = bool(state.get("_indices_data_files"))
    if is_selection:
        raise InputError(
            f"{home} is a selection of rows; save it again with a newer version of datasets, "
            "or after flatten_indices()."
        )
    path = home / "dataset_info.json"
    with convert_errors(path, "not as datasets writes it"):
        features = dict(read_json(path).get("features") or {})
    return tuple(home / name for name in names), features


def _file_name(where: Path, name: Any) -> str:
    """Return the name of a file or folder beside ``where``, which must be no way out of there."""
    if not isinstance(name, str) or not is_utf8(name):
        raise BrokenFileError(f"{where}: expected the name of a file or folder, got {name!r:.60}.")
    windows = PureWindowsPath(name)
    if windows.name != name or name in ("", ".", "..") or "\0" in name:
        raise BrokenFileError(f"{where} names a file outside of its folder: {show_name(name)}.")
    return name


def _image_column(home: Path, features: Mapping[str, Any]) -> str:
    for name, feature in features.items():
        if isinstance(feature, Mapping) and feature.get("_type") == "Image":
            return name
    found = show_name(", ".join(features)) or "none"
    raise InputError(f"{home} has no column of images (found {found}).")


@functools.lru_cache(maxsize=64)
def _table(path: Path) -> Any:
    """Map one file of a data set into memory; nothing of it is copied."""
    import pyarrow
    import pyarrow.ipc

    with open_regular(path), convert_errors(path, "no Arrow file that can be read"):
        table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
        # Else an offset that points out of the file ends the process where a row is read.
        table.validate(full=True)
        return table


def _check_table(path: Path, table: Any, column: str) -> int:
    """Return how many rows a file has, once its images are such and no more than it has bytes."""
    import pyarrow

    with convert_errors(path, f"expected images in the column {show_name(column)}"):
        kind = table.schema.field(column).type
        held = kind.field("bytes").type
        if not (pyarrow.types.is_binary(held) or pyarrow.types.is_large_binary(held)):
            raise TypeError(f"it holds {held}")
        if len(table) > path.stat().st_size:
            raise ValueError(f"{len(table)} rows are claimed")
    return len(table)


def _labels(tables: list[Any], feature: Any) -> tuple[list[int] | None, Classes | None]:
    if not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        return None, None
    labels = [value for table in tables for value in table["label"].to_pylist()]
    # Where the labels are kept secret they are -1.
    if any(label is None or label < 0 for label in labels):
        return None, None
    classes = name_classes(feature["names"])
    if any(not isinstance(label, int) or label >= len(classes) for label in labels):
        raise ValueError(f"a label is none of {len(classes)} classes")
    return labels, classes


def _captions(tables: list[Any], features: Mapping[str, Any]) -> list[str | None] | None:
    """Return the text of each row, or None where no column holds texts."""
    name = next((name for name in _CAPTIONS if _is_text(features.get(name))), None)
    if name is None:
        return None
    texts = [value for table in tables for value in table[name].to_pylist()]
    if any(not isinstance(text, str | None) for text in texts):
        raise TypeError(f"the column {name} holds no texts")
    return texts


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Mapping) and feature.get("dtype") == "string"
