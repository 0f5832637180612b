"""Find and open datasets of images without boxes and label maps, by layout."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.classes import Classes, LabelSet
from shiftproof.counts import pluralize
from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.coco_files import is_label_map
from shiftproof.data.disk import find_images, list_files, shorten
from shiftproof.data.found import FoundDataset, Part, Request
from shiftproof.data.images.cell_folders import find_first_cell
from shiftproof.data.images.corrupted import CorruptedTree
from shiftproof.data.images.corrupted_arrays import CorruptedArrays
from shiftproof.data.images.csv_table import ImageTable
from shiftproof.data.images.folder import ImageFolder
from shiftproof.data.images.packed_tree import PackedTree, find_packing
from shiftproof.data.images.parquet import list_parquet_splits
from shiftproof.data.images.rows import RowImages, choose_label, read_class_names
from shiftproof.data.images.saved import list_splits
from shiftproof.data.images.tables import TABLE_READERS
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
from shiftproof.io.tars import open_tar


@dataclass(frozen=True)
class ImageOptions:
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


_DESCRIBED_MEMBERS = 100
"""Number of members of a tar from which its content is described."""


def find_tars(request: Request) -> FoundDataset:
    """Find the tars of a folder, or the specified tar."""
    path = request.path
    root = path.parent if path.is_file() else path
    part = describe_tars("tars", TarFiles.find(path))
    return FoundDataset(root, request.layout, path, (part,))


def describe_tars(title: str, tars: TarFiles) -> Part:
    """Return the part for some tars, with a description of the samples in the first one."""
    names = tuple(tars.locations)
    try:
        with open_tar(tars.locations[names[0]], names[0]) as source:
            first = itertools.islice(source.entries(), _DESCRIBED_MEMBERS)
            suffixes = Counter(entry.suffix for entry in first if entry.info.isreg())
    except BrokenFileError as error:
        return Part(title, "", (".",), names, details=f"; {error}")
    shown = shorten(show_name(f".{suffix}") for suffix, _ in suffixes.most_common())
    return Part(title, "", (".",), names, details=f"; the first holds {shown or 'nothing'}")


def find_packed_tree(request: Request) -> FoundDataset:
    """Find the tars or tables of all cells of a -C tree; at most one of them is opened."""
    path = request.path
    first = find_first_cell(path)
    assert first is not None  # the layout was recognized by it
    if find_packing(first) == "webdataset":
        part = describe_tars("tars", TarFiles.find(path))
    else:
        names = sorted(name for name in list_files(path) if name.endswith((".arrow", ".parquet")))
        part = Part("tables", "", (".",), tuple(names))
    return FoundDataset(path, request.layout, path, (part,))


def find_rows(request: Request) -> FoundDataset:
    """Find the splits of a dataset whose images are rows of tables."""
    path, layout, split = request.path, request.layout, request.split
    splits: list[str | None]
    if layout == "saved":
        splits = list(list_splits(path)) or [None]
    else:
        splits = [files.split or None for files in list_parquet_splits(path)]
    if split is not None and split not in splits:
        raise UnknownNameError.of(f"split of {path}", split, [name for name in splits if name])
    parts = []
    for name in splits if split is None else [split]:
        title = name or path.name
        try:
            data = TABLE_READERS[layout](path, name, labeled=False, column=request.column)
        except ShiftproofError as error:
            parts.append(Part(title, "", (), (), problem=error))
            continue
        ids = tuple(sample.id for sample in data.samples)
        parts.append(Part(title, "", (), ids, details=_describe_columns(data)))
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
    count = "" if names is None else f" ({pluralize(len(names), 'class')})"
    return f" in the column {show_name(data.column)}, labels in {show_name(label)}{count}"


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
    ids = tuple(sample.id for sample in ImageTable(path).samples)
    part = Part(path.name, "", (".",), ids)
    return FoundDataset(path.parent, request.layout, path, (part,))


def find_arrays(request: Request) -> FoundDataset:
    """Recognize a folder of -C arrays, which has no image files."""
    return FoundDataset(request.path, request.layout, request.path, ())


def find_image_files(request: Request) -> FoundDataset:
    """Find the images of a folder, all of them or those below one folder in it."""
    path, images = request.path, request.images
    listing = find_images(path)
    names = listing.names
    omissions = _describe_other_files(listing.other_counts)
    folder = "."
    if images is not None:
        if not images.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{images} is not below {path}; give a folder in it.")
        folder = images.resolve().relative_to(path.resolve()).as_posix()
    elif request.layout == "plain":
        _check_no_label_maps(path, names)
    if folder != ".":
        inside = tuple(name for name in names if name.startswith(f"{folder}/"))
        omissions.append(f"{pluralize(len(names) - len(inside), 'image')} outside of {folder}/")
        names = inside
    omissions += [f"{link}: a link to images that are listed already" for link in listing.links]
    omissions += [f"{output}/: an output of shiftproof" for output in listing.outputs]
    part = Part(path.name or str(path), "", (folder,), names)
    return FoundDataset(
        path,
        request.layout,
        path,
        (part,),
        tuple(omissions),
        listing=listing if folder == "." else None,
    )


def _explain_no_data(path: Path) -> str:
    if path.suffix.lower() in (".gz", ".tgz", ".zip", ".7z"):
        return f"{path} is an archive; unpack it and give the folder."
    return f"{path} is a file of an unknown kind; expected images or a dataset."


def _describe_other_files(counts: Mapping[str, int]) -> list[str]:
    """Describe the files of a plain folder that are not images, from their counts by suffix."""
    if not counts:
        return []
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count} {suffix}" for suffix, count in ranked[:5])
    total = sum(counts.values())
    return [
        f"{pluralize(total, 'file that is not an image', 'files that are not images')} ({shown})"
    ]


def _check_no_label_maps(root: Path, names: Sequence[str]) -> None:
    """Refuse a folder with photographs and label maps of the same names, which is ambiguous.

    Raises:
        InputError: the folder has such label maps.
    """
    folders = {name.rpartition("/")[0] for name in names}
    if not any(is_label_map(part) for folder in folders for part in folder.split("/")):
        return
    photographs: dict[tuple[str, str], str] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        if is_label_map("/".join(parts[:-1])):
            continue
        for level in range(len(parts) - 1):
            photographs.setdefault(_make_key(parts, level), "/".join(parts[: level + 1]))
    paired: Counter[tuple[str, str]] = Counter()
    total: Counter[str] = Counter()
    for name in names:
        parts = PurePosixPath(name).parts
        for level in range(len(parts) - 1):
            if is_label_map(parts[level]) and not is_label_map("/".join(parts[:level])):
                folder = "/".join(parts[: level + 1])
                total[folder] += 1
                if (photo := photographs.get(_make_key(parts, level))) is not None:
                    paired[photo, folder] += 1
                break
    for (photo, folder), count in paired.most_common(1):
        if 2 * count >= total[folder]:
            raise InputError(
                f"{root}: {folder}/ holds images of the same names as {photo}/: label maps, or more "
                f"photographs? Give {root / photo} alone, or the folder as images (--images "
                f"{photo}), or all of it (--images .)."
            )


def _make_key(parts: Sequence[str], level: int) -> tuple[str, str]:
    """Return the common key of a photograph and its label map.

    It is the path above the folder at ``level``, and the path below it without ending.
    """
    stem = PurePosixPath(*parts[level + 1 :]).with_suffix("").as_posix()
    for ending in ("_mask", "_masks", "_seg", "_label", "_labels", "_gt", "_depth", "-mask"):
        stem = stem.removesuffix(ending)
    return "/".join(parts[:level]), stem


# ---------------------------------------------------------------- opening


def open_tars(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Open webdataset tars."""
    return TarData(
        found.address or found.source,
        options.model_classes,
        class_map=options.class_map,
        labeled=options.labeled,
        label_key=options.label_key,
    )


