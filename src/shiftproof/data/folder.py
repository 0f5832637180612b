"""A folder of images: one folder per class, or flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from shiftproof import files
from shiftproof.classes import Classes
from shiftproof.data.dataset import ImageData
from shiftproof.data.disk import (
    find_images,
    fingerprints_below,
    read_below,
    read_csv,
    shortened,
)
from shiftproof.errors import BrokenFileError, LabelError
from shiftproof.types import Image, Sample, Settings


@final
class ImageFolder(ImageData):
    """Images below a folder; the first folder on the way to an image names its class.

    A class folder is called by WordNet id, by name or by index (see ``Classes.find``), or by what
    ``class_map`` translates into one; below it images may lie at any depth. Images that all lie in
    the root itself have no labels. An image's id is its path below the root, with ``/`` on every
    system; the samples are sorted by it.

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
        found = find_images(self.root)
        self.others, self.links = found.others, found.links
        labels = folder_labels(
            found.names, classes, class_map=class_map, labelled=labelled, where=str(root)
        )
        samples = [Sample(name, label) for name, label in zip(found.names, labels, strict=True)]
        has_labels = labels[0] is not None
        super().__init__(name_of(self.root), samples, classes if has_labels else None)

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read; the message has the sample's id.
        """
        return read_below(self.root, sample.id)

    def content_fingerprints(self) -> list[str]:
        """Return the fingerprint of each file's content."""
        return fingerprints_below(self.root, (sample.id for sample in self.samples))

    def settings(self) -> Settings:
        """Return what the record says of the data, also what in the folder was passed over."""
        return {
            **super().settings(),
            "files that are no images": self.others,
            "links to images that are there already": list(self.links),
        }


def name_of(root: Path) -> str:
    """Return what a folder is called, also where it is given as ``.``."""
    return root.resolve().name or str(root)


def folder_labels(
    names: Sequence[str],
    classes: Classes | None,
    *,
    class_map: Mapping[str, str] | None,
    labelled: bool | None,
    where: str,
) -> list[int] | list[None]:
    """Return the label of each path by its first folder; Nones where there are none to be had.

    Takes paths with ``/``, at least one, and what :class:`ImageFolder` takes; ``where`` is what an
    error calls the place.

    Raises:
        LabelError: class folders that are not known, or images beside them.
    """
    if labelled and classes is None:
        raise LabelError(f"{where}: labels need the classes that they are of; none were given.")
    folders = sorted({name.split("/")[0] for name in names if "/" in name})
    loose = [name for name in names if "/" not in name]
    if labelled is False or classes is None or (not folders and labelled is None):
        return [None] * len(names)
    if loose:
        raise LabelError(
            f"{where}: {len(loose)} of {len(names)} images lie in no class folder (first: "
            f"{loose[0]}). Put them into one, or measure without labels (--unlabelled, "
            "labelled=False)."
        )
    index = {
        folder: _find(folder, classes, class_map or {}, f"{where}, class map") for folder in folders
    }
    unknown = [folder for folder, label in index.items() if label is None]
    if unknown:
        raise LabelError(_unknown_folders(where, names, folders, unknown, classes))
    return [label for name in names if (label := index[name.split("/")[0]]) is not None]


def _find(folder: str, classes: Classes, class_map: Mapping[str, str], where: str) -> int | None:
    if folder not in class_map:
        return classes.find(folder)
    try:
        return classes.index(class_map[folder])
    except LabelError as error:
        raise LabelError(f"{where}, folder {folder!r}: {error}") from error


def _unknown_folders(
    where: str, names: Sequence[str], folders: list[str], unknown: list[str], classes: Classes
) -> str:
    shown = ", ".join(classes.names) if len(classes) <= 20 else "the model's names"
    inner = {name.split("/")[1] for name in names if name.count("/") > 1}
    if len(unknown) == len(folders) and any(classes.find(folder) is not None for folder in inner):
        deeper = " or ".join(f"{where}/{folder}" for folder in folders[:3])
        todo = f"The class folders lie one folder deeper: give {deeper}."
    else:
        todo = (
            "Give a class map (--class-map FILE, rows of folder,class), or measure without labels "
            "(--unlabelled, labelled=False)."
        )
    known = f"only {len(folders) - len(unknown)}" if len(unknown) < len(folders) else "none"
    return (
        f"{where}: the model knows {known} of the {len(folders)} class folders. Unknown: "
        f"{shortened(unknown)}. Expected a WordNet id, a name or an index of its {len(classes)} "
        f"classes ({shown}). {todo}"
    )


def read_class_map(path: str | Path) -> dict[str, str]:
    """Read a class map: a CSV with rows ``folder,class``, or a JSON object of folder to class.

    A first row ``folder,class`` of the CSV is a header. A class is what ``Classes.find`` takes.

    Raises:
        BrokenFileError: it is missing or neither.
        LabelError: a folder is given twice.
    """
    path = Path(path)
    table = _json_map(path) if path.suffix.lower() == ".json" else _csv_map(path)
    if not table:
        raise BrokenFileError(f"{path}: expected rows of folder,class; got none.")
    return table


def _json_map(path: Path) -> dict[str, str]:
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise BrokenFileError(f"{path}: expected a JSON object of folder to class.")
    for folder, name in content.items():
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise BrokenFileError(
                f"{path}, folder {folder!r}: expected a class's name or index, got {name!r:.80}."
            )
    return {folder: str(name) for folder, name in content.items()}


def _csv_map(path: Path) -> dict[str, str]:
    table: dict[str, str] = {}
    for place, (line, row) in enumerate(read_csv(path)):
        if place == 0 and [cell.lower() for cell in row] == ["folder", "class"]:
            continue
        if len(row) != 2 or not all(row):
            raise BrokenFileError(f"{path}, line {line}: expected folder,class; got {row!r:.80}.")
        folder, name = row
        if folder in table:
            raise LabelError(f"{path}, line {line}: the folder {folder!r} is given twice.")
        table[folder] = name
    return table
