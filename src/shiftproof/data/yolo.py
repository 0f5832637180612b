"""YOLO: one text file of relative boxes for each image, and a YAML file that says where they are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, final

from shiftproof.classes import Classes
from shiftproof.data.boxes import (
    NO_FILE,
    UNKNOWN_CLASS,
    UNREADABLE,
    DetectionData,
    Fault,
    Row,
    below,
    check_inside,
    checked,
    image_sizes,
    number,
)
from shiftproof.data.disk import find_images
from shiftproof.data.folder import name_of
from shiftproof.errors import BrokenFileError, InputError, MissingExtraError

SPLITS = ("train", "val", "test")

MAX_YAML_BYTES = 1_000_000


@final
class YoloData(DetectionData):
    """Images with the boxes of YOLO: ``class cx cy width height``, relative to the image's size.

    The labels of ``images/val/a.jpg`` are in ``labels/val/a.txt``: the last folder ``images`` on the
    way is called ``labels`` there; without such a folder they lie beside the image. An image without
    that file, or with an empty one, has no objects. A row of a class and three points or more is an
    outline; its box is the smallest around it.

    Args:
        config: the YAML file: ``names`` as a list or as number to name; ``train``, ``val`` and
            ``test`` each a folder, a ``.txt`` with one path a line, or a list of these; ``path``, if
            it is there, a folder that they are relative to.
        split: which of the three.
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
        path = Path(config)
        value = read_config(path)
        where = path.name
        names = _names(where, value)
        if split not in SPLITS or not value.get(split):
            there = [name for name in SPLITS if value.get(name)]
            raise InputError(
                f"{where} has no split {split!r}; it has {', '.join(there) or 'none'}."
            )
        home = path.parent if root is None else Path(root)
        inner = "." if root is not None or not value.get("path") else str(value["path"])
        if inner != "." and _leaves(inner):
            raise InputError(
                f"{where}: path is {inner!r}, which leaves the folder of the file. Give the folder "
                "of the data as root, or take path out of the file."
            )
        images = list(dict.fromkeys(_images(home, inner, value[split], where)))
        ordered = sorted(names)
        places = {number_: place for place, number_ in enumerate(ordered)}
        faults: list[Fault] = []
        objects = {}
        for name, size in zip(images, image_sizes(home, images), strict=True):
            if size is None:
                detail = "relative boxes need the image's size"
                faults.append(Fault(name, NO_FILE, kept=False, detail=detail))
                continue
            labels = home / labels_of(name)
            try:
                text = labels.read_text(encoding="utf-8") if labels.is_file() else ""
            except (OSError, UnicodeDecodeError) as error:
                faults.append(Fault(name, UNREADABLE, kept=False, detail=str(error)))
                continue
            rows = []
            for line, words in enumerate(map(str.split, text.splitlines()), start=1):
                if not words:
                    continue
                place = f"line {line} of {labels_of(name)}"
                label = number(words[0])
                if not label.is_integer() or int(label) not in places:
                    faults.append(Fault(f"{name}, {place}", UNKNOWN_CLASS, False, words[0][:40]))
                    continue
                rows.append(_row(place, places[int(label)], words[1:], size))
            objects[name], wrong = checked(name, size, rows)
            faults += wrong
        if not objects:
            raise InputError(f"{where}: {split} has no image that is there and can be read.")
        super().__init__(
            f"{name_of(home)} {split}",
            home,
            objects,
            Classes(tuple(names[key] for key in ordered)),
            faults=faults,
        )


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file; nothing in it is executed.

    Raises:
        BrokenFileError: it cannot be read, is above a megabyte, or holds no mapping.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError.of("PyYAML", "detection") from error
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise BrokenFileError(f"{path}: above {MAX_YAML_BYTES // 1_000_000} MB; no data.yaml.")
        value = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise BrokenFileError(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BrokenFileError(f"{path}: not valid YAML ({str(error).splitlines()[0]}).") from error
    if not isinstance(value, dict):
        raise BrokenFileError(f"{path}: expected names, and train, val or test.")
    return value


def is_yolo(path: Path) -> bool:
    """Whether a file is called like YAML and has ``names`` and a split, by its text alone."""
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return False
    text = path.read_bytes()[:MAX_YAML_BYTES].decode("utf-8", "replace")
    has_split = re.search(r"(?m)^['\"]?(train|val|test)['\"]?\s*:", text)
    return bool(has_split and re.search(r"(?m)^['\"]?names['\"]?\s*:", text))


def labels_of(name: str) -> str:
    """Return the path of an image's labels, both relative to the root."""
    parts = list(PurePosixPath(name).with_suffix(".txt").parts)
    for at in reversed(range(len(parts) - 1)):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return "/".join(parts)


def _row(place: str, label: int, words: Sequence[str], size: tuple[int, int]) -> Row:
    width, height = size
    values = [number(word) for word in words]
    if len(values) == 4:
        cx, cy, w, h = values
        box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
        return Row(place, label, box)
    if len(values) < 6 or len(values) % 2 or not all(map(math.isfinite, values)):
        return Row(place, label, (math.nan,) * 4)
    xs = [x * width for x in values[::2]]
    ys = [y * height for y in values[1::2]]
    outline = [[value for point in zip(xs, ys, strict=True) for value in point]]
    box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return Row(place, label, box, area=_polygon_area(xs, ys), outline=outline)


def _polygon_area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the area by Gauss's formula."""
    count = len(xs)
    return 0.5 * abs(
        sum(xs[at] * ys[(at + 1) % count] - xs[(at + 1) % count] * ys[at] for at in range(count))
    )


def _names(where: str, value: Mapping[str, Any]) -> dict[int, str]:
    names = value.get("names")
    if isinstance(names, list) and names:
        found = {place: str(name) for place, name in enumerate(names)}
    elif isinstance(names, dict) and names and all(type(key) is int for key in names):
        found = {key: str(name) for key, name in names.items()}
    else:
        raise InputError(
            f"{where}: expected names as a list, or as number to name; got {names!r:.60}."
        )
    count = value.get("nc")
    if isinstance(count, int) and count != len(found):
        raise InputError(f"{where}: nc is {count}, but there are {len(found)} names.")
    return found


def _images(home: Path, inner: str, entry: Any, where: str) -> list[str]:
    """Return the images that an entry stands for, relative to ``home``."""
    if isinstance(entry, list):
        return [name for part in entry for name in _images(home, inner, part, where)]
    if not isinstance(entry, str):
        raise InputError(
            f"{where}: expected a folder, a .txt or a list of these, got {entry!r:.60}."
        )
    name = below(inner, check_inside(where, entry))
    path = home / name
    if path.is_dir():
        return [below(name, found) for found in find_images(path).names]
    if path.suffix == ".txt" and path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        folder = str(PurePosixPath(name).parent)
        # As written by the common tools: "./" stands for the folder of the list itself.
        return [
            below(folder if line.startswith("./") else inner, check_inside(path.name, line))
            for line in map(str.strip, lines)
            if line
        ]
    raise InputError(f"{where}: {entry} does not exist in {home / inner}.")


def _leaves(name: str) -> bool:
    try:
        check_inside("path", name)
    except InputError:
        return True
    return False
