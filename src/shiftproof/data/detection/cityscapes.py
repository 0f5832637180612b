"""Cityscapes: polygons in drawing order, and the boxes of their visible parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from shiftproof.classes import Classes
from shiftproof.counts import plural
from shiftproof.data.detection.boxes import (
    HIDDEN,
    NO_ANNOTATIONS,
    NOT_FINITE,
    UNKNOWN_CLASS,
    UNREADABLE,
    DetectionData,
    Fault,
    RawObject,
    check_boxes,
    find_size_faults,
    read_image_sizes,
)
from shiftproof.data.disk import find_images, list_folders, shorten
from shiftproof.data.images.folder import name_folder
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.images import MAX_PIXELS
from shiftproof.io.text import read_json
from shiftproof.metrics.faults import read_integer, read_number, show_value
from shiftproof.types import I32, Flags

CITYSCAPES_CLASSES = (
    "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip

_OTHERS = frozenset({
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail",
    "bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "caravan", "trailer",
})  # fmt: skip

_NOT_DRAWN = frozenset({"license plate"})
"""Its id is negative, which the dataset's own tools treat as "occludes nothing"."""


@final
class CityscapesData(DetectionData):
    """Images with boxes of the eight Cityscapes classes that have instances.

    The polygons of ``gtFine`` are painted in the order of the file, later ones over earlier ones.
    An object's mask is its visible pixels; its box is the smallest around them, and its area is
    their number. Groups (``cargroup``) are crowds.

    Args:
        root: the folder of ``leftImg8bit`` and ``gtFine``. Ids are relative to it.
        split: train, val or test; None for all.

    Raises:
        InputError: no such folders or split.
    """

    def __init__(self, root: str | Path, split: str | None = "val") -> None:
        home = Path(root)
        if not is_cityscapes(home):
            raise InputError(f"{home} has no folders leftImg8bit and gtFine; expected Cityscapes.")
        there = [folder.name for folder in list_folders(home / "leftImg8bit")]
        if split is not None and split not in there:
            raise InputError(f"{home} has no split {split!r}; there are {shorten(there)}.")
        faults: list[Fault] = []
        objects = {}
        said = []
        inner = "leftImg8bit" + (f"/{split}" if split else "")
        for found in find_images(home / inner).names:
            name = f"{inner}/{found}"
            path = home / find_polygon_file(name)
            if not path.is_file():
                detail = f"expected {find_polygon_file(name)}"
                faults.append(Fault(name, NO_ANNOTATIONS, kept=False, detail=detail))
                continue
            try:
                size, rows, wrong = find_visible_objects(read_json(path), path.name)
            except BrokenFileError as error:
                faults.append(Fault(name, UNREADABLE, kept=False, detail=str(error)))
                continue
            faults += wrong
            said.append(size)
            objects[name], wrong = check_boxes(name, size, rows)
            faults += wrong
        if not objects:
            first = f" (first: {faults[0]})" if faults else ""
            raise InputError(
                f"{home / inner} has no image with annotations that can be read{first}."
            )
        faults += find_size_faults(list(objects), read_image_sizes(home, objects), said)
        super().__init__(
            name_folder(home) + (f" {split}" if split else ""),
            home,
            objects,
            Classes(CITYSCAPES_CLASSES),
            faults=faults,
        )


def is_cityscapes(root: Path) -> bool:
    """Return whether a folder has the two folders of Cityscapes."""
    return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()


def find_polygon_file(name: str) -> str:
    """Return the path of an image's polygons, both paths relative to the root."""
    stem = name.removeprefix("leftImg8bit/").rsplit(".", 1)[0].removesuffix("_leftImg8bit")
    return f"gtFine/{stem}_gtFine_polygons.json"


