"""Open images, with or without labels, that were found on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shiftproof.classes import Classes, LabelSet
from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.boxes import DetectionData
from shiftproof.data.detection.dataset import open_detection_data
from shiftproof.data.disk import folders_in
from shiftproof.data.find import (
    DETECTION,
    PACKED,
    TITLES,
    FoundDataset,
    find_dataset,
    find_plain,
    is_address,
    layout_of,
)
from shiftproof.data.images.corrupted import CorruptedTree, is_corrupted_tree
from shiftproof.data.images.corrupted_arrays import CorruptedArrays, is_corrupted_arrays
from shiftproof.data.images.csv_table import ImageTable
from shiftproof.data.images.demo import DemoPhotographs
from shiftproof.data.images.folder import FolderLabels, ImageFolder
from shiftproof.data.images.parquet import ParquetImages
from shiftproof.data.images.saved import SavedDataset
from shiftproof.data.images.tars import TarData
from shiftproof.data.segmentation.dataset import SegmentationData, open_segmentation_data
from shiftproof.data.segmentation.layouts import LABEL_MAPS
from shiftproof.errors import InputError, LabelError
from shiftproof.io.border import suggest_sibling
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
    """Open images by what names them: "demo", a folder, a CSV file, a -C tree or -C arrays.

    What a folder is, :func:`~shiftproof.data.find_dataset` says, as for every other verb. A folder
    whose folders are all called by classes is one of class folders, whatever lies beside the images.
    What was left aside is in the ``aside`` of what comes back.

    Args:
        source: "demo" for the 20 photographs (where nothing else is called so); a folder with one
            folder per class, or flat; a ``.csv`` with rows ``path,label``; a -C tree
            ``corruption/severity/class/file``, which comes back as a :class:`CorruptedTree`; ``.npy``
            files as those of CIFAR-10-C or MNIST-C, as :class:`CorruptedArrays`; the photographs of
            a data set with boxes, which have no label each; webdataset tars, also by a brace pattern
            or a URL, as :class:`TarData`; what ``datasets`` saved, as :class:`SavedDataset`; Parquet
            files with a column of images, as :class:`ParquetImages`; or a data set, which comes back
            as it is once its labels are seen to fit ``classes``.
        classes: the model's classes, into which labels are looked up; the label set of a published
            data set that shares some of them; None for no labels.
        class_map: folder name or label to class, for those that are not the model's.
        labeled: None finds out; False ignores labels; True insists on them.
        clean: the clean images of a -C tree or -C arrays.
        split: which part of a data set that has several.
        images: the folder of the images, where several could be meant.
            Of tables the column.
        root: YOLO: the folder of the data, in place of what the YAML file says.
        label_key: what states the label in tars (a member's suffix, or a field of the JSON) or
            tables (a column), where it is not what custom has it.

    Raises:
        InputError: there is nothing of the kind, it holds no images, or two readings are possible.
        LabelError: labels or class folders that the model does not know.
        MissingExtraError: "demo" without the extra that brings the photographs.
    """
    if isinstance(source, ImageData):
        options = (class_map, labeled, clean, split, images, root, label_key)
        if any(given is not None for given in options):
            raise InputError(
                "A data set is open already: give class_map, labeled, clean, split, images, root "
                "and label_key where it is made."
            )
        if classes is not None:
            check_labels(source, _of_model(classes))
        return source
    path = Path(source)
    reading = _Reading(classes, class_map, labeled, clean, split, images, root, label_key)
    if path.exists() or is_address(source):
        return reading.open(source if is_address(source) else path)
    if any(given is not None for given in (split, images, root, label_key)):
        raise InputError(
            f"{path} has no parts to choose from: leave out split, images, root and label key."
        )
    if str(source) != "demo":
        raise InputError(
            f"{path} does not exist; expected a folder of images, a .csv file, a -C tree, or demo."
            f"{suggest_sibling(path)}"
        )
    if class_map is not None or labeled is not None:
        raise InputError("The demo photographs have their labels; leave out what changes them.")
    return DemoPhotographs(None if classes is None else _of_model(classes))


@dataclass(frozen=True)
class _Reading:
    """How a data set is to be read; see :func:`open_data`."""

    classes: Classes | LabelSet | None
    class_map: Mapping[str, str] | None
    labeled: bool | None
    clean: str | Path | None
    split: str | None
    images: str | Path | None
    root: str | Path | None
    label_key: str | None

    def open(self, source: str | Path) -> ImageData:
        """Open what a path or an address was found to be."""
        found = self._find(source)
        path = redact_urls(found.address or str(found.source))
        if self.clean is not None and found.layout not in _WITH_CELLS:
            raise InputError(
                f"{path} is no -C tree (corruption/severity/class/file), so it has no clean twin."
            )
        if isinstance(self.classes, LabelSet) and found.layout not in _IN_FOLDERS:
            raise InputError(
                f"{path} has no class folders, and the label set {self.classes.title} says what "
                "those mean; give its classes instead."
            )
        if self.label_key is not None and found.layout not in PACKED:
            raise InputError(
                f"{path} is {TITLES[found.layout]}; a label key says what states the label in tars, "
                "saved data sets and Parquet files."
            )
        data = self._open_packed(found) if found.layout in PACKED else self._open(found)
        data.aside = (*data.aside, *found.left_aside, *found.said)
        return data

    def _open_packed(self, found: FoundDataset) -> ImageData:
        classes = None if self.classes is None else _of_model(self.classes)
        if found.layout == "webdataset":
            return TarData(
                found.address or found.source,
                classes,
                class_map=self.class_map,
                labeled=self.labeled,
                label_key=self.label_key,
            )
        kind = SavedDataset if found.layout == "saved" else ParquetImages
        return kind(
            found.source,
            self.split,
            classes,
            class_map=self.class_map,
            labeled=self.labeled,
            label_key=self.label_key,
            column=None if self.images is None else str(self.images),
        )

    def _find(self, source: str | Path) -> FoundDataset:
        if is_address(source):
            return find_dataset(source, split=self.split, images=self.images, root=self.root)
        path = Path(source)
        if self.labeled is False or not path.is_dir() or not self._knows_folders(path):
            # Lists of images and folders of Cityscapes are the readers' own.
            is_own = layout_of(path) in DETECTION and layout_of(path) != "coco"
            split = None if is_own else self.split
            return find_dataset(path, split=split, images=self.images, root=self.root)
        if self.split is not None or self.root is not None:
            raise InputError(f"{path} holds class folders alone: leave out split and root.")
        return find_plain(path, images=path if self.images is None else self.images)

    def _knows_folders(self, path: Path) -> bool:
        """Whether all folders are called by classes, so that files beside the images do not matter."""
        if self.classes is None or is_corrupted_tree(path) or is_corrupted_arrays(path):
            return False
        labels = self._folder_labels(path)
        return labels.knows([folder.name for folder in folders_in(path)])

    def _folder_labels(self, path: Path) -> FolderLabels:
        return FolderLabels(
            self.classes, class_map=self.class_map, labeled=self.labeled, where=str(path)
        )

    def _open(self, found: FoundDataset) -> ImageData:
        path, classes, labeled = found.source, self.classes, self.labeled
        if found.layout == "corrupted tree":
            return CorruptedTree(
                path, classes, class_map=self.class_map, labeled=labeled, clean=self.clean
            )
        if found.layout == "plain":
            return ImageFolder(
                path / found.folders[0],
                classes,
                class_map=self.class_map,
                labeled=labeled,
                only=found.walk,
            )
        if found.layout in DETECTION or found.layout in LABEL_MAPS:
            return self._photographs(found)
        flat = None if classes is None else _of_model(classes)
        if found.layout == "table":
            return ImageTable(path, flat, class_map=self.class_map, labeled=labeled)
        if found.layout == "image":
            raise InputError(
                f"{path} is an image; expected a folder of images: give {path.parent}."
            )
        if self.class_map is not None:
            raise InputError(f"{path} has its labels as numbers, so a class map has no effect.")
        return CorruptedArrays(path, flat, labeled=labeled, clean=self.clean)

    def _photographs(self, found: FoundDataset) -> ImageData:
        """Open the photographs of data with boxes or label maps; these have classes, those none."""
        data: DetectionData | SegmentationData
        if found.layout in LABEL_MAPS:
            data = open_segmentation_data(found.source, split=self.split)
        else:
            data = open_detection_data(
                found.source, split=self.split, images=self.images, root=self.root
            )
        if self.classes is None and not self.labeled:
            return data
        if self.labeled or self.class_map is not None:
            raise LabelError(
                f"{found.source} is {TITLES[found.layout]} data: its photographs have no label "
                "each. Measure without labels (--unlabeled, labeled=False)."
            )
        return ImageFolder(data.root, only=[sample.id for sample in data.samples])


_WITH_CELLS = ("corrupted tree", "corrupted arrays")
_IN_FOLDERS = ("plain", "corrupted tree", *DETECTION)


def _of_model(classes: Classes | LabelSet) -> Classes:
    return classes.classes if isinstance(classes, LabelSet) else classes


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
        "label set and measure model.restrict(label set)."
    )
