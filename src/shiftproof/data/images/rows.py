"""Images in the rows of tables, with labels from a column."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.classes import Classes, name_classes
from shiftproof.counts import pluralize
from shiftproof.data.disk import shorten
from shiftproof.data.images.labels import LabelReader, check_label, choose_key
from shiftproof.data.images.packed import PackedImages
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.io import files
from shiftproof.io.border import show_name
from shiftproof.types import Sample

LABELS = ("label", "labels", "cls", "class")
"""Usual names of the label column; otherwise it is the only column of classes."""

_CAPTIONS = ("caption", "text")


@dataclass(frozen=True)
class RowTable:
    """A file with consecutive rows of a dataset.

    Attributes:
        path: the file.
        column: the column of the images.
        prefix: prefix of the row number in ids.
        start: index of its first row in the whole dataset.
        rows: number of rows.
    """

    path: Path
    column: str
    prefix: str
    start: int
    rows: int

    def make_id(self, row: int) -> str:
        """Return the id of a row, counted from the first of this file."""
        return make_row_id(self.prefix, self.start + row)


def make_row_id(prefix: str, row: int) -> str:
    """Return the id of a row of a dataset."""
    return f"{prefix}{row:08}"


class RowImages(PackedImages):
    """Images in the rows of tables; ids are the row numbers.

    Subclasses read the bytes of a row and the values of a column for their kind of file.

    Attributes:
        column: the column of the images.
        prefix: prefix of the row number in ids.
        label_key: the column of the labels, or None.
        captions: id to text, of a column "caption" or "text", or None.
    """

    def __init__(
        self,
        where: Path,
        name: str,
        prefix: str,
        count: int,
        features: Mapping[str, Any],
        column: str,
        reader: LabelReader,
    ) -> None:
        self.column = column
        self.features = dict(features)
        self.prefix = prefix
        ids = [make_row_id(prefix, row) for row in range(count)]
        self.label_key: str | None = None
        labels, classes = self._read_labels(where, reader)
        texts = self._read_captions()
        self.captions = None
        if texts is not None:
            pairs = zip(ids, texts, strict=True)
            self.captions = {key: text for key, text in pairs if text is not None}
        super().__init__(name, ids, labels, classes)

    @abstractmethod
    def read_image_bytes(self, row: int) -> bytes | None:
        """Return the image file of a row, or None if the row has none."""

    @abstractmethod
    def list_tables(self) -> list[RowTable]:
        """Return the files that hold the rows, in order."""

    @abstractmethod
    def read_column(self, column: str) -> list[Any]:
        """Return a column of all rows.

        Raises:
            BrokenFileError: it is missing or damaged.
        """

    def read_content(self, sample: Sample) -> bytes:
        """Return the encoded bytes of an image; see :class:`PackedImages`."""
        data = self.read_image_bytes(self._rows[sample.id])
        if data is None:
            raise BrokenFileError(
                f"{sample.id}: the image is not in the dataset, which has only its path."
            )
        return data

    def count_bytes(self) -> int:
        """Return the total size of all tables."""
        return sum(table.path.stat().st_size for table in self.list_tables())

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each image's bytes."""
        rows = [self._rows[sample.id] for sample in self.samples]
        return [files.fingerprint([self.read_image_bytes(row) or b""]) for row in rows]

    def _read_labels(
        self, where: Path, reader: LabelReader
    ) -> tuple[list[int] | None, Classes | None]:
        if reader.labeled is False:
            return None, None
        if reader.classes is None:
            return self._read_own_labels(where)
        self.label_key = choose_label(self.features, reader.key, f"{where}")
        if self.label_key is None:
            if reader.labeled:
                raise LabelError(
                    f"{where}: no column states the label; it has "
                    f"{show_name(shorten(self.features))}. Say which does (--label-key)."
                )
            return None, None
        values = self.read_column(self.label_key)
        names = read_class_names(self.features[self.label_key])
        column = f"{where}, column {show_name(self.label_key)}"
        if names is None and _is_class_label(self.features[self.label_key]):
            raise LabelError(
                f"{column}: the names of its classes are missing, so that its numbers mean nothing; "
                "write them into the features, or measure without labels (--unlabeled, "
                "labeled=False)."
            )
        if names is None:
            classes = {
                value: reader.find_class(value, column) for value in _list_distinct(values, column)
            }
            return [classes[value] for value in values], reader.classes
        numbers = _read_numbers(values, names, column)
        if numbers is None:
            if reader.labeled:
                raise LabelError(f"{column}: the labels are withheld (-1).")
            return None, None
        matches = reader.match_classes(names, numbers, column)
        return [matches[number] for number in numbers], reader.classes

    def _read_own_labels(self, where: Path) -> tuple[list[int] | None, Classes | None]:
        """Return the labels of a column ``label`` with classes of its own."""
        names = read_class_names(self.features.get("label"))
        if names is None:
            return None, None
        numbers = _read_numbers(self.read_column("label"), names, f"{where}, column label")
        if numbers is None:
            return None, None
        self.label_key = "label"
        return numbers, name_classes(names)

    def _read_captions(self) -> list[str | None] | None:
        name = next((name for name in _CAPTIONS if _is_text(self.features.get(name))), None)
        if name is None:
            return None
        texts = self.read_column(name)
        if any(not isinstance(text, str | None) for text in texts):
            raise BrokenFileError(f"{self.column}: the column {name} holds no texts.")
        return texts


