"""Opening datasets of images, with or without labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from shiftproof.classes import Classes, LabelSet, to_classes
from shiftproof.counts import pluralize
from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.boxes import DetectionData
from shiftproof.data.detection.opening import open_detection_data
from shiftproof.data.disk import find_counterparts, list_folders
from shiftproof.data.find import find_dataset, find_plain
from shiftproof.data.found import FoundDataset, Request
from shiftproof.data.images.cell_folders import (
    find_cells,
    find_first_cell,
    list_tree_cells,
)
from shiftproof.data.images.cells import CorruptedData
from shiftproof.data.images.corrupted import CorruptedTree
from shiftproof.data.images.corrupted_arrays import is_corrupted_arrays, list_array_cells
from shiftproof.data.images.demo import DemoPhotographs
from shiftproof.data.images.folder import FolderLabels, ImageFolder
from shiftproof.data.images.image_layouts import ImageOptions
from shiftproof.data.images.packed_tree import PackedTree, check_packed_tree, find_packing
from shiftproof.data.images.rows import RowImages, choose_label
from shiftproof.data.layouts import LAYOUTS, recognize_layout
from shiftproof.data.presence import check_presence, check_source, is_address
from shiftproof.data.segmentation.dataset import SegmentationData, open_segmentation_data
from shiftproof.errors import InputError, LabelError
from shiftproof.io.urls import redact_urls
from shiftproof.types import Cell


def open_data(
    source: str | Path | ImageData,
    *,
    classes: Classes | LabelSet | Iterable[str] | None,
    class_map: Mapping[str, str] | None = None,
    labeled: bool | None = None,
    clean: str | Path | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    label_key: str | None = None,
) -> ImageData:
    """Open a dataset of images: "demo", a folder, a CSV file, a -C tree, -C arrays or packed files.

    The layout is recognized by :func:`~shiftproof.data.find_dataset`, as for all verbs. A folder
    whose subfolders are all named after classes is read as class folders, whatever other files it
    has. The attribute ``omissions`` of the result lists what is not used.

    Args:
        source: "demo" for the 20 demo photographs (unless a file or folder has that name); a folder
            with one folder per class, or flat; a ``.csv`` with rows ``path,label``; a -C tree
            ``corruption/severity/class/file``, opened as a :class:`CorruptedTree`, or with tars or
            tables in each severity, as a :class:`PackedTree`; ``.npy`` files
            like those of CIFAR-10-C or MNIST-C, as :class:`CorruptedArrays`; the photographs of a
            dataset with boxes, without labels; webdataset tars, also by a brace pattern or a URL,
            as :class:`TarData`; a folder saved by ``datasets``, as :class:`SavedDataset`; Parquet
            files with a column of images, as :class:`ParquetImages`; or a dataset, which is
            returned itself after checking that its labels fit ``classes``.
        classes: the model's classes or a list of their names, among which labels are looked up; or
            the label set of a published dataset with a subset of them; None for no labels.
        class_map: from folder name or label to class, for names that the model does not have.
        labeled: None reads labels if there are any; False ignores them; True requires them.
        clean: the clean images of a -C tree or -C arrays.
        split: which part of a dataset that has several.
        images: the folder of the images, if several are possible; for tables, the image column.
        root: for YOLO, the folder of the data, overriding the YAML file.
        label_key: the source of the label in tars (a member's suffix, or a field of the JSON) or
            tables (a column), if it differs from the usual one.

    Raises:
        InputError: no such dataset, no images, or an ambiguous layout.
        LabelError: labels or class folders that the model does not know.
        MissingExtraError: "demo" without the extra that installs the photographs.
    """
    known = classes if isinstance(classes, LabelSet) else to_classes(classes)
    options = ImageOptions(known, class_map, labeled, clean, split, images, root, label_key)
    if isinstance(source, ImageData):
        given = (class_map, labeled, clean, split, images, root, label_key)
        if any(option is not None for option in given):
            raise InputError(
                "The dataset is open already: give class_map, labeled, clean, split, images, root "
                "and label_key where it is opened."
            )
        if options.model_classes is not None:
            check_labels(source, options.model_classes)
        return source
    check_source(source)
    if _is_demo(source):
        _check_demo(source, options)
        return DemoPhotographs(options.model_classes)
    return _open(source if is_address(source) else Path(source), options)


def check_data(
    source: str | Path,
    *,
    class_map: Mapping[str, str] | None = None,
    labeled: bool | None = None,
    clean: str | Path | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    label_key: str | None = None,
) -> None:
    """Refuse data that cannot be opened with any classes, before a model is loaded.

    Only the names of files and folders are read, no images. Arguments as for :func:`open_data`.

    Raises:
        InputError, BrokenFileError, UnknownNameError: as for :func:`open_data`.
    """
    check_source(source)
    options = ImageOptions(None, class_map, labeled, clean, split, images, root, label_key)
    if _is_demo(source):
        _check_demo(source, options)
        return
    tree = None if is_address(source) else _recognize_tree(Path(source), clean)
    if tree is not None:
        # Opening a tree would list the images of all cells.
        _check_options(tree, str(source), options)
        _check_tree(Path(source), tree, options)
        return
    try:
        name = _check_openable(_find(source, options), options)
    except InputError:
        # If all folders are named after classes of the model, other files do not matter.
        is_excluded = labeled is False or split is not None or root is not None
        if is_excluded or not _can_be_plain(Path(source), images):
            raise
        name = "plain"
    _check_options(name, str(source), options)


_TREE_LAYOUTS = ("corrupted tree", "packed tree")


def _recognize_tree(path: Path, clean: str | Path | None) -> str | None:
    """Return the layout of a -C tree; None for other data.

    A tree without a known corruption and without a manifest looks like class folders. It is a tree
    where its clean images are given, which nothing else has, and each folder holds severities.
    """
    layout = recognize_layout(path)
    if layout in _TREE_LAYOUTS:
        return layout
    if clean is None or layout != "plain" or not _has_only_cells(path, clean):
        return None
    folders, _ = find_cells(path, Path(clean))
    is_packed = find_packing(next(iter(folders.values()))) is not None
    return "packed tree" if is_packed else "corrupted tree"


def _has_only_cells(path: Path, clean: str | Path) -> bool:
    """Return whether a folder has severities 1 to 5 in each of its folders, beside clean images."""
    if not path.is_dir():
        return False
    try:
        _, ignored_folders = find_cells(path, Path(clean))
    except InputError:
        return False
    return not ignored_folders


def _check_tree(path: Path, layout: str, options: ImageOptions) -> None:
    """Refuse what a tree of tars or tables does not have; of image files, only names are options."""
    if layout == "packed tree":
        check_packed_tree(
            path,
            clean=options.clean,
            split=options.split,
            column=None if options.images is None else str(options.images),
            label_key=None if options.labeled is False else options.label_key,
        )


def _check_openable(found: FoundDataset, options: ImageOptions) -> str:
    """Open without labels what can be opened from its file names alone, and return its layout."""
    if found.layout not in ("webdataset", "plain"):
        open_images = LAYOUTS[found.layout].open_images or _open_photographs
        data = open_images(found, dataclasses.replace(options, labeled=False))
        if isinstance(data, RowImages) and options.label_key and options.labeled is not False:
            choose_label(data.features, options.label_key, str(found.source))
    return found.layout


def _can_be_plain(path: Path, images: str | Path | None) -> bool:
    """Return whether a folder can be read as class folders."""
    if not path.is_dir() or not list_folders(path):
        return False
    try:
        find_plain(path, images=path if images is None else images)
    except InputError:
        return False
    return True


def _is_demo(source: str | Path) -> bool:
    """Return whether a source is neither a path nor an address, which leaves only "demo"."""
    return not Path(source).exists() and not is_address(source)


def _check_demo(source: str | Path, options: ImageOptions) -> None:
    """Refuse missing sources, and options that the demo photographs do not take."""
    given = (options.split, options.images, options.root, options.label_key)
    if any(option is not None for option in given):
        raise InputError(
            f"{source} has no parts to choose from: leave out split, images, root and label key."
        )
    check_presence(source, "images")
    if options.class_map is not None or options.labeled is not None:
        raise InputError(
            "The demo photographs have labels: leave out the class map and whether to read labels."
        )


def find_copies(source: str | Path, clean: str | Path | None = None) -> tuple[Cell, ...] | None:
    """Return the cells of corrupted copies at a path, in order; None for other data.

    This needs no classes and reads no images. For arrays, the clean cell may be included.

    Raises:
        InputError: a -C tree with a severity outside 1 to 5, or a cell that occurs twice.
    """
    path = Path(source)
    if not path.is_dir():
        return None
    if _recognize_tree(path, clean) is not None:
        return list_tree_cells(path, clean)
    return list_array_cells(path) if recognize_layout(path) == "corrupted arrays" else None


def open_copies(root: str | Path, data: ImageData) -> CorruptedData:
    """Open the corrupted copies of a dataset with annotations, without labels.

    Args:
        root: a -C tree of image files, tars or tables.
        data: the dataset.

    Raises:
        InputError: no such tree, or a tree with none of the images.
        BrokenFileError: a damaged tar or table.
    """
    folders, _ = find_cells(Path(root), Path(root, "clean"))
    packing = find_packing(next(iter(folders.values())))
    tree: CorruptedData
    if packing is None:
        tree = CorruptedTree(root, labeled=False)
    elif packing == "webdataset":
        tree = PackedTree(root, labeled=False)
    else:
        # The ids of rows start with the split.
        split = data.samples[0].id.rpartition("/")[0]
        tree = PackedTree(root, labeled=False, split=split or None)
    pair_copies(data, tree)
    return tree


def pair_copies(data: ImageData, tree: CorruptedData) -> dict[str, str | None]:
    """Return the corrupted copy of each image, which may have another suffix; None if missing.

    Raises:
        InputError: the tree has none of the images.
    """
    names = [sample.id for sample in data.samples]
    copies = find_counterparts(names, [sample.id for sample in tree.samples])
    if not any(copies.values()):
        raise InputError(
            f"{tree.name} has none of the {pluralize(len(names), 'image')} of {data.name}; expected the "
            f"same paths below each severity, such as {names[0]}."
        )
    return copies


def _open(source: str | Path, options: ImageOptions) -> ImageData:
    """Find the layout of a path or an address, and open it."""
    found = _find(source, options)
    _check_options(found.layout, found.address or str(found.source), options)
    open_images = LAYOUTS[found.layout].open_images or _open_photographs
    try:
        data = open_images(found, options)
    except LabelError as error:
        path = Path(source)
        if found.layout != "plain" or not _has_only_cells(path, path / "clean"):
            raise
        raise LabelError(
            f"{error} If {path} is a -C tree of corruptions that shiftproof does not know, give its clean "
            "images (--clean, clean=)."
        ) from error
    data.omissions = (*data.omissions, *found.omissions, *found.notes)
    return data


def _check_options(name: str, source: str, options: ImageOptions) -> None:
    """Refuse options that a layout does not take."""
    layout, path = LAYOUTS[name], redact_urls(source)
    if options.clean is not None and "clean" not in layout.options:
        raise InputError(
            f"{path} is not a -C tree (corruption/severity/class/file), so it has no clean images."
        )
    if isinstance(options.classes, LabelSet) and "label_set" not in layout.options:
        raise InputError(
            f"{path} has no class folders, which the label set {options.classes.title} needs; "
            "give its classes instead."
        )
    if options.label_key is not None and "label_key" not in layout.options:
        raise InputError(
            f"{path} is {layout.title}; only tars, saved datasets and Parquet files have a label key."
        )


def _find(source: str | Path, options: ImageOptions) -> FoundDataset:
    split, images, root = options.split, options.images, options.root
    path = Path(source)
    if is_address(source):
        return find_dataset(source, split=split, images=images, root=root)
    tree = None if options.clean is None else _recognize_tree(path, options.clean)
    if tree is not None and recognize_layout(path) != tree:
        found = LAYOUTS[tree].find(Request(path, tree))
        return dataclasses.replace(found, title=LAYOUTS[tree].title)
    if options.labeled is False or not path.is_dir() or not _are_class_folders(path, options):
        found_split = None if LAYOUTS[recognize_layout(path)].has_own_splits else split
        return find_dataset(path, split=found_split, images=images, root=root)
    if split is not None or root is not None:
        raise InputError(f"{path} holds only class folders: leave out split and root.")
    return find_plain(path, images=path if images is None else images)


def _are_class_folders(path: Path, options: ImageOptions) -> bool:
    """Return whether all folders are named after classes, so that other files do not matter."""
    if options.classes is None or find_first_cell(path) or is_corrupted_arrays(path):
        return False
    labels = FolderLabels(
        options.classes, class_map=options.class_map, labeled=options.labeled, where=str(path)
    )
    return labels.knows_all([folder.name for folder in list_folders(path)])


def _open_photographs(found: FoundDataset, options: ImageOptions) -> ImageData:
    """Open the photographs of data with boxes or label maps, without labels."""
    data: DetectionData | SegmentationData
    if LAYOUTS[found.layout].task == "segmentation":
        data = open_segmentation_data(found.source, split=options.split)
    else:
        data = open_detection_data(
            found.source, split=options.split, images=options.images, root=options.root
        )
    if options.classes is None and not options.labeled:
        return data
    if options.labeled or options.class_map is not None:
        raise LabelError(
            f"{found.source} is {found.title} data, whose images have no labels. Measure without "
            "labels (--unlabeled, labeled=False)."
        )
    return ImageFolder(data.root, only=[sample.id for sample in data.samples])


def check_labels(data: ImageData, classes: Classes) -> None:
    """Check that the labels of a dataset fit the classes of a model.

    Raises:
        LabelError: a label outside the model's classes, or a dataset opened with other classes.
    """
    for sample in data.samples:
        if sample.label is not None and not 0 <= sample.label < len(classes):
            raise LabelError(
                f"{data.name}: {sample.id} has the label {sample.label}, but the model has "
                f"{pluralize(len(classes), 'class')}: expected 0 to {len(classes) - 1}."
            )
    own = data.classes
    if own is None or own.is_numbered or classes.is_numbered or own.names == classes.names:
        return
    raise LabelError(
        f"{data.name} was opened with the classes of {own.title} ({len(own)}), but the model has "
        f"those of {classes.title} ({len(classes)}). Open it with the model's classes, or with a "
        "label set and measure model.restrict(label set)."
    )
