"""Finding COCO annotation files in a folder, and the images that they refer to."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from shiftproof.data.detection.boxes import check_inside
from shiftproof.data.detection.coco import describe_lacking, is_coco
from shiftproof.data.disk import join_below, list_folders, list_two_levels, shorten
from shiftproof.data.splits import matches_split, parse_path_splits, parse_splits
from shiftproof.errors import BrokenFileError, InputError, ShiftproofError
from shiftproof.io import files
from shiftproof.io.border import show_name
from shiftproof.io.text import read_json
from shiftproof.metrics.annotations import PARTS

_MAX_CHECKED = 100
"""Number of a JSON's images, evenly spread, that are searched in candidate folders."""

_MAX_DEPTH = 6
"""Maximum number of leading folders that are dropped from a name that is not found."""

ANNOTATION_FOLDERS = frozenset(
    {"annotations", "annotation", "anno", "annos", "anns", "labels", "label", "json", "jsons"}
)  # fmt: skip
"""Names of annotation folders; their images are beside the folder."""

_MAP_FOLDERS = re.compile(
    r"(?i)(annotations?|labels?|gt|ground_?truths?|depths?|disparity|.*masks?|.*maps?"
    r"|seg(mentation)?s?(class|object)?|.*segmentations?|panoptic.*|thumb(nail)?s?)\d*"
)
"""Names of folders of label maps, whose files often have the photographs' names."""

_QUOTED_PARTS = tuple(f'"{part}"'.encode() for part in PARTS)
_BOM_AND_SPACE = b"\xef\xbb\xbf \t\r\n"

_COCO_NAME = re.compile(r"(?i)instances|coco|annotation|keypoints|captions|labels|^result$")


@dataclass(frozen=True)
class CocoFile:
    """A JSON of COCO objects and its images.

    Attributes:
        path: path of the JSON.
        name: path below the dataset's folder, for messages.
        image_root: the folder to which the images' paths are relative.
        folder: the folder of the images below ``image_root``; "" if none was found.
        names: from each ``file_name`` to its path below ``image_root``.
        missing: the images that do not exist.
        problem: the error, if it cannot be used.
        is_absent: whether the problem is that the images do not exist.
    """

    path: Path
    name: str
    image_root: Path
    folder: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    problem: ShiftproofError | None = None
    is_absent: bool = False


class _AbsentError(InputError):
    """The images of a JSON do not exist."""


def is_label_map(folder: str) -> bool:
    """Return whether a folder's name is one of label maps: masks, depth, SegmentationClass.

    >>> is_label_map("stuffthingmaps/val2017"), is_label_map("images/val")
    (True, False)
    """
    return any(_MAP_FOLDERS.fullmatch(part) for part in PurePosixPath(folder).parts)


def list_coco_candidates(root: Path) -> list[Path]:
    """Return the JSON files that may be COCO annotations.

    They are in the folder, or in its subfolders for annotations or splits. They start like COCO, or
    their name is COCO's but they cannot be read; the latter are reported.
    """
    return [path for path in _list_jsons(root) if _may_be_coco(path)]


def describe_nearly_coco(root: Path) -> str:
    """Return a sentence on a JSON that is nearly COCO annotations, and its missing parts; or ""."""
    for path in _list_jsons(root):
        with contextlib.suppress(BrokenFileError):
            content = read_json(path) if starts_like_coco(path) else None
            is_nearly = isinstance(content, dict) and sum(part in content for part in PARTS) > 1
            if is_nearly and (lacking := describe_lacking(content)):
                return f". {path.relative_to(root).as_posix()} is nearly COCO{lacking}"
    return ""


def _list_jsons(root: Path) -> list[Path]:
    inner = [
        folder
        for folder in list_folders(root)
        if folder.name.lower() in ANNOTATION_FOLDERS or parse_splits(folder.name)
    ]
    found = [path for folder in (root, *inner) for path in folder.glob("*.json")]
    return sorted(path for path in found if path.is_file())


def _may_be_coco(path: Path) -> bool:
    """Return whether a JSON's text has COCO's three parts, or is truncated and starts like it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return bool(_COCO_NAME.search(path.stem))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                start, end = text[:40].lstrip(_BOM_AND_SPACE), text[-40:].rstrip(_BOM_AND_SPACE)
                if start.startswith(b"[") and end.endswith(b"]"):
                    return False  # detections
                if start.startswith(b"{") and end.endswith(b"}"):
                    return all(text.find(part) >= 0 for part in _QUOTED_PARTS)
    except OSError:
        pass
    return starts_like_coco(path) or bool(_COCO_NAME.search(path.stem))


def starts_like_coco(path: Path) -> bool:
    """Return whether a JSON file may be COCO annotations, by its beginning.

    This avoids parsing folders of other large JSON files.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(65536)
        is_object = start.lstrip(_BOM_AND_SPACE).startswith(b"{")
        keys = (*_QUOTED_PARTS, b'"info"', b'"licenses"')
        return is_object and any(key in start for key in keys)
    return False


