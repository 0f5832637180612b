"""Images with label maps: the class of each pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import final

import numpy as np

from shiftproof.classes import Classes
from shiftproof.compute import processes
from shiftproof.compute.progress import progress
from shiftproof.compute.tuning import default_processes
from shiftproof.counts import pluralize
from shiftproof.data.dataset import ImageData
from shiftproof.data.detection.boxes import check_inside
from shiftproof.data.disk import find_images, fingerprint_below, read_below
from shiftproof.data.images.folder import name_folder
from shiftproof.data.segmentation.label_map_layouts import (
    CLEAR,
    LABEL_MAP_LAYOUTS,
    MaskPairs,
    choose_split,
    find_folders_by_name,
    find_layout,
    find_pairs,
)
from shiftproof.data.segmentation.pairs import pair_by_stem
from shiftproof.errors import BrokenFileError, InputError, LabelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.images import read_indices, read_size
from shiftproof.models.segmenters.label_spaces import (
    VOID,
    LabelSpace,
    make_numbered_space,
    read_space,
)
from shiftproof.types import I64, Image, LabelMap, Sample, Settings


@final
class SegmentationData(ImageData):
    """Images with label maps.

    Small to pickle: images and label maps are read on demand. A sample's id is the path of its
    image below ``root`` and its key for randomness; it has no label of its own.

    Args:
        name: name in tables and records.
        root: the folder of the images.
        masks: from each image's path below ``root`` to its label map's path below ``mask_root``.
        space: the classes of the label maps' numbers.
        mask_root: the folder of the label maps; by default ``root``.
        conditions: the condition in which each image was taken, if there are several.

    Attributes:
        classes: the classes of the pixels.

    Raises:
        InputError: no images, or paths that leave the folder.
    """

    classes: Classes
    annotations = "label map was made"
    """Wording of size errors: "its label map was made in 640 x 480"."""

    def __init__(
        self,
        name: str,
        root: str | Path,
        masks: Mapping[str, str],
        space: LabelSpace,
        *,
        mask_root: str | Path | None = None,
        conditions: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, [Sample(key) for key in masks], None)
        self.root = Path(root)
        self.mask_root = self.root if mask_root is None else Path(mask_root)
        for path in (*masks, *masks.values()):
            check_inside(name, path)
        self.masks = dict(masks)
        self.space = space
        self.classes = space.classes
        self.conditions = {key: (conditions or {}).get(key, CLEAR) for key in masks}

    def __repr__(self) -> str:
        classes = pluralize(len(self.classes), "class")
        return f"SegmentationData({self.name!r}, {pluralize(len(self), 'image')}, {classes})"

    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB; see :class:`ImageData`."""
        return read_below(self.root, sample.id)

    def read_mask(self, sample: Sample) -> LabelMap:
        """Return the class of each pixel, ``(H, W)`` int16; -1 is void.

        At the size of the file: nothing is interpolated.

        Raises:
            BrokenFileError: it cannot be read, or has a number without a class.
        """
        name = self.masks[sample.id]
        path = self.mask_root / name
        try:
            return self.space.to_classes(read_indices(path))
        except BrokenFileError as error:
            raise BrokenFileError(f"{name}: {str(error).removeprefix(f'{path.name}: ')}") from error
        except LabelError as error:
            raise BrokenFileError(f"{name}: {error}") from error

    def get_size(self, sample: Sample) -> tuple[int, int]:
        """Return the height and width of an image's label map.

        Raises:
            BrokenFileError: it cannot be read.
        """
        size = read_size(self.mask_root / self.masks[sample.id])
        if size is None:
            raise BrokenFileError(f"{self.masks[sample.id]}: not an image that can be decoded.")
        return size[1], size[0]

    def content_fingerprints(self) -> list[str]:
        """Return a fingerprint of each image's file and its label map's."""
        names = [sample.id for sample in self.samples]
        images = fingerprint_below(self.root, names)
        masks = fingerprint_below(self.mask_root, (self.masks[name] for name in names))
        return [
            files.fingerprint([image.encode(), mask.encode()])
            for image, mask in zip(images, masks, strict=True)
        ]

    def settings(self) -> Settings:
        """Return the settings for the records."""
        return {
            **super().settings(),
            "label maps": self.space.settings(),
            "conditions": sorted({self.conditions[sample.id] for sample in self.samples}),
        }


@dataclass(frozen=True, eq=False)
class MaskCounts:
    """Counts over a dataset's label maps: ``(K,)`` pixels of each class, and images with it."""

    pixels: I64
    images: I64


