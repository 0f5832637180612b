"""Corrupted images with one folder per cell of the grid, as in ImageNet-C."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shiftproof.classes import Classes
from shiftproof.corruptions import CORRUPTIONS, GROUPS
from shiftproof.counts import pluralize
from shiftproof.data.disk import find_counterparts, list_folders
from shiftproof.data.images.cells import CorruptedData, canonicalize_corruption, order_cells
from shiftproof.data.images.folder import name_folder
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.text import read_json
from shiftproof.types import CLEAN, Cell, Sample, Settings

Self = TypeVar("Self", bound="CellFolders")

_SEVERITY = re.compile(r"(?:severity_)?(\d{1,3})")

# The tars of ImageNet-C unpack to these folders, each with some corruptions in it.
_GROUP_FOLDERS = {*GROUPS, "extra"}


class CellFolders(CorruptedData):
    """The images of ``ROOT/<corruption>/<severity>/``, in any storage format.

    ``severity_3`` is read as 3, and an additional folder is allowed above the corruption
    (``noise``, ``blur``, ``weather``, ``digital``, ``extra``: the published tars).

    Args:
        root: the tree.
        folders: the folder of each cell, including the clean images if they exist.
        ignored_folders: the folders in the root that are not corruptions.
        missing: the images missing from each cell.
        unpaired_clean: the number of clean images that no corrupted cell has.
        samples, classes: as for :class:`~shiftproof.data.dataset.ImageData`.
    """

    def __init__(
        self,
        root: Path,
        folders: Mapping[Cell, Path],
        ignored_folders: Sequence[str],
        missing: Mapping[Cell, tuple[str, ...]],
        unpaired_clean: int,
        samples: Sequence[Sample],
        classes: Classes | None,
    ) -> None:
        self.root = root
        self._folders = dict(folders)
        self.ignored_folders = tuple(ignored_folders)
        self.missing = dict(missing)
        self.unpaired_clean = unpaired_clean
        super().__init__(name_folder(root), samples, classes)

    def narrow(self: Self, samples: Sequence[Sample], rule: str) -> Self:
        """Return the tree restricted to some of its images; see :class:`ImageData`."""
        narrowed = super().narrow(samples, rule)
        narrowed.missing = restrict_missing(self.missing, (sample.id for sample in samples))
        return narrowed

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The existing corrupted cells: the table's corruptions first, in its order."""
        return order_cells(self._folders)

    @property
    def has_clean(self) -> bool:
        """Whether there are clean images."""
        return CLEAN in self._folders

    def cell_samples(self, cell: Cell) -> tuple[Sample, ...]:
        """Return the samples of a cell; see :class:`CorruptedData`."""
        if cell not in self._folders:
            raise self._make_cell_error(cell)
        missing = set(self.missing.get(cell, ()))
        return tuple(sample for sample in self.samples if sample.id not in missing)

    def settings(self) -> Settings:
        """Return the settings for the records, including what is missing or ignored."""
        return {
            **super().settings(),
            "missing": {str(cell): len(names) for cell, names in sorted(self.missing.items())},
            "corruptions not in the table": list(self.other_corruptions),
            "folders that are no corruption": list(self.ignored_folders),
            "clean images without a corrupted twin": self.unpaired_clean,
        }

    def _check_cell(self, sample: Sample, cell: Cell) -> None:
        if cell not in self._folders:
            raise BrokenFileError(f"{sample.id}: the tree {self.name} has no {cell}.")


# ---------------------------------------------------------------- the folders


def find_first_cell(root: Path) -> Path | None:
    """Return the folder of one cell of a known corruption, or None if a folder is not a -C tree.

    Known corruptions are those of the table, and those in the manifest that ``corrupt`` writes.
    """
    in_manifest = _read_manifest_corruptions(root)
    cell_folders = (
        folder
        for top_folder in list_folders(root)
        for corruption in _list_corruption_folders(top_folder)
        if canonicalize_corruption(corruption.name) in CORRUPTIONS or corruption.name in in_manifest
        for folder in list_folders(corruption)
        if _SEVERITY.fullmatch(folder.name)
    )
    return next(cell_folders, None)