def read_file_version(path: Path) -> str:
    """Return a text that changes with a file, as the key of caches; "" if it does not exist."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # reported when the table is opened
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def list_image_columns(features: Mapping[str, Any]) -> list[str]:
    """Return the columns that hold images."""
    return [
        name
        for name, feature in features.items()
        if isinstance(feature, Mapping) and feature.get("_type") == "Image"
    ]


def choose_image_column(where: Path, features: Mapping[str, Any], requested: str | None) -> str:
    """Return the column of the images.

    Raises:
        InputError: no image column, or several of which none is called ``image``.
    """
    columns = list_image_columns(features)
    if requested is not None:
        if requested not in columns:
            shown = show_name(shorten(columns)) or "none"
            raise InputError(f"{where} has no images in a column {requested}; they are in {shown}.")
        return requested
    if not columns:
        found = show_name(", ".join(features)) or "none"
        raise InputError(f"{where} has no column of images (found {found}).")
    if len(columns) > 1 and "image" not in columns:
        raise InputError(
            f"{where} has images in the columns {show_name(shorten(columns))}; give one of them "
            f"(--images {show_name(columns[0])})."
        )
    return "image" if "image" in columns else columns[0]


def choose_label(features: Mapping[str, Any], requested: str | None, where: str) -> str | None:
    """Return the label column, or None.

    Raises:
        LabelError: several candidates, or no column of the requested name.
    """
    if requested is not None:
        if requested not in features:
            raise LabelError(
                f"{where} has no column {requested!r}; it has {show_name(shorten(features))}."
            )
        return requested
    class_columns = [name for name in features if read_class_names(features[name])]
    return choose_key(features, LABELS, where) or choose_key(features, class_columns, where)


def read_class_names(feature: Any) -> list[str] | None:
    """Return the class names of a ClassLabel column, or None."""
    if not _is_class_label(feature):
        return None
    names = feature.get("names")
    is_list = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return names if is_list else None


def _is_class_label(feature: Any) -> bool:
    return isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel"


def _read_numbers(values: Sequence[Any], names: Sequence[str], where: str) -> list[int] | None:
    """Return the numbers of a column of classes; None if they are withheld (-1)."""
    if any(value is None or (isinstance(value, int) and value < 0) for value in values):
        return None
    for value in values:
        if not isinstance(value, int) or value >= len(names):
            raise BrokenFileError(
                f"{where}: {value!r:.40} is none of {pluralize(len(names), 'class')}."
            )
    return list(values)


def _list_distinct(values: Sequence[Any], where: str) -> Iterator[Any]:
    seen = set()
    for row, value in enumerate(values):
        check_label(value, f"{where}, row {row}")
        if value not in seen:
            seen.add(value)
            yield value


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Mapping) and feature.get("dtype") == "string"
