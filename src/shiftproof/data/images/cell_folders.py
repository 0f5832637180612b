"""Corrupted images of which every cell of the grid has a folder of its own, as in ImageNet-C."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shiftproof.classes import Classes
from shiftproof.corruptions import CORRUPTIONS, GROUPS
from shiftproof.counts import plural
from shiftproof.data.disk import folders_in, twins
from shiftproof.data.images.cells import CorruptedData, canonical, order_cells
from shiftproof.data.images.folder import name_folder
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.text import read_json
from shiftproof.types import CLEAN, Cell, Sample, Settings

Self = TypeVar("Self", bound="CellFolders")

_SEVERITY = re.compile(r"(?:severity_)?(\d{1,3})")

# The tars of ImageNet-C unpack to these folders, each with some corruptions in it.
_GROUP_FOLDERS = {*GROUPS, "extra"}


class CellFolders(CorruptedData):
    """The images of ``ROOT/<corruption>/<severity>/``, however they are stored there.

    ``severity_3`` is read as 3, and an additional folder is allowed above the corruption
    (``noise``, ``blur``, ``weather``, ``digital``, ``extra``: the published tars).

    Args:
        root: the tree.
        folders: of each cell, that of the clean images among them if there are some.
        passed_over: the folders in the root that are no corruptions.
        missing: the images that a cell lacks.
        clean_without_twin: the number of clean images that no corrupted cell has.
        samples, classes: as for :class:`~shiftproof.data.dataset.ImageData`.
    """

    def __init__(
        self,
        root: Path,
        folders: Mapping[Cell, Path],
        passed_over: Sequence[str],
        missing: Mapping[Cell, tuple[str, ...]],
        clean_without_twin: int,
        samples: Sequence[Sample],
        classes: Classes | None,
    ) -> None:
        self.root = root
        self._folders = dict(folders)
        self.passed_over = tuple(passed_over)
        self.missing = dict(missing)
        self.clean_without_twin = clean_without_twin
        super().__init__(name_folder(root), samples, classes)

    def narrow(self: Self, samples: Sequence[Sample], rule: str) -> Self:
        """Return the tree restricted to some of its images; see :class:`ImageData`."""
        narrowed = super().narrow(samples, rule)
        narrowed.missing = keep_only(self.missing, (sample.id for sample in samples))
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
        """Return the samples of a cell.

        Raises:
            InputError: the tree has no such cell.
        """
        if cell not in self._folders:
            raise self._no_cell(cell)
        lacking = set(self.missing.get(cell, ()))
        return tuple(sample for sample in self.samples if sample.id not in lacking)

    def settings(self) -> Settings:
        """Return the settings for the records, including what is missing or ignored."""
        return {
            **super().settings(),
            "missing": {str(cell): len(names) for cell, names in sorted(self.missing.items())},
            "corruptions not in the table": list(self.other_corruptions),
            "folders that are no corruption": list(self.passed_over),
            "clean images without a corrupted twin": self.clean_without_twin,
        }

    def _check_cell(self, sample: Sample, cell: Cell) -> None:
        if cell not in self._folders:
            raise BrokenFileError(f"{sample.id}: the tree {self.name} has no {cell}.")


# ---------------------------------------------------------------- the folders


def is_corrupted_tree(root: Path) -> bool:
    """Return whether a folder is a -C tree: has a known corruption with severities in it."""
    return find_first_cell(root) is not None


def find_first_cell(root: Path) -> Path | None:
    """Return the folder of one cell of a known corruption, or None where a folder is no -C tree.

    A corruption is known by the table, or by the manifest of a copy that ``corrupt`` wrote.
    """
    listed = _corruptions_of_copy(root)
    known = (
        folder
        for first in folders_in(root)
        for corruption in _corruption_folders(first)
        if canonical(corruption.name) in CORRUPTIONS or corruption.name in listed
        for folder in folders_in(corruption)
        if _SEVERITY.fullmatch(folder.name)
    )
    return next(known, None)


def _corruptions_of_copy(root: Path) -> frozenset[str]:
    """Return the corruptions that the manifest of a corrupted copy lists; none without one."""
    file = root / "manifest.json"
    if not file.is_file():
        return frozenset()
    try:
        told = read_json(file)
    except BrokenFileError:
        return frozenset()
    listed = told.get("corruptions") if isinstance(told, dict) else None
    return frozenset(listed) if isinstance(listed, dict) else frozenset()


def cells_of_tree(root: Path, clean: str | Path | None = None) -> tuple[Cell, ...]:
    """Return the cells of a -C tree in order, without a look at its images.

    Raises:
        InputError: as for :func:`find_cells`.
    """
    there, _ = find_cells(root, root / "clean" if clean is None else Path(clean))
    return order_cells(there)


def find_cells(root: Path, clean: Path) -> tuple[dict[Cell, Path], tuple[str, ...]]:
    """Return the folder of each corrupted cell, and the folders in the root that are no corruptions.

    Args:
        root: the tree.
        clean: where the clean images are, which are no corruption.

    Raises:
        InputError: no cells, a severity outside 1 to 5, or a cell that occurs twice.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; expected a -C tree.")
    found: dict[Cell, Path] = {}
    passed_over: list[str] = []
    for first in folders_in(root):
        if first.resolve() == clean.resolve() or first.name == "clean":
            continue
        for corruption in _corruption_folders(first):
            severities = [f for f in folders_in(corruption) if _SEVERITY.fullmatch(f.name)]
            if not severities:
                passed_over.append(corruption.relative_to(root).as_posix())
            for folder in severities:
                match = _SEVERITY.fullmatch(folder.name)
                assert match is not None
                severity = int(match[1])
                if not 1 <= severity <= 5:
                    raise InputError(f"{folder}: expected severities 1 to 5; remove the folder.")
                cell = Cell(canonical(corruption.name), severity)
                if cell in found:
                    raise InputError(f"{cell} is there twice: {found[cell]} and {folder}.")
                found[cell] = folder
    if not found:
        raise InputError(
            f"{root} is no -C tree: expected <corruption>/<severity 1 to 5>/<class>/<file>."
        )
    return found, tuple(passed_over)