def _read_manifest_corruptions(root: Path) -> frozenset[str]:
    """Return the corruptions in the manifest of a corrupted copy; empty without a manifest."""
    file = root / "manifest.json"
    if not file.is_file():
        return frozenset()
    try:
        manifest = read_json(file)
    except BrokenFileError:
        return frozenset()
    corruptions = manifest.get("corruptions") if isinstance(manifest, dict) else None
    return frozenset(corruptions) if isinstance(corruptions, dict) else frozenset()


def list_tree_cells(root: Path, clean: str | Path | None = None) -> tuple[Cell, ...]:
    """Return the cells of a -C tree in order, without listing its images.

    Raises:
        InputError: as for :func:`find_cells`.
    """
    folders, _ = find_cells(root, root / "clean" if clean is None else Path(clean))
    return order_cells(folders)


def find_cells(root: Path, clean: Path) -> tuple[dict[Cell, Path], tuple[str, ...]]:
    """Return the folder of each corrupted cell, and the folders in the root that are not corruptions.

    Args:
        root: the tree.
        clean: the path of the clean images, which is not a corruption.

    Raises:
        InputError: no cells, a severity outside 1 to 5, or a cell that occurs twice.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; expected a -C tree.")
    found: dict[Cell, Path] = {}
    ignored_folders: list[str] = []
    for top_folder in list_folders(root):
        if top_folder.resolve() == clean.resolve() or top_folder.name == "clean":
            continue
        for corruption in _list_corruption_folders(top_folder):
            matches = {f: _SEVERITY.fullmatch(f.name) for f in list_folders(corruption)}
            severities = {f: int(match[1]) for f, match in matches.items() if match}
            if not severities:
                ignored_folders.append(corruption.relative_to(root).as_posix())
            for folder, severity in severities.items():
                if not 1 <= severity <= 5:
                    raise InputError(f"{folder}: expected severities 1 to 5; remove the folder.")
                cell = Cell(canonicalize_corruption(corruption.name), severity)
                if cell in found:
                    raise InputError(f"{cell} occurs twice: {found[cell]} and {folder}.")
                found[cell] = folder
    if not found:
        raise InputError(
            f"{root} is not a -C tree: expected <corruption>/<severity 1 to 5>/<class>/<file>."
        )
    return found, tuple(ignored_folders)


def _list_corruption_folders(folder: Path) -> list[Path]:
    """Return the corruption folders of a folder in the root: its subfolders if it is a group."""
    if folder.name not in _GROUP_FOLDERS:
        return [folder]
    subfolders = list_folders(folder)
    # A corruption itself may be named "noise" or "blur".
    is_corruption = any(_SEVERITY.fullmatch(subfolder.name) for subfolder in subfolders)
    return [folder] if is_corruption else subfolders


# ---------------------------------------------------------------- missing and paired images


def restrict_missing(
    missing: Mapping[Cell, tuple[str, ...]], names: Iterable[str]
) -> dict[Cell, tuple[str, ...]]:
    """Restrict the missing images of each cell to ``names``."""
    allowed = set(names)
    restricted = {
        cell: tuple(name for name in absent if name in allowed) for cell, absent in missing.items()
    }
    return {cell: absent for cell, absent in restricted.items() if absent}


@dataclass(frozen=True)
class CleanTwins:
    """Pairs of corrupted and clean images.

    Attributes:
        renamed: the clean twin of each image whose twin has another name.
        unpaired: the images that have no clean twin.
        unused: the number of clean images that are the twin of no image.
    """

    renamed: Mapping[str, str]
    unpaired: tuple[str, ...]
    unused: int


def pair_with_clean(clean: Path, names: Sequence[str], clean_names: Iterable[str]) -> CleanTwins:
    """Find the clean twin of each image: the same path, or the only one with another suffix.

    Args:
        clean: the path of the clean images, for the error.
        names: the names of the corrupted images.
        clean_names: the names of the clean images.

    Raises:
        InputError: no image has a clean twin.
    """
    clean_names = list(clean_names)
    found = find_counterparts(names, clean_names)
    unpaired = tuple(name for name, twin in found.items() if twin is None)
    if len(unpaired) == len(names):
        raise InputError(
            f"{clean}: none of the {pluralize(len(names), 'image')} of the tree has a clean twin there; "
            f"expected the same paths, such as {names[0]}."
        )
    # Only the differing names are stored, since the tree is sent to every worker.
    renamed = {name: twin for name, twin in found.items() if twin is not None and twin != name}
    return CleanTwins(renamed, unpaired, len(set(clean_names) - set(found.values())))
