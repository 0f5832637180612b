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
from shiftproof.errors import InputError, LabelError

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
    source: str | Path | ImageData,
    *,
    classes: Classes | None,
    class_map: Mapping[str, str] | None = None,
    labelled: bool | None = None,
    clean: str | Path | None = None,
) -> ImageData:
    """Open what a person names: "demo", a folder, a CSV file or a -C tree.

    Args:
        source: "demo" for the 20 photographs (where nothing else is called so); a folder with one
            folder per class, or flat; a ``.csv`` with rows ``path,label``; a -C tree
            ``corruption/severity/class/file``, which comes back as a :class:`CorruptedTree`; or a
            data set, which comes back as it is once its labels are seen to fit ``classes``.
        classes: the model's classes, into which labels are looked up; None for no labels.
        class_map: folder name or label to class, for those that are not the model's.
        labelled: None finds out; False ignores labels; True insists on them.
        clean: the clean images of a -C tree.

    Raises:
        InputError: there is nothing of the kind, or it holds no images.
        LabelError: labels or class folders that the model does not know.
        MissingExtraError: "demo" without the extra that brings the photographs.
    """
    if isinstance(source, ImageData):
        if class_map is not None or labelled is not None or clean is not None:
            raise InputError(
                "A data set is open already: give class_map, labelled and clean where it is made."
            )
        _check_labels(source, classes)
        return source
    path = Path(source)
    if clean is not None and path.exists() and not (path.is_dir() and is_corrupted_tree(path)):
        raise InputError(
            f"{path} is no -C tree (corruption/severity/class/file), so it has no clean twin."
        )
    if str(source) == "demo" and not path.exists():
        if class_map is not None or labelled is not None:
            raise InputError("The demo photographs have their labels; leave out what changes them.")
        return DemoPhotographs(classes)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a folder of images, a .csv file, a -C tree, or demo."
        )
    if not path.is_dir():
        if path.suffix.lower() == ".csv":
            return ImageTable(path, classes, class_map=class_map, labelled=labelled)
        raise InputError(_no_data(path))
    if is_corrupted_tree(path):
        return CorruptedTree(path, classes, class_map=class_map, labelled=labelled, clean=clean)
    return ImageFolder(path, classes, class_map=class_map, labelled=labelled)


def _check_labels(data: ImageData, classes: Classes | None) -> None:
    if classes is None:
        return
    for sample in data.samples:
        if sample.label is not None and not 0 <= sample.label < len(classes):
            raise LabelError(
                f"{data.name}: {sample.id} has the label {sample.label}, but the model has "
                f"{len(classes)} classes: expected 0 to {len(classes) - 1}."
            )


def _no_data(path: Path) -> str:
    if files.is_image(path):
        return f"{path} is an image; expected a folder of images: give {path.parent}."
    if path.suffix.lower() in (".tar", ".gz", ".tgz", ".zip", ".7z"):
        return f"{path} is an archive; unpack it and give the folder."
    return f"{path} is a file of no known kind; expected a folder, a .csv file, a -C tree, or demo."
