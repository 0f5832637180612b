"""Arrays of precomputed corrupted images, such as CIFAR-10-C and MNIST-C."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from shiftproof.classes import Classes
from shiftproof.corruptions import CORRUPTIONS
from shiftproof.counts import pluralize
from shiftproof.data.disk import list_folders, shorten
from shiftproof.data.images.cells import CorruptedData, canonicalize_corruption, order_cells
from shiftproof.data.images.folder import name_folder
from shiftproof.errors import BrokenFileError, InputError, LabelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.arrays import ArrayFile, open_array
from shiftproof.types import CLEAN, Cell, Image, Sample, Settings

Split = Literal["test", "train"]

SEVERITIES = 5
"""Severities that are concatenated in each array of CIFAR-10-C."""

_LABELS_FILE = "labels.npy"
_BLOCK = 256
"""Number of images that are read at once for a fingerprint."""

_CLEAN_NAMES = ("clean", "identity")


@final
class CorruptedArrays(CorruptedData):
    """``.npy`` files of corrupted images, which are memory-mapped.

    There are two layouts:

    - ``ROOT/<corruption>.npy`` beside ``ROOT/labels.npy``, as CIFAR-10-C and CIFAR-100-C are
      published: all images at severity 1, then all at severity 2, and so on to 5.
    - ``ROOT/<corruption>/test_images.npy`` beside ``test_labels.npy`` (or ``train_``), as MNIST-C
      is published: each corruption at a single severity, which is read as 1.

    The images of a cell are ``(N, H, W, 3)``, ``(N, H, W, 1)`` or ``(N, H, W)`` uint8 in 0..255;
    gray becomes three equal channels. The n-th image is the same in every cell, and its id is n.

    Args:
        root: the folder.
        classes: the model's classes, which the labels index; None ignores the labels.
        labeled: None reads labels if there are any; False ignores them; True requires them.
        clean: the clean images in the same order, as an array of the shape of a cell: a ``.npy``
            file, or in the second layout the folder with ``test_images.npy``. By default
            ``ROOT/clean.npy``, ``ROOT/clean`` or ``ROOT/identity`` (as in MNIST-C), if one exists.
        split: which files to read in the second layout.

    Raises:
        InputError: no such layout, or arrays with different numbers of images.
        BrokenFileError: a file that is not an array of uint8 images, or of integer labels.
        LabelError: a label outside the classes, or labels that differ between cells.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Classes | None = None,
        *,
        labeled: bool | None = None,
        clean: str | Path | None = None,
        split: Split = "test",
    ) -> None:
        self.root = Path(root)
        if labeled and classes is None:
            raise LabelError(f"{root}: labels need classes; none were given.")
        if split not in ("test", "train"):
            raise UnknownNameError.of("split", split, ["test", "train"])
        if not self.root.is_dir():
            raise InputError(f"{root} is not a folder; expected a folder of corrupted arrays.")
        clean_file = _find_clean_file(self.root, clean, split)
        is_stacked = (self.root / _LABELS_FILE).is_file()
        self._ranges, labels = (
            _read_stacked(self.root, clean_file)
            if is_stacked
            else _read_folders(self.root, split, clean_file)
        )
        count = len(labels)
        if clean_file is not None:
            self._ranges[CLEAN] = _RowRange(open_array(clean_file), 0, count)
        self.severities = "stacked in each file" if is_stacked else "one, without a number: 1"
        _check_shapes(self._ranges, count)
        if classes is None or labeled is False:
            samples = [Sample(f"{number:06}") for number in range(count)]
        else:
            _check_range(labels, classes, self.root)
            samples = [Sample(f"{number:06}", int(label)) for number, label in enumerate(labels)]
        super().__init__(name_folder(self.root), samples, classes)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The existing corrupted cells: the table's corruptions first, in its order."""
        return order_cells(self._ranges)

    @property
    def has_clean(self) -> bool:
        """Whether there are clean images."""
        return CLEAN in self._ranges

    def cell_samples(self, cell: Cell) -> tuple[Sample, ...]:
        """Return all samples, which every cell has; see :class:`CorruptedData`."""
        if cell not in self._ranges:
            raise self._make_cell_error(cell)
        return self.samples

    def read_cell(self, sample: Sample, cell: Cell) -> Image:
        """Return the image of a cell as ``(H, W, 3)`` uint8 RGB; see :class:`CorruptedData`."""
        if cell not in self._ranges:
            raise BrokenFileError(f"{sample.id}: {self.name} has no {cell}.")
        rows = self._ranges[cell]
        try:
            (image,) = rows.array.read(rows.start + int(sample.id), 1)
        except BrokenFileError as error:
            raise BrokenFileError(f"{cell}: {sample.id}: {error}") from error
        if image.ndim == 2:
            image = image[:, :, None]
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image

    def content_fingerprints(self) -> list[str]:
        """Return a fingerprint of each image in all cells together.

        It covers the pixels; above 2 GB the shapes of all arrays, and the pixels of 20 images
        (``cells.FINGERPRINT_FILES``), evenly spread.
        """
        total = sum(math.prod(rows.array.shape[1:]) for rows in self._ranges.values()) * len(self)
        step = self._choose_step(total)
        parts: list[list[str]] = [[] for _ in self.samples]
        for cell, rows in sorted(self._ranges.items()):
            for image_parts in parts:
                image_parts.append(f"{cell} {rows.array.shape}")
            for index, image in self._read_rows(rows, step):
                parts[index].append(files.fingerprint([image.tobytes()]))
        return [files.fingerprint(map(str.encode, image_parts)) for image_parts in parts]

    def _read_rows(self, rows: _RowRange, step: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield index and image of every ``step``-th sample, reading blocks of them if possible."""
        numbers = [int(sample.id) for sample in self.samples]
        is_contiguous = step == 1 and numbers == list(range(len(numbers)))
        for index in range(0, len(numbers), _BLOCK if is_contiguous else step):
            count = min(_BLOCK, len(numbers) - index) if is_contiguous else 1
            yield from enumerate(rows.array.read(rows.start + numbers[index], count), index)

    def settings(self) -> Settings:
        """Return the settings for the records, including the layout of the severities."""
        return {
            **super().settings(),
            "fingerprint of": "pixels; of more than 2 GB shapes, and pixels of some images",
            "severities": self.severities,
            "corruptions not in the table": list(self.other_corruptions),
        }


@dataclass(frozen=True)
class _RowRange:
    """The images of a cell: rows of ``array`` from ``start``; it must have ``expected`` rows."""

    array: ArrayFile
    start: int
    expected: int


def is_corrupted_arrays(root: Path) -> bool:
    """Return whether a folder is like CIFAR-10-C or MNIST-C: arrays named after corruptions."""
    if (root / _LABELS_FILE).is_file():
        return any(canonicalize_corruption(path.stem) in CORRUPTIONS for path in root.glob("*.npy"))
    return any(
        (folder / f"{split}_images.npy").is_file()
        for folder in list_folders(root)
        if canonicalize_corruption(folder.name) in CORRUPTIONS
        for split in ("test", "train")
    )


def list_array_cells(root: Path) -> tuple[Cell, ...]:
    """Return the cells of arrays in order, from the file names alone."""
    is_stacked = (root / _LABELS_FILE).is_file()
    names = (
        [path.stem for path in root.glob("*.npy") if path.name != _LABELS_FILE]
        if is_stacked
        else [path.parent.name for path in root.glob("*/*_images.npy")]
    )
    severities = range(1, SEVERITIES + 1 if is_stacked else 2)
    return order_cells(
        {Cell(canonicalize_corruption(name), severity) for name in names for severity in severities}
    )


def _read_stacked(root: Path, clean: Path | None) -> tuple[dict[Cell, _RowRange], NDArray[Any]]:
    """Return the cells of one file per corruption, and the labels of one severity."""
    labels = _read_labels(root / _LABELS_FILE)
    count, remainder = divmod(len(labels), SEVERITIES)
    if remainder or count == 0:
        raise InputError(
            f"{root / _LABELS_FILE}: expected labels for {SEVERITIES} severities, got {len(labels)}."
        )
    by_severity = labels.reshape(SEVERITIES, count)
    if (by_severity != by_severity[0]).any():
        raise LabelError(
            f"{root / _LABELS_FILE}: expected the labels of the same images {SEVERITIES} times, once for "
            "each severity; they differ."
        )
    found = [path for path in root.glob("*.npy") if path.is_file() and path.name != _LABELS_FILE]
    paths = _group_by_corruption({path: path.stem for path in found}, clean)
    if not paths:
        raise InputError(
            f"{root} holds no arrays beside {_LABELS_FILE}; expected <corruption>.npy."
        )
    arrays = {name: open_array(path) for name, path in paths.items()}
    ranges = {
        Cell(name, 1 + index): _RowRange(array, index * count, len(labels))
        for name, array in arrays.items()
        for index in range(SEVERITIES)
    }
    return ranges, by_severity[0]


def _read_folders(
    root: Path, split: str, clean: Path | None
) -> tuple[dict[Cell, _RowRange], NDArray[Any]]:
    """Return the cells of one folder per corruption, and the labels that they share."""
    found = [folder / f"{split}_images.npy" for folder in list_folders(root)]
    paths = _group_by_corruption(
        {path: path.parent.name for path in found if path.is_file()}, clean
    )
    if not paths:
        raise InputError(
            f"{root} holds no corrupted arrays: expected {_LABELS_FILE} and <corruption>.npy, or "
            f"<corruption>/{split}_images.npy and {split}_labels.npy."
        )
    label_files = [path.with_name(f"{split}_labels.npy") for path in paths.values()]
    labels = _read_labels(label_files[0])
    for label_file in label_files[1:]:
        if not np.array_equal(_read_labels(label_file), labels):
            raise LabelError(
                f"{label_file}: expected the labels of {label_files[0]}, since the n-th image is the same in "
                "all folders; they differ."
            )
    ranges = {
        Cell(name, 1): _RowRange(open_array(path), 0, len(labels)) for name, path in paths.items()
    }
    return ranges, labels


def _group_by_corruption(names: Mapping[Path, str], clean: Path | None) -> dict[str, Path]:
    """Return the arrays by the names of their corruptions, without that of the clean images."""
    by_corruption: dict[str, Path] = {}
    for path, name in sorted(names.items()):
        if clean is not None and path.resolve() == clean.resolve():
            continue
        corruption = canonicalize_corruption(name)
        if corruption in by_corruption:
            raise InputError(f"{corruption} occurs twice: {by_corruption[corruption]} and {path}.")
        by_corruption[corruption] = path
    return by_corruption


def _find_clean_file(root: Path, clean: str | Path | None, split: str) -> Path | None:
    if clean is None:
        candidates = [root / "clean.npy"]
        candidates += [root / name / f"{split}_images.npy" for name in _CLEAN_NAMES]
        return next((path for path in candidates if path.is_file()), None)
    path = Path(clean)
    path = path / f"{split}_images.npy" if path.is_dir() else path
    if not path.is_file():
        raise InputError(
            f"{clean} holds no clean images; expected a .npy file with them in the order of the "
            f"corrupted ones, or a folder with {split}_images.npy."
        )
    return path


def _read_labels(path: Path) -> NDArray[Any]:
    array = open_array(path)
    if len(array.shape) != 1 or not np.issubdtype(array.dtype, np.integer):
        raise BrokenFileError(
            f"{path}: expected one whole number per image, got shape {array.shape}, {array.dtype}."
        )
    return array.read(0, array.shape[0])


def _check_range(labels: NDArray[Any], classes: Classes, root: Path) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise LabelError(
            f"{root}: expected labels of 0 to {len(classes) - 1}, the model's classes, got {low} to "
            f"{high}."
        )


def _check_shapes(ranges: Mapping[Cell, _RowRange], count: int) -> None:
    """Check that every array has images, as many as there are labels, and all of the same size."""
    if count == 0:
        raise InputError("Expected at least one image, got none.")
    sizes: dict[tuple[int, ...], dict[str, None]] = {}
    for rows in ranges.values():
        array = rows.array
        is_shaped = len(array.shape) == 3 or (len(array.shape) == 4 and array.shape[3] in (1, 3))
        if array.dtype != np.uint8 or not is_shaped or 0 in array.shape[1:]:
            raise BrokenFileError(
                f"{array.path}: expected uint8 images (N, H, W, 3), (N, H, W, 1) or (N, H, W), got "
                f"shape {array.shape}, {array.dtype}."
            )
        if array.shape[0] != rows.expected:
            raise InputError(
                f"{array.path}: expected {pluralize(rows.expected, 'image')}, one per label, got "
                f"{array.shape[0]:,}."
            )
        sizes.setdefault(array.shape[1:3], {})[str(array.path)] = None
    if len(sizes) > 1:
        shown = "; ".join(f"{size}: {shorten(paths, 2)}" for size, paths in sizes.items())
        raise InputError(f"Expected images of one size in all arrays, got {shown}.")
