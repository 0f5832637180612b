"""Data sets that Hugging Face's ``datasets`` saved to the disk; the library is not needed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from shiftproof.classes import Classes, named
from shiftproof.data import ImageData
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files
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
        BrokenFileError: a file is missing or damaged.
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        home = Path(root)
        prefix = ""
        if (home / "dataset_dict.json").is_file():
            splits = read_json(home / "dataset_dict.json").get("splits", [])
            if split is None and len(splits) == 1:
                split = splits[0]
            if split is None or split not in splits:
                if split is None:
                    raise InputError(
                        f"{home} holds the splits {', '.join(splits)}; give one of them."
                    )
                raise UnknownNameError.of(f"split of {home}", split, splits)
            home, prefix = home / split, f"{split}/"
        elif split is not None:
            raise InputError(f"{home} holds one split, so the split {split!r} has no effect.")
        state = read_json(home / "state.json")
        features = read_json(home / "dataset_info.json").get("features") or {}
        if state.get("_indices_data_files"):
            raise InputError(
                f"{home} is a selection of rows; save it again with a newer version of datasets, "
                "or after flatten_indices()."
            )
        self._files = tuple(home / entry["filename"] for entry in state["_data_files"])
        for path in self._files:
            if path.parent != home:
                raise BrokenFileError(f"{home}/state.json names a file outside of it: {path}.")
        column = next(
            (
                name
                for name, feature in features.items()
                if isinstance(feature, Mapping) and feature.get("_type") == "Image"
            ),
            None,
        )
        if column is None:
            raise InputError(
                f"{home} has no column of images (found {', '.join(features) or 'none'})."
            )
        self.column: str = column
        tables = [_table(path) for path in self._files]
        self._starts = np.cumsum([0, *(len(table) for table in tables)])
        ids = [f"{prefix}{row:08}" for row in range(int(self._starts[-1]))]
        labels, classes = _labels(tables, features.get("label"))
        text = next((name for name in _CAPTIONS if _is_text(features.get(name))), None)
        self.captions: dict[str, str] | None = None
        if text is not None:
            texts = [value for table in tables for value in table[text].to_pylist()]
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


@functools.lru_cache(maxsize=64)
def _table(path: Path) -> Any:
    """Map one file of a data set into memory; nothing of it is copied."""
    import pyarrow
    import pyarrow.ipc

    try:
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise BrokenFileError(f"{path}: no Arrow file that can be read ({error}).") from error


def _labels(tables: list[Any], feature: Any) -> tuple[list[int] | None, Classes | None]:
    if not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        return None, None
    labels = [value for table in tables for value in table["label"].to_pylist()]
    # Where the labels are kept secret they are -1.
    if any(label is None or label < 0 for label in labels):
        return None, None
    return labels, named(feature["names"])


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Mapping) and feature.get("dtype") == "string"