def find_coco(
    root: Path,
    candidates: Sequence[Path],
    *,
    split: str | None = None,
    images: Path | None = None,
) -> tuple[list[CocoFile], list[str]]:
    """Return the COCO files with their images, and a sentence for each other file.

    Args:
        root: the folder of the dataset.
        candidates: the JSON files to inspect.
        split: only files of this split; also selects between image folders.
        images: the folder of the images.
    """
    files: list[CocoFile] = []
    others: list[str] = []
    requested = [path for path in candidates if split is None or _is_of_split(root, path, split)]
    if split is not None and not requested and len(candidates) == 1:
        # Its name has no split: use the split of its image folder.
        requested = [path for path in candidates if not _find_splits_in_path(root, path)]
    for path in candidates:
        name = _name_below(root, path)
        if path not in requested:
            others.append(f"{name}: not of the split {split}")
            continue
        try:
            content = read_json(path)
        except BrokenFileError as error:
            files.append(CocoFile(path, name, root, problem=error))
            continue
        if not is_coco(content):
            others.append(f"{name}: no boxes in it; carried over")
            continue
        files.append(_find_images(root, path, name, content["images"], split, images))
    return files, others


def _is_of_split(root: Path, path: Path, split: str) -> bool:
    if parse_splits(path.stem) or split in path.stem:
        return matches_split(path.stem, split)
    folder = path.parent.name if path.parent != root else ""
    return bool(folder) and matches_split(folder, split)


def _find_splits_in_path(root: Path, path: Path) -> frozenset[str]:
    return parse_splits(path.stem) or (
        parse_splits(path.parent.name) if path.parent != root else frozenset()
    )


