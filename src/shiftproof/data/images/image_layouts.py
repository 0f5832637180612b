"""Find and open datasets of images without boxes and label maps, by layout."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.classes import Classes, LabelSet
from shiftproof.counts import plural
from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.coco_files import is_label_map
from shiftproof.data.disk import all_files, find_images, holds_packed, shorten
from shiftproof.data.found import FoundDataset, Part, Request
from shiftproof.data.images.cell_folders import find_first_cell
from shiftproof.data.images.corrupted import CorruptedTree
from shiftproof.data.images.corrupted_arrays import CorruptedArrays
from shiftproof.data.images.csv_table import ImageTable
from shiftproof.data.images.folder import ImageFolder
from shiftproof.data.images.packed_tree import PackedTree, find_packing
from shiftproof.data.images.parquet import ParquetImages, is_parquet, list_parquet_splits
from shiftproof.data.images.rows import RowImages, choose_label, read_class_names
from shiftproof.data.images.saved import SavedDataset, list_splits
from shiftproof.data.images.tars import TarData, TarFiles
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    LabelError,
    ShiftproofError,
    UnknownNameError,
)
from shiftproof.io.border import show_name
from shiftproof.io.images import is_image, read_size
from shiftproof.io.tars import is_tar, open_tar


@dataclass(frozen=True)
class ImageReading:
    """Options for reading images and labels; see :func:`~shiftproof.data.open_data`."""

    classes: Classes | LabelSet | None
    class_map: Mapping[str, str] | None
    labeled: bool | None
    clean: str | Path | None
    split: str | None
    images: str | Path | None
    root: str | Path | None
    label_key: str | None

    @property
    def model_classes(self) -> Classes | None:
        """The classes; for a label set, its classes."""
        return self.classes.classes if isinstance(self.classes, LabelSet) else self.classes


# ---------------------------------------------------------------- images in tars and tables


def holds_tars(root: Path) -> bool:
    """Return whether a folder has tars and no image files."""
    return holds_packed(root, is_tar)


def holds_parquet(root: Path) -> bool:
    """Return whether a folder has Parquet files and no image files."""
    return holds_packed(root, is_parquet)


_LOOKED_AT = 100
"""Number of members of a tar from which the contents of its samples are described."""


def find_tars(request: Request) -> FoundDataset:
    """Find the tars of a folder, or the specified tar."""
    path = request.path
    root = path.parent if path.is_file() else path
    part = describe_tars("tars", TarFiles.find(path))
    return FoundDataset(root, request.layout, path, (part,))


def describe_tars(title: str, tars: TarFiles) -> Part:
    """Return the part for some tars, with a description of the samples in the first one."""
    name, location = next(iter(tars.places.items()))
    try:
        with open_tar(location, name) as source:
            first = itertools.islice(source.entries(), _LOOKED_AT)
            kinds = Counter(entry.suffix for entry in first if entry.info.isreg())
    except BrokenFileError as error:
        return Part(title, "", (".",), tuple(tars.places), about=f"; {error}")
    shown = shorten(show_name(f".{kind}") for kind, _ in kinds.most_common())
    return Part(
        title, "", (".",), tuple(tars.places), about=f"; the first holds {shown or 'nothing'}"
    )


def find_packed_tree(request: Request) -> FoundDataset:
    """Find the tars or tables of all cells of a -C tree; at most one of them is opened."""
    path = request.path
    first = find_first_cell(path)
    assert first is not None  # the layout was recognized by it
    if find_packing(first) == "webdataset":
        part = describe_tars("tars", TarFiles.find(path))
    else:
        names = sorted(name for name in all_files(path) if name.endswith((".arrow", ".parquet")))
        part = Part("tables", "", (".",), tuple(names))
    return FoundDataset(path, request.layout, path, (part,))


def find_rows(request: Request) -> FoundDataset:
    """Find the splits of a dataset whose images are rows of tables."""
    path, layout, split = request.path, request.layout, request.split
    splits: list[str | None]
    if layout == "saved":
        splits = list(list_splits(path)) or [None]
    else:
        splits = [found.split or None for found in list_parquet_splits(path)]
    if split is not None and split not in splits:
        raise UnknownNameError.of(f"split of {path}", split, [name for name in splits if name])
    parts = []
    for name in splits if split is None else [split]:
        title = name or path.name
        try:
            kind = SavedDataset if layout == "saved" else ParquetImages
            data = kind(path, name, labeled=False, column=request.column)
        except ShiftproofError as error:
            parts.append(Part(title, "", (), (), problem=error))
            continue
        ids = tuple(sample.id for sample in data.samples)
        parts.append(Part(title, "", (), ids, about=_describe_columns(data)))
    root = path if path.is_dir() else path.parent
    return FoundDataset(root, layout, path, tuple(parts))


def _describe_columns(data: RowImages) -> str:
    """Describe which columns contain images and labels."""
    try:
        label = choose_label(data.features, None, data.name)
    except LabelError as error:
        return f" in the column {show_name(data.column)}; {str(error).removesuffix('.')}"
    if label is None:
        return f" in the column {show_name(data.column)}, without labels"
    names = read_class_names(data.features[label])
    kinds = "" if names is None else f" ({plural(len(names), 'class')})"
    return f" in the column {show_name(data.column)}, labels in {show_name(label)}{kinds}"


# ---------------------------------------------------------------- images without annotations


def find_image(request: Request) -> FoundDataset:
    """Recognize a single image.

    Raises:
        InputError: the file is not an image.
    """
    path = request.path
    if not (is_image(path) or read_size(path) is not None):
        raise InputError(_explain_no_data(path))
    part = Part(path.name, "", (".",), (path.name,))
    return FoundDataset(path.parent, request.layout, path, (part,))


def find_table(request: Request) -> FoundDataset:
    """Find the images listed in a CSV file."""
    path = request.path
    pictures = tuple(sample.id for sample in ImageTable(path).samples)
    part = Part(path.name, "", (".",), pictures)
    return FoundDataset(path.parent, request.layout, path, (part,))


def find_arrays(request: Request) -> FoundDataset:
    """Recognize a folder of -C arrays, which has no image files."""
    return FoundDataset(request.path, request.layout, request.path, ())


def find_image_files(request: Request) -> FoundDataset:
    """Find the images of a folder, all of them or those below one folder in it."""
    path, images = request.path, request.images
    found = find_images(path)
    names = found.names
    omissions = _name_other_files(found.kinds)
    inner = "."
    if images is not None:
        if not images.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{images} is not below {path}; give a folder in it.")
        inner = images.resolve().relative_to(path.resolve()).as_posix()
    elif request.layout == "plain":
        _check_maps(path, names)
    if inner != ".":
        chosen = tuple(name for name in names if name.startswith(f"{inner}/"))
        omissions.append(f"{plural(len(names) - len(chosen), 'image')} outside of {inner}/")
        names = chosen
    omissions += [f"{link}: a link to images that are there already" for link in found.links]
    omissions += [f"{output}/: what shiftproof has written there" for output in found.outputs]
    part = Part(path.name or str(path), "", (inner,), names)
    walk = found if inner == "." else None
    return FoundDataset(path, request.layout, path, (part,), tuple(omissions), walk=walk)


def _explain_no_data(path: Path) -> str:
    if path.suffix.lower() in (".gz", ".tgz", ".zip", ".7z"):
        return f"{path} is an archive; unpack it and give the folder."
    return f"{path} is a file of no known kind; expected images or a dataset."


def _name_other_files(kinds: Mapping[str, int]) -> list[str]:
    """Describe the files of a plain folder that are not images."""
    if not kinds:
        return []
    ranked = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{count} {kind}" for kind, count in ranked[:5])
    files = plural(sum(kinds.values()), "file that is no image", "files that are no images")
    return [f"{files} ({shown})"]


def _check_maps(root: Path, names: Sequence[str]) -> None:
    """Refuse a folder with photographs and label maps of the same names, which is ambiguous.

    Raises:
        InputError: the folder has such maps.
    """
    folders = {name.rpartition("/")[0] for name in names}
    if not any(is_label_map(part) for folder in folders for part in folder.split("/")):
        return
    photographs: dict[tuple[str, str], str] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        for at in range(len(parts) - 1):
            if not is_label_map("/".join(parts[:-1])):
                photographs.setdefault(_make_key(parts, at), "/".join(parts[: at + 1]))
    beside: Counter[tuple[str, str]] = Counter()
    total: Counter[str] = Counter()
    for name in names:
        parts = PurePosixPath(name).parts
        for at in range(len(parts) - 1):
            if is_label_map(parts[at]) and not is_label_map("/".join(parts[:at])):
                folder = "/".join(parts[: at + 1])
                total[folder] += 1
                if (photo := photographs.get(_make_key(parts, at))) is not None:
                    beside[photo, folder] += 1
                break
    for (photo, folder), count in beside.most_common(1):
        if 2 * count >= total[folder]:
            raise InputError(
                f"{root}: {folder}/ holds images of the same names as {photo}/: maps of labels, or "
                f"more photographs? Give {root / photo} alone, or the folder as images (--images "
                f"{photo}), or all of it (--images .)."
            )


def _make_key(parts: Sequence[str], at: int) -> tuple[str, str]:
    """Return the common key of a photograph and its map: parent folder, and path without endings."""
    stem = PurePosixPath(*parts[at + 1 :]).with_suffix("").as_posix()
    for ending in ("_mask", "_masks", "_seg", "_label", "_labels", "_gt", "_depth", "-mask"):
        stem = stem.removesuffix(ending)
    return "/".join(parts[:at]), stem


# ---------------------------------------------------------------- opening


def open_tars(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Open webdataset tars."""
    return TarData(
        found.address or found.source,
        reading.model_classes,
        class_map=reading.class_map,
        labeled=reading.labeled,
        label_key=reading.label_key,
    )


