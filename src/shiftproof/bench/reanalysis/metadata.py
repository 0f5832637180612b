"""Conditions of images from metadata: weather, time of day, or any other column; or from their
paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from shiftproof.bench.scoring.name_matching import find_aliases
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io.border import show_name
from shiftproof.io.parquet import read_columns
from shiftproof.io.text import read_csv, read_json

IMAGE_COLUMNS = ("image", "name", "path", "file_name", "filename", "id")
"""Names of the image column."""

_PART = re.compile(r"part:([1-9][0-9]{0,2})")

_LISTS = ("frames", "images")
"""Keys of JSON records one level down: Scalabel's frames, COCO's images."""


def read_conditions(source: Path | None, by: str, images: Sequence[str]) -> dict[str, str]:
    """Return the condition of each image; images without metadata are omitted.

    Args:
        source: a CSV or Parquet table with a column for the images (:data:`IMAGE_COLUMNS`) and one
            called ``by``; a JSON list of records with ``name`` and ``attributes``, as BDD100K and
            SHIFT have it. None for conditions in the images' own names.
        by: the column or attribute; ``part:2`` for the second folder of the images' names.
        images: ids of the images, which metadata may name by path, file name, or file name without
            suffix.

    Raises:
        InputError: no such column, no image is named, or one is named twice with other conditions.
        BrokenFileError: the file cannot be read.
    """
    part = _PART.fullmatch(by)
    if part is not None:
        if source is not None:
            raise InputError(f"{by} is read from the images' names; leave the metadata out.")
        return _read_parts(images, int(part[1]))
    if source is None:
        raise InputError(
            f"Expected the metadata with a column {by!r}, a CSV, Parquet or JSON file; or by='part:2' "
            "where the second folder of the images' names is the condition."
        )
    return _match(source, by, images)


def _read_parts(images: Sequence[str], place: int) -> dict[str, str]:
    found = {}
    for image in images:
        folders = PurePosixPath(image.replace("\\", "/")).parts[:-1]
        if len(folders) >= place:
            found[image] = folders[place - 1]
    if not found:
        raise InputError(
            f"No image lies {place} folders deep, so part:{place} says nothing; they are called as "
            f"{show_name(images[0])}."
        )
    return found


def _match(source: Path, by: str, images: Sequence[str]) -> dict[str, str]:
    known = set(images)
    other = find_aliases([{"file_name": image, "id": image} for image in images])
    found: dict[str, str] = {}
    first = ""
    for name, condition in _read_rows(source, by):
        first = first or name
        image = name if name in known else _find_alias(other, name)
        if image is None or not condition:
            continue
        if found.setdefault(image, condition) != condition:
            raise InputError(
                f"{source}: {show_name(name)} is there as {found[image]!r:.60} and as "
                f"{condition!r:.60}; expected one {by} for each image."
            )
    if not found:
        told = f" It names {show_name(first)}, the run {show_name(images[0])}." if first else ""
        raise InputError(
            f"{source} says nothing of any of the {pluralize(len(images), 'image')} of the run."
            f"{told} Expected their paths or file names, and a {by} beside them."
        )
    return found


def _find_alias(other: Mapping[Any, Any], name: str) -> str | None:
    """Return the image with a given path, file name, or stem."""
    path = PurePosixPath(name.replace("\\", "/"))
    return next((other[one] for one in (name, path.name, path.stem) if one in other), None)


def _read_rows(source: Path, by: str) -> Iterator[tuple[str, str]]:
    suffix = source.suffix.lower()
    if suffix == ".json":
        return _read_records(source, by)
    if suffix in (".parquet", ".pq"):
        return _read_parquet(source, by)
    if suffix in (".csv", ".txt"):
        return _read_csv(source, by)
    raise InputError(f"Expected metadata as .csv, .parquet or .json, got {source}.")


def _read_csv(source: Path, by: str) -> Iterator[tuple[str, str]]:
    lines = read_csv(source)
    _, head = next(lines, (0, []))
    head = [one.strip() for one in head]
    image, condition = _find_columns(source, by, head)
    for number, cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(head):
            raise InputError(
                f"{source}, line {number}: expected {pluralize(len(head), 'column')}, got {len(cells)}."
            )
        yield cells[image].strip(), cells[condition].strip()


def _read_parquet(source: Path, by: str) -> Iterator[tuple[str, str]]:
    columns = read_columns(source)
    names = list(columns)
    image, condition = (names[at] for at in _find_columns(source, by, names))
    for name, value in zip(columns[image], columns[condition], strict=True):
        yield _to_text(name), _to_text(value)


def _find_columns(source: Path, by: str, names: Sequence[str]) -> tuple[int, int]:
    image = next((names.index(one) for one in IMAGE_COLUMNS if one in names and one != by), None)
    if image is None:
        raise InputError(
            f"{source}: expected a column with the images' names, called "
            f"{' or '.join(IMAGE_COLUMNS)}; got {', '.join(map(show_name, names[:8])) or 'none'}."
        )
    if by not in names:
        raise UnknownNameError.of("column of the metadata", by, [str(one) for one in names])
    return image, names.index(by)


def _read_records(source: Path, by: str) -> Iterator[tuple[str, str]]:
    content = read_json(source)
    if isinstance(content, Mapping):
        content = next((content[one] for one in _LISTS if one in content), content)
    if not isinstance(content, list) or not all(isinstance(one, Mapping) for one in content):
        raise InputError(
            f"{source}: expected a list of records with a name and attributes, got a "
            f"{type(content).__name__}."
        )
    records = [{**one, **_read_attributes(one)} for one in content]
    keys = dict.fromkeys(str(key) for one in records for key in one)
    if by not in keys:
        raise UnknownNameError.of("attribute of the metadata", by, list(keys))
    for one in records:
        name = next((one[key] for key in IMAGE_COLUMNS if key in one and key != by), None)
        if name is not None:
            yield _to_text(name), _to_text(one.get(by))


def _read_attributes(record: Mapping[str, Any]) -> Mapping[str, Any]:
    found = record.get("attributes")
    return found if isinstance(found, Mapping) else {}


def _to_text(value: Any) -> str:
    """Return a cell as text; integral floats without decimals, and missing values as None."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() if isinstance(value, str | int | float) else ""
