"""YOLO: one text file of relative boxes for each image, and a YAML file of the dataset."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, final

from shiftproof.classes import Classes
from shiftproof.data.detection.boxes import (
    NO_FILE,
    UNKNOWN_CLASS,
    UNREADABLE,
    DetectionData,
    Fault,
    RawObject,
    check_boxes,
    read_image_sizes,
)
from shiftproof.data.disk import find_images, join_below, list_folders
from shiftproof.data.images.folder import name_folder
from shiftproof.data.splits import splits_in
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.images import IMAGE_SUFFIXES
from shiftproof.io.text import read_text
from shiftproof.io.yaml import MAX_BYTES, read_yaml
from shiftproof.metrics.faults import read_number

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
        config: the YAML file: ``names`` as a list or as number to name; ``train``, ``val`` and
            ``test`` each a folder, a ``.txt`` with one path a line, or a list of these; ``path``, if
            it is there, a folder that they are relative to. Or a folder of images with their labels
            and no YAML file, whose classes are those of ``classes.txt`` or ``obj.names``, else
            numbers.
        split: one of the three; "all" if the folder has no splits.
        root: the folder of the data, instead of the YAML file's own. Ids are relative to it; ``path``
            has no effect then.

    Raises:
        InputError: no such split, names that cannot be used, or paths that leave the folder.
        BrokenFileError: a file that cannot be read.
        MissingExtraError: PyYAML is not installed.
    """

    def __init__(
        self, config: str | Path, split: str = "val", *, root: str | Path | None = None
    ) -> None:
        layout = YoloConfig(Path(config), root=None if root is None else Path(root))
        home, names = layout.home, layout.names
        images = layout.images(split)
        ordered = sorted(names)
        places = {number_: place for place, number_ in enumerate(ordered)}
        faults: list[Fault] = []
        objects = {}
        for name, size in zip(images, read_image_sizes(home, images), strict=True):
            if size is None:
                detail = "relative boxes need the image's size"
                faults.append(Fault(name, NO_FILE, kept=False, detail=detail))
                continue
            labels = home / find_label_file(name)
            try:
                text = read_text(labels) if files.is_file(labels) else ""
            except BrokenFileError as error:
                faults.append(Fault(name, UNREADABLE, kept=False, detail=str(error)))
                continue
            rows = []
            for line, words in enumerate(map(str.split, text.splitlines()), start=1):
                if not words:
                    continue
                place = f"line {line} of {find_label_file(name)}"
                label = read_number(words[0])
                if not label.is_integer() or int(label) not in places:
                    faults.append(Fault(f"{name}, {place}", UNKNOWN_CLASS, False, words[0][:40]))
                    continue
                numbers = [read_number(word) for word in words[1:]]
                rows.append(_parse_row(place, places[int(label)], numbers, size, layout.key_points))
            objects[name], wrong = check_boxes(name, size, rows)
            faults += wrong
        if not objects:
            raise InputError(f"{layout.where}: {split} has no image that is there and can be read.")
        super().__init__(
            f"{name_folder(home)} {split}",
            home,
            objects,
            Classes(tuple(names[key] for key in ordered)),
            faults=faults,
        )


