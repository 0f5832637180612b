"""The layouts of datasets with label maps: their characteristic folders and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shiftproof.counts import pluralize
from shiftproof.data.detection.cityscapes import is_cityscapes
from shiftproof.data.disk import find_images, join_below, list_folders, list_two_levels, shorten
from shiftproof.data.found import FoundDataset, Part, Request
from shiftproof.data.segmentation.pairs import map_stems, pair_by_stem, pair_masks
from shiftproof.data.splits import matches_split
from shiftproof.errors import InputError
from shiftproof.io.images import is_image, read_mode
from shiftproof.io.text import read_text
from shiftproof.models.segmenters.label_spaces import (
    LabelSpace,
    ade20k,
    cityscapes_ids,
    cityscapes_train_ids,
    voc,
)

CLEAR = "clear"
"""The condition of the original images of Cityscapes."""


@dataclass(frozen=True)
class MaskPairs:
    """The images of a dataset with their label maps.

    Attributes:
        masks: label map by image, both relative to the root.
        space: the classes of the numbers; None if unknown.
        conditions: recording condition by image, if there are several.
    """

    masks: Mapping[str, str]
    space: LabelSpace | None
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelMapLayout:
    """One row of ``LABEL_MAP_LAYOUTS``.

    Attributes:
        title: name shown to users.
        matches: returns whether a folder has the characteristic folders of the layout.
        list_splits: returns the existing splits.
        default_split: the split to open by default.
        find: finds the images and label maps of a split.
    """

    title: str
    matches: Callable[[Path], object]
    list_splits: Callable[[Path], list[str]]
    default_split: str
    find: Callable[[Path, str], MaskPairs]


def find_layout(root: Path) -> str | None:
    """Return the layout of a folder, a key of ``LABEL_MAP_LAYOUTS``, or None."""
    return next((name for name, one in LABEL_MAP_LAYOUTS.items() if one.matches(root)), None)


def choose_split(layout: LabelMapLayout, root: Path, requested: str | None) -> str:
    """Return the requested or default split.

    Raises:
        InputError: no such split; the message lists the splits.
    """
    splits = layout.list_splits(root)
    split = requested or layout.default_split
    if split in splits:
        return split
    matching = [name for name in splits if matches_split(name, split)]
    if matching:
        return matching[0]
    if requested is None and len(splits) == 1:
        return splits[0]
    if splits == ["all"]:
        raise InputError(f"{root} ({layout.title}) has no splits: leave out the split {split!r}.")
    raise InputError(
        f"{root} has no split {split!r}; it has {shorten(splits) or 'none'}. Give one as split "
        "(--split)."
    )


# ---------------------------------------------------------------- Cityscapes and its weather

_FAMILY = re.compile(r"(?P<stem>.+)_leftImg8bit(?:_(?P<weather>.+))?")
_PATTERN = re.compile(r"_pattern_\d+$")


_CITY_FOLDERS = ("leftImg8bit", "leftImg8bit_foggy", "leftImg8bit_foggyDBF", "leftImg8bit_rain")
"""Foggy Cityscapes has two versions, the second with the suffix DBF and the same file names."""


def _list_weather_folders(root: Path) -> list[str]:
    return [name for name in _CITY_FOLDERS if (root / name).is_dir()]


def _find_condition(folder: str, weather: str | None) -> str:
    """Return the condition of an image from its folder and the weather in its name."""
    if weather is None:
        return CLEAR
    condition = _PATTERN.sub("", weather)
    return condition.replace("foggy", "foggyDBF", 1) if folder.endswith("foggyDBF") else condition


def _is_weather(root: Path) -> bool:
    return (root / "gtFine").is_dir() and bool(_list_weather_folders(root))


def _list_city_splits(root: Path) -> list[str]:
    splits = (
        folder.name for name in _list_weather_folders(root) for folder in list_folders(root / name)
    )
    return list(dict.fromkeys(splits))


def _find_city(root: Path, split: str) -> MaskPairs:
    images: dict[str, str] = {}
    conditions: dict[str, str] = {}
    for folder in _list_weather_folders(root):
        inner = f"{folder}/{split}"
        for name in find_images(root / inner).names:
            image = f"{inner}/{name}"
            match = _FAMILY.fullmatch(PurePosixPath(name).stem)
            key = match["stem"] if match else PurePosixPath(name).stem
            images[image] = str(PurePosixPath(name).with_name(key))
            conditions[image] = _find_condition(folder, match["weather"] if match else None)
    masks, space = _find_city_masks(root, f"gtFine/{split}", "_gtFine")
    # Only some images have copies with fog and rain.
    is_subset = CLEAR not in conditions.values()
    return MaskPairs(
        pair_masks(images, masks, where=str(root), subset=is_subset), space, conditions
    )


def _find_city_masks(root: Path, inner: str, mark: str) -> tuple[dict[str, str], LabelSpace]:
    """Return the label maps of a folder: those with training ids, or else with Cityscapes' own ids."""
    names = find_images(root / inner).names
    for ending, space in (("_labelTrainIds", cityscapes_train_ids), ("_labelIds", cityscapes_ids)):
        end = f"{mark}{ending}"
        masks = {
            str(_strip_ending(name, end)): f"{inner}/{name}"
            for name in names
            if PurePosixPath(name).stem.endswith(end)
        }
        if masks:
            return masks, space()
    raise InputError(
        f"{root / inner} has no label maps; expected files called "
        f"*{mark}_labelTrainIds.png or *{mark}_labelIds.png."
    )


