"""A tree of images that somebody has corrupted already, as ImageNet-C is published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import final

from shiftproof import files
from shiftproof.classes import Classes
from shiftproof.corruptions import CORRUPTIONS, GROUPS
from shiftproof.data.dataset import ImageData
from shiftproof.data.folder import find_images, folder_labels, read_below
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.types import CLEAN, Cell, Image, Sample, Settings

_SEVERITY = re.compile(r"(?:severity_)?([1-5])")

# The tars of ImageNet-C unpack to these folders, each with some corruptions in it.
_GROUP_FOLDERS = {*GROUPS, "extra"}


@final
class CorruptedTree(ImageData):
    """``ROOT/<corruption>/<severity>/<class>/<file>``, read as it is.

    ``severity_3`` is read as 3, and one folder more is allowed above the corruption (``noise``,
    ``blur``, ``weather``, ``digital``, ``extra``: the published tars). Corruptions of any name are
    found. An image is known by its path below the severity, so that it is the same image in every
    cell; the samples are all that occur in any cell, and one that a cell lacks comes back there as a
    broken file.

    Args:
        root: the tree.
        classes, class_map, labelled: as for :class:`~shiftproof.data.ImageFolder`.
        clean: folder of the clean images, with the same paths below it; by default ``ROOT/clean``
            where that exists.

    Raises:
        InputError: no tree of this layout.
        LabelError: class folders that the model does not know.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Classes | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labelled: bool | None = None,
        clean: str | Path | None = None,
    ) -> None:
        self.root = Path(root)
        self._folders = find_cells(self.root)
        if not self._folders:
            raise InputError(
                f"{root} is no -C tree: expected <corruption>/<severity 1 to 5>/<class>/<file>."
            )
        if clean is not None and not Path(clean).is_dir():
            raise InputError(f"{clean} does not exist; expected the folder of the clean images.")
        clean_folder = Path(clean) if clean is not None else self.root / "clean"
        if clean_folder.is_dir():
            self._folders[CLEAN] = clean_folder
        names: set[str] = set()
        for folder in self._folders.values():
            names.update(find_images(folder)[0])
        ordered = sorted(names)
        labels = folder_labels(
            ordered, classes, class_map=class_map, labelled=labelled, where=str(root)
        )
        samples = [Sample(name, label) for name, label in zip(ordered, labels, strict=True)]
        super().__init__(
            self.root.resolve().name or str(root), samples, classes if labels[0] is not None else None
        )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The corrupted cells that there are: the table's corruptions first, in its order."""
        known = {name: place for place, name in enumerate(CORRUPTIONS)}
        cells = [cell for cell in self._folders if not cell.is_clean]
        return tuple(
            sorted(cells, key=lambda c: (known.get(c.corruption, len(known)), c.corruption, c.severity))
        )

    @property
    def has_clean(self) -> bool:
        """Whether the clean images are there."""
        return CLEAN in self._folders

    def read(self, sample: Sample) -> Image:
        """Return the clean image.

        Raises:
            BrokenFileError: it is not there, or cannot be read.
        """
        return self.read_cell(sample, CLEAN)

    def read_cell(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it is not there, or cannot be read.
        """
        if cell not in self._folders:
            raise BrokenFileError(f"{sample.id}: the tree {self.name} has no {cell}.")
        try:
            return read_below(self._folders[cell], sample.id)
        except BrokenFileError as error:
            raise BrokenFileError(f"{cell}: {error}") from error

    def content_fingerprints(self) -> list[str]:
        """Return what tells each image's files, in all cells together, from any others."""
        cells = sorted(self._folders)
        paths = [self._folders[cell] / sample.id for sample in self.samples for cell in cells]
        # Size and time of change, not content: the published tree has millions of files.
        marks = [_mark(path) for path in paths]
        width = len(cells)
        return [
            files.fingerprint(mark.encode() for mark in marks[start : start + width])
            for start in range(0, len(marks), width)
        ]

    def settings(self) -> Settings:
        """Return what the record says of the data; its fingerprint is of sizes, not of contents."""
        return {**super().settings(), "fingerprint of": "file sizes"}


def _mark(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:
        return "missing"


def find_cells(root: Path) -> dict[Cell, Path]:
    """Return the folders of a -C tree by cell; empty where ``root`` is none."""
    found: dict[Cell, Path] = {}
    for first in _folders(root):
        inner = [first] if first.name not in _GROUP_FOLDERS else _folders(first)
        for corruption in inner:
            for folder in _folders(corruption):
                match = _SEVERITY.fullmatch(folder.name)
                if match is None:
                    continue
                cell = Cell(corruption.name, int(match[1]))
                if cell in found:
                    raise InputError(f"{cell} is there twice: {found[cell]} and {folder}.")
                found[cell] = folder
    return found


def is_corrupted_tree(root: Path) -> bool:
    """Whether a folder looks like a -C tree: a known corruption with folders 1 to 5 in it."""
    return any(cell.corruption in CORRUPTIONS for cell in find_cells(root))


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
