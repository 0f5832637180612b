"""A folder of images: one folder per class, or flat."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from shiftproof import files
from shiftproof.classes import Classes
from shiftproof.data.dataset import ImageData
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.types import Image, Sample, Settings


@final
class ImageFolder(ImageData):
    """Images below a folder; the first folder on the way to an image names its class.

    A class folder is called by WordNet id, by name or by index (see ``Classes.find``), or by what
    ``class_map`` translates into one. Images that all lie in the root itself have no labels.

    Args:
        root: the folder.
        classes: the model's classes; None leaves the images without labels.
        class_map: folder name to class, for names that are not the model's.
        labelled: None finds out; False ignores the folders' names; True insists on labels.

    Raises:
        InputError: no such folder, or no images in it.
        LabelError: class folders that the model does not know, or images beside them.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Classes | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labelled: bool | None = None,
    ) -> None:
        self.root = Path(root)
        names, self.ignored = find_images(self.root)
        labels = folder_labels(
            names, classes, class_map=class_map, labelled=labelled, where=str(root)
        )
        samples = [Sample(name, label) for name, label in zip(names, labels, strict=True)]
        super().__init__(
            self.root.resolve().name or str(root), samples, classes if labels[0] is not None else None
        )

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB; errors name it by its id."""
        return read_below(self.root, sample.id)

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each file's content."""
        return files.file_fingerprints(self.root / sample.id for sample in self.samples)

    def settings(self) -> Settings:
        """Return what the record says of the data; files that are no images are counted."""
        return {**super().settings(), "files that are no images": self.ignored}


def read_below(root: Path, name: str) -> Image:
    """Read the image ``name`` below ``root``; an error says the whole name, not the last part only."""
    try:
        return files.read_image(root / name)
    except BrokenFileError as error:
        short = Path(name).name
        raise BrokenFileError(str(error).replace(f"{short}:", f"{name}:", 1)) from error


def find_images(root: Path) -> tuple[list[str], int]:
    """Return the images below ``root`` as sorted POSIX paths, and how many other files there are.

    Hidden files and folders do not count; linked folders are followed once.

    Raises:
        InputError: no such folder, or no images.
    """
    if not root.exists():
        raise InputError(f"{root} does not exist; expected a folder of images.")
    if not root.is_dir():
        raise InputError(f"{root} is a file; expected a folder of images: give {root.parent}.")
    names: list[str] = []
    others = 0
    seen = {os.path.realpath(root)}
    for folder, inner, inside in os.walk(root, followlinks=True, onerror=_refuse):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in list(inner):
            real = os.path.realpath(os.path.join(folder, name))
            if real in seen:  # a link to where we have been: a loop, or the same images twice
                inner.remove(name)
            seen.add(real)
        for name in inside:
            path = Path(folder, name)
            if files.is_image(path):
                names.append(path.relative_to(root).as_posix())
            elif not name.startswith("."):
                others += 1
    if not names:
        kinds = ", ".join(sorted(files.IMAGE_SUFFIXES))
        raise InputError(f"{root} holds no images ({kinds}).")
    return sorted(names), others


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read ({error.strerror}).") from error


def folder_labels(
    names: Sequence[str],
    classes: Classes | None,
    *,
    class_map: Mapping[str, str] | None,
    labelled: bool | None,
    where: str,
) -> list[int] | list[None]:
    """Return the label of each path by its first folder; Nones where there are none to be had."""
    folders = sorted({name.split("/")[0] for name in names if "/" in name})
    loose = [name for name in names if "/" not in name]
    if labelled is False or classes is None or (not folders and labelled is None):
        return [None] * len(names)
    if loose:
        raise LabelError(
            f"{where}: {len(loose)} images lie beside the class folders (first: {loose[0]}). Put them "
            "into a class folder, or measure without labels (--unlabelled, labelled=False)."
        )
    index = {folder: classes.find((class_map or {}).get(folder, folder)) for folder in folders}
    unknown = [folder for folder in folders if index[folder] is None]
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        how_many = "none of" if len(unknown) == len(folders) else f"{len(unknown)} of"
        known = "is known" if len(unknown) == len(folders) else "are not known"
        raise LabelError(
            f"{where}: {how_many} the {len(folders)} class folders {known} to the model ({shown}). "
            f"Expected a WordNet id, a name or an index of its {len(classes)} classes; give a class "
            "map (--class-map FILE, rows of folder,class), or measure without labels "
            "(--unlabelled, labelled=False)."
        )
    found: list[int] = []
    for name in names:
        label = index[name.split("/")[0]]
        assert label is not None
        found.append(label)
    return found


def read_class_map(path: str | Path) -> dict[str, str]:
    """Read a class map: a CSV with rows ``folder,class``, or a JSON object.

    Raises:
        BrokenFileError: it is missing or neither.
        LabelError: a folder is given twice.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = files.read_json(path)
        if not isinstance(content, dict):
            raise BrokenFileError(f"{path}: expected a JSON object of folder to class.")
        return {str(folder): str(name) for folder, name in content.items()}
    table: dict[str, str] = {}
    for number, row in enumerate(read_csv(path), start=1):
        if number == 1 and [cell.strip().lower() for cell in row[:2]] == ["folder", "class"]:
            continue
        if len(row) != 2:
            raise BrokenFileError(
                f"{path}, line {number}: expected folder,class; got {len(row)} columns."
            )
        folder, name = row[0].strip(), row[1].strip()
        if folder in table:
            raise LabelError(f"{path}, line {number}: the folder {folder!r} is given twice.")
        table[folder] = name
    if not table:
        raise BrokenFileError(f"{path}: expected rows of folder,class; got none.")
    return table


def read_csv(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file; empty lines become rows of one empty cell or none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BrokenFileError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise BrokenFileError(f"{path}: not a text file in UTF-8.") from error
    try:
        rows: list[list[Any]] = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise BrokenFileError(f"{path}: not a readable CSV file ({error}).") from error
    return rows
