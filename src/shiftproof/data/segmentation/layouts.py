"""The layouts of datasets with label maps: their characteristic folders and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shiftproof.counts import plural
from shiftproof.data.detection.cityscapes import is_cityscapes
from shiftproof.data.disk import find_images, join_below, list_folders, shorten
from shiftproof.data.found import FoundDataset, Part, Request
from shiftproof.data.segmentation.pairs import pair, pair_by_stem, stems
from shiftproof.data.splits import is_asked
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
        is_there: whether a folder has the characteristic folders of the layout.
        splits: lists the existing splits.
        split: the default split.
        find: finds the images and label maps of a split.
    """

    title: str
    is_there: Callable[[Path], bool]
    splits: Callable[[Path], list[str]]
    split: str
    find: Callable[[Path, str], MaskPairs]


def find_layout(root: Path) -> str | None:
    """Return the layout of a folder, a key of ``LABEL_MAP_LAYOUTS``, or None."""
    return next((name for name, one in LABEL_MAP_LAYOUTS.items() if one.is_there(root)), None)


def choose_split(layout: LabelMapLayout, root: Path, asked: str | None) -> str:
    """Return the requested or default split.

    Raises:
        InputError: no such split; the message lists the splits.
    """
    there = layout.splits(root)
    wanted = asked or layout.split
    if wanted in there:
        return wanted
    close = [name for name in there if is_asked(wanted, name)]
    if close:
        return close[0]
    if asked is None and len(there) == 1:
        return there[0]
    if list(there) == ["all"]:
        raise InputError(f"{root} ({layout.title}) has no splits: leave out the split {wanted!r}.")
    raise InputError(
        f"{root} has no split {wanted!r}; there are {shorten(there) or 'none'}. Give one as split "
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
    known = _PATTERN.sub("", weather)
    return known.replace("foggy", "foggyDBF", 1) if folder.endswith("foggyDBF") else known


def _is_weather(root: Path) -> bool:
    return (root / "gtFine").is_dir() and bool(_list_weather_folders(root))


def _list_city_splits(root: Path) -> list[str]:
    there = (
        folder.name for name in _list_weather_folders(root) for folder in list_folders(root / name)
    )
    return list(dict.fromkeys(there))


def _find_city(root: Path, split: str) -> MaskPairs:
    images: dict[str, str] = {}
    conditions: dict[str, str] = {}
    for folder in _list_weather_folders(root):
        inner = f"{folder}/{split}"
        for name in _list_names(root / inner):
            image = f"{inner}/{name}"
            match = _FAMILY.fullmatch(PurePosixPath(name).stem)
            key = match["stem"] if match else PurePosixPath(name).stem
            images[image] = str(PurePosixPath(name).with_name(key))
            conditions[image] = _find_condition(folder, match["weather"] if match else None)
    masks, space = _find_city_masks(root, f"gtFine/{split}", "_gtFine")
    # Only some images have copies with fog and rain.
    is_subset = CLEAR not in conditions.values()
    return MaskPairs(pair(images, masks, where=str(root), subset=is_subset), space, conditions)


def _find_city_masks(root: Path, inner: str, mark: str) -> tuple[dict[str, str], LabelSpace]:
    """Return the label maps of a folder: those with training ids, else with all ids of Cityscapes."""
    names = _list_names(root / inner)
    for ending, space in (("_labelTrainIds", cityscapes_train_ids), ("_labelIds", cityscapes_ids)):
        end = f"{mark}{ending}"
        chosen = [name for name in names if PurePosixPath(name).stem.endswith(end)]
        if chosen:
            found = {str(_strip_ending(name, end)): f"{inner}/{name}" for name in chosen}
            return found, space()
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
    there = (folder.name for condition in conditions for folder in list_folders(condition))
    # The reference images under normal conditions have no label maps.
    return [name for name in dict.fromkeys(there) if not name.endswith("_ref")]


def _find_acdc(root: Path, split: str) -> MaskPairs:
    images: dict[str, str] = {}
    conditions: dict[str, str] = {}
    masks: dict[str, str] = {}
    spaces = []
    for condition in list_folders(root / "rgb_anon"):
        inner = f"{condition.name}/{split}"
        if not (root / "rgb_anon" / inner).is_dir():
            continue
        for name in _list_names(root / "rgb_anon" / inner):
            image = f"rgb_anon/{inner}/{name}"
            images[image] = f"{inner}/{_strip_ending(name, '_rgb_anon')}"
            conditions[image] = condition.name
        found, space = _find_city_masks(root, f"gt/{inner}", "_gt")
        masks |= {f"{inner}/{key}": mask for key, mask in found.items()}
        spaces.append(space)
    if len({id(space) for space in spaces}) > 1:
        raise InputError(
            f"{root}: some conditions have label maps for training (labelTrainIds), others by id "
            "(labelIds) only; bring all into one form."
        )
    return MaskPairs(pair(images, masks, where=str(root)), spaces[0], conditions)


# ---------------------------------------------------------------- ADE20K


def _is_ade20k(root: Path) -> bool:
    return bool(_list_ade20k_splits(root))


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


def _find_voc_home(root: Path) -> Path | None:
    first = [] if not root.is_dir() else list_folders(root)
    inner = [folder for outer in first for folder in list_folders(outer)]
    there = [one for one in (root, *first, *inner) if _has_masks_of_voc(one)]
    return there[0] if there else None


def _has_masks_of_voc(folder: Path) -> bool:
    return (folder / "JPEGImages").is_dir() and (folder / "SegmentationClass").is_dir()


def _list_voc_lists(root: Path) -> list[Path]:
    home = _find_voc_home(root)
    lists = [] if home is None else sorted((home / "ImageSets" / "Segmentation").glob("*.txt"))
    return [path for path in lists if path.is_file()]


def _list_voc_splits(root: Path) -> list[str]:
    return [path.stem for path in _list_voc_lists(root)] or ["all"]


def _find_voc(root: Path, split: str) -> MaskPairs:
    home = _find_voc_home(root)
    assert home is not None
    above = home.relative_to(root).as_posix()
    images = _list_stems(root, join_below(above, "JPEGImages"))
    masks = _list_stems(root, join_below(above, "SegmentationClass"))
    listed = next((path for path in _list_voc_lists(root) if path.stem == split), None)
    if listed is None:
        # Most images of VOC have only boxes.
        images = {stem: name for stem, name in images.items() if stem in masks}
    else:
        wanted = read_text(listed).split()
        if not wanted:
            raise InputError(f"{listed} names no images.")
        gone = [stem for stem in wanted if stem not in images]
        if gone:
            raise InputError(
                f"{listed}: {len(gone):,} of its {plural(len(wanted), 'image is', 'images are')} not in "
                f"{join_below(above, 'JPEGImages')} (first: {gone[0]})."
            )
        images = {stem: images[stem] for stem in wanted}
        masks = {stem: name for stem, name in masks.items() if stem in images}
    keys = {name: stem for stem, name in images.items()}
    return MaskPairs(pair(keys, masks, where=str(root)), voc())


# ---------------------------------------------------------------- two folders

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages", "photos")
_MASK_FOLDERS = ("masks", "mask", "annotations", "labels", "label_maps", "SegmentationClass")


def find_mask_folders(root: Path) -> tuple[str, str] | None:
    """Return the folder of images and the folder of label maps if there is one of each, or None.

    Label maps are recognized by their files, which have one channel.
    """
    named = find_folders_by_name(root)
    return named if named is not None and _holds_indices(root / named[1]) else None


def find_folders_by_name(root: Path) -> tuple[str, str] | None:
    """Return the folders of images whose names say pictures and label maps, or None.

    Whether the second has label maps, or pictures of them, its files say.
    """
    there = {folder.name for folder in list_folders(root)}
    images = [name for name in _IMAGE_FOLDERS if name in there]
    masks = [name for name in _MASK_FOLDERS if name in there]
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


def find_beside(root: Path, images: str, masks: str) -> MaskPairs:
    """Return the images and label maps of two folders below ``root``, by their names without suffix.

    Raises:
        InputError: an image without label map or a label map without image.
    """
    return MaskPairs(_pair_by_stem(root, images, masks), None)


def _find_masks(root: Path, split: str) -> MaskPairs:
    folders = find_mask_folders(root)
    assert folders is not None
    return find_beside(root, *folders)


def _pair_by_stem(root: Path, images: str, masks: str) -> dict[str, str]:
    return pair_by_stem(_list_names_in(root, images), _list_names_in(root, masks), where=str(root))


def _list_stems(root: Path, inner: str) -> dict[str, str]:
    return stems(_list_names_in(root, inner))


def _list_names_in(root: Path, inner: str) -> dict[str, str]:
    return {name: join_below(inner, name) for name in _list_names(root / inner)}


def _list_names(folder: Path) -> tuple[str, ...]:
    return find_images(folder).names


def _list_single_split(name: str) -> Callable[[Path], list[str]]:
    return lambda root: [name]


LABEL_MAP_LAYOUTS: dict[str, LabelMapLayout] = {
    "cityscapes": LabelMapLayout("Cityscapes", is_cityscapes, _list_city_splits, "val", _find_city),
    "acdc": LabelMapLayout("ACDC", _is_acdc, _list_acdc_splits, "val", _find_acdc),
    "cityscapes weather": LabelMapLayout(
        "Foggy or Rainy Cityscapes", _is_weather, _list_city_splits, "val", _find_city
    ),
    "ade20k": LabelMapLayout("ADE20K", _is_ade20k, _list_ade20k_splits, "validation", _find_ade20k),
    "voc masks": LabelMapLayout(
        "Pascal VOC, SegmentationClass",
        lambda root: _find_voc_home(root) is not None,
        _list_voc_splits,
        "val",
        _find_voc,
    ),
    "masks": LabelMapLayout(
        "images and label maps",
        lambda root: find_mask_folders(root) is not None,
        _list_single_split("all"),
        "all",
        _find_masks,
    ),
}
"""The layouts by name, in order of precedence."""


def find_label_maps(request: Request) -> FoundDataset:
    """Find the splits of a dataset with label maps."""
    path, reader = request.path, LABEL_MAP_LAYOUTS[request.layout]
    asked = request.split
    splits = reader.splits(path) if asked is None else [choose_split(reader, path, asked)]
    parts = []
    for name in splits:
        try:
            found = reader.find(path, name)
        except InputError as error:
            parts.append(Part(name, "", (), (), problem=error))
            continue
        maps = list_top_folders(found.masks.values())
        parts.append(Part(name, maps[0], list_top_folders(found.masks), tuple(found.masks)))
    return FoundDataset(path, request.layout, path, tuple(parts))


def list_top_folders(names: Iterable[str]) -> tuple[str, ...]:
    """Return the unique first two folders of paths."""
    tops = ("/".join(PurePosixPath(name).parts[:-1][:2]) or "." for name in names)
    return tuple(dict.fromkeys(tops))
