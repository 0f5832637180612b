"""A tree of precomputed corrupted images, such as ImageNet-C."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import final

from shiftproof.classes import Classes, LabelSet
from shiftproof.data.disk import find_images, fingerprint_below, read_below, read_file_size
from shiftproof.data.images.cell_folders import (
    CellFolders,
    find_cells,
    pair_with_clean,
    restrict_missing,
)
from shiftproof.data.images.folder import FolderLabels
from shiftproof.data.images.image_files import crop_border
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.types import CLEAN, Cell, Image, Sample, Settings


@final
class CorruptedTree(CellFolders):
    """The images of ``ROOT/<corruption>/<severity>/<class>/<file>``.

    ``severity_3`` is read as 3, and an additional folder is allowed above the corruption
    (``noise``, ``blur``, ``weather``, ``digital``, ``extra``: the published tars). Corruptions of
    any name are found; those that are not in the table are listed in ``other_corruptions``. Trees of
    tars or tables are read by :class:`~shiftproof.data.PackedTree`.

    An image's id is its path below the severity, so it is the same in every cell. The samples are
    the union of all corrupted cells; if a cell lacks an image, ``missing`` lists it and reading it
    raises a BrokenFileError. The clean twin is the clean image of the same path, or the only one
    that differs just by its suffix (corrupted copies are often saved in another format). Clean
    images without a corrupted twin are counted and not used.

    Args:
        root: the tree.
        classes, class_map, labeled: as for :class:`~shiftproof.data.ImageFolder`.
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
        folder = Path(root)
        if clean is not None and not Path(clean).is_dir():
            raise InputError(f"{clean} is not a folder; expected the folder of the clean images.")
        clean_folder = Path(clean) if clean is not None else folder / "clean"
        folders, ignored_folders = find_cells(folder, clean_folder)
        names, missing = _compare_cells(folders)
        labels = FolderLabels(classes, class_map=class_map, labeled=labeled, where=str(root))
        samples = labels.make_samples(names)
        self.folders_left_out = labels.count_left_out(names)
        self.border = labels.border
        names = [sample.id for sample in samples]
        missing = restrict_missing(missing, names)
        self._clean_names: Mapping[str, str] = {}
        unused = 0
        if clean_folder.is_dir():
            pairs = pair_with_clean(clean_folder, names, find_images(clean_folder).names)
            self._clean_names, unused = pairs.renamed, pairs.unused
            folders[CLEAN] = clean_folder
            if pairs.unpaired:
                missing[CLEAN] = pairs.unpaired
        super().__init__(folder, folders, ignored_folders, missing, unused, samples, labels.classes)

    def read_cell(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell as ``(H, W, 3)`` uint8 RGB; see :class:`CorruptedData`."""
        self._check_cell(sample, cell)
        try:
            image = read_below(self._folders[cell], self._find_file(sample.id, cell))
            return crop_border(image, self.border, sample.id)
        except BrokenFileError as error:
            raise BrokenFileError(f"{cell}: {error}") from error

    def _find_file(self, name: str, cell: Cell) -> str:
        return self._clean_names.get(name, name) if cell.is_clean else name

    def content_fingerprints(self) -> list[str]:
        """Return one fingerprint per image, over its files in all cells.

        It covers their contents; for a tree above 2 GB the sizes of all files and the contents of
        20 (``cells.FINGERPRINT_FILES``) in each cell, evenly spread. A regenerated cell changes it;
        a single file replaced by one of the same length may not.
        """
        ordered = sorted(self._folders)
        names = {
            cell: [self._find_file(sample.id, cell) for sample in self.samples] for cell in ordered
        }
        sizes = {
            cell: [read_file_size(self._folders[cell] / name) for name in names[cell]]
            for cell in ordered
        }
        total = sum(size or 0 for cell_sizes in sizes.values() for size in cell_sizes)
        step = self._choose_step(total)
        parts: list[list[str]] = [[] for _ in self.samples]
        for cell in ordered:
            contents = fingerprint_below(self._folders[cell], names[cell][::step])
            for index, (image_parts, size) in enumerate(zip(parts, sizes[cell], strict=True)):
                content = "" if index % step else contents[index // step]
                image_parts.append(f"{cell} {size} {content}")
        return [files.fingerprint(map(str.encode, image_parts)) for image_parts in parts]

    def settings(self) -> Settings:
        """Return the settings for the records, including what is missing or ignored."""
        return {
            **super().settings(),
            "fingerprint of": "contents; of more than 2 GB sizes, and contents of some files",
            "images of no class": sum(self.folders_left_out.values()),
            "pixels cut off each side": self.border,
        }


def _compare_cells(folders: Mapping[Cell, Path]) -> tuple[list[str], dict[Cell, tuple[str, ...]]]:
    """Return the images of all cells, sorted, and the missing images of each cell."""
    # Only differences from the first cell are stored: 75 sets of 50,000 names would fill the memory.
    first: frozenset[str] | None = None
    extra: dict[Cell, set[str]] = {}
    absent: dict[Cell, set[str]] = {}
    for cell, folder in folders.items():
        names = frozenset(find_images(folder).names)
        if first is None:
            first = names
        extra[cell] = set(names - first)
        absent[cell] = set(first - names)
    assert first is not None
    all_extra = set().union(*extra.values())
    missing = {cell: absent[cell] | (all_extra - extra[cell]) for cell in folders}
    return sorted(first | all_extra), {
        cell: tuple(sorted(names)) for cell, names in missing.items() if names
    }
