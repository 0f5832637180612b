"""Opening datasets of images, with or without labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shiftproof.classes import Classes, LabelSet
from shiftproof.corruptions import CORRUPTIONS
from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.boxes import DetectionData
from shiftproof.data.detection.dataset import open_detection_data
from shiftproof.data.disk import folders_in
from shiftproof.data.find import find_dataset, find_plain
from shiftproof.data.found import FoundDataset
from shiftproof.data.images.corrupted import is_corrupted_tree, list_tree_corruptions
from shiftproof.data.images.corrupted_arrays import is_corrupted_arrays, list_array_corruptions
from shiftproof.data.images.demo import DemoPhotographs
from shiftproof.data.images.folder import FolderLabels, ImageFolder
from shiftproof.data.images.layouts import ImageReading
from shiftproof.data.layouts import LAYOUTS, layout_of
from shiftproof.data.presence import check_presence, is_address
from shiftproof.data.segmentation.dataset import SegmentationData, open_segmentation_data
from shiftproof.errors import InputError, LabelError
from shiftproof.io.urls import redact_urls


def open_data(
    source: str | Path | ImageData,
    *,
    classes: Classes | LabelSet | None,
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
            ``corruption/severity/class/file``, opened as a :class:`CorruptedTree`; ``.npy`` files
            as those of CIFAR-10-C or MNIST-C, as :class:`CorruptedArrays`; the photographs of a
            dataset with boxes, without labels; webdataset tars, also by a brace pattern or a URL,
            as :class:`TarData`; a folder saved by ``datasets``, as :class:`SavedDataset`; Parquet
            files with a column of images, as :class:`ParquetImages`; or a dataset, which is
            returned itself after checking that its labels fit ``classes``.
        classes: the model's classes, among which labels are looked up; or the label set of a
            published dataset with a subset of them; None for no labels.
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
    if isinstance(source, ImageData):
        options = (class_map, labeled, clean, split, images, root, label_key)
        if any(given is not None for given in options):
            raise InputError(
                "A dataset is open already: give class_map, labeled, clean, split, images, root "
                "and label_key where it is made."
            )
        if classes is not None:
            check_labels(source, _of_model(classes))
        return source
    path = Path(source)
    reading = ImageReading(classes, class_map, labeled, clean, split, images, root, label_key)
    if path.exists() or is_address(source):
        return _open(source if is_address(source) else path, reading)
    if any(given is not None for given in (split, images, root, label_key)):
        raise InputError(
            f"{path} has no parts to choose from: leave out split, images, root and label key."
        )
    check_presence(source, "images")
    if class_map is not None or labeled is not None:
        raise InputError("The demo photographs have their labels; leave out what changes them.")
    return DemoPhotographs(None if classes is None else _of_model(classes))


def find_copies(source: str | Path, clean: str | Path | None = None) -> tuple[str, ...] | None:
    """Return the ``other_corruptions`` of corrupted copies at a path; None where it holds other data.

    This needs no classes, and looks at no image. The clean images of arrays may be among them.

    Raises:
        InputError: a -C tree with a severity outside 1 to 5, or a cell that occurs twice.
    """
    path = Path(source)
    layout = layout_of(path) if path.is_dir() else None
    if layout == "corrupted tree":
        found = list_tree_corruptions(path, clean)
    elif layout == "corrupted arrays":
        found = list_array_corruptions(path)
    else:
        return None
    return tuple(name for name in found if name not in CORRUPTIONS)


def _open(source: str | Path, reading: ImageReading) -> ImageData:
    """Open what a path or an address was found to be."""
    found = _find(source, reading)
    layout = LAYOUTS[found.layout]
    path = redact_urls(found.address or str(found.source))
    if reading.clean is not None and "clean" not in layout.takes:
        raise InputError(
            f"{path} is no -C tree (corruption/severity/class/file), so it has no clean twin."
        )
    if isinstance(reading.classes, LabelSet) and "label_set" not in layout.takes:
        raise InputError(
            f"{path} has no class folders, and the label set {reading.classes.title} says what "
            "those mean; give its classes instead."
        )
    if reading.label_key is not None and "label_key" not in layout.takes:
        raise InputError(
            f"{path} is {found.title}; a label key says what states the label in tars, "
            "saved datasets and Parquet files."
        )
    open_images = layout.open_images or _open_photographs
    data = open_images(found, reading)
    data.omissions = (*data.omissions, *found.omissions, *found.notes)
    return data


def _find(source: str | Path, reading: ImageReading) -> FoundDataset:
    split, images, root = reading.split, reading.images, reading.root
    path = Path(source)
    if is_address(source):
        return find_dataset(source, split=split, images=images, root=root)
    if reading.labeled is False or not path.is_dir() or not _knows_folders(path, reading):
        narrowed = None if LAYOUTS[layout_of(path)].has_own_splits else split
        return find_dataset(path, split=narrowed, images=images, root=root)
    if split is not None or root is not None:
        raise InputError(f"{path} holds class folders alone: leave out split and root.")
    return find_plain(path, images=path if images is None else images)


def _knows_folders(path: Path, reading: ImageReading) -> bool:
    """Whether all folders are called by classes, so that files beside the images do not matter."""
    if reading.classes is None or is_corrupted_tree(path) or is_corrupted_arrays(path):
        return False
    labels = FolderLabels(
        reading.classes, class_map=reading.class_map, labeled=reading.labeled, where=str(path)
    )
    return labels.knows([folder.name for folder in folders_in(path)])


def _open_photographs(found: FoundDataset, reading: ImageReading) -> ImageData:
    """Open the photographs of data with boxes or label maps; these have classes, those none."""
    data: DetectionData | SegmentationData
    if LAYOUTS[found.layout].task == "segmentation":
        data = open_segmentation_data(found.source, split=reading.split)
    else:
        data = open_detection_data(
            found.source, split=reading.split, images=reading.images, root=reading.root
        )
    if reading.classes is None and not reading.labeled:
        return data
    if reading.labeled or reading.class_map is not None:
        raise LabelError(
            f"{found.source} is {found.title} data: its photographs have no label "
            "each. Measure without labels (--unlabeled, labeled=False)."
        )
    return ImageFolder(data.root, only=[sample.id for sample in data.samples])


def _of_model(classes: Classes | LabelSet) -> Classes:
    return classes.classes if isinstance(classes, LabelSet) else classes


def check_labels(data: ImageData, classes: Classes) -> None:
    """Check that the labels of a dataset are those of a model.

    Raises:
        LabelError: a label outside the model's classes, or a dataset opened with other classes.
    """
    for sample in data.samples:
        if sample.label is not None and not 0 <= sample.label < len(classes):
            raise LabelError(
                f"{data.name}: {sample.id} has the label {sample.label}, but the model has "
                f"{len(classes)} classes: expected 0 to {len(classes) - 1}."
            )
    own = data.classes
    if own is None or own.is_numbered or classes.is_numbered or own.names == classes.names:
        return
    raise LabelError(
        f"{data.name} was opened with the classes of {own.title} ({len(own)}), but the model has "
        f"those of {classes.title} ({len(classes)}). Open it with the model's classes, or with a "
        "label set and measure model.restrict(label set)."
    )
