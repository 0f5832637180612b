"""Opening a source as images in parts."""

from __future__ import annotations

from pathlib import Path

from shiftproof.data import ImageData, ImageFolder, ParquetImages, SavedDataset, open_data
from shiftproof.data.images.cell_folders import find_first_cell
from shiftproof.data.images.cells import check_clean
from shiftproof.data.images.packed_tree import find_packing
from shiftproof.data.layouts import recognize_layout
from shiftproof.data.presence import check_source, is_address
from shiftproof.embed.image_source import Pictures, SplitPictures
from shiftproof.embed.tars import TarPictures
from shiftproof.errors import InputError
from shiftproof.io.tars import is_tar
from shiftproof.io.urls import redact_urls

SHARD_SIZE = 10_000


def open_pictures(
    source: str | Path | ImageData | Pictures,
    *,
    shard_size: int | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
) -> Pictures:
    """Open images as the parts that become shards.

    Args:
        source: a folder of images; a webdataset tar or a folder of them (for corrupted copies,
            all cells), a brace pattern or a URL of such; a dataset in the layout
            of COCO, Pascal VOC, Cityscapes or YOLO; a folder written by ``save_to_disk`` of Hugging
            Face's ``datasets``; Parquet files of images; a ``.csv`` with rows ``path,label``; "demo";
            or an opened source.
        shard_size: images per shard, 10,000 by default. Each tar is one shard.
        split: which part of a dataset that has several.
        images: the folder of the images, if several are possible; for tables, the image column.
        root: for YOLO, the folder of the data, overriding the YAML file.

    Raises:
        InputError: no such source, no images, or an option without effect.
    """
    if isinstance(source, Pictures):
        if any(given is not None for given in (shard_size, split, images, root)):
            raise InputError(
                "The images are in parts already: leave out shard_size, split, images and root."
            )
        return source
    if not isinstance(source, ImageData):
        check_source(source)
        path = Path(source)
        is_tars = is_address(source) or is_tar(path.name)
        if is_tars or (path.exists() and _holds_tars(path)):
            if any(given is not None for given in (shard_size, split, images, root)):
                raise InputError(
                    f"{redact_urls(str(source))} holds tars, of which each becomes one shard: leave "
                    "out the shard size and the split, images and root."
                )
            return TarPictures(source)
    data = (
        source if isinstance(source, ImageData) else _open_data(Path(source), split, images, root)
    )
    captions = data.captions if isinstance(data, SavedDataset | ParquetImages) else None
    return SplitPictures(data, SHARD_SIZE if shard_size is None else shard_size, captions=captions)


def _open_data(
    path: Path, split: str | None, images: str | Path | None, root: str | Path | None
) -> ImageData:
    layout = recognize_layout(path) if path.is_dir() else None
    if layout == "corrupted tree":
        # All images of the tree are embedded, with or without annotations.
        return ImageFolder(path)
    if layout == "packed tree":
        raise InputError(
            f"{path} holds corrupted copies in tables; give one of its cells, such as "
            f"{find_first_cell(path)}."
        )
    data = open_data(path, classes=None, split=split, images=images, root=root)
    check_clean(data)
    return data


def _holds_tars(path: Path) -> bool:
    """Return whether a path is a folder of tars, including the tars of corrupted copies."""
    layout = recognize_layout(path)
    if layout == "packed tree":
        first = find_first_cell(path)
        return first is not None and find_packing(first) == "webdataset"
    return layout == "webdataset"
