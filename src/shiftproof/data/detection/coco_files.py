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
from shiftproof.data.disk import join_below, list_folders, shorten
from shiftproof.data.splits import is_asked, split_of, splits_in
from shiftproof.errors import BrokenFileError, InputError, ShiftproofError
from shiftproof.io import files
from shiftproof.io.border import show_name
from shiftproof.io.text import read_json
from shiftproof.metrics.annotations import PARTS

_ENOUGH = 100
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

_PARTS = (b"images", b"annotations", b"categories")
_BLANK = b"\xef\xbb\xbf \t\r\n"

_CALLED_SO = re.compile(r"(?i)instances|coco|annotation|keypoints|captions|labels|^result$")


@dataclass(frozen=True)
class CocoFile:
    """A JSON of COCO objects and its images.

    Attributes:
        path: path of the JSON.
        name: path below the dataset's folder, for messages.
        home: the folder to which the images' paths are relative.
        folder: the folder of the images below ``home``; "" if none was found.
        names: from each ``file_name`` to its path below ``home``.
        missing: the images that do not exist.
        problem: the error, if it cannot be used.
        is_absent: whether the problem is that the images do not exist.
    """

    path: Path
    name: str
    home: Path
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

    They are in the folder, or in its subfolders for annotations or splits. They begin like COCO, or
    their name is COCO's but they cannot be read; the latter are reported.
    """
    return [path for path in _list_jsons(root) if _may_be(path)]


def describe_nearly_coco(root: Path) -> str:
    """Return which JSON is nearly COCO annotations, and what it lacks, as a sentence; or ""."""
    for path in _list_jsons(root):
        with contextlib.suppress(BrokenFileError):
            value = read_json(path) if starts_like_coco(path) else None
            is_near = isinstance(value, dict) and sum(part in value for part in PARTS) > 1
            if is_near and (what := describe_lacking(value)):
                return f". {path.relative_to(root).as_posix()} is nearly COCO{what}"
    return ""


def _list_jsons(root: Path) -> list[Path]:
    inner = [
        folder
        for folder in list_folders(root)
        if folder.name.lower() in ANNOTATION_FOLDERS or splits_in(folder.name)
    ]
    found = [path for folder in (root, *inner) for path in folder.glob("*.json")]
    return sorted(path for path in found if path.is_file())


def _may_be(path: Path) -> bool:
    """Return whether a JSON's text has COCO's three parts, or is truncated and begins like it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return bool(_CALLED_SO.search(path.stem))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                start, end = text[:40].lstrip(_BLANK), text[-40:].rstrip(_BLANK)
                if start.startswith(b"[") and end.endswith(b"]"):
                    return False  # detections
                if start.startswith(b"{") and end.endswith(b"}"):
                    return all(text.find(b'"%b"' % part) >= 0 for part in _PARTS)
    except OSError:
        pass
    return starts_like_coco(path) or bool(_CALLED_SO.search(path.stem))