def _strip_ending(name: str, ending: str) -> PurePosixPath:
    path = PurePosixPath(name)
    return path.with_name(path.stem.removesuffix(ending))


# ---------------------------------------------------------------- ACDC


def _is_acdc(root: Path) -> bool:
    return (root / "rgb_anon").is_dir() and (root / "gt").is_dir()


def _list_acdc_splits(root: Path) -> list[str]:
    conditions = list_folders(root / "rgb_anon")
    splits = (folder.name for condition in conditions for folder in list_folders(condition))
    # The reference images under normal conditions have no label maps.
    return [split for split in dict.fromkeys(splits) if not split.endswith("_ref")]


def _find_acdc(root: Path, split: str) -> MaskPairs:
    images: dict[str, str] = {}
    conditions: dict[str, str] = {}
    masks: dict[str, str] = {}
    spaces = []
    for condition in list_folders(root / "rgb_anon"):
        inner = f"{condition.name}/{split}"
        if not (root / "rgb_anon" / inner).is_dir():
            continue
        for name in find_images(root / "rgb_anon" / inner).names:
            image = f"rgb_anon/{inner}/{name}"
            images[image] = f"{inner}/{_strip_ending(name, '_rgb_anon')}"
            conditions[image] = condition.name
        by_key, space = _find_city_masks(root, f"gt/{inner}", "_gt")
        masks |= {f"{inner}/{key}": mask for key, mask in by_key.items()}
        spaces.append(space)
    if len({id(space) for space in spaces}) > 1:
        raise InputError(
            f"{root}: some conditions have label maps for training (labelTrainIds), others by id "
            "(labelIds) only; bring all into one form."
        )
    return MaskPairs(pair_masks(images, masks, where=str(root)), spaces[0], conditions)


# ---------------------------------------------------------------- ADE20K


def _list_ade20k_splits(root: Path) -> list[str]:
    names = ("training", "validation")
    return [
        name
        for name in names
        if (root / "images" / name).is_dir() and (root / "annotations" / name).is_dir()
    ]


def _find_ade20k(root: Path, split: str) -> MaskPairs:
    return MaskPairs(_pair_by_stem(root, f"images/{split}", f"annotations/{split}"), ade20k())


# ---------------------------------------------------------------- Pascal VOC


def _find_voc_root(root: Path) -> Path | None:
    folders = [root, *(list_two_levels(root) if root.is_dir() else [])]
    return next(filter(_has_voc_folders, folders), None)


def _has_voc_folders(folder: Path) -> bool:
    return (folder / "JPEGImages").is_dir() and (folder / "SegmentationClass").is_dir()


def _list_voc_lists(root: Path) -> list[Path]:
    voc_root = _find_voc_root(root)
    lists = (
        [] if voc_root is None else sorted((voc_root / "ImageSets" / "Segmentation").glob("*.txt"))
    )
    return [path for path in lists if path.is_file()]


def _list_voc_splits(root: Path) -> list[str]:
    return [path.stem for path in _list_voc_lists(root)] or ["all"]


def _find_voc(root: Path, split: str) -> MaskPairs:
    voc_root = _find_voc_root(root)
    assert voc_root is not None
    prefix = voc_root.relative_to(root).as_posix()
    images = _list_stems(root, join_below(prefix, "JPEGImages"))
    masks = _list_stems(root, join_below(prefix, "SegmentationClass"))
    listed = next((path for path in _list_voc_lists(root) if path.stem == split), None)
    if listed is None:
        # Most images of VOC have only boxes.
        images = {stem: name for stem, name in images.items() if stem in masks}
    else:
        stems = read_text(listed).split()
        if not stems:
            raise InputError(f"{listed} names no images.")
        missing = [stem for stem in stems if stem not in images]
        if missing:
            raise InputError(
                f"{listed}: {len(missing):,} of its {pluralize(len(stems), 'image')} "
                f"{'is' if len(missing) == 1 else 'are'} not in "
                f"{join_below(prefix, 'JPEGImages')} (first: {missing[0]})."
            )
        images = {stem: images[stem] for stem in stems}
        masks = {stem: name for stem, name in masks.items() if stem in images}
    keys = {name: stem for stem, name in images.items()}
    return MaskPairs(pair_masks(keys, masks, where=str(root)), voc())


