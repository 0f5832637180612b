"""Tell what a person names, and open it as images in parts."""

from __future__ import annotations

from pathlib import Path

from shiftproof.data import (
    ImageData,
    ImageFolder,
    open_data,
    open_detection_data,
    open_segmentation_data,
)
from shiftproof.data.find import DETECTION, find_dataset, layout_of
from shiftproof.data.segmentation.layouts import LABEL_MAPS
from shiftproof.embed.huggingface import SavedDataset, is_saved_dataset
from shiftproof.embed.pictures import Pictures, SplitPictures
from shiftproof.embed.tars import TarPictures
from shiftproof.errors import InputError
from shiftproof.io.tars import is_tar

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
        source: a folder of images; a webdataset tar or a folder of them; a data set as COCO, Pascal
            VOC, Cityscapes or YOLO lay it out; what ``save_to_disk`` of Hugging Face's ``datasets``
            wrote; a ``.csv`` with rows ``path,label``; "demo"; or what is open already.
        shard_size: images in a shard, 10,000 by default. Of tars each is one shard.
        split: which part of a data set that has several.
        images: the folder of the images, where two could be it.
        root: YOLO: the folder of the data, in place of what the YAML file says.

    Raises:
        InputError: nothing of the kind, no images, or an option that has no effect on it.
    """
    if isinstance(source, Pictures):
        if any(given is not None for given in (shard_size, split, images, root)):
            raise InputError(
                "The images are in parts already: leave out shard_size, split, images and root."
            )
        return source
    if not isinstance(source, ImageData):
        path = Path(source)
        if is_tar(path.name) or (path.is_dir() and _holds_tars(path)):
            if any(given is not None for given in (shard_size, split, images, root)):
                raise InputError(
                    f"{path} holds tars, of which each becomes one shard: leave out the shard size "
                    "and the split, images and root."
                )
            return TarPictures(path)
    data = source if isinstance(source, ImageData) else _data(Path(source), split, images, root)
    captions = data.captions if isinstance(data, SavedDataset) else None
    return SplitPictures(data, SHARD_SIZE if shard_size is None else shard_size, captions=captions)


def _data(
    path: Path, split: str | None, images: str | Path | None, root: str | Path | None
) -> ImageData:
    is_saved = path.is_dir() and is_saved_dataset(path)
    if (is_saved or not path.exists()) and (images is not None or root is not None):
        raise InputError(f"{path} has no folder of images of its own, so it has no effect.")
    if is_saved:
        return SavedDataset(path, split)
    if not path.exists():  # demo, or nothing
        if split is not None:
            raise InputError(f"{path} has no splits that are known, so {split!r} has no effect.")
        return open_data(path, classes=None)
    if layout_of(path) in DETECTION:
        return open_detection_data(path, split=split, images=images, root=root)
    if images is None and root is None and layout_of(path) in LABEL_MAPS:
        return open_segmentation_data(path, split=split)
    found = find_dataset(path, split=split, images=images, root=root)
    if path.is_dir() and found.layout != "corrupted arrays":
        # A -C tree too: every image of it is one to embed.
        return ImageFolder(path / found.folders[0])
    return open_data(path, classes=None)


def _holds_tars(path: Path) -> bool:
    return any(is_tar(entry.name) for entry in path.iterdir())
