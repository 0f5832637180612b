"""Recognizing the layout of a dataset: its images, annotations and unused files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shiftproof.data.found import FoundDataset, Request
from shiftproof.data.images.image_layouts import describe_tars, find_image_files
from shiftproof.data.images.tars import TarFiles
from shiftproof.data.layouts import (
    LAYOUTS,
    describe_other_layouts,
    name_layouts_with,
    recognize_layout,
)
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
    layout_name = recognize_layout(path)
    if layout_name == "masks" and images is not None:
        layout_name = "plain"  # the user chose the folder of the photographs
    request = _make_request(path, layout_name, split, images, root)
    layout = LAYOUTS[layout_name]
    found = layout.find(request)
    if split is not None and not found.parts:
        raise InputError(f"{path} has no split {split!r}.")
    return replace(
        found,
        omissions=(*found.omissions, *describe_other_layouts(path, layout_name)),
        is_root_given=root is not None,
        title=layout.title,
    )


def _make_request(
    path: Path,
    layout_name: str,
    split: str | None,
    images: str | Path | None,
    root: str | Path | None,
) -> Request:
    """Return the request for a path; refuse options that its layout does not have."""
    layout = LAYOUTS[layout_name]
    if root is not None and "root" not in layout.options:
        raise InputError(
            f"{path} is not {name_layouts_with('root')} data, so a root has no effect."
        )
    if split is not None and "split" not in layout.options:
        raise InputError(
            f"{path} ({layout.title}) has no known splits; give the folder of {split!r} instead of "
            "the split."
        )
    data_root = None if root is None else Path(root)
    if images is None:
        return Request(path, layout_name, split, root=data_root)
    if "column" in layout.options:
        return Request(path, layout_name, split, column=str(images), root=data_root)
    folder = _resolve_images_folder(path, Path(images))
    if "images" not in layout.options:
        raise InputError(
            f"{path} is not {name_layouts_with('images')} data, so a folder of images has no effect."
        )
    return Request(path, layout_name, split, folder, root=data_root)


def find_plain(path: Path, *, images: str | Path | None = None) -> FoundDataset:
    """Read a folder as a plain folder of images; all other files are ignored.

    Raises:
        InputError: no images, or no such folder.
    """
    folder = None if images is None else _resolve_images_folder(path, Path(images))
    found = find_image_files(Request(path, "plain", images=folder))
    return replace(found, title=LAYOUTS["plain"].title)


def _resolve_images_folder(source: Path, images: Path) -> Path:
    """Return the user's image folder, relative to the working directory or to the dataset.

    Raises:
        InputError: there is none, or there are two.
    """
    bases = [source] if source.is_dir() else [source.parent, source.parent.parent]
    candidates = (images, *(base / images for base in bases))
    existing = [folder for folder in candidates if folder.is_dir()]
    distinct = {folder.resolve(): folder for folder in reversed(existing)}
    if len(distinct) > 1 and images != Path():
        shown = " and ".join(str(folder) for folder in distinct)
        raise InputError(f"{images} can be {shown}; give the whole path.")
    if not existing:
        raise InputError(
            f"{images} is not a folder, and {bases[-1]} does not contain it; expected the folder of "
            "the images."
        )
    return bases[0] if images == Path() and source.is_dir() else existing[0]


def _find_at_address(
    address: str, split: str | None, images: str | Path | None, root: str | Path | None
) -> FoundDataset:
    if any(option is not None for option in (split, images, root)):
        raise InputError(
            f"{redact_urls(address)} names tars: leave out the split, images and root."
        )
    tars = TarFiles.find(address)
    part = describe_tars(tars.title, tars)
    title = LAYOUTS["webdataset"].title
    return FoundDataset(
        tars.folder, "webdataset", Path(address), (part,), address=address, title=title
    )