class YoloConfig:
    """The content of a YAML file of the data, or without one what the folders imply.

    Takes what :class:`YoloData` takes.

    Attributes:
        where: name in messages.
        home: the folder of the data.
        names: the classes by number.
        numbered: whether the classes have no names, only numbers.
        splits: the existing splits, as written.
        key_points: how many numbers of key points follow the box in a row, or None.
    """

    def __init__(self, config: Path, *, root: Path | None = None) -> None:
        self.where = config.name
        self.home = root if root is not None else config if config.is_dir() else config.parent
        self._is_given = root is not None
        self.numbered = False
        value: Mapping[str, Any]
        if config.is_dir():
            value = _infer_config(config)
            self.numbered = "names" not in value
        else:
            value = read_config(config)
        self.names = _read_names(self.where, value)
        self.key_points = _count_key_points(self.where, value.get("kpt_shape"))
        self.splits = {name: value[name] for name in (*SPLITS, ALL) if value.get(name)}
        if "val" not in self.splits and value.get("validation"):
            self.splits["val"] = value["validation"]
        self._inner = "." if root is not None else self._base(value.get("path"))

    def _base(self, path: Any) -> str:
        """Return the folder that entries are relative to, below ``home``."""
        if not path:
            return "."
        text = str(path)
        inside = make_relative(self.home, text)
        if inside is not None and (self.home / inside).is_dir():
            return inside
        entries = [part for entry in self.splits.values() for part in _split_entry(entry)]
        if not (self.home / text).exists() and any(self._find(".", part) for part in entries):
            return "."  # of another machine, or of the place where it was made
        raise InputError(
            f"{self.where}: path is {text!r}, which leaves the folder of the file. Give the folder "
            "of the data as root (--root), or take path out of the file."
        )

    def images(self, split: str) -> list[str]:
        """Return the images of a split, relative to ``home``.

        Raises:
            InputError: no such split, it does not exist, or it leaves the folder.
        """
        if split not in self.splits:
            there = ", ".join(self.splits) or "none"
            raise InputError(f"{self.where} has no split {split!r}; it has {there}.")
        found = [name for part in _split_entry(self.splits[split]) for name in self._images(part)]
        return list(dict.fromkeys(found))

    def folders(self, split: str) -> list[str]:
        """Return the existing folders and lists of a split, relative to ``home``."""
        entries = [part for part in _split_entry(self.splits[split]) if isinstance(part, str)]
        found = [self._find(self._inner, part) for part in entries]
        return [name for name in found if name is not None]

    def leads_out(self, split: str) -> bool:
        """Whether an entry of a split can only be read as a path out of ``home``."""
        return any(self._leads_out(part) for part in _split_entry(self.splits[split]))

    def _leads_out(self, entry: Any) -> bool:
        return all(
            make_relative(self.home, str(Path(self._inner, text))) is None
            for text in (str(entry), str(entry).removeprefix("../"))
        )

    def _find(self, base: str, entry: Any) -> str | None:
        """Return the folder or list that an entry means, as Ultralytics reads it, or None.

        It is the path as it stands; else, as Roboflow writes it, without the ``../`` at its front.
        """
        if not isinstance(entry, str):
            raise InputError(
                f"{self.where}: expected a folder, a .txt or a list of these, got {entry!r:.60}."
            )
        for text in (entry, entry.removeprefix("../")):
            name = make_relative(self.home, str(Path(base, text)))
            if name is not None and (self.home / name).exists():
                return name
        return None

    def _images(self, entry: Any) -> list[str]:
        """Return the images of one entry."""
        name = self._find(self._inner, entry)
        as_written = self.home / self._inner / entry
        is_outside = self._leads_out(entry) or (
            make_relative(self.home, str(Path(self._inner, entry))) is None and as_written.exists()
        )
        if is_outside and name is not None and not self._is_given:
            raise InputError(
                f"{self.where}: {entry} can be {as_written.resolve()} or {self.home / name}. Give "
                "the folder of the data as root (--root)."
            )
        if is_outside and name is None:
            raise InputError(
                f"{self.where}: expected a path below the dataset's folder, got {entry!r}, which "
                "leaves it. Give the folder of the data as root (--root)."
            )
        if name is None:
            raise InputError(f"{self.where}: {entry} does not exist in {self.home / self._inner}.")
        path = self.home / name
        if path.is_dir():
            return [join_below(name, found) for found in find_images(path).names]
        if path.suffix == ".txt" and path.is_file():
            return [image for _, image in self.read_list(name)]
        raise InputError(f"{self.where}: {entry} is no folder and no .txt with one image a line.")

    def read_list(self, name: str) -> list[tuple[str, str]]:
        """Return the lines of a list of images, each with its image below ``home``.

        Raises:
            InputError: a path that leaves the folder.
        """
        # As written by the common tools: "./" stands for the folder of the list itself.
        folder = str(PurePosixPath(name).parent)
        found = []
        for line in read_text(self.home / name, errors="replace").splitlines():
            text = line.strip().replace("\\", "/")
            if not text:
                continue
            base = folder if text.startswith("./") else self._inner
            inside = make_relative(self.home, str(Path(base, text)))
            if inside is None:
                raise InputError(
                    f"{name}: expected a path below the dataset's folder, got {text!r}, which "
                    "leaves it; write the path relative to the folder."
                )
            found.append((line, inside))
        return found


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file; nothing in it is executed.

    Raises:
        BrokenFileError: it cannot be read, is above a megabyte, or holds no mapping.
        MissingExtraError: PyYAML is not installed.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise BrokenFileError(f"{path}: expected names, and train, val or test.")
    return value


def is_yolo(path: Path) -> bool:
    """Whether a file has a YAML suffix, ``names`` and a split, judged by its text."""
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return False
    with path.open("rb") as file:
        text = file.read(MAX_BYTES).decode("utf-8-sig", "replace")
    has_split = re.search(r"(?m)^['\"]?(train|val|validation|test)['\"]?\s*:", text)
    return bool(has_split and re.search(r"(?m)^['\"]?(names|nc)['\"]?\s*:", text))


def has_labels(root: Path) -> bool:
    """Whether a folder without a YAML file has images and their labels, by the files' names.

    Those are ``images`` and ``labels`` with texts of the same names in them, in the folder or in
    those of its splits; or texts beside the images and a file with the names of the classes.
    """
    if any((base / "labels").is_dir() and (base / "images").is_dir() for base in _list_bases(root)):
        return any(_has_twin(base) for base in _list_bases(root))
    return _find_class_file(root) is not None and any(
        (path.parent / (path.stem + suffix)).is_file()
        for folder in (root, *list_folders(root))
        for path in _take_first(folder.glob("*.txt"))
        for suffix in IMAGE_SUFFIXES
    )