def check_masks(
    data: SegmentationData, *, workers: int | None = None, show_progress: bool | None = None
) -> MaskCounts:
    """Read every label map once, check that it fits its image, and count its pixels.

    An image whose header cannot be read is not checked here; the run reports it.

    Args:
        data: the dataset.
        workers: processes; all cores by default; few images are read in this process.
        show_progress: None shows it on a terminal only.

    Raises:
        BrokenFileError: a label map that cannot be read, is of another size than its image, or has
            a number without a class; the message has the number of such files.
        InputError: all pixels are void.
    """
    workers = default_processes() if workers is None else workers
    workers = 0 if len(data) < _FEW else workers
    results = processes.map_ordered(_check_mask, data.samples, context=data, workers=workers)
    counts = []
    faults: list[str] = []
    with progress("Label maps", len(data), show=show_progress) as advance:
        for sample, result in zip(data.samples, results, strict=True):
            if isinstance(result, str):
                faults.append(result)
            else:
                counts.append(result)
            advance(note=sample.id)
    if faults:
        more = f" {len(faults) - 1:,} more are invalid." if len(faults) > 1 else ""
        raise BrokenFileError(f"{faults[0]}{more}")
    pixels = np.stack(counts)
    if not pixels.sum():
        raise InputError(
            f"{data.name}: no pixel of its {pluralize(len(data), 'label map')} counts; all are void."
        )
    return MaskCounts(pixels.sum(axis=0), (pixels > 0).sum(axis=0))


_FEW = 64
"""Number of label maps below which reading them is faster than starting processes."""


def _check_mask(data: SegmentationData, sample: Sample) -> I64 | str:
    """Return the pixels of each class, or an error message; runs in a worker."""
    try:
        mask = data.read_mask(sample)
    except BrokenFileError as error:
        return str(error)
    size = read_size(data.root / sample.id)
    if size is not None and size != mask.shape[::-1]:
        return (
            f"{data.masks[sample.id]}: {mask.shape[1]} x {mask.shape[0]} pixels, but its image "
            f"{sample.id} has {size[0]} x {size[1]}; expected a label map of the image's size."
        )
    return np.bincount(mask[mask >= 0], minlength=len(data.classes)).astype(np.int64)


# ---------------------------------------------------------------- opening


def open_segmentation_data(
    source: str | Path | SegmentationData,
    *,
    split: str | None = None,
    masks: str | Path | None = None,
    classes: str | Path | Classes | Iterable[str] | None = None,
    void: Iterable[int] = (VOID,),
    condition: str | None = None,
) -> SegmentationData:
    """Open a dataset with label maps; its layout is recognized by its folders.

    Cityscapes (``leftImg8bit``, ``gtFine``; ``labelTrainIds`` where present, else ``labelIds``),
    its foggy and rainy copies (``leftImg8bit_foggy``, ``leftImg8bit_foggyDBF``,
    ``leftImg8bit_rain``), ACDC (``rgb_anon``, ``gt``), ADE20K (``images/validation``,
    ``annotations/validation``), Pascal VOC (``JPEGImages``, ``SegmentationClass``), or a folder of
    images and one of label maps of the same names.

    Ids are paths below the folder, so they are also the keys with which
    :func:`~shiftproof.data.export_corrupted` corrupts that folder.

    Args:
        source: the folder; or a dataset, which is returned itself.
        split: by default val, for ADE20K validation; for Pascal VOC a list in
            ``ImageSets/Segmentation``.
        masks: a folder of label maps, if ``source`` is a folder of images; with the same paths
            except for the suffix.
        classes: the classes of such label maps: names of the numbers from 0, or a text file of
            them; a CSV file with rows ``number,name``; "cityscapes", "ade20k" or "voc". None uses
            the numbers that occur.
        void: numbers of void pixels, unless ``classes`` names them.
        condition: for example "fog" of ACDC; "foggy_beta_0.02" or "clear" of Cityscapes; "all". By
            default clear for Cityscapes, else all.

    Raises:
        InputError: no such layout, split or condition; an image without a label map, or a label map
            without an image.
        BrokenFileError: a list or file of names that cannot be read.
    """
    if isinstance(source, SegmentationData):
        if any(option is not None for option in (split, masks, classes, condition)):
            raise InputError(
                "The dataset is open already: give split, masks, classes and condition where it is "
                "opened."
            )
        return source
    path = Path(source)
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {problem}; expected the folder of a dataset with label maps.")
    if masks is not None:
        return _open_two_folders(path, Path(masks), split, classes, tuple(void), condition)
    name = find_layout(path)
    if name is None:
        _check_painted_maps(path)
        raise InputError(f"{path} is not a dataset with label maps: expected {_EXPECTED}.")
    layout = LABEL_MAP_LAYOUTS[name]
    chosen = choose_split(layout, path, split)
    pairs = _select_condition(layout.find(path, chosen), condition, path)
    title = name_folder(path) + ("" if chosen == "all" else f" {chosen}")
    if pairs.space is None:
        return _open_pairs(title, path, path, pairs, classes, tuple(void))
    if classes is not None:
        raise InputError(
            f"{path} is {layout.title}, whose classes are known, so classes have no effect."
        )
    return SegmentationData(title, path, pairs.masks, pairs.space, conditions=pairs.conditions)


