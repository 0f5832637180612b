"""A tree of precomputed corrupted images that are packed in tars or tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, final

from shiftproof.classes import Classes
from shiftproof.counts import plural
from shiftproof.data.disk import holds_packed
from shiftproof.data.images import cells
from shiftproof.data.images.cell_folders import (
    CellFolders,
    find_cells,
    find_first_cell,
    pair_with_clean,
)
from shiftproof.data.images.packed import PackedImages
from shiftproof.data.images.parquet import ParquetImages, is_parquet
from shiftproof.data.images.saved import SavedDataset, is_saved_dataset
from shiftproof.data.images.tars import TarData
from shiftproof.errors import BrokenFileError, InputError, ShiftproofError
from shiftproof.io import files
from shiftproof.io.tars import is_tar
from shiftproof.types import CLEAN, Cell, Image, Sample, Settings

Packing: TypeAlias = Literal["webdataset", "saved", "parquet"]
"""How the images of a folder are packed: the name of the layout."""


def find_packing(folder: Path) -> Packing | None:
    """Return how the images of a folder are packed; None if they are files, or there are none."""
    if is_saved_dataset(folder):
        return "saved"
    if holds_packed(folder, is_tar):
        return "webdataset"
    return "parquet" if holds_packed(folder, is_parquet) else None


def is_packed_tree(root: Path) -> bool:
    """Return whether a folder is a -C tree whose images are in tars or tables."""
    first = find_first_cell(root)
    return first is not None and find_packing(first) is not None


@dataclass(frozen=True)
class PackReading:
    """Options for the tars or tables of each cell; see :class:`PackedTree`."""

    classes: Classes | None = None
    class_map: Mapping[str, str] | None = None
    labeled: bool | None = None
    split: str | None = None
    column: str | None = None
    label_key: str | None = None

    def open(self, packing: Packing, place: str | Path, *, labeled: bool = True) -> PackedImages:
        """Open one cell, or the clean images; without labels if ``labeled`` is false."""
        wanted = self.labeled if labeled else False
        if packing == "webdataset":
            return TarData(
                place, self.classes, class_map=self.class_map, labeled=wanted,
                label_key=self.label_key,
            )  # fmt: skip
        kind = SavedDataset if packing == "saved" else ParquetImages
        return kind(
            place, self.split, self.classes, class_map=self.class_map, labeled=wanted,
            label_key=self.label_key, column=self.column,
        )  # fmt: skip


@final
class PackedTree(CellFolders):
    """The images of ``ROOT/<corruption>/<severity>/`` in tars, saved datasets or Parquet files.

    Each cell is the same dataset with other pixels, as
    :func:`~shiftproof.data.export_corrupted` writes it of webdataset tars
    (``ROOT/fog/3/train-0000.tar``), of what Hugging Face's ``datasets`` saved, and of Parquet files.
    Folders are found as for :class:`~shiftproof.data.CorruptedTree`.

    An image's id is that in the clean dataset: the tar's name and the member's, or the row's number.
    Without clean images it is the one in the cells, where a member may have another suffix. The
    samples are the union of all corrupted cells, in the order of the clean dataset or of the first
    cell; if a cell lacks an image, ``missing`` lists it and reading it raises a BrokenFileError.
    Labels are those that the cells state.

    Args:
        root: the tree.
        classes, class_map, labeled, label_key: as for :class:`~shiftproof.data.TarData`.
        clean: the clean tars or tables, by default ``ROOT/clean`` if that exists.
        split, column: of tables, as for :class:`~shiftproof.data.SavedDataset`.

    Raises:
        InputError: no tree of this layout, a cell that cannot be opened, tables of other numbers of
            rows, or clean images of which none is in the tree.
        BrokenFileError: a tar or table that is damaged.
        LabelError: labels that are none of the classes.
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
        home = Path(root)
        place: str | Path = home / "clean" if clean is None else clean
        folders, passed_over = find_cells(home, Path(place))
        reading = PackReading(classes, class_map, labeled, split, column, label_key)
        self.packing = _packing_of(home, folders)
        _check_split(self.packing, home, reading)
        self._packs, labels = _open_cells(self._places(folders, place), self.packing, reading)
        first = next(iter(self._packs.values()))
        self._copies: dict[str, str] = {}
        names, unused = list(labels), 0
        without: tuple[str, ...] = ()
        if clean is not None or Path(place).is_dir():
            names, without, unused = self._add_clean(place, list(labels), reading)
            folders[CLEAN] = Path(place)
        samples = [Sample(name, labels[self._copies.get(name, name)]) for name in names]
        missing = {cell: self._lacks(cell, names) for cell in folders if not cell.is_clean}
        missing[CLEAN] = without
        super().__init__(
            home, folders, passed_over, {cell: gone for cell, gone in missing.items() if gone},
            unused, samples, first.classes,
        )  # fmt: skip

    def _places(self, folders: Mapping[Cell, Path], clean: str | Path) -> dict[Cell, Path]:
        """Return what each cell is opened from: a table where the clean images are one, too."""
        is_table = self.packing == "parquet" and Path(clean).is_file()
        name = Path(clean).name
        return {
            cell: folder / name if is_table and (folder / name).is_file() else folder
            for cell, folder in folders.items()
        }

    def _add_clean(
        self, place: str | Path, copies: list[str], reading: PackReading
    ) -> tuple[list[str], tuple[str, ...], int]:
        """Open the clean images, whose ids become those of the tree.

        Returns:
            the ids, those without a clean twin, and the number of clean images that are no twin.
        """
        clean = reading.open(self.packing, place, labeled=False)
        clean_names = [sample.id for sample in clean.samples]
        if self.packing != "webdataset" and len(clean_names) != len(copies):
            raise InputError(
                f"{place} has {plural(len(clean_names), 'row')}, and each cell of the tree has "
                f"{len(copies):,}; expected the tables that were corrupted."
            )
        found = pair_with_clean(Path(place), copies, clean_names)
        self._copies = {twin: name for name, twin in found.others.items()}
        named = {found.others.get(name, name) for name in copies}
        first = next(iter(self._packs.values()))
        clean.share_ids(first)
        self._packs[CLEAN] = clean
        ordered = [name for name in clean_names if name in named]
        return [*ordered, *found.without], found.without, found.unused

    def _lacks(self, cell: Cell, names: list[str]) -> tuple[str, ...]:
        pack = self._packs[cell]
        return tuple(name for name in names if not pack.has(self._name(name, cell)))

    def _name(self, key: str, cell: Cell) -> str:
        return key if cell.is_clean else self._copies.get(key, key)

    def read_cell(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it does not exist or cannot be read; the message contains cell and id.
        """
        self._check_cell(sample, cell)
        pack, name = self._packs[cell], self._name(sample.id, cell)
        if not pack.has(name):
            raise BrokenFileError(f"{cell}: {name}: the cell does not have it.")
        try:
            return pack.read(Sample(name))
        except BrokenFileError as error:
            raise BrokenFileError(f"{cell}: {error}") from error

    def content_fingerprints(self) -> list[str]:
        """Return a fingerprint of each image in all cells together.

        It covers their bytes; for a tree above 2 GB the size of each cell and the bytes of 20 images
        (``cells.FINGERPRINT_FILES``) in it, evenly spread.
        """
        sizes = {cell: pack.count_bytes() for cell, pack in sorted(self._packs.items())}
        whole = sum(sizes.values()) <= cells.FINGERPRINT_BYTES
        step = 1 if whole else -(-len(self) // cells.FINGERPRINT_FILES)
        marks: list[list[str]] = [[] for _ in self.samples]
        for cell, size in sizes.items():
            contents = self._fingerprints(cell, step)
            for place, mark in enumerate(marks):
                content = contents[place // step] if place % step == 0 else ""
                mark.append(f"{cell} {'' if whole else size} {content}")
        return [files.fingerprint(part.encode() for part in mark) for mark in marks]

    def _fingerprints(self, cell: Cell, step: int) -> list[str]:
        """Return the fingerprint of every ``step``-th image in a cell, "missing" where it has none."""
        pack = self._packs[cell]
        names = [self._name(sample.id, cell) for sample in self.samples[::step]]
        there = [Sample(name) for name in names if pack.has(name)]
        found: dict[str, str] = {}
        if there:
            contents = pack.narrow(there, "for a fingerprint").content_fingerprints()
            found = {sample.id: one for sample, one in zip(there, contents, strict=True)}
        return [found.get(name, "missing") for name in names]

    def settings(self) -> Settings:
        """Return the settings for the records, including what is missing or ignored."""
        return {
            **super().settings(),
            "fingerprint of": "contents; of more than 2 GB sizes, and contents of some images",
            "packed as": self.packing,
        }


def _packing_of(root: Path, folders: Mapping[Cell, Path]) -> Packing:
    """Return how the cells are packed, by the first one.

    Raises:
        InputError: its images are neither in tars nor in tables.
    """
    folder = next(iter(folders.values()))
    packing = find_packing(folder)
    if packing is None:
        raise InputError(f"{folder}: expected tars or tables of images, as other cells of {root}.")
    return packing


def _check_split(packing: Packing, root: Path, reading: PackReading) -> None:
    """Refuse a split or a column for tars, which have none."""
    if packing == "webdataset" and (reading.split, reading.column) != (None, None):
        raise InputError(f"{root} holds tars, which have no splits and no columns: leave them out.")


def _open_cells(
    places: Mapping[Cell, Path], packing: Packing, reading: PackReading
) -> tuple[dict[Cell, PackedImages], dict[str, int | None]]:
    """Open all cells, and return the label of each image that any of them has."""
    packs: dict[Cell, PackedImages] = {}
    labels: dict[str, int | None] = {}
    for cell, place in places.items():
        with _name_cell(cell):
            pack = reading.open(packing, place, labeled=not packs)
            if any(sample.id not in labels for sample in pack.samples):
                # Labels are read of the first cell, and where a cell has images that no other had.
                pack = reading.open(packing, place) if packs else pack
            if packs and packing != "webdataset" and len(pack) != len(labels):
                raise InputError(
                    f"it has {plural(len(pack), 'row')}, and other cells have {len(labels):,}; expected "
                    "the same tables in each cell."
                )
        for sample in pack.samples:
            labels.setdefault(sample.id, sample.label)
        if packs:
            pack.share_ids(next(iter(packs.values())))
        packs[cell] = pack
    return packs, labels


@contextlib.contextmanager
def _name_cell(cell: Cell) -> Iterator[None]:
    """Put the name of a cell before errors, whose tars are called alike in all cells."""
    try:
        yield
    except ShiftproofError as error:
        error.args = (f"{cell}: {error}",)
        raise