def starts_like_coco(path: Path) -> bool:
    """Return whether a JSON file may be COCO annotations, by its beginning.

    This avoids parsing folders of other large JSON files.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(65536)
        is_object = start.lstrip(_BLANK).startswith(b"{")
        return is_object and any(
            b'"%b"' % part in start for part in (*_PARTS, b"info", b"licenses")
        )
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
    asked = [path for path in candidates if split is None or _is_of(root, path, split)]
    if split is not None and not asked and len(candidates) == 1:
        # Its name has no split: use the split of its image folder.
        asked = [path for path in candidates if not _find_splits_in_path(root, path)]
    for path in candidates:
        name = _name(root, path)
        if path not in asked:
            others.append(f"{name}: not of the split {split}")
            continue
        try:
            value = read_json(path)
        except BrokenFileError as error:
            files.append(CocoFile(path, name, root, problem=error))
            continue
        if not is_coco(value):
            others.append(f"{name}: no boxes in it; carried over")
            continue
        files.append(_with_images(root, path, name, value["images"], split, images))
    return files, others


def _is_of(root: Path, path: Path, split: str) -> bool:
    if splits_in(path.stem) or split in path.stem:
        return is_asked(split, path.stem)
    folder = path.parent.name if path.parent != root else ""
    return bool(folder) and is_asked(split, folder)


def _find_splits_in_path(root: Path, path: Path) -> frozenset[str]:
    return splits_in(path.stem) or (
        splits_in(path.parent.name) if path.parent != root else frozenset()
    )


def _name(root: Path, path: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.name


def _with_images(
    root: Path, path: Path, name: str, items: list[Any], split: str | None, images: Path | None
) -> CocoFile:
    """Find the images of one JSON."""
    texts = [item.get("file_name") for item in items if isinstance(item, dict)]
    said = [text for text in texts if isinstance(text, str)]
    below_here = _find_home(path)
    start = below_here if images is None else images
    # Ids are relative to the dataset's folder, if possible.
    home = next((folder for folder in (root, below_here) if _is_below(start, folder)), start)
    inner = start.resolve().relative_to(home.resolve()).as_posix()
    folders = [inner]
    if images is None:
        folders = [join_below(inner, folder) for folder in _list_folders(below_here)]
    wanted = splits_in(path.stem) or split_of(str(PurePosixPath(name).parent))
    try:
        readings = read_names(name, said, folders, lambda picture: files.is_file(home / picture))
        if not readings:
            raise _AbsentError(
                f"{path}: no folder in {home / folders[0]} holds its images "
                f"({shorten(map(show_name, said), 3) or 'none named'}); give the folder as images "
                "(--images)."
            )
        reading = (
            readings[0]
            if images is not None
            else _choose(path, readings, wanted or splits_in(split or ""))
        )
        names = {text: reading.picture(text) for text in said}
    except _AbsentError as error:
        return CocoFile(path, name, home, problem=error, is_absent=True)
    except InputError as error:
        return CocoFile(path, name, home, problem=error)
    missing = tuple(text for text, picture in names.items() if not files.is_file(home / picture))
    return CocoFile(path, name, home, reading.folder, names, missing)


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _find_home(path: Path) -> Path:
    """Return the folder below which the images of a JSON are searched.

    Not a sibling of its own folder, unless that is an annotation folder: another dataset's images
    may have the same names.
    """
    folder = path.absolute().parent
    return folder.parent if folder.name.lower() in ANNOTATION_FOLDERS else folder


def _list_folders(home: Path) -> list[str]:
    """Return the folder itself and its subfolders, up to two levels."""
    first = list_folders(home)
    every = [*first, *(inner for outer in first for inner in list_folders(outer))]
    return [".", *(folder.relative_to(home).as_posix() for folder in every)]


def _choose(path: Path, readings: Sequence[Reading], wanted: frozenset[str]) -> Reading:
    """Return the only reading that fits the split names of the JSON and the folders.

    Raises:
        InputError: two are possible, or the only folder is, by its name, of another split.
    """
    left = [one for one in readings if not is_label_map(one.folder)] or list(readings)
    if wanted:
        right = [one for one in left if split_of(one.folder) & wanted]
        silent = [one for one in left if not split_of(one.folder)]
        if not right and not silent:
            shown = " and ".join(f"{one.folder}/" for one in left)
            raise _AbsentError(
                f"{path}: it is of the split {'/'.join(sorted(wanted))}, but its images were found "
                f"only in {shown}, of another split by the name. Give the folder of its images as "
                "images (--images)."
            )
        left = right or silent
    # val2017 for instances_val2017, if val2014 exists as well.
    called_so = [one for one in left if one.folder != "." and _has_name(path.stem, one.folder)]
    left = called_so or left
    left = [one for one in left if one.hits == one.checked] or left
    if len(left) > 1:
        shown = " and ".join(f"{one.folder}/" for one in left)
        raise InputError(
            f"{path}: its images are found in {shown}; give the right folder as images (--images)."
        )
    return left[0]


def _has_name(stem: str, folder: str) -> bool:
    """Whether the name of a JSON has that of a folder as a word: the "a" of "instances" is none.

    >>> _has_name("instances_val2017", "images/val2017"), _has_name("instances", "a")
    (True, False)
    """
    word = re.escape(PurePosixPath(folder).name)
    return re.search(rf"(?<![^\W_]){word}(?![^\W_])", stem) is not None


# ---------------------------------------------------------------- what a file_name means


@dataclass(frozen=True)
class Reading:
    """A candidate interpretation of the file names in a JSON.

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

    def picture(self, text: str) -> str:
        """Return the path of a name.

        Raises:
            InputError: it leaves the folder.
        """
        if (
            "\\" in text
            and ".." not in text
            and self.exists(join_below(self.folder, check_inside(self.where, text)))
        ):
            return join_below(self.folder, text)  # a name with a backslash in it, where that can be
        parts = _split_name(self.where, text)
        return join_below(self.folder, "/".join(parts[min(self.dropped, len(parts) - 1) :]))


def read_names(
    where: str, said: Sequence[str], folders: Sequence[str], exists: Callable[[str], bool]
) -> list[Reading]:
    """Return the folders that contain files of these names, with the fewest folders dropped.

    Names may have backslashes, or leading folders that do not exist here, as exported by annotation
    tools.

    Raises:
        InputError: a name that leaves the folder.
    """
    for text in said:
        _split_name(where, text)
    if len(said) > _ENOUGH:
        said = [said[place * len(said) // _ENOUGH] for place in range(_ENOUGH)]
    checked = list(dict.fromkeys(said))
    deepest = max((len(_split_name(where, text)) for text in checked), default=1)
    for dropped in range(min(deepest, _MAX_DEPTH + 1)):
        found = []
        for folder in folders:
            reading = Reading(where, folder, dropped, len(checked), 0, exists)
            hits = sum(exists(reading.picture(text)) for text in checked)
            if hits:
                found.append(Reading(where, folder, dropped, len(checked), hits, exists))
        if found:
            return found
    return []


_UPLOAD = re.compile(r"(?:^|/)upload/\d+/(.+)$")
"""Upload folder in Label Studio's paths; its exports store the images elsewhere."""


def _split_name(where: str, text: str) -> list[str]:
    slashed = text.replace("\\", "/")
    upload = _UPLOAD.search(slashed)
    if upload is not None and (slashed.startswith(("/", "../"))):
        slashed = upload[1]
    check_inside(where, slashed)
    return [part for part in PurePosixPath(slashed).parts if part != "."]


def rename(text: str, picture: str) -> str:
    r"""Return a name as written in an annotation file, with its last part replaced by
    ``picture``'s.

    >>> print(rename("images\\a.jpg", "images/a.png"))
    images\a.png
    """
    at = max(text.rfind("/"), text.rfind("\\")) + 1
    return text[:at] + PurePosixPath(picture).name
