"""What a path is: which layout of data sets, which of its files are images, what is left aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shiftproof.data.found import FoundDataset, Request
from shiftproof.data.images.layouts import describe_tars, find_image_files
from shiftproof.data.images.tars import TarFiles
from shiftproof.data.layouts import LAYOUTS, layout_of, other_layouts
from shiftproof.errors import InputError
from shiftproof.io.places import has_braces, is_url
from shiftproof.io.urls import redact_urls


def find_dataset(
    source: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
) -> FoundDataset:
    """Find out which data set a file or folder is, by the names of files and folders.

    The layouts, in the order in which their marks decide: Cityscapes (``leftImg8bit`` and
    ``gtFine``); Pascal VOC as published (``JPEGImages`` and ``Annotations``, in the folder or up to
    two below); YOLO with a YAML file; COCO (a JSON with images, annotations and categories, in the
    folder or one below); Pascal VOC in any two folders, or with each XML beside its image; YOLO
    without a YAML file (``images`` and ``labels``); -C trees and -C arrays; webdataset tars or Parquet
    files where no images lie beside them; images. What ``save_to_disk`` of Hugging Face's ``datasets``
    wrote is that before all else.

    Args:
        source: a folder, or the file that says what belongs to the data set; of tars also a brace
            pattern, or a URL of fsspec as text.
        split: the part to look at alone.
        images: the folder of the images, where several could be meant; as it stands, or below the source.
            Of tables the column.
        root: YOLO: the folder of the data, in place of what the YAML file says.

    Raises:
        InputError: nothing of the kind, no such split, or two readings.
        BrokenFileError: annotations that cannot be read, and none beside them that can.
    """
    path = Path(source)
    if is_address(source):
        return _find_at_address(str(source), split, images, root)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a data set, a folder of images, or a file."
        )
    name = layout_of(path)
    if name == "masks" and images is not None:
        name = "plain"  # which folder holds the photographs is said
    request = _request(path, name, split, images, root)
    layout = LAYOUTS[name]
    found = layout.find(request)
    if split is not None and not found.parts:
        raise InputError(f"{path} has no split {split!r}.")
    return replace(
        found,
        left_aside=(*found.left_aside, *other_layouts(path, name)),
        rooted=root is not None,
        title=layout.title,
    )


def _request(
    path: Path, name: str, split: str | None, images: str | Path | None, root: str | Path | None
) -> Request:
    """Return what is asked of a path, or raise an InputError for what its layout does not have."""
    takes = LAYOUTS[name].takes
    if root is not None and "root" not in takes:
        raise InputError(f"{path} is no YOLO data, so a root has no effect.")
    if split is not None and "split" not in takes:
        raise InputError(f"{path} has no splits that are known, so {split!r} has no effect.")
    home = None if root is None else Path(root)
    if images is None:
        return Request(path, name, split, root=home)
    if "column" in takes:
        return Request(path, name, split, column=str(images), root=home)
    folder = _images_folder(path, Path(images))
    if "images" not in takes:
        raise InputError(f"{path} is no COCO data, so a folder of images has no effect.")
    return Request(path, name, split, folder, root=home)


def is_address(source: str | Path) -> bool:
    """Whether tars are named by a URL or a brace pattern, and no file or folder is called so."""
    text = str(source)
    return is_url(text) or (has_braces(text) and not Path(text).exists())


def find_plain(path: Path, *, images: str | Path | None = None) -> FoundDataset:
    """Read a folder as a plain folder of images; all other files are ignored.

    Args:
        path: the folder.
        images: the folder in it that holds them, where others lie beside it.

    Raises:
        InputError: no images, or no such folder.
    """
    folder = None if images is None else _images_folder(path, Path(images))
    found = find_image_files(Request(path, "plain", images=folder))
    return replace(found, title=LAYOUTS["plain"].title)


def _images_folder(source: Path, images: Path) -> Path:
    """Return the folder that a person means: from here, or from the data set.

    Raises:
        InputError: there is none, or there are two.
    """
    homes = [source] if source.is_dir() else [source.parent, source.parent.parent]
    there = [folder for folder in (images, *(home / images for home in homes)) if folder.is_dir()]
    found = {folder.resolve(): folder for folder in reversed(there)}
    if len(found) > 1 and images != Path():
        shown = " and ".join(str(folder) for folder in found)
        raise InputError(f"{images} can be {shown}; give the whole path.")
    if not found:
        raise InputError(
            f"{images} is no folder, nor is it in {homes[-1]}; expected the folder of the images."
        )
    return homes[0] if images == Path() and source.is_dir() else there[0]


def _find_at_address(
    address: str, split: str | None, images: str | Path | None, root: str | Path | None
) -> FoundDataset:
    if any(given is not None for given in (split, images, root)):
        raise InputError(
            f"{redact_urls(address)} names tars: leave out the split, images and root."
        )
    tars = TarFiles.find(address)
    part = describe_tars(tars.title, tars)
    found = FoundDataset(tars.home, "webdataset", Path(address), (part,), address=address)
    return replace(found, title=LAYOUTS[found.layout].title)
