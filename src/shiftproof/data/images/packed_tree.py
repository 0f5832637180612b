"""A tree of precomputed corrupted images that are packed in tars or tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, final

from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.data.disk import holds_packed
from shiftproof.data.images import cells
from shiftproof.data.images.cell_folders import (
    CellFolders,
    find_cells,
    find_first_cell,
    pair_with_clean,
)
from shiftproof.data.images.packed import PackedImages
from shiftproof.data.images.parquet import is_parquet
from shiftproof.data.images.rows import RowImages, choose_label
from shiftproof.data.images.saved import is_saved_dataset
from shiftproof.data.images.tables import TABLE_READERS
from shiftproof.data.images.tars import TarData, TarFiles
from shiftproof.errors import BrokenFileError, InputError, ShiftproofError
from shiftproof.io import files
from shiftproof.io.tars import is_tar
from shiftproof.types import CLEAN, Cell, Image, Sample, Settings

Packing: TypeAlias = Literal["webdataset", "saved", "parquet"]
"""How the images of a folder are packed: the name of the layout."""


def find_packing(folder: Path) -> Packing | None:
    """Return how the images of a folder are packed; None for image files or an empty folder."""
    if is_saved_dataset(folder):
        return "saved"
    if holds_packed(folder, is_tar):
        return "webdataset"
    return "parquet" if holds_packed(folder, is_parquet) else None


def is_packed_tree(root: Path) -> bool:
    """Return whether a folder is a -C tree of tars or tables."""
    first = find_first_cell(root)
    return first is not None and find_packing(first) is not None


@dataclass(frozen=True)
class PackOptions:
    """Options for the tars or tables of each cell; see :class:`PackedTree`."""

    classes: Classes | None = None
    class_map: Mapping[str, str] | None = None
    labeled: bool | None = None
    split: str | None = None
    column: str | None = None
    label_key: str | None = None

    def open(self, packing: Packing, path: str | Path, *, labeled: bool = True) -> PackedImages:
        """Open one cell or the clean images; False for ``labeled`` ignores labels."""
        label_option = self.labeled if labeled else False
        if packing == "webdataset":
            return TarData(
                path, self.classes, class_map=self.class_map, labeled=label_option,
                label_key=self.label_key,
            )  # fmt: skip
        return TABLE_READERS[packing](
            path, self.split, self.classes, class_map=self.class_map, labeled=label_option,
            label_key=self.label_key, column=self.column,
        )  # fmt: skip


@final
class PackedTree(CellFolders):
    """The images of ``ROOT/<corruption>/<severity>/`` in tars, saved datasets or Parquet files.

    Each cell is a corrupted copy of the same dataset, as written by
    :func:`~shiftproof.data.export_corrupted` for webdataset tars (``ROOT/fog/3/train-0000.tar``),
    datasets saved by Hugging Face's ``datasets`` and Parquet files. Folders are recognized as for
    :class:`~shiftproof.data.CorruptedTree`.

    Images have the ids of the clean dataset: tar and member name, or the row number. Without clean
    images they have the ids of the cells, where the suffix of a member may differ. The samples are
    the union of all corrupted cells, in the order of the clean dataset or of the first cell. If a
    cell lacks an image, ``missing`` lists it and reading it raises a BrokenFileError. Labels are
    read from the cells.

    Args:
        root: the tree.
        classes, class_map, labeled, label_key: as for :class:`~shiftproof.data.TarData`.
        clean: the clean tars or tables; by default ``ROOT/clean`` if it exists.
        split, column: for tables, as for :class:`~shiftproof.data.SavedDataset`.

    Raises:
        InputError: no tree of this layout, a cell that cannot be opened, tables that differ in
            their number of rows, or no clean image in the tree.
        BrokenFileError: a damaged tar or table.
        LabelError: labels outside the classes.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Classes | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
        clean: str | Path | None = None,
        split: str | None = None,
        column: str | None = None,
        label_key: str | None = None,
    ) -> None:
        folder = Path(root)
        clean_path: str | Path = folder / "clean" if clean is None else clean
        folders, ignored_folders = find_cells(folder, Path(clean_path))
        options = PackOptions(classes, class_map, labeled, split, column, label_key)
        self.packing = _determine_packing(folder, folders)
        _check_split(self.packing, folder, options)
        self._packs, labels = _open_cells(
            self._locate_cells(folders, clean_path), self.packing, options
        )
        first = next(iter(self._packs.values()))
        self._cell_ids: dict[str, str] = {}
        ids, unused = list(labels), 0
        unpaired: tuple[str, ...] = ()
        if clean is not None or Path(clean_path).is_dir():
            ids, unpaired, unused = self._add_clean(clean_path, list(labels), options)
            folders[CLEAN] = Path(clean_path)
        samples = [Sample(key, labels[self._cell_ids.get(key, key)]) for key in ids]
        missing = {cell: self._list_missing(cell, ids) for cell in folders if not cell.is_clean}
        missing[CLEAN] = unpaired
        super().__init__(
            folder,
            folders,
            ignored_folders,
            {cell: names for cell, names in missing.items() if names},
            unused,
            samples,
            first.classes,
        )

    def _locate_cells(self, folders: Mapping[Cell, Path], clean: str | Path) -> dict[Cell, Path]:
        """Return the path of each cell: its folder, or its one table if ``clean`` is a table."""
        is_table = self.packing == "parquet" and Path(clean).is_file()
        table = Path(clean).name
        return {
            cell: folder / table if is_table and (folder / table).is_file() else folder
            for cell, folder in folders.items()
        }

    def _add_clean(
        self, path: str | Path, cell_ids: list[str], options: PackOptions
    ) -> tuple[list[str], tuple[str, ...], int]:
        """Open the clean images and adopt their ids.

        Returns:
            the ids, those without a clean image, and the number of clean images in no cell.
        """
        clean = options.open(self.packing, path, labeled=False)
        clean_ids = [sample.id for sample in clean.samples]
        if self.packing != "webdataset" and len(clean_ids) != len(cell_ids):
            raise InputError(
                f"{path} has {pluralize(len(clean_ids), 'row')}, and each cell of the tree has "
                f"{len(cell_ids):,}; expected the tables that were corrupted."
            )
        pairs = pair_with_clean(Path(path), cell_ids, clean_ids)
        self._cell_ids = {twin: key for key, twin in pairs.renamed.items()}
        paired = {pairs.renamed.get(key, key) for key in cell_ids}
        first = next(iter(self._packs.values()))
        clean.share_ids(first)
        self._packs[CLEAN] = clean
        ordered = [key for key in clean_ids if key in paired]
        return [*ordered, *pairs.unpaired], pairs.unpaired, pairs.unused

    def _list_missing(self, cell: Cell, ids: list[str]) -> tuple[str, ...]:
        pack = self._packs[cell]
        return tuple(key for key in ids if not pack.has(self._find_cell_id(key, cell)))

    def _find_cell_id(self, key: str, cell: Cell) -> str:
        """Return the id that an image has in a cell, where the suffix may differ."""
        return key if cell.is_clean else self._cell_ids.get(key, key)

    def read_cell(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell as ``(H, W, 3)`` uint8 RGB; see :class:`CorruptedData`."""
        self._check_cell(sample, cell)
        pack, key = self._packs[cell], self._find_cell_id(sample.id, cell)
        if not pack.has(key):
            raise BrokenFileError(f"{cell}: {key}: the cell does not have it.")
        try:
            return pack.read(Sample(key))
        except BrokenFileError as error:
            raise BrokenFileError(f"{cell}: {error}") from error

    def content_fingerprints(self) -> list[str]:
        """Return one fingerprint per image, over its versions in all cells.

        It covers the bytes of the versions. For a tree above 2 GB it covers the size of each cell
        and the bytes of 20 evenly spaced images in it (``cells.FINGERPRINT_FILES``).
        """
        sizes = {cell: pack.count_bytes() for cell, pack in sorted(self._packs.items())}
        is_complete = sum(sizes.values()) <= cells.FINGERPRINT_BYTES
        step = self._choose_step(sum(sizes.values()))
        parts: list[list[str]] = [[] for _ in self.samples]
        for cell, size in sizes.items():
            contents = self._compute_fingerprints(cell, step)
            for index, image_parts in enumerate(parts):
                content = contents[index // step] if index % step == 0 else ""
                image_parts.append(f"{cell} {'' if is_complete else size} {content}")
        return [files.fingerprint(map(str.encode, image_parts)) for image_parts in parts]

    def _compute_fingerprints(self, cell: Cell, step: int) -> list[str]:
        """Return the fingerprint of every ``step``-th image in a cell; "missing" for missing ones."""
        pack = self._packs[cell]
        keys = [self._find_cell_id(sample.id, cell) for sample in self.samples[::step]]
        existing = [Sample(key) for key in keys if pack.has(key)]
        fingerprints: dict[str, str] = {}
        if existing:
            contents = pack.narrow(existing, "for a fingerprint").content_fingerprints()
            fingerprints = {
                sample.id: content for sample, content in zip(existing, contents, strict=True)
            }
        return [fingerprints.get(key, "missing") for key in keys]

    def settings(self) -> Settings:
        """Return the settings for the records, including what is missing or ignored."""
        return {
            **super().settings(),
            "fingerprint of": "contents; of more than 2 GB sizes, and contents of some images",
            "packed as": self.packing,
        }


def _determine_packing(root: Path, folders: Mapping[Cell, Path]) -> Packing:
    """Return how the first cell is packed, which stands for all.

    Raises:
        InputError: it holds neither tars nor tables.
    """
    folder = next(iter(folders.values()))
    packing = find_packing(folder)
    if packing is None:
        raise InputError(f"{folder}: expected tars or tables of images, as other cells of {root}.")
    return packing


def _check_split(packing: Packing, root: Path, options: PackOptions) -> None:
    """Refuse the options ``split`` and ``column`` for tars."""
    if packing == "webdataset" and (options.split, options.column) != (None, None):
        raise InputError(f"{root} holds tars, which have no splits and no columns: leave them out.")


def check_packed_tree(
    root: Path, *, clean: str | Path | None, split: str | None, column: str | None, label_key: str | None
) -> None:  # fmt: skip
    """Refuse options that a tree of tars or tables does not have, before a model is loaded.

    Of tables the first cell and the clean images are opened, without labels; of tars only the names of
    files are read. Arguments as for :class:`PackedTree`.

    Raises:
        InputError, BrokenFileError, LabelError, UnknownNameError: as for :class:`PackedTree`.
    """
    folders, _ = find_cells(root, root / "clean" if clean is None else Path(clean))
    packing = _determine_packing(root, folders)
    options = PackOptions(split=split, column=column)
    _check_split(packing, root, options)
    if packing == "webdataset":
        if clean is not None:
            TarFiles.find(clean)
        return
    cell, folder = next(iter(folders.items()))
    with _prefix_errors(cell):
        table = options.open(packing, folder, labeled=False)
        if label_key is not None and isinstance(table, RowImages):
            choose_label(table.features, label_key, str(folder))
    if clean is not None:
        options.open(packing, clean, labeled=False)


def _open_cells(
    paths: Mapping[Cell, Path], packing: Packing, options: PackOptions
) -> tuple[dict[Cell, PackedImages], dict[str, int | None]]:
    """Open all cells, and return them with the labels of all their images by id."""
    packs: dict[Cell, PackedImages] = {}
    labels: dict[str, int | None] = {}
    for cell, path in paths.items():
        with _prefix_errors(cell):
            pack = options.open(packing, path, labeled=not packs)
            if any(sample.id not in labels for sample in pack.samples):
                # Only the first cell and cells with further images are opened with labels: saves time.
                pack = options.open(packing, path) if packs else pack
            if packs and packing != "webdataset" and len(pack) != len(labels):
                raise InputError(
                    f"it has {pluralize(len(pack), 'row')}, and other cells have {len(labels):,}; expected "
                    "the same tables in each cell."
                )
        for sample in pack.samples:
            labels.setdefault(sample.id, sample.label)
        if packs:
            pack.share_ids(next(iter(packs.values())))
        packs[cell] = pack
    return packs, labels


@contextlib.contextmanager
def _prefix_errors(cell: Cell) -> Iterator[None]:
    """Prefix errors with the cell, since the tars of all cells have the same names."""
    try:
        yield
    except ShiftproofError as error:
        error.args = (f"{cell}: {error}",)
        raise