def open_rows(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Open a saved dataset, or Parquet files."""
    kind = SavedDataset if found.layout == "saved" else ParquetImages
    return kind(
        found.source,
        reading.split,
        reading.model_classes,
        class_map=reading.class_map,
        labeled=reading.labeled,
        label_key=reading.label_key,
        column=None if reading.images is None else str(reading.images),
    )


def open_image(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Refuse a single image.

    Raises:
        InputError: always.
    """
    path = found.source
    raise InputError(f"{path} is an image; expected a folder of images: give {path.parent}.")


def open_table(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Open a CSV file."""
    return ImageTable(
        found.source, reading.model_classes, class_map=reading.class_map, labeled=reading.labeled
    )


def open_corrupted_tree(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Open a -C tree."""
    return CorruptedTree(
        found.source,
        reading.classes,
        class_map=reading.class_map,
        labeled=reading.labeled,
        clean=reading.clean,
    )


def open_packed_tree(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Open a -C tree of tars or tables."""
    return PackedTree(
        found.source,
        reading.model_classes,
        class_map=reading.class_map,
        labeled=reading.labeled,
        clean=reading.clean,
        split=reading.split,
        column=None if reading.images is None else str(reading.images),
        label_key=reading.label_key,
    )


def open_corrupted_arrays(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Open -C arrays.

    Raises:
        InputError: a class map was given, but the labels are numbers.
    """
    if reading.class_map is not None:
        raise InputError(f"{found.source} has its labels as numbers, so a class map has no effect.")
    return CorruptedArrays(
        found.source, reading.model_classes, labeled=reading.labeled, clean=reading.clean
    )


def open_folder(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Open a plain folder of images."""
    return ImageFolder(
        found.source / found.folders[0],
        reading.classes,
        class_map=reading.class_map,
        labeled=reading.labeled,
        only=found.walk,
    )
