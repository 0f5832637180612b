"""YOLO: one text file of relative boxes for each image, and a YAML file of the dataset."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, final

from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.data.detection.boxes import (
    NO_FILE,
    UNREADABLE,
    DetectionData,
    RawObject,
    check_boxes,
    read_image_sizes,
)
from shiftproof.data.disk import check_written_path, find_images, join_below, list_folders
from shiftproof.data.images.folder import name_folder
from shiftproof.data.splits import matches_split, parse_splits
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.images import IMAGE_SUFFIXES
from shiftproof.io.text import read_text
from shiftproof.io.yaml import MAX_BYTES, read_located_yaml
from shiftproof.metrics.faults import UNKNOWN_CLASS, Fault, read_number

SPLITS = ("train", "val", "test")

ALL = "all"
"""The only split of a folder without splits."""

MAX_CLASSES = 100_000


@final
class YoloData(DetectionData):
    """Images with the boxes of YOLO: ``class cx cy width height``, relative to the image's size.

    The labels of ``images/val/a.jpg`` are in ``labels/val/a.txt``: the last folder ``images`` in the path
    is replaced by ``labels``; without such a folder they are beside the image. An image without
    that file, or with an empty one, has no objects. A row of a class and three points or more is an
    outline, or with four points a rotated box; its box is the smallest around it. Where the YAML
    file has ``kpt_shape`` [K, D], a row is a box and K key points of D numbers, which are ignored.

    Args:
        config: the YAML file: ``names`` is a list or maps numbers to names; ``train``, ``val`` and
            ``test`` are each a folder, a ``.txt`` with one path per line, or a list of these;
            ``path``, which is optional, is the folder that they are relative to. Or a folder of
            images and labels without a YAML file, whose classes are those of ``classes.txt`` or
            ``obj.names``, or else numbers.
        split: train, val or test; "all" if the folder has no splits.
        root: the folder of the data, overriding the YAML file. Ids are relative to it, and ``path``
            is ignored.

    Raises:
        InputError: no such split, invalid names, or paths that leave the folder.
        BrokenFileError: a file that cannot be read.
        MissingExtraError: PyYAML is not installed.
    """

    def __init__(
        self, config: str | Path, split: str = "val", *, root: str | Path | None = None
    ) -> None:
        data = YoloConfig(Path(config), root=None if root is None else Path(root))
        images = data.list_images(split)
        class_numbers = sorted(data.names)
        labels = {number: label for label, number in enumerate(class_numbers)}
        faults: list[Fault] = []
        objects = {}
        for name, size in zip(images, read_image_sizes(data.root, images), strict=True):
            if size is None:
                detail = "relative boxes need the image's size"
                faults.append(Fault(name, NO_FILE, kept=False, detail=detail))
                continue
            label_file = data.root / find_label_file(name)
            try:
                text = read_text(label_file) if files.is_file(label_file) else ""
            except BrokenFileError as error:
                faults.append(Fault(name, UNREADABLE, kept=False, detail=str(error)))
                continue
            rows = []
            for line, words in enumerate(map(str.split, text.splitlines()), start=1):
                if not words:
                    continue
                place = f"line {line} of {find_label_file(name)}"
                number = read_number(words[0])
                if not number.is_integer() or int(number) not in labels:
                    faults.append(Fault(f"{name}, {place}", UNKNOWN_CLASS, False, words[0][:40]))
                    continue
                values = [read_number(word) for word in words[1:]]
                rows.append(_parse_row(place, labels[int(number)], values, size, data.key_points))
            objects[name], box_faults = check_boxes(name, size, rows)
            faults += box_faults
        if not objects:
            raise InputError(f"{data.where}: {split} has no image that can be read.")
        super().__init__(
            f"{name_folder(data.root)} {split}",
            data.root,
            objects,
            Classes(tuple(data.names[number] for number in class_numbers)),
            faults=faults,
        )


class YoloConfig:
    """The content of a YAML file of the data, or without one what the folders imply.

    Arguments as for :class:`YoloData`.

    Attributes:
        where: name in messages.
        root: the folder of the data.
        names: the class names by number.
        is_numbered: whether the classes have no names, only numbers.
        splits: the entries of the existing splits, as written.
        key_points: number of values of key points after the box in a row, or None.
    """

    def __init__(self, config: Path, *, root: Path | None = None) -> None:
        self.where = config.name
        self.root = root if root is not None else config if config.is_dir() else config.parent
        self._is_root_given = root is not None
        content, self._lines = (
            (_infer_config(config), {}) if config.is_dir() else _read_config(config)
        )
        self.is_numbered = config.is_dir() and "names" not in content
        self.names = _read_names(content, self._locate)
        self.key_points = _count_key_points(self._locate("kpt_shape"), content.get("kpt_shape"))
        self.splits = {name: content[name] for name in (*SPLITS, ALL) if content.get(name)}
        if "val" not in self.splits and content.get("validation"):
            self.splits["val"] = content["validation"]
        self._base = "." if root is not None else self._find_base(content.get("path"))

    def _locate(self, *keys: str) -> str:
        """Return the name of the YAML file, with the line of the first key that it has."""
        line = next((self._lines[key] for key in keys if key in self._lines), None)
        return self.where if line is None else f"{self.where}, line {line}"

    def _locate_split(self, split: str) -> str:
        return self._locate(split, "validation") if split == "val" else self._locate(split)

    def _find_base(self, path: Any) -> str:
        """Return the folder that entries are relative to, below ``root``."""
        if not path:
            return "."
        text = str(path)
        relative = make_relative(self.root, text)
        if relative is not None and (self.root / relative).is_dir():
            return relative
        entries = [part for entry in self.splits.values() for part in list_entries(entry)]
        if not (self.root / text).exists() and any(
            self._find(".", entry, self.where) for entry in entries
        ):
            return "."  # the path is of another machine, or of the original place of the data
        raise InputError(
            f"{self._locate('path')}: path is {text!r}, which leaves the folder of the file. Give the folder "
            "of the data as root (--root), or take path out of the file."
        )

    def find_split(self, split: str) -> str:
        """Return the name of a split here: ``val`` for ``validation``, for example.

        Raises:
            InputError: no such split; the message lists the splits.
        """
        if split in self.splits:
            return split
        name = next((name for name in self.splits if matches_split(name, split)), None)
        if name is None:
            raise self._make_split_error(split)
        return name

    def _make_split_error(self, split: str) -> InputError:
        existing = ", ".join(self.splits) or "none"
        return InputError(f"{self.where} has no split {split!r}; it has {existing}.")

    def list_images(self, split: str) -> list[str]:
        """Return the images of a split, relative to ``root``.

        Raises:
            InputError: no such split, it does not exist, or it leaves the folder.
        """
        if split not in self.splits:
            raise self._make_split_error(split)
        entries, where = list_entries(self.splits[split]), self._locate_split(split)
        names = (name for entry in entries for name in self._list_entry(entry, where))
        return list(dict.fromkeys(names))

    def list_folders(self, split: str) -> list[str]:
        """Return the existing folders and lists of a split, relative to ``root``."""
        entries = [entry for entry in list_entries(self.splits[split]) if isinstance(entry, str)]
        where = self._locate_split(split)
        names = [self._find(self._base, entry, where) for entry in entries]
        return [name for name in names if name is not None]

    def is_outside(self, split: str) -> bool:
        """Return whether an entry of a split can only be a path outside of ``root``."""
        return any(self._is_outside(entry) for entry in list_entries(self.splits[split]))

    def _is_outside(self, entry: Any) -> bool:
        return all(
            make_relative(self.root, str(Path(self._base, path))) is None
            for path in (str(entry), str(entry).removeprefix("../"))
        )

    def _find(self, base: str, entry: Any, where: str) -> str | None:
        """Return the folder or list of an entry as Ultralytics reads it, or None.

        It is the path as written, or else, as Roboflow writes it, the path without a leading ``../``.
        """
        if not isinstance(entry, str):
            raise InputError(
                f"{where}: expected a folder, a .txt or a list of these, got {entry!r:.60}."
            )
        check_written_path(where, entry, Path(self.root, base, entry))
        for path in (entry, entry.removeprefix("../")):
            name = make_relative(self.root, str(Path(base, path)))
            if name is not None and (self.root / name).exists():
                return name
        return None

    def _list_entry(self, entry: Any, where: str) -> list[str]:
        """Return the images of one entry; ``where`` is its place in messages."""
        name = self._find(self._base, entry, where)
        as_written = self.root / self._base / entry
        is_outside = self._is_outside(entry) or (
            make_relative(self.root, str(Path(self._base, entry))) is None and as_written.exists()
        )
        if is_outside and name is not None and not self._is_root_given:
            raise InputError(
                f"{where}: {entry} can be {as_written.resolve()} or {self.root / name}. Give "
                "the folder of the data as root (--root)."
            )
        if is_outside and name is None:
            raise InputError(
                f"{where}: expected a path below the dataset's folder, got {entry!r}, which "
                "leaves it. Give the folder of the data as root (--root)."
            )
        if name is None:
            raise InputError(f"{where}: {entry} does not exist in {self.root / self._base}.")
        path = self.root / name
        if path.is_dir():
            return [join_below(name, image) for image in find_images(path).names]
        if path.suffix == ".txt" and path.is_file():
            return self._read_list(name)
        raise InputError(
            f"{where}: {entry} is not a folder and not a .txt with one image per line."
        )

    def _read_list(self, name: str) -> list[str]:
        """Return the images of a list, relative to ``root``.

        Raises:
            InputError: a path that leaves the folder.
        """
        # As written by the common tools: "./" stands for the folder of the list itself.
        folder = str(PurePosixPath(name).parent)
        images = []
        lines = read_text(self.root / name, errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            path = line.strip().replace("\\", "/")
            if not path:
                continue
            base = folder if path.startswith("./") else self._base
            where = f"{name}, line {number}"
            check_written_path(where, line.strip(), Path(self.root, base, path))
            relative = make_relative(self.root, str(Path(base, path)))
            if relative is None:
                raise InputError(
                    f"{where}: expected a path below the dataset's folder, got "
                    f"{path!r}, which leaves it; write the path relative to the folder."
                )
            images.append(relative)
        return images


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file; nothing in it is executed.

    Raises:
        BrokenFileError: it cannot be read, is above a megabyte, or is not a mapping.
        MissingExtraError: PyYAML is not installed.
    """
    return _read_config(path)[0]


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the content of a YAML file, and the line of each key."""
    content, lines = read_located_yaml(path)
    if not isinstance(content, dict):
        raise BrokenFileError(f"{path}: expected names, and train, val or test.")
    return content, lines


def is_yolo(path: Path) -> bool:
    """Return whether a file has a YAML suffix, and its text has ``names`` and a split."""
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return False
    with path.open("rb") as file:
        text = file.read(MAX_BYTES).decode("utf-8-sig", "replace")
    has_split = re.search(r"(?m)^['\"]?(train|val|validation|test)['\"]?\s*:", text)
    return bool(has_split and re.search(r"(?m)^['\"]?(names|nc)['\"]?\s*:", text))


def has_labels(root: Path) -> bool:
    """Return whether a folder without a YAML file has images and labels, by the names of files.

    It has ``images`` and ``labels`` with text files of the same names, in the folder or in its
    splits; or text files beside the images, and a file with the class names.
    """
    if any((base / "labels").is_dir() and (base / "images").is_dir() for base in _list_bases(root)):
        return any(_has_matching_images(base) for base in _list_bases(root))
    return _find_class_file(root) is not None and any(
        (path.parent / (path.stem + suffix)).is_file()
        for folder in (root, *list_folders(root))
        for path in _take_first(folder.glob("*.txt"))
        for suffix in IMAGE_SUFFIXES
    )


def _has_matching_images(base: Path) -> bool:
    labels, images = base / "labels", base / "images"
    if not (labels.is_dir() and images.is_dir()):
        return False
    for path in _take_first(labels.rglob("*.txt")):
        folder = images / path.parent.relative_to(labels)
        if folder.is_dir() and any(other.stem == path.stem for other in folder.iterdir()):
            return True
    return False


def _take_first(paths: Iterable[Path]) -> list[Path]:
    """Return the first 50 files, which are enough: nearly all labels of a dataset have an image."""
    return list(itertools.islice(paths, 50))


def _list_bases(root: Path) -> list[Path]:
    return [root, *(folder for folder in list_folders(root) if parse_splits(folder.name))]


def _find_class_file(root: Path) -> Path | None:
    candidates = [root / name for name in ("classes.txt", "obj.names", "labels/classes.txt")]
    candidates += sorted(root.glob("*.names"))
    return next((path for path in candidates if path.is_file()), None)


def _infer_config(root: Path) -> dict[str, Any]:
    """Return the content that a YAML file of a folder without one would have."""
    content: dict[str, Any] = {}
    for base in _list_bases(root):
        images = base / "images"
        if images.is_dir() and base != root:
            content.setdefault(_find_split(base.name), f"{base.name}/images")
        elif images.is_dir():
            inner = [folder for folder in list_folders(images) if parse_splits(folder.name)]
            content |= {_find_split(folder.name): f"images/{folder.name}" for folder in inner}
            if not inner:
                content[ALL] = "images"
    if not content:
        content[ALL] = "."
    class_file = _find_class_file(root)
    if class_file is not None:
        lines = read_text(class_file).splitlines()
        content["names"] = [line.strip() for line in lines if line.strip()]
        return content
    highest = -1
    for folder in (base / "labels" for base in _list_bases(root)):
        for path in folder.rglob("*.txt") if folder.is_dir() else ():
            for line in read_text(path, errors="replace").splitlines():
                number = read_number((line.split() or ["nan"])[0])
                if number.is_integer() and 0 <= number < MAX_CLASSES:
                    highest = max(highest, int(number))
    content["nc"] = highest + 1
    return content


def _find_split(folder: str) -> str:
    return min(parse_splits(folder))


def find_label_file(name: str) -> str:
    """Return the path of an image's labels, both relative to the root."""
    parts = list(PurePosixPath(name).with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return "/".join(parts)


def _parse_row(
    place: str,
    label: int,
    values: Sequence[float],
    size: tuple[int, int],
    key_points: int | None,
) -> RawObject:
    width, height = size
    if len(values) == 4 + (key_points or 0):
        cx, cy, w, h = values[:4]
        box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
        return RawObject(place, label, box)
    is_outline = key_points is None and len(values) >= 6 and len(values) % 2 == 0
    if not is_outline:
        points = f"{key_points} for key points" if key_points else "the points of an outline"
        count = f"{pluralize(len(values), 'number')} after the class"
        expected = f"expected 4{' and' if key_points else ', or'} {points}"
        return RawObject(place, label, (math.nan,) * 4, instead=f"{count}, {expected}")
    if not all(map(math.isfinite, values)):
        return RawObject(place, label, (math.nan,) * 4, instead="an outline with an invalid number")
    xs = [x * width for x in values[::2]]
    ys = [y * height for y in values[1::2]]
    outline = [[value for point in zip(xs, ys, strict=True) for value in point]]
    box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return RawObject(place, label, box, area=_compute_area(xs, ys), outline=outline)


def _compute_area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the area of a polygon by the shoelace formula."""
    count = len(xs)
    return 0.5 * abs(
        sum(xs[i] * ys[(i + 1) % count] - xs[(i + 1) % count] * ys[i] for i in range(count))
    )


def _read_names(content: Mapping[str, Any], locate: Callable[..., str]) -> dict[int, str]:
    """Return the names of the classes; ``locate`` gives the place of a key in messages."""
    names = content.get("names")
    count = content.get("nc")
    if names is None and type(count) is int and 0 < count <= MAX_CLASSES:
        return {number: f"class_{number}" for number in range(count)}  # as Ultralytics names them
    if isinstance(names, list) and names:
        by_number = {number: str(name) for number, name in enumerate(names)}
    elif isinstance(names, dict) and names and all(type(key) is int for key in names):
        by_number = {key: str(name) for key, name in names.items()}
    else:
        raise InputError(
            f"{locate('names')}: expected names as a list, or as number to name; got {names!r:.60}."
        )
    if isinstance(count, int) and count != len(by_number):
        raise InputError(
            f"{locate('nc')}: nc is {count}, but there {'is' if len(by_number) == 1 else 'are'} "
            f"{pluralize(len(by_number), 'name')}."
        )
    return by_number


def _count_key_points(where: str, shape: Any) -> int | None:
    """Return the number of values of the key points in a row."""
    if shape is None:
        return None
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(type(part) is int and part > 0 for part in shape)
        or shape[1] not in (2, 3)
    ):
        raise InputError(
            f"{where}: expected kpt_shape as the number of key points and 2 or 3, got {shape!r:.60}."
        )
    return int(shape[0] * shape[1])


def list_entries(value: Any) -> list[Any]:
    """Return the entries of a split, which may be a single one or a list."""
    return value if isinstance(value, list) else [value]


def make_relative(root: Path, path: str) -> str | None:
    """Return an absolute or relative path relative to ``root``; None if it leaves it."""
    if "\0" in path or PureWindowsPath(path).drive:
        return None
    full = Path(os.path.normpath(root.absolute() / path))
    for base in (root.absolute(), root.resolve()):
        if full.is_relative_to(os.path.normpath(base)):
            return full.relative_to(os.path.normpath(base)).as_posix()
    return None
