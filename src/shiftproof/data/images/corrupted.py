"""A tree of precomputed corrupted images, such as ImageNet-C."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import final

from shiftproof.classes import Classes, LabelSet
from shiftproof.corruptions import CORRUPTIONS, GROUPS
from shiftproof.data.disk import find_images, fingerprints_below, folders_in, read_below, twins
from shiftproof.data.images import cells
from shiftproof.data.images.cells import CorruptedData, canonical, order_cells
from shiftproof.data.images.folder import FolderLabels, crop_border, name_folder
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.types import CLEAN, Cell, Image, Sample, Settings

_SEVERITY = re.compile(r"(?:severity_)?(\d{1,3})")

# The tars of ImageNet-C unpack to these folders, each with some corruptions in it.
_GROUP_FOLDERS = {*GROUPS, "extra"}


@final
class CorruptedTree(CorruptedData):
    """The images of ``ROOT/<corruption>/<severity>/<class>/<file>``.

    ``severity_3`` is read as 3, and an additional folder is allowed above the corruption
    (``noise``, ``blur``, ``weather``, ``digital``, ``extra``: the published tars). Corruptions of
    any name are found; those that are neither among the 15 nor holdout are listed in
    ``other_corruptions``.

    An image's id is its path below the severity, so it is the same in every cell. The samples are
    the union of all corrupted cells; if a cell lacks an image, ``missing`` lists it and reading it
    raises a BrokenFileError. The clean twin is the clean image of the same path, or the only one
    that differs just by its suffix (corrupted copies are often saved in another format). Clean
    images without a corrupted twin are counted and not used.

    Args:
        root: the tree.
        classes, class_map, labeled: as for :class:`~shiftproof.data.ImageFolder`, a label set too.
        clean: folder of the clean images, by default ``ROOT/clean`` if that exists.

    Raises:
        InputError: no tree of this layout, a severity outside 1 to 5, a cell that occurs twice or
            has no images, or no clean images in ``clean``.
        LabelError: class folders that the model does not know.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Classes | LabelSet | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
        clean: str | Path | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{root} is no folder; expected a -C tree.")
        if clean is not None and not Path(clean).is_dir():
            raise InputError(f"{clean} is no folder; expected the folder of the clean images.")
        clean_folder = Path(clean) if clean is not None else self.root / "clean"
        self._folders, self.ignored = _find_cells(self.root, clean_folder)
        names, missing = _pair(self._folders)
        labels = FolderLabels(classes, class_map=class_map, labeled=labeled, where=str(root))
        samples = labels.samples(names)
        self.folders_left_out = labels.count_left_out(names)
        self.border = labels.border
        names = [sample.id for sample in samples]
        self.missing = _restrict(missing, names)
        self._clean_names: dict[str, str] = {}
        self.clean_without_twin = 0
        if clean_folder.is_dir():
            self._folders[CLEAN] = clean_folder
            self._add_clean(names, find_images(clean_folder).names)
        super().__init__(name_folder(self.root), samples, labels.classes)

    def _add_clean(self, names: list[str], clean_names: Iterable[str]) -> None:
        clean_names = list(clean_names)
        found = twins(names, clean_names)
        # Only the differing names are stored, since the tree is sent to every worker.
        self._clean_names = {
            name: twin for name, twin in found.items() if twin is not None and twin != name
        }
        without = tuple(name for name, twin in found.items() if twin is None)
        if len(without) == len(names):
            raise InputError(
                f"{self._folders[CLEAN]}: none of the {len(names)} images of the tree has a clean "
                f"twin there; expected the same paths, such as {names[0]}."
            )
        if without:
            self.missing[CLEAN] = without
        self.clean_without_twin = len(set(clean_names) - set(found.values()))

    def narrow(self, samples: Sequence[Sample], rule: str) -> CorruptedTree:
        """Return the tree restricted to some of its images; see :class:`ImageData`."""
        narrowed = super().narrow(samples, rule)
        narrowed.missing = _restrict(self.missing, (sample.id for sample in samples))
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

    def read_cell(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it does not exist or cannot be read; the message contains cell and id.
        """
        if cell not in self._folders:
            raise BrokenFileError(f"{sample.id}: the tree {self.name} has no {cell}.")
        try:
            image = read_below(self._folders[cell], self._file(sample.id, cell))
            return crop_border(image, self.border, sample.id)
        except BrokenFileError as error:
            raise BrokenFileError(f"{cell}: {error}") from error

    def _file(self, name: str, cell: Cell) -> str:
        return self._clean_names.get(name, name) if cell.is_clean else name

    def content_fingerprints(self) -> list[str]:
        """Return a fingerprint of each image's files in all cells together.

        It covers their contents; for a tree above 2 GB the sizes of all files and the contents of
        20 (``cells.FINGERPRINT_FILES``) in each cell, evenly spread. A regenerated cell changes it;
        a single file replaced by one of the same length may not.
        """
        places = sorted(self._folders)
        names = {cell: [self._file(sample.id, cell) for sample in self.samples] for cell in places}
        sizes = {
            cell: [_read_size(self._folders[cell] / name) for name in names[cell]]
            for cell in places
        }
        total = sum(size for row in sizes.values() for size in row if size is not None)
        whole = total <= cells.FINGERPRINT_BYTES
        step = 1 if whole else -(-len(self) // cells.FINGERPRINT_FILES)
        marks: list[list[str]] = [[] for _ in self.samples]
        for cell in places:
            contents = fingerprints_below(self._folders[cell], names[cell][::step])
            for place, (mark, size) in enumerate(zip(marks, sizes[cell], strict=True)):
                content = "" if place % step else contents[place // step]
                mark.append(f"{cell} {size} {content}")
        return [files.fingerprint(part.encode() for part in mark) for mark in marks]

    def settings(self) -> Settings:
        """Return the settings for the records, including what is missing or ignored."""
        return {
            **super().settings(),
            "fingerprint of": "contents; of more than 2 GB sizes, and contents of some files",
            "missing": {str(cell): len(names) for cell, names in sorted(self.missing.items())},
            "corruptions not in the table": list(self.other_corruptions),
            "folders that are no corruption": list(self.ignored),
            "clean images without a corrupted twin": self.clean_without_twin,
            "images of no class": sum(self.folders_left_out.values()),
            "pixels cut off each side": self.border,
        }


def is_corrupted_tree(root: Path) -> bool:
    """Return whether a folder is a -C tree: has a known corruption with severities in it."""
    return any(
        canonical(corruption.name) in CORRUPTIONS
        and any(_SEVERITY.fullmatch(folder.name) for folder in folders_in(corruption))
        for first in folders_in(root)
        if first.name in _GROUP_FOLDERS or canonical(first.name) in CORRUPTIONS
        for corruption in _list_corruption_folders(first)
    )


def list_tree_corruptions(root: Path, clean: str | Path | None = None) -> tuple[str, ...]:
    """Return the names of the corruptions of a -C tree, without a look at its images."""
    there, _ = _find_cells(root, root / "clean" if clean is None else Path(clean))
    return tuple(dict.fromkeys(cell.corruption for cell in there))


def _list_corruption_folders(first: Path) -> list[Path]:
    """Return the corruption folders of a folder in the root: its subfolders if it is a group."""
    if first.name not in _GROUP_FOLDERS:
        return [first]
    inner = folders_in(first)
    # A corruption itself may be named "noise" or "blur".
    return [first] if any(_SEVERITY.fullmatch(folder.name) for folder in inner) else inner


def _find_cells(root: Path, clean: Path) -> tuple[dict[Cell, Path], tuple[str, ...]]:
    """Return the folder of each cell, and the folders in the root that are no corruptions."""
    found: dict[Cell, Path] = {}
    ignored: list[str] = []
    for first in folders_in(root):
        if first.resolve() == clean.resolve() or first.name == "clean":
            continue
        for corruption in _list_corruption_folders(first):
            severities = [f for f in folders_in(corruption) if _SEVERITY.fullmatch(f.name)]
            if not severities:
                ignored.append(corruption.relative_to(root).as_posix())
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
    return found, tuple(ignored)


def _pair(folders: Mapping[Cell, Path]) -> tuple[list[str], dict[Cell, tuple[str, ...]]]:
    """Return the images of all cells, sorted, and those that each cell lacks."""
    # Only differences from the first cell are stored: 75 sets of 50,000 names would fill the
    # memory.
    first: frozenset[str] | None = None
    extra: dict[Cell, set[str]] = {}
    lacking: dict[Cell, set[str]] = {}
    for cell, folder in folders.items():
        names = frozenset(find_images(folder).names)
        if first is None:
            first = names
        extra[cell] = set(names - first)
        lacking[cell] = set(first - names)
    assert first is not None
    added = set().union(*extra.values())
    missing = {cell: lacking[cell] | (added - extra[cell]) for cell in folders}
    return sorted(first | added), {
        cell: tuple(sorted(names)) for cell, names in missing.items() if names
    }


def _restrict(
    missing: Mapping[Cell, tuple[str, ...]], names: Iterable[str]
) -> dict[Cell, tuple[str, ...]]:
    """Restrict the missing images to ``names``."""
    kept = set(names)
    lacking = {cell: tuple(name for name in gone if name in kept) for cell, gone in missing.items()}
    return {cell: gone for cell, gone in lacking.items() if gone}


def _read_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