def find_visible_objects(
    value: Any, where: str
) -> tuple[tuple[int, int], list[RawObject], list[Fault]]:
    """Return (width, height), the visible objects, and the faults of the others.

    Raises:
        BrokenFileError: no polygons of an image.
    """
    if not isinstance(value, dict) or not isinstance(value.get("objects"), list):
        raise BrokenFileError(f"{where}: expected imgHeight, imgWidth and objects.")
    width, height = read_integer(value.get("imgWidth")), read_integer(value.get("imgHeight"))
    if width is None or height is None or width <= 0 or height <= 0:
        raise BrokenFileError(
            f"{where}: expected imgWidth and imgHeight as whole numbers above 0, got "
            f"{show_value(value.get('imgWidth'))} and {show_value(value.get('imgHeight'))}."
        )
    if width * height > MAX_PIXELS:
        raise BrokenFileError(f"{where}: {width} x {height} pixels is above the limit.")
    polygons, faults = _read_polygons(value["objects"], where)
    _check_effort(polygons, (width, height), where)
    canvas = PillowImage.new("I", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        # Every polygon occludes the ones before it, also if it is no object.
        draw.polygon(polygon.corners, fill=polygon.at + 1)
    pixels = np.asarray(canvas)
    rows = []
    for polygon in polygons:
        if polygon.label not in CITYSCAPES_CLASSES:
            continue
        row = _find_visible(pixels, polygon)
        if row is None:
            faults.append(Fault(f"{where}, objects[{polygon.at}]", HIDDEN, False, polygon.label))
        else:
            rows.append(row)
    return (width, height), rows, faults


@dataclass(frozen=True)
class _Polygon:
    """A polygon: its index in the file, its class, and whether it is a group."""

    at: int
    label: str
    is_group: bool
    corners: list[tuple[float, float]]

    def window(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Return its rows and columns in an image (width, height), with a margin of a pixel."""
        xs, ys = zip(*self.corners, strict=True)
        high = slice(max(int(min(ys)) - 1, 0), min(max(int(max(ys)) + 3, 0), size[1]))
        wide = slice(max(int(min(xs)) - 1, 0), min(max(int(max(xs)) + 3, 0), size[0]))
        return high, wide


def _read_polygons(items: list[Any], where: str) -> tuple[list[_Polygon], list[Fault]]:
    """Return the polygons, in the order of the file, and the faults."""
    polygons: list[_Polygon] = []
    faults: list[Fault] = []
    for at, item in enumerate(items):
        place = f"objects[{at}]"
        label = item.get("label") if isinstance(item, dict) else None
        if not isinstance(label, str):
            faults.append(Fault(f"{where}, {place}", UNKNOWN_CLASS, False, show_value(label)))
            continue
        if item.get("deleted") or label in _NOT_DRAWN:
            continue
        is_group = label not in _OTHERS and label.endswith("group")
        name = label.removesuffix("group") if is_group else label
        if name not in CITYSCAPES_CLASSES and name not in _OTHERS:
            faults.append(Fault(f"{where}, {place}", UNKNOWN_CLASS, False, show_value(label)))
        corners = _read_corners(item.get("polygon"))
        if corners is None:
            faults.append(Fault(f"{where}, {place}", NOT_FINITE, False, "its polygon"))
            continue
        polygons.append(_Polygon(at, name, is_group, corners))
    return polygons, faults


MAX_DRAWN_PIXELS = 2 * MAX_PIXELS
MAX_CROSSINGS = 20_000_000
"""Limits of the pixels in all polygons' windows, and of the pairs of corner and row that drawing
visits: some seconds. A hundred polygons of 200 corners and 500 rows are half of it."""


def _check_effort(polygons: list[_Polygon], size: tuple[int, int], where: str) -> None:
    """Refuse polygons that take disproportionately long to draw."""
    pixels = crossings = 0
    for polygon in polygons:
        high, wide = polygon.window(size)
        rows, columns = max(high.stop - high.start, 0), max(wide.stop - wide.start, 0)
        pixels += rows * columns
        crossings += rows * len(polygon.corners)
    if pixels > MAX_DRAWN_PIXELS or crossings > MAX_CROSSINGS:
        raise BrokenFileError(
            f"{where}: {plural(len(polygons), 'polygon')} with {sum(len(one.corners) for one in polygons)} "
            f"corners over {pixels} pixels are more than any image has."
        )


def _find_visible(pixels: I32, polygon: _Polygon) -> RawObject | None:
    """Return the visible part of a polygon as an object; None if it is fully occluded."""
    height, width = pixels.shape
    high, wide = polygon.window((width, height))
    seen = pixels[high, wide] == polygon.at + 1
    ys, xs = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(xs):
        return None
    seen = seen[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    left, top = int(xs[0]) + wide.start, int(ys[0]) + high.start
    return RawObject(
        f"objects[{polygon.at}]",
        CITYSCAPES_CLASSES.index(polygon.label),
        (left, top, seen.shape[1], seen.shape[0]),
        area=float(np.count_nonzero(seen)),
        crowd=polygon.is_group,
        outline=_run_lengths(seen, left, top, (width, height)),
    )


def _run_lengths(seen: Flags, left: int, top: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return pixels as COCO's run-length code: alternating runs outside and inside, by columns.

    Args:
        seen: ``(h, w)`` a window of the image.
        left: the window's first column.
        top: the window's first row.
        size: width and height of the image.
    """
    width, height = size
    # Pad each column with an empty pixel at both ends, so that every run starts and ends in it.
    columns = np.zeros((seen.shape[1], seen.shape[0] + 2), dtype=np.int8)
    columns[:, 1:-1] = seen.T
    steps = np.diff(columns, axis=1)
    starts, ends = (
        column * height + row for column, row in (np.nonzero(steps == way) for way in (1, -1))
    )
    offset = left * height + top
    starts, ends = starts + offset, ends + offset
    # A run that reaches the bottom of a column continues at the top of the next.
    apart = starts[1:] > ends[:-1]
    starts = starts[np.concatenate([[True], apart])]
    ends = ends[np.concatenate([apart, [True]])]
    edges = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [width * height]])).tolist()
    return {"size": [height, width], "counts": counts}


def _read_corners(polygon: Any) -> list[tuple[float, float]] | None:
    if not isinstance(polygon, list) or len(polygon) < 2:
        return None
    corners = []
    for point in polygon:
        if not isinstance(point, list) or len(point) != 2:
            return None
        x, y = read_number(point[0]), read_number(point[1])
        # Corners far outside any image are invalid, too: drawing uses 32-bit integers.
        if not (abs(x) < 1e6 and abs(y) < 1e6):
            return None
        corners.append((x, y))
    return corners