def _has_twin(base: Path) -> bool:
    labels, images = base / "labels", base / "images"
    if not (labels.is_dir() and images.is_dir()):
        return False
    for path in _take_first(labels.rglob("*.txt")):
        folder = images / path.parent.relative_to(labels)
        if folder.is_dir() and any(other.stem == path.stem for other in folder.iterdir()):
            return True
    return False


def _take_first(paths: Iterable[Path]) -> list[Path]:
    """Return some of many files; of a dataset's labels nearly all have an image."""
    return list(itertools.islice(paths, 50))


def _list_bases(root: Path) -> list[Path]:
    return [root, *(folder for folder in list_folders(root) if splits_in(folder.name))]


def _find_class_file(root: Path) -> Path | None:
    named = [root / name for name in ("classes.txt", "obj.names", "labels/classes.txt")]
    return next((p for p in (*named, *sorted(root.glob("*.names"))) if p.is_file()), None)


def _infer_config(root: Path) -> dict[str, Any]:
    """Return the content that a YAML file of a folder without one would have."""
    value: dict[str, Any] = {}
    for base in _list_bases(root):
        images = base / "images"
        if images.is_dir() and base != root:
            value.setdefault(_split_name(base.name), f"{base.name}/images")
        elif images.is_dir():
            inner = [folder for folder in list_folders(images) if splits_in(folder.name)]
            value |= {_split_name(f.name): f"images/{f.name}" for f in inner}
            if not inner:
                value[ALL] = "images"
    if not value:
        value[ALL] = "."
    names = _find_class_file(root)
    if names is not None:
        lines = read_text(names).splitlines()
        value["names"] = [line.strip() for line in lines if line.strip()]
        return value
    highest = -1
    for folder in (base / "labels" for base in _list_bases(root)):
        for path in folder.rglob("*.txt") if folder.is_dir() else ():
            for line in read_text(path, errors="replace").splitlines():
                first = read_number((line.split() or ["nan"])[0])
                if first.is_integer() and 0 <= first < MAX_CLASSES:
                    highest = max(highest, int(first))
    value["nc"] = highest + 1
    return value


def _split_name(folder: str) -> str:
    return min(splits_in(folder))


def find_label_file(name: str) -> str:
    """Return the path of an image's labels, both relative to the root."""
    parts = list(PurePosixPath(name).with_suffix(".txt").parts)
    for at in reversed(range(len(parts) - 1)):
        if parts[at] == "images":
            parts[at] = "labels"
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
        count = f"{len(values)} number{'' if len(values) == 1 else 's'} behind the class"
        expected = f"expected 4{' and' if key_points else ', or'} {points}"
        return RawObject(place, label, (math.nan,) * 4, instead=f"{count}, {expected}")
    if not all(map(math.isfinite, values)):
        return RawObject(place, label, (math.nan,) * 4, instead="an outline with what is no number")
    xs = [x * width for x in values[::2]]
    ys = [y * height for y in values[1::2]]
    outline = [[value for point in zip(xs, ys, strict=True) for value in point]]
    box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return RawObject(place, label, box, area=_compute_area(xs, ys), outline=outline)


def _compute_area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the area by Gauss's formula."""
    count = len(xs)
    return 0.5 * abs(
        sum(xs[at] * ys[(at + 1) % count] - xs[(at + 1) % count] * ys[at] for at in range(count))
    )


def _read_names(where: str, value: Mapping[str, Any]) -> dict[int, str]:
    names = value.get("names")
    count = value.get("nc")
    if names is None and type(count) is int and 0 < count <= MAX_CLASSES:
        return {place: f"class_{place}" for place in range(count)}  # as Ultralytics calls them
    if isinstance(names, list) and names:
        found = {place: str(name) for place, name in enumerate(names)}
    elif isinstance(names, dict) and names and all(type(key) is int for key in names):
        found = {key: str(name) for key, name in names.items()}
    else:
        raise InputError(
            f"{where}: expected names as a list, or as number to name; got {names!r:.60}."
        )
    if isinstance(count, int) and count != len(found):
        raise InputError(f"{where}: nc is {count}, but there are {len(found)} names.")
    return found


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


def _split_entry(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def make_relative(home: Path, text: str) -> str | None:
    """Return a path as one below ``home``, or None where it is none; ``text`` may be absolute."""
    if "\0" in text or PureWindowsPath(text).drive:
        return None
    full = Path(os.path.normpath(home.absolute() / text))
    for base in (home.absolute(), home.resolve()):
        if full.is_relative_to(os.path.normpath(base)):
            return full.relative_to(os.path.normpath(base)).as_posix()
    return None
