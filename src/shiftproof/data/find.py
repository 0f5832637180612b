"""Recognizing the layout of a dataset: its images, annotations and unused files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shiftproof.data.found import FoundDataset, Request
from shiftproof.data.images.image_layouts import describe_tars, find_image_files
from shiftproof.data.images.tars import TarFiles
from shiftproof.data.layouts import LAYOUTS, describe_other_layouts, name_takers, recognize_layout
from shiftproof.data.presence import is_address
from shiftproof.errors import InputError
from shiftproof.io.border import suggest_sibling
from shiftproof.io.urls import redact_urls


def find_dataset(
    source: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
) -> FoundDataset:
    """Recognize the dataset in a file or folder by the names of files and folders.

    The layouts, in the order in which they are checked: Cityscapes (``leftImg8bit`` and
    ``gtFine``); Pascal VOC as published (``JPEGImages`` and ``Annotations``, in the folder or up to
    two below); YOLO with a YAML file; COCO (a JSON with images, annotations and categories, in the
    folder or one below); Pascal VOC in any two folders, or with each XML beside its image; YOLO
    without a YAML file (``images`` and ``labels``); -C trees and -C arrays; webdataset tars or
    Parquet files without images beside them; images. Folders written by ``save_to_disk`` of Hugging
    Face's ``datasets`` are recognized first.

    Args:
        source: a folder, or the file that describes the dataset; for tars also a brace pattern, or
            an fsspec URL as text.
        split: the only part to inspect.
        images: the folder of the images, if several are possible; an absolute or relative path, or
            one below the source. For tables, the image column.
        root: for YOLO, the folder of the data, overriding the YAML file.

    Raises:
        InputError: no dataset, no such split, or an ambiguous layout.
        BrokenFileError: all annotations are unreadable.
    """
    path = Path(source)
    if is_address(source):
        return _find_at_address(str(source), split, images, root)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a dataset, a folder of images, or a file."
            f"{suggest_sibling(path)}"
        )
    name = recognize_layout(path)
    if name == "masks" and images is not None:
        name = "plain"  # the user names the folder of the photographs
    request = _request(path, name, split, images, root)
    layout = LAYOUTS[name]
    found = layout.find(request)
    if split is not None and not found.parts:
        raise InputError(f"{path} has no split {split!r}.")
    return replace(
        found,
        omissions=(*found.omissions, *describe_other_layouts(path, name)),
        rooted=root is not None,
        title=layout.title,
    )


def _request(
    path: Path, name: str, split: str | None, images: str | Path | None, root: str | Path | None
) -> Request:
    """Return the request for a path; raise an InputError for options that its layout lacks."""
    takes = LAYOUTS[name].takes
    if root is not None and "root" not in takes:
        raise InputError(f"{path} is no {name_takers('root')} data, so a root has no effect.")
    if split is not None and "split" not in takes:
        raise InputError(
            f"{path} ({LAYOUTS[name].title}) has no splits that are known; give the folder of {split!r} "
            "in place of the split."
        )
    home = None if root is None else Path(root)
    if images is None:
        return Request(path, name, split, root=home)
    if "column" in takes:
        return Request(path, name, split, column=str(images), root=home)
    folder = _images_folder(path, Path(images))
    if "images" not in takes:
        raise InputError(
            f"{path} is no {name_takers('images')} data, so a folder of images has no effect."
        )
    return Request(path, name, split, folder, root=home)


def find_plain(path: Path, *, images: str | Path | None = None) -> FoundDataset:
    """Read a folder as a plain folder of images; all other files are ignored.

    Raises:
        InputError: no images, or no such folder.
    """
    folder = None if images is None else _images_folder(path, Path(images))
    found = find_image_files(Request(path, "plain", images=folder))
    return replace(found, title=LAYOUTS["plain"].title)


def _images_folder(source: Path, images: Path) -> Path:
    """Return the user's image folder, relative to the working directory or to the dataset.

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
