"""Where samples come from: folders, CSV files, -C trees, arrays; and corrupted copies to disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shiftproof import files
from shiftproof.classes import Classes
from shiftproof.data.arrays import ImageArrays
from shiftproof.data.corrupted import CorruptedTree, is_corrupted_tree
from shiftproof.data.dataset import ImageData
from shiftproof.data.demo import DemoPhotographs
from shiftproof.data.export import Exported, export_corrupted
from shiftproof.data.folder import ImageFolder, read_class_map
from shiftproof.data.table import ImageTable
from shiftproof.errors import InputError

__all__ = [
    "CorruptedTree",
    "DemoPhotographs",
    "Exported",
    "ImageArrays",
    "ImageData",
    "ImageFolder",
    "ImageTable",
    "export_corrupted",
    "open_data",
    "read_class_map",
]


def open_data(
    source: str | Path,
    *,
    classes: Classes | None,
    class_map: Mapping[str, str] | None = None,
    labelled: bool | None = None,
    clean: str | Path | None = None,
) -> ImageData:
    """Open what a person names: "demo", a folder, a CSV file or a -C tree.

    Args:
        source: "demo" for the 20 photographs; a folder with one folder per class, or flat; a
            ``.csv`` with rows ``path,label``; a tree ``corruption/severity/class/file``.
        classes: the model's classes, into which labels are looked up.
        class_map: folder name to class, for folder names that are not the model's.
        labelled: None finds out; False ignores labels; True insists on them.
        clean: the clean images of a -C tree.

    Raises:
        InputError: there is nothing of the kind.
        LabelError: labels or class folders that the model does not know.
    """
    if str(source) == "demo" and not Path(source).exists():
        return DemoPhotographs()
    path = Path(source)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a folder of images, a .csv file, a -C tree, or demo."
        )
    if path.is_file():
        if path.suffix.lower() == ".csv":
            if class_map is not None:
                raise InputError("A class map translates folder names; a CSV file names the classes.")
            return ImageTable(path, classes, labelled=labelled)
        what = "an image: give its folder" if files.is_image(path) else "a file of no known kind"
        raise InputError(f"{path} is {what}; expected a folder, a .csv file, a -C tree, or demo.")
    if is_corrupted_tree(path):
        return CorruptedTree(
            path, classes, class_map=class_map, labelled=labelled, clean=clean
        )
    if clean is not None:
        raise InputError(
            f"{path} is no -C tree (corruption/severity/class/file), so it has no clean twin."
        )
    return ImageFolder(path, classes, class_map=class_map, labelled=labelled)