def open_rows(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Open a saved dataset, or Parquet files."""
    return TABLE_READERS[found.layout](
        found.source,
        options.split,
        options.model_classes,
        class_map=options.class_map,
        labeled=options.labeled,
        label_key=options.label_key,
        column=None if options.images is None else str(options.images),
    )


def open_image(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Refuse a single image.

    Raises:
        InputError: always.
    """
    path = found.source
    raise InputError(f"{path} is an image; expected a folder of images: give {path.parent}.")


def open_table(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Open a CSV file."""
    return ImageTable(
        found.source, options.model_classes, class_map=options.class_map, labeled=options.labeled
    )


def open_corrupted_tree(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Open a -C tree."""
    return CorruptedTree(
        found.source,
        options.classes,
        class_map=options.class_map,
        labeled=options.labeled,
        clean=options.clean,
    )


def open_packed_tree(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Open a -C tree of tars or tables."""
    return PackedTree(
        found.source,
        options.model_classes,
        class_map=options.class_map,
        labeled=options.labeled,
        clean=options.clean,
        split=options.split,
        column=None if options.images is None else str(options.images),
        label_key=options.label_key,
    )


def open_corrupted_arrays(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Open -C arrays.

    Raises:
        InputError: a class map was given, but the labels are numbers.
    """
    if options.class_map is not None:
        raise InputError(f"{found.source} has its labels as numbers, so a class map has no effect.")
    return CorruptedArrays(
        found.source, options.model_classes, labeled=options.labeled, clean=options.clean
    )


def open_folder(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Open a plain folder of images."""
    return ImageFolder(
        found.source / found.folders[0],
        options.classes,
        class_map=options.class_map,
        labeled=options.labeled,
        only=found.listing,
    )