def _corruption_folders(first: Path) -> list[Path]:
    """Return the corruption folders of a folder in the root: its subfolders if it is a group."""
    if first.name not in _GROUP_FOLDERS:
        return [first]
    inner = folders_in(first)
    # A corruption itself may be named "noise" or "blur".
    return [first] if any(_SEVERITY.fullmatch(folder.name) for folder in inner) else inner


# ---------------------------------------------------------------- which images are where


def keep_only(
    missing: Mapping[Cell, tuple[str, ...]], names: Iterable[str]
) -> dict[Cell, tuple[str, ...]]:
    """Restrict the missing images to ``names``."""
    kept = set(names)
    lacking = {cell: tuple(name for name in gone if name in kept) for cell, gone in missing.items()}
    return {cell: gone for cell, gone in lacking.items() if gone}


@dataclass(frozen=True)
class CleanTwins:
    """The clean images of corrupted ones.

    Attributes:
        others: the clean twin of each image whose twin has another name.
        without: the images that have no clean twin.
        unused: the number of clean images that are no twin.
    """

    others: Mapping[str, str]
    without: tuple[str, ...]
    unused: int


def pair_with_clean(clean: Path, names: Sequence[str], clean_names: Iterable[str]) -> CleanTwins:
    """Find the clean twin of each image: that of the same path, or the only one of another suffix.

    Args:
        clean: where the clean images are, for the error.
        names: the corrupted images.
        clean_names: the clean ones.

    Raises:
        InputError: no image has a clean twin.
    """
    clean_names = list(clean_names)
    found = twins(names, clean_names)
    without = tuple(name for name, twin in found.items() if twin is None)
    if len(without) == len(names):
        raise InputError(
            f"{clean}: none of the {plural(len(names), 'image')} of the tree has a clean twin there; "
            f"expected the same paths, such as {names[0]}."
        )
    # Only the differing names are stored, since the tree is sent to every worker.
    others = {name: twin for name, twin in found.items() if twin is not None and twin != name}
    return CleanTwins(others, without, len(set(clean_names) - set(found.values())))
