"""Where samples come from: folders, CSV files, -C trees, arrays, boxes; and corrupted copies.

The published relatives of ImageNet, as they are unpacked:

- ImageNet-C, Tiny-ImageNet-C, CIFAR-10-C, CIFAR-100-C, MNIST-C: ``open_data(PATH, classes=...)``
  gives :class:`CorruptedData`.
- ImageNet-V2 (folders ``0`` to ``999``), ImageNet-Sketch: ``open_data(PATH, classes=model.classes)``.
- ImageNet-R, -A, -D (a domain's folder of DomainNet), ObjectNet (``objectnet-1.0/images``): with
  ``labels = label_set("imagenet-r")``, open ``open_data(PATH, classes=labels)`` and measure
  ``model.restricted(labels)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shiftproof.classes import Classes, LabelSet
from shiftproof.data.copies.corrupted_copy import estimate_export, export_corrupted
from shiftproof.data.copies.export import Estimate
from shiftproof.data.copies.writing import Exported
from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.boxes import DetectionData, Fault, ImageObjects
from shiftproof.data.detection.cityscapes import CITYSCAPES_CLASSES, CityscapesData
from shiftproof.data.detection.coco import CocoData
from shiftproof.data.detection.dataset import open_detection_data
from shiftproof.data.detection.voc import VOC_CLASSES, VocData
from shiftproof.data.detection.yolo import YoloData
from shiftproof.data.find import FoundDataset, Part, find_dataset
from shiftproof.data.images.arrays import ImageArrays
from shiftproof.data.images.cells import CorruptedData
from shiftproof.data.images.corrupted import CorruptedTree, is_corrupted_tree
from shiftproof.data.images.corrupted_arrays import CorruptedArrays, is_corrupted_arrays
from shiftproof.data.images.demo import DemoPhotographs
from shiftproof.data.images.folder import ImageFolder, read_class_map
from shiftproof.data.images.table import ImageTable
from shiftproof.data.segmentation.dataset import (
    MaskCounts,
    SegmentationData,
    check_masks,
    open_segmentation_data,
)
from shiftproof.errors import InputError, LabelError
from shiftproof.io.images import is_image

__all__ = [
    "CITYSCAPES_CLASSES",
    "VOC_CLASSES",
    "CityscapesData",
    "CocoData",
    "CorruptedArrays",
    "CorruptedData",
    "CorruptedTree",
    "DemoPhotographs",
    "DetectionData",
    "Estimate",
    "Exported",
    "Fault",
    "FoundDataset",
    "ImageArrays",
    "ImageData",
    "ImageFolder",
    "ImageObjects",
    "ImageTable",
    "MaskCounts",
    "Part",
    "SegmentationData",
    "VocData",
    "YoloData",
    "check_labels",
    "check_masks",
    "estimate_export",
    "export_corrupted",
    "find_dataset",
    "open_data",
    "open_detection_data",
    "open_segmentation_data",
    "read_class_map",
]


def open_data(
    source: str | Path | ImageData,
    *,
    classes: Classes | LabelSet | None,
    class_map: Mapping[str, str] | None = None,
    labelled: bool | None = None,
    clean: str | Path | None = None,
) -> ImageData:
    """Open what a person names: "demo", a folder, a CSV file, a -C tree or -C arrays.

    Args:
        source: "demo" for the 20 photographs (where nothing else is called so); a folder with one
            folder per class, or flat; a ``.csv`` with rows ``path,label``; a -C tree
            ``corruption/severity/class/file``, which comes back as a :class:`CorruptedTree`; ``.npy``
            files as those of CIFAR-10-C or MNIST-C, as :class:`CorruptedArrays`; or a data set,
            which comes back as it is once its labels are seen to fit ``classes``.
        classes: the model's classes, into which labels are looked up; the label set of a published
            data set that shares some of them; None for no labels.
        class_map: folder name or label to class, for those that are not the model's.
        labelled: None finds out; False ignores labels; True insists on them.
        clean: the clean images of a -C tree or -C arrays.

    Raises:
        InputError: there is nothing of the kind, or it holds no images.
        LabelError: labels or class folders that the model does not know.
        MissingExtraError: "demo" without the extra that brings the photographs.
    """
    of_model = classes.classes if isinstance(classes, LabelSet) else classes
    if isinstance(source, ImageData):
        if class_map is not None or labelled is not None or clean is not None:
            raise InputError(
                "A data set is open already: give class_map, labelled and clean where it is made."
            )
        if of_model is not None:
            check_labels(source, of_model)
        return source
    path = Path(source)
    is_tree = path.is_dir() and is_corrupted_tree(path)
    is_arrays = path.is_dir() and not is_tree and is_corrupted_arrays(path)
    if clean is not None and path.exists() and not (is_tree or is_arrays):
        raise InputError(
            f"{path} is no -C tree (corruption/severity/class/file), so it has no clean twin."
        )
    if str(source) == "demo" and not path.exists():
        if class_map is not None or labelled is not None:
            raise InputError("The demo photographs have their labels; leave out what changes them.")
        return DemoPhotographs(of_model)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a folder of images, a .csv file, a -C tree, or demo."
        )
    if is_tree:
        return CorruptedTree(path, classes, class_map=class_map, labelled=labelled, clean=clean)
    if path.is_dir() and not is_arrays:
        return ImageFolder(path, classes, class_map=class_map, labelled=labelled)
    if isinstance(classes, LabelSet):
        raise InputError(
            f"{path} has no class folders, and the label set {classes.title} says what those mean; "
            "give its classes instead."
        )
    if is_arrays:
        if class_map is not None:
            raise InputError(f"{path} has its labels as numbers, so a class map has no effect.")
        return CorruptedArrays(path, classes, labelled=labelled, clean=clean)
    if path.suffix.lower() == ".csv":
        return ImageTable(path, classes, class_map=class_map, labelled=labelled)
    raise InputError(_no_data(path))


def check_labels(data: ImageData, classes: Classes) -> None:
    """Check that the labels of a data set are those of a model.

    Raises:
        LabelError: a label outside the model's classes, or a data set that was opened with others.
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
        "label set and measure model.restricted(label set)."
    )


def _no_data(path: Path) -> str:
    if is_image(path):
        return f"{path} is an image; expected a folder of images: give {path.parent}."
    if path.suffix.lower() in (".tar", ".gz", ".tgz", ".zip", ".7z"):
        return f"{path} is an archive; unpack it and give the folder."
    return f"{path} is a file of no known kind; expected a folder, a .csv file, a -C tree, or demo."