# ---------------------------------------------------------------- two folders

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages", "photos")
_MASK_FOLDERS = ("masks", "mask", "annotations", "labels", "label_maps", "SegmentationClass")


def find_mask_folders(root: Path) -> tuple[str, str] | None:
    """Return the folder of images and the folder of label maps if there is one of each, or None.

    Label maps are recognized by their files, which have one channel.
    """
    folders = find_folders_by_name(root)
    return folders if folders is not None and _holds_indices(root / folders[1]) else None


def find_folders_by_name(root: Path) -> tuple[str, str] | None:
    """Return the folders that are named like images and label maps, or None.

    The files in the second may be label maps or colored images.
    """
    names = {folder.name for folder in list_folders(root)}
    images = [name for name in _IMAGE_FOLDERS if name in names]
    masks = [name for name in _MASK_FOLDERS if name in names]
    if len(images) != 1 or len(masks) != 1 or _find_first_image(root / masks[0]) is None:
        return None
    return images[0], masks[0]


def _find_first_image(folder: Path) -> Path | None:
    return next((path for path in sorted(folder.rglob("*")) if is_image(path)), None)


def _holds_indices(folder: Path) -> bool:
    first = _find_first_image(folder)
    if first is None or first.suffix.lower() not in (".png", ".tif", ".tiff", ".bmp", ".gif"):
        return False
    mode = read_mode(first) or ""
    return mode in ("1", "L", "P") or mode.startswith("I")


def find_pairs(root: Path, images: str, masks: str) -> MaskPairs:
    """Return the images and label maps of two folders below ``root``, by their names without suffix.

    Raises:
        InputError: an image without label map or a label map without image.
    """
    return MaskPairs(_pair_by_stem(root, images, masks), None)


def _find_masks(root: Path, split: str) -> MaskPairs:
    folders = find_mask_folders(root)
    assert folders is not None
    return find_pairs(root, *folders)


def _pair_by_stem(root: Path, images: str, masks: str) -> dict[str, str]:
    return pair_by_stem(_list_names_in(root, images), _list_names_in(root, masks), where=str(root))


def _list_stems(root: Path, inner: str) -> dict[str, str]:
    return map_stems(_list_names_in(root, inner))


def _list_names_in(root: Path, inner: str) -> dict[str, str]:
    return {name: join_below(inner, name) for name in find_images(root / inner).names}


LABEL_MAP_LAYOUTS: dict[str, LabelMapLayout] = {
    "cityscapes": LabelMapLayout("Cityscapes", is_cityscapes, _list_city_splits, "val", _find_city),
    "acdc": LabelMapLayout("ACDC", _is_acdc, _list_acdc_splits, "val", _find_acdc),
    "cityscapes weather": LabelMapLayout(
        "Foggy or Rainy Cityscapes", _is_weather, _list_city_splits, "val", _find_city
    ),
    "ade20k": LabelMapLayout(
        "ADE20K", _list_ade20k_splits, _list_ade20k_splits, "validation", _find_ade20k
    ),
    "voc masks": LabelMapLayout(
        "Pascal VOC, SegmentationClass",
        _find_voc_root,
        _list_voc_splits,
        "val",
        _find_voc,
    ),
    "masks": LabelMapLayout(
        "images and label maps",
        find_mask_folders,
        lambda root: ["all"],
        "all",
        _find_masks,
    ),
}
"""The layouts by name, in order of precedence."""


def find_label_maps(request: Request) -> FoundDataset:
    """Find the splits of a dataset with label maps."""
    path, layout = request.path, LABEL_MAP_LAYOUTS[request.layout]
    if request.split is None:
        splits = layout.list_splits(path)
    else:
        splits = [choose_split(layout, path, request.split)]
    parts = []
    for split in splits:
        try:
            masks = layout.find(path, split).masks
        except InputError as error:
            parts.append(Part(split, "", (), (), problem=error))
            continue
        mask_folders = list_top_folders(masks.values())
        parts.append(Part(split, mask_folders[0], list_top_folders(masks), tuple(masks)))
    return FoundDataset(path, request.layout, path, tuple(parts))


def list_top_folders(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first two folders of each path, without repetition."""
    tops = ("/".join(PurePosixPath(name).parts[:-1][:2]) or "." for name in names)
    return tuple(dict.fromkeys(tops))
