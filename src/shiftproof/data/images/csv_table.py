"""Images named in a CSV file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import final

from shiftproof.classes import Classes, normalize_unicode
from shiftproof.counts import pluralize
from shiftproof.data.disk import check_written_path
from shiftproof.data.images.image_files import ImageFiles
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.io.text import read_csv
from shiftproof.types import Sample

PATH_COLUMNS = ("path", "file", "filename", "image")
LABEL_COLUMNS = ("label", "class", "target")


@final
class ImageTable(ImageFiles):
    """The images of a CSV file with rows ``path,label``, or just ``path`` without labels.

    A first row that names a column ``path`` (or file, filename, image) is a header; the column
    ``label`` (or class, target) then has the labels, and other columns are ignored. A label is
    anything that ``Classes.find`` accepts, or a key of ``class_map``. The samples keep the order of
    the rows. A row whose file is missing stays in the dataset; reading it raises a BrokenFileError.

    A path may be absolute or leave ``root`` by ``..``, since the CSV is the user's own. The id is
    the path from ``root`` to the image, with ``.`` and ``..`` resolved and ``/`` as separator (a
    backslash counts as one). So an image has one id however it is written, and keeps its id, and
    thereby its noise, if CSV and images are moved together.

    Args:
        path: the CSV file.
        classes: the model's classes; None leaves the images without labels.
        root: the folder to which paths are relative; by default that of the CSV file.
        class_map: label to class, for labels that are not the model's.
        labeled: None reads labels if there are any; False ignores them; True requires them.

    Raises:
        BrokenFileError: the file is not valid CSV, or a row is not ``path,label``; with its line.
        InputError: an image occurs twice (the message has both lines), there are no rows, or a row is
            a URL, a path of another system, or begins with ``~``.
        LabelError: a label is not among the classes, or only some rows have one; with the line.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Classes | None = None,
        *,
        root: str | Path | None = None,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
    ) -> None:
        source = Path(path)
        if labeled and classes is None:
            raise LabelError(f"{source}: labels need classes; none were given.")
        given_root = source.parent if root is None else Path(root)
        # With links resolved, ".." means the same in an id as on disk.
        resolved_root = given_root.resolve()
        normalized_map = {normalize_unicode(key): name for key, name in (class_map or {}).items()}
        lines: dict[str, int] = {}
        labels: dict[str, int | None] = {}
        for line, written, label in _read_rows(source):
            where = f"{source}, line {line}"
            name = _make_id(written, resolved_root, given_root, where)
            if name in lines:
                raise InputError(f"{where}: {name} is already in line {lines[name]}.")
            lines[name] = line
            labels[name] = (
                None
                if labeled is False or classes is None
                else _read_label(label, classes, normalized_map, where)
            )
        unlabeled = [name for name, label_index in labels.items() if label_index is None]
        if unlabeled and (labeled or len(unlabeled) < len(labels)):
            raise LabelError(
                f"{source}, line {lines[unlabeled[0]]}: expected path,label; {len(unlabeled)} of "
                f"{pluralize(len(labels), 'row has', 'rows have')} no label, this one first."
            )
        samples = [Sample(name, label_index) for name, label_index in labels.items()]
        super().__init__(source.name, resolved_root, samples, classes)


def _read_rows(source: Path) -> list[tuple[int, str, str]]:
    """Return line, path and label of each row; the label is "" if there is none."""
    rows = list(read_csv(source))
    if not rows:
        raise InputError(f"{source} names no images: expected rows of path,label.")
    line, first = rows[0]
    titles = [cell.lower() for cell in first]
    path_column = next((titles.index(name) for name in PATH_COLUMNS if name in titles), None)
    label_column = next((titles.index(name) for name in LABEL_COLUMNS if name in titles), None)
    if path_column is not None:
        width = len(titles)
        del rows[0]
        if not rows:
            raise InputError(f"{source} names no images: expected rows of path,label.")
    else:
        path_column, label_column, width = 0, 1, 2
        if len(first) == 1 and (";" in first[0] or "\t" in first[0]):
            raise BrokenFileError(f"{source}, line {line}: expected commas between the cells.")
    labeled_paths = []
    for line, cells in rows:
        if len(cells) > width or path_column >= len(cells) or not cells[path_column]:
            raise BrokenFileError(
                f"{source}, line {line}: expected path,label, or a first row with the columns' names "
                f"path and label; got {','.join(cells)!r:.80}."
            )
        label = "" if label_column is None or label_column >= len(cells) else cells[label_column]
        labeled_paths.append((line, cells[path_column], label))
    return labeled_paths


def _make_id(written: str, root: Path, given_root: Path, where: str) -> str:
    full = Path(os.path.normpath(root / written.replace("\\", "/")))
    check_written_path(where, written, full)
    for base in (root, given_root.absolute()):
        if full.is_relative_to(base):
            name = full.relative_to(base).as_posix()
            break
    else:
        try:
            name = Path(os.path.relpath(full, root)).as_posix()
        except ValueError as error:  # another drive of Windows
            raise InputError(f"{where}: no path leads from {root} to {written}.") from error
    if name == ".":
        raise BrokenFileError(f"{where}: expected the path of an image, got {written!r}.")
    return name


def _read_label(
    label: str, classes: Classes, class_map: Mapping[str, str], where: str
) -> int | None:
    if not label:
        return None
    try:
        return classes.index(class_map.get(normalize_unicode(label), label))
    except LabelError as error:
        raise LabelError(f"{where}: {error}") from error