def _check_painted_maps(path: Path) -> None:
    """Raise the error of the first label map, if the folders are named like images and label maps."""
    folders = find_folders_by_name(path)
    if folders is not None:
        masks = path / folders[1]
        read_indices(masks / find_images(masks).names[0])


_EXPECTED = (
    "leftImg8bit and gtFine (Cityscapes), rgb_anon and gt (ACDC), images/validation and "
    "annotations/validation (ADE20K), JPEGImages and SegmentationClass (Pascal VOC), or a folder of "
    "images and one of label maps (--masks)"
)


def _select_condition(pairs: MaskPairs, condition: str | None, root: Path) -> MaskPairs:
    existing = list(dict.fromkeys(pairs.conditions.values()))
    if condition is None and CLEAR in existing:
        condition = CLEAR
    if condition is None or condition == "all":
        return pairs
    if not existing:
        raise InputError(f"{root} has no conditions, so {condition!r} has no effect.")
    if condition not in existing:
        raise UnknownNameError.of("condition", condition, [*existing, "all"])
    masks = {
        image: mask
        for image, mask in pairs.masks.items()
        if pairs.conditions.get(image) == condition
    }
    return MaskPairs(masks, pairs.space, dict.fromkeys(masks, condition))


def _open_two_folders(
    images: Path,
    masks: Path,
    split: str | None,
    classes: str | Path | Classes | Iterable[str] | None,
    void: tuple[int, ...],
    condition: str | None,
) -> SegmentationData:
    if split is not None or condition is not None:
        raise InputError("A folder of images has no splits and conditions; leave them out.")
    folder = masks if masks.is_dir() else images / masks
    if not folder.is_dir():
        raise InputError(f"{masks} is not a folder; expected the folder of the label maps.")
    if folder.resolve().is_relative_to(images.resolve()):
        pairs = _find_inside(images, folder)
        return _open_pairs(name_folder(images), images, images, pairs, classes, void)
    image_names, mask_names = (
        {name: name for name in find_images(one).names} for one in (images, folder)
    )
    pairs = MaskPairs(pair_by_stem(image_names, mask_names, where=str(images)), None)
    return _open_pairs(name_folder(images), images, folder, pairs, classes, void)


def _find_inside(images: Path, folder: Path) -> MaskPairs:
    """Return the pairs if the label maps are in a subfolder of the image folder."""
    inner = folder.resolve().relative_to(images.resolve()).as_posix()
    names = [name for name in find_images(images).names if not name.startswith(f"{inner}/")]
    top_folders = {PurePosixPath(name).parts[0] for name in names if "/" in name}
    if len(top_folders) == 1:
        return find_pairs(images, top_folders.pop(), inner)
    masks = {name: f"{inner}/{name}" for name in find_images(folder).names}
    return MaskPairs(pair_by_stem({name: name for name in names}, masks, where=str(images)), None)


def _open_pairs(
    title: str,
    root: Path,
    mask_root: Path,
    pairs: MaskPairs,
    classes: str | Path | Classes | Iterable[str] | None,
    void: tuple[int, ...],
) -> SegmentationData:
    paths = [mask_root / mask for mask in pairs.masks.values()]
    space = _make_space(paths, void) if classes is None else read_space(classes, void)
    return SegmentationData(title, root, pairs.masks, space, mask_root=mask_root)


def _make_space(paths: list[Path], void: tuple[int, ...]) -> LabelSpace:
    """Return unnamed classes for the numbers up to the largest that occurs."""
    workers = 0 if len(paths) < _FEW else default_processes()
    with progress("Numbers of classes", len(paths), show=None) as advance:
        largest = -1
        for number in processes.map_ordered(_find_largest, paths, context=void, workers=workers):
            largest = max(largest, number)
            advance()
    if largest < 0:
        raise InputError(f"{paths[0].parent}: no pixel of the label maps counts; all are void.")
    return make_numbered_space(largest + 1, void)


def _find_largest(void: tuple[int, ...], path: Path) -> int:
    numbers = read_indices(path)
    counted = numbers[~np.isin(numbers, void)]
    return int(counted.max()) if counted.size else -1
