"""Datasets: folders, CSV files, -C trees, arrays, boxes, label maps; and corrupted copies.

The published variants of ImageNet, as unpacked:

- ImageNet-C, Tiny-ImageNet-C, CIFAR-10-C, CIFAR-100-C, MNIST-C: ``open_data(PATH, classes=...)``
  gives :class:`CorruptedData`.
- ImageNet-V2 (folders ``0`` to ``999``), ImageNet-Sketch: ``open_data(PATH, classes=model.classes)``.
- ImageNet-R, -A, -D (a domain's folder of DomainNet), ObjectNet (``objectnet-1.0/images``): with
  ``labels = label_set("imagenet-r")``, open ``open_data(PATH, classes=labels)`` and measure
  ``model.restrict(labels)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.lazy import load_name

if TYPE_CHECKING:
    from shiftproof.data.copies.corrupted_copy import estimate_export, export_corrupted
    from shiftproof.data.copies.estimate import Estimate
    from shiftproof.data.copies.writing import ExportResult
    from shiftproof.data.dataset import ImageData
    from shiftproof.data.detection.boxes import DetectionData, ImageObjects
    from shiftproof.data.detection.cityscapes import CITYSCAPES_CLASSES, CityscapesData
    from shiftproof.data.detection.coco import CocoData
    from shiftproof.data.detection.opening import open_detection_data
    from shiftproof.data.detection.packed import PackedDetectionData
    from shiftproof.data.detection.voc import VOC_CLASSES, VocData
    from shiftproof.data.detection.yolo import YoloData
    from shiftproof.data.find import find_dataset
    from shiftproof.data.found import FoundDataset, Part
    from shiftproof.data.images.arrays import ImageArrays
    from shiftproof.data.images.cells import CorruptedData
    from shiftproof.data.images.corrupted import CorruptedTree
    from shiftproof.data.images.corrupted_arrays import CorruptedArrays
    from shiftproof.data.images.csv_table import ImageTable
    from shiftproof.data.images.demo import DemoPhotographs
    from shiftproof.data.images.folder import ImageFolder, read_class_map
    from shiftproof.data.images.opening import check_labels, open_data
    from shiftproof.data.images.packed_tree import PackedTree
    from shiftproof.data.images.parquet import ParquetImages
    from shiftproof.data.images.saved import SavedDataset
    from shiftproof.data.images.tars import TarData
    from shiftproof.data.segmentation.dataset import (
        MaskCounts,
        SegmentationData,
        check_masks,
        open_segmentation_data,
    )
    from shiftproof.data.subset import choose_images
    from shiftproof.metrics.faults import Fault

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
    "ExportResult",
    "Fault",
    "FoundDataset",
    "ImageArrays",
    "ImageData",
    "ImageFolder",
    "ImageObjects",
    "ImageTable",
    "MaskCounts",
    "PackedDetectionData",
    "PackedTree",
    "ParquetImages",
    "Part",
    "SavedDataset",
    "SegmentationData",
    "TarData",
    "VocData",
    "YoloData",
    "check_labels",
    "check_masks",
    "choose_images",
    "estimate_export",
    "export_corrupted",
    "find_dataset",
    "open_data",
    "open_detection_data",
    "open_segmentation_data",
    "read_class_map",
]

_NAMES = {
    "CITYSCAPES_CLASSES": "shiftproof.data.detection.cityscapes",
    "CityscapesData": "shiftproof.data.detection.cityscapes",
    "CocoData": "shiftproof.data.detection.coco",
    "CorruptedArrays": "shiftproof.data.images.corrupted_arrays",
    "CorruptedData": "shiftproof.data.images.cells",
    "CorruptedTree": "shiftproof.data.images.corrupted",
    "DemoPhotographs": "shiftproof.data.images.demo",
    "DetectionData": "shiftproof.data.detection.boxes",
    "Estimate": "shiftproof.data.copies.estimate",
    "ExportResult": "shiftproof.data.copies.writing",
    "Fault": "shiftproof.metrics.faults",
    "FoundDataset": "shiftproof.data.found",
    "ImageArrays": "shiftproof.data.images.arrays",
    "ImageData": "shiftproof.data.dataset",
    "ImageFolder": "shiftproof.data.images.folder",
    "ImageObjects": "shiftproof.data.detection.boxes",
    "ImageTable": "shiftproof.data.images.csv_table",
    "MaskCounts": "shiftproof.data.segmentation.dataset",
    "PackedDetectionData": "shiftproof.data.detection.packed",
    "PackedTree": "shiftproof.data.images.packed_tree",
    "ParquetImages": "shiftproof.data.images.parquet",
    "Part": "shiftproof.data.found",
    "SavedDataset": "shiftproof.data.images.saved",
    "SegmentationData": "shiftproof.data.segmentation.dataset",
    "TarData": "shiftproof.data.images.tars",
    "VOC_CLASSES": "shiftproof.data.detection.voc",
    "VocData": "shiftproof.data.detection.voc",
    "YoloData": "shiftproof.data.detection.yolo",
    "check_labels": "shiftproof.data.images.opening",
    "check_masks": "shiftproof.data.segmentation.dataset",
    "choose_images": "shiftproof.data.subset",
    "estimate_export": "shiftproof.data.copies.corrupted_copy",
    "export_corrupted": "shiftproof.data.copies.corrupted_copy",
    "find_dataset": "shiftproof.data.find",
    "open_data": "shiftproof.data.images.opening",
    "open_detection_data": "shiftproof.data.detection.opening",
    "open_segmentation_data": "shiftproof.data.segmentation.dataset",
    "read_class_map": "shiftproof.data.images.folder",
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