def _name_below(root: Path, path: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.name


def _find_images(
    root: Path, path: Path, name: str, items: list[Any], split: str | None, images: Path | None
) -> CocoFile:
    """Find the images of one JSON."""
    texts = [item.get("file_name") for item in items if isinstance(item, dict)]
    file_names = [file_name for file_name in texts if isinstance(file_name, str)]
    search_root = _find_search_root(path)
    start = search_root if images is None else images
    # Ids are relative to the dataset's folder, if possible.
    image_root = next((folder for folder in (root, search_root) if _is_below(start, folder)), start)
    inner = start.resolve().relative_to(image_root.resolve()).as_posix()
    folders = [inner]
    if images is None:
        folders = [join_below(inner, folder) for folder in _list_folders(search_root)]
    splits = parse_splits(path.stem) or parse_path_splits(str(PurePosixPath(name).parent))
    try:
        mappings = find_path_mappings(
            name, file_names, folders, lambda image: files.is_file(image_root / image)
        )
        if not mappings:
            raise _AbsentError(
                f"{path}: no folder in {image_root / folders[0]} holds its images "
                f"({shorten(map(show_name, file_names), 3) or 'none named'}); give the folder as images "
                "(--images)."
            )
        mapping = (
            mappings[0]
            if images is not None
            else _choose_mapping(path, mappings, splits or parse_splits(split or ""))
        )
        names = {file_name: mapping.resolve(file_name) for file_name in file_names}
    except _AbsentError as error:
        return CocoFile(path, name, image_root, problem=error, is_absent=True)
    except InputError as error:
        return CocoFile(path, name, image_root, problem=error)
    missing = tuple(
        file_name for file_name, image in names.items() if not files.is_file(image_root / image)
    )
    return CocoFile(path, name, image_root, mapping.folder, names, missing)


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _find_search_root(path: Path) -> Path:
    """Return the folder below which the images of a JSON are searched.

    Not a sibling of its own folder, unless that is an annotation folder: another dataset's images
    may have the same names.
    """
    folder = path.absolute().parent
    return folder.parent if folder.name.lower() in ANNOTATION_FOLDERS else folder


def _list_folders(root: Path) -> list[str]:
    """Return the folder itself and its subfolders, up to two levels."""
    return [".", *(folder.relative_to(root).as_posix() for folder in list_two_levels(root))]


def _choose_mapping(
    path: Path, mappings: Sequence[PathMapping], splits: frozenset[str]
) -> PathMapping:
    """Return the only reading that fits the split names of the JSON and the folders.

    Raises:
        InputError: two are possible, or the only folder is named after another split.
    """
    remaining = [mapping for mapping in mappings if not is_label_map(mapping.folder)] or list(
        mappings
    )
    if splits:
        matching = [mapping for mapping in remaining if parse_path_splits(mapping.folder) & splits]
        unnamed = [mapping for mapping in remaining if not parse_path_splits(mapping.folder)]
        if not matching and not unnamed:
            shown = " and ".join(f"{mapping.folder}/" for mapping in remaining)
            raise _AbsentError(
                f"{path}: it is of the split {'/'.join(sorted(splits))}, but its images were found "
                f"only in {shown}, which is named after another split. Give the folder of its images as "
                "images (--images)."
            )
        remaining = matching or unnamed
    # val2017 for instances_val2017, if val2014 exists as well.
    same_name = [
        mapping
        for mapping in remaining
        if mapping.folder != "." and _has_name(path.stem, mapping.folder)
    ]
    remaining = same_name or remaining
    remaining = [mapping for mapping in remaining if mapping.hits == mapping.checked] or remaining
    if len(remaining) > 1:
        shown = " and ".join(f"{mapping.folder}/" for mapping in remaining)
        raise InputError(
            f"{path}: its images are found in {shown}; give the right folder as images (--images)."
        )
    return remaining[0]


def _has_name(stem: str, folder: str) -> bool:
    """Return whether a JSON's name has a folder's name as a word; "a" is not a word of "instances".

    >>> _has_name("instances_val2017", "images/val2017"), _has_name("instances", "a")
    (True, False)
    """
    word = re.escape(PurePosixPath(folder).name)
    return re.search(rf"(?<![^\W_]){word}(?![^\W_])", stem) is not None


# ---------------------------------------------------------------- file names and paths


@dataclass(frozen=True)
class PathMapping:
    """A candidate mapping from the file names in a JSON to paths.

    Attributes:
        where: the JSON, for messages.
        folder: the folder to which the names are relative.
        dropped: number of leading folders of a name that do not exist on disk.
        checked: number of names that were searched.
        hits: number of names that were found.
        exists: function from a path to whether the file exists.
    """

    where: str
    folder: str
    dropped: int
    checked: int
    hits: int
    exists: Callable[[str], bool]

    def resolve(self, file_name: str) -> str:
        """Return the path of a name.

        Raises:
            InputError: it leaves the folder.
        """
        if (
            "\\" in file_name
            and ".." not in file_name
            and self.exists(join_below(self.folder, check_inside(self.where, file_name)))
        ):
            return join_below(self.folder, file_name)  # a file whose name has a backslash
        parts = _split_path(self.where, file_name)
        return join_below(self.folder, "/".join(parts[min(self.dropped, len(parts) - 1) :]))


def find_path_mappings(
    where: str, file_names: Sequence[str], folders: Sequence[str], exists: Callable[[str], bool]
) -> list[PathMapping]:
    """Return the folders that contain files of these names, with the fewest folders dropped.

    Names may have backslashes, or leading folders that do not exist here, as exported by annotation
    tools.

    Raises:
        InputError: a name that leaves the folder.
    """
    for file_name in file_names:
        _split_path(where, file_name)
    if len(file_names) > _MAX_CHECKED:
        file_names = [
            file_names[index * len(file_names) // _MAX_CHECKED] for index in range(_MAX_CHECKED)
        ]
    checked = list(dict.fromkeys(file_names))
    depth = max((len(_split_path(where, file_name)) for file_name in checked), default=1)
    for dropped in range(min(depth, _MAX_DEPTH + 1)):
        found = []
        for folder in folders:
            mapping = PathMapping(where, folder, dropped, len(checked), 0, exists)
            hits = sum(exists(mapping.resolve(file_name)) for file_name in checked)
            if hits:
                found.append(PathMapping(where, folder, dropped, len(checked), hits, exists))
        if found:
            return found
    return []


_UPLOAD = re.compile(r"(?:^|/)upload/\d+/(.+)$")
"""Upload folder in Label Studio's paths; its exports store the images elsewhere."""


def _split_path(where: str, file_name: str) -> list[str]:
    slashed = file_name.replace("\\", "/")
    upload = _UPLOAD.search(slashed)
    if upload is not None and (slashed.startswith(("/", "../"))):
        slashed = upload[1]
    check_inside(where, slashed)
    return [part for part in PurePosixPath(slashed).parts if part != "."]


def replace_last_part(file_name: str, new_path: str) -> str:
    r"""Return a file name of an annotation file with its last part replaced by that of a path.

    >>> print(replace_last_part("images\\a.jpg", "images/a.png"))
    images\a.png
    """
    start = max(file_name.rfind("/"), file_name.rfind("\\")) + 1
    return file_name[:start] + PurePosixPath(new_path).name
