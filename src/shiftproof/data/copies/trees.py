"""The files of a folder to copy: images, and all others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from shiftproof.counts import pluralize
from shiftproof.data.copies.tars import check_names
from shiftproof.data.copies.writing import ImageFormat, name_output, split_cityscapes_stem
from shiftproof.data.detection.yolo import find_label_file
from shiftproof.data.disk import list_files, shorten
from shiftproof.data.find import find_dataset
from shiftproof.data.found import FoundDataset
from shiftproof.data.images.cell_folders import find_first_cell
from shiftproof.data.images.rows import RowImages, RowTable, list_image_columns
from shiftproof.data.images.saved import list_splits
from shiftproof.data.images.tables import TABLE_READERS
from shiftproof.data.layouts import LAYOUTS
from shiftproof.data.presence import check_presence
from shiftproof.data.segmentation.label_map_layouts import LABEL_MAP_LAYOUTS
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.border import show_name
from shiftproof.io.images import is_image
from shiftproof.io.tars import is_tar
from shiftproof.io.urls import redact_urls

PAIRED = ("ade20k", "voc masks", "masks")
"""Layouts whose label maps are named like their images, except for an ending."""

TEXT_SUFFIXES = frozenset(
    {".csv", ".json", ".md", ".names", ".txt", ".xml", ".yaml", ".yml"}
)  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """A folder and what is in it; names are paths below it, sorted, with ``/`` on every system.

    Attributes:
        root: the folder.
        layout: plain, cityscapes, voc, yolo, coco, webdataset, saved or parquet.
        images: the images to change; for webdataset the tars, for saved and parquet the tables.
        carried: the other files, which every copy gets; none for a plain folder.
        folders: the folders of the images.
        coco_names: for each COCO file, a mapping from its file names to images.
        omissions: a sentence for everything that is not changed, or not in the copy.
        tables: for saved and parquet, the rows of each table.
    """

    root: Path
    layout: str
    images: tuple[str, ...]
    carried: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    coco_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    omissions: tuple[str, ...] = ()
    tables: Mapping[str, RowTable] = field(default_factory=dict)

    @property
    def is_packed(self) -> bool:
        """Whether ``images`` are files with many images each."""
        return self.layout == "webdataset" or bool(self.tables)

    @cached_property
    def images_by_mask(self) -> dict[str, str]:
        """The image of each label map in layouts that pair them by name; empty in other layouts."""
        if self.layout not in PAIRED:
            return {}
        layout = LABEL_MAP_LAYOUTS[self.layout]
        by_mask: dict[str, str] = {}
        for split in layout.list_splits(self.root):
            try:
                masks = layout.find(self.root, split).masks
            except InputError:
                continue  # a split without label maps is carried over unchanged
            by_mask |= {mask: image for image, mask in masks.items()}
        return by_mask

    @cached_property
    def images_by_stem(self) -> Mapping[str, str]:
        """The images by the path, without suffix, that other files of the same image have."""
        return {_make_stem(self.layout, name): name for name in self.images}

    @cached_property
    def image_set(self) -> frozenset[str]:
        """The images as a set."""
        return frozenset(self.images)


def _make_stem(layout: str, image: str) -> str:
    path = PurePosixPath(image)
    if layout == "yolo":
        path = PurePosixPath(find_label_file(image))
    elif layout == "cityscapes":
        # Below the folders of all kinds: leftImg8bit, gtFine, disparity, ...
        return f"{'/'.join(path.parts[1:-1])}/{split_cityscapes_stem(path.stem)[0]}"
    return str(path.with_suffix(""))


def open_tree(
    source: Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
) -> Tree:
    """List the files of a source: one image or tar, or a folder in one of the known layouts.

    In a known layout the photographs are changed: those that the annotations name (COCO), in the
    folders of the splits (YOLO), or in the folders of the images (VOC, Cityscapes). All other files
    are carried over, including masks and label maps. A folder with tars and no images is webdataset.
    Arguments as for :func:`~shiftproof.data.find_dataset`; with a split, the images of the other
    splits are left out.

    Raises:
        InputError: no images, or an ambiguous layout.
        BrokenFileError: annotations that cannot be read.
    """
    source = Path(source)
    # Path has removed one of the two slashes of a URL.
    if re.match(r"[A-Za-z][A-Za-z0-9+.\-]+:/", str(source)) and not source.exists():
        raise InputError(
            f"{redact_urls(str(source))} is a URL; copies are made of an image, a folder or tars on this "
            "machine. Download it first."
        )
    check_presence(source, "copies")
    found = find_dataset(source, split=split, images=images, root=root)
    if found.layout == "image":
        return Tree(found.root, "plain", (source.name,))
    if found.layout == "webdataset" and not source.is_dir():
        return Tree(found.root, "webdataset", found.images)
    if found.layout == "packed tree":
        return _make_copies_tree(found)
    if found.layout in ("table", "corrupted arrays"):
        raise InputError(f"{source} is {found.title}; expected an image or a folder of images.")
    for part in found.parts:
        # A split whose images do not exist is left out; any other problem would make the copy wrong.
        if part.problem is not None and (found.problem is not None or not part.is_absent):
            raise part.problem
    if found.layout in TABLE_READERS:
        return _make_tables_tree(found, images)
    if found.layout in ("plain", "corrupted tree"):
        return _make_plain_tree(found)
    every_split = found if split is None else find_dataset(source, images=images, root=root)
    return _make_dataset_tree(found, set(every_split.images) - set(found.images))


def _make_plain_tree(found: FoundDataset) -> Tree:
    if not found.images:
        raise InputError(f"{found.source} holds no images there.")
    others: set[str] = set()
    if found.folders != (".",):  # a folder was chosen: the other folders have its label maps
        others = set(list_files(found.root)) - set(found.images)
    treatment = "carried over as they are" if others else "left out"
    omissions = tuple(f"{text}: {treatment}" for text in found.omissions)
    carried = tuple(sorted(others))
    return Tree(found.root, "plain", found.images, carried, found.folders, {}, omissions)


def _make_dataset_tree(found: FoundDataset, excluded: set[str]) -> Tree:
    """Return the tree of a dataset with annotations, or of tars, without the excluded images."""
    images = tuple(sorted(found.images))
    if not images:
        raise InputError(f"{found.source} holds no images where {found.title} data has them.")
    others = set(list_files(found.root)) - set(images)
    carried, excluded = others - excluded, others & excluded
    omissions = [*found.omissions, *found.notes]
    omissions += [
        f"{part.title}: {part.problem}" for part in found.parts if part.problem is not None
    ]
    omissions += [
        f"{part.annotations}: not in the folder of the images, so not copied; with the format 'source' "
        "it fits the copy as it is"
        for part in found.parts
        if found.layout == "coco" and not (found.root / part.annotations).is_file()
    ]
    if excluded:
        omissions.append(f"{pluralize(len(excluded), 'image')} of other splits: left out")
    other_images = sorted(name for name in carried if is_image(Path(name)))
    if other_images and found.layout != "webdataset":
        folders = Counter(str(PurePosixPath(name).parent) for name in other_images)
        folders_shown = shorten(f"{folder}/" for folder in folders)
        is_maps = LAYOUTS[found.layout].task == "segmentation"
        count = pluralize(len(other_images), *(_MAPS if is_maps else _UNNAMED))
        as_before = "as it is" if len(other_images) == 1 else "as they are"
        omissions.append(f"{count}, in {folders_shown}: carried over {as_before}")
    coco_names = {part.annotations: part.names for part in found.parts if part.names}
    return Tree(
        found.root,
        found.layout,
        images,
        tuple(sorted(carried)),
        found.folders,
        coco_names,
        tuple(omissions),
    )


def _make_copies_tree(found: FoundDataset) -> Tree:
    """Return the tree of all cells of corrupted tars.

    Raises:
        InputError: the corrupted copies are tables.
    """
    if not all(map(is_tar, found.images)):
        raise InputError(
            f"{found.source} holds corrupted copies in tables; give one of its cells, such as "
            f"{find_first_cell(found.source)}."
        )
    return _make_dataset_tree(replace(found, layout="webdataset"), set())


def _make_tables_tree(found: FoundDataset, images: str | Path | None) -> Tree:
    """Return the tree of a dataset whose images are in the rows of tables."""
    splits: list[str] = [part.title for part in found.parts]
    if found.source.is_file() or (found.layout == "saved" and not list_splits(found.source)):
        splits = []
    reader = TABLE_READERS[found.layout]
    column = None if images is None else str(images)
    datasets = [
        reader(found.source, split, labeled=False, column=column) for split in splits or (None,)
    ]
    tables = {
        table.path.relative_to(found.root).as_posix(): table
        for data in datasets
        for table in data.list_tables()
        if table.rows
    }
    if not tables:
        raise InputError(f"{found.source} holds no images where {found.title} has them.")
    carried = () if found.source.is_file() else _list_carried_files(found, splits)
    omissions = _name_other_columns(datasets)
    return Tree(found.root, found.layout, tuple(tables), carried, (), {}, omissions, tables)


def _list_carried_files(found: FoundDataset, splits: Sequence[str]) -> tuple[str, ...]:
    """Return the files to carry over from a folder of tables: no tables, nothing from other splits."""
    names = [
        name
        for name in list_files(found.root)
        if not name.endswith((".arrow", ".parquet", ".lock"))
    ]
    if found.layout == "saved" and splits:
        others = set(list_splits(found.source)) - set(splits)
        names = [name for name in names if name.partition("/")[0] not in others]
    return tuple(sorted(names))


def _name_other_columns(datasets: Sequence[RowImages]) -> tuple[str, ...]:
    others = dict.fromkeys(
        name
        for data in datasets
        for name in list_image_columns(data.features)
        if name != data.column
    )
    return tuple(
        f"images in the column {show_name(name)}: carried over as they are" for name in others
    )


_MAPS = ("label map or other image", "label maps and other images")
_UNNAMED = (
    "image that the annotations do not name",
    "images that the annotations do not name",
)


def name_outputs(tree: Tree, image_format: ImageFormat) -> dict[str, str]:
    """Return the new name of every image of a tree; tars and tables keep their names.

    If two would share a name, the old suffix is kept before the new one, unless annotations find
    their image by its stem.

    Raises:
        InputError: two images that would get the same name, or an image that the format cannot store.
    """
    if tree.layout == "webdataset":
        for name in tree.images:
            try:
                check_names(tree.root / name, image_format)
            except BrokenFileError:
                continue  # reported when it is copied
    if tree.is_packed:
        return {name: name for name in tree.images}
    outputs = {name: name_output(name, image_format) for name in tree.images}
    # Files that are carried over keep their names, such as label maps next to photographs.
    shared = Counter([*outputs.values(), *tree.carried])
    duplicates = [name for name, output in outputs.items() if shared[output] > 1]
    if duplicates and tree.layout in ("voc", "yolo"):
        raise InputError(
            f"{tree.root}: {duplicates[0]} and another image differ only by their suffix, and share "
            "their annotations; rename one."
        )
    return {
        name: output if shared[output] == 1 else name + PurePosixPath(output).suffix
        for name, output in outputs.items()
    }
