"""Cityscapes: polygons in drawing order, and the boxes of their visible parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.data.detection.boxes import (
    HIDDEN,
    NO_ANNOTATIONS,
    UNREADABLE,
    DetectionData,
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
from shiftproof.metrics.faults import (
    NOT_FINITE,
    UNKNOWN_CLASS,
    Fault,
    read_integer,
    read_number,
    show_value,
)
from shiftproof.types import I32, Flags

CITYSCAPES_CLASSES = (
    "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip

_OTHER_CLASSES = frozenset({
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail",
    "bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "caravan", "trailer",
})  # fmt: skip

_UNDRAWN = frozenset({"license plate"})
"""Classes of negative ids, whose polygons occlude nothing in the dataset's own tools."""


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
        root = Path(root)
        if not is_cityscapes(root):
            raise InputError(f"{root} has no folders leftImg8bit and gtFine; expected Cityscapes.")
        splits = [folder.name for folder in list_folders(root / "leftImg8bit")]
        if split is not None and split not in splits:
            raise InputError(f"{root} has no split {split!r}; it has {shorten(splits)}.")
        faults: list[Fault] = []
        objects = {}
        sizes = []
        inner = "leftImg8bit" + (f"/{split}" if split else "")
        for image_name in find_images(root / inner).names:
            name = f"{inner}/{image_name}"
            path = root / find_polygon_file(name)
            if not path.is_file():
                detail = f"expected {find_polygon_file(name)}"
                faults.append(Fault(name, NO_ANNOTATIONS, kept=False, detail=detail))
                continue
            try:
                size, rows, object_faults = find_visible_objects(read_json(path), path.name)
            except BrokenFileError as error:
                faults.append(Fault(name, UNREADABLE, kept=False, detail=str(error)))
                continue
            faults += object_faults
            sizes.append(size)
            objects[name], object_faults = check_boxes(name, size, rows)
            faults += object_faults
        if not objects:
            first = f" (first: {faults[0]})" if faults else ""
            raise InputError(
                f"{root / inner} has no image with annotations that can be read{first}."
            )
        faults += find_size_faults(list(objects), read_image_sizes(root, objects), sizes)
        super().__init__(
            name_folder(root) + (f" {split}" if split else ""),
            root,
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
    _check_complexity(polygons, (width, height), where)
    canvas = PillowImage.new("I", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        # Every polygon occludes the ones before it, even if its class has no instances.
        draw.polygon(polygon.corners, fill=polygon.index + 1)
    pixels = np.asarray(canvas)
    rows = []
    for polygon in polygons:
        if polygon.label not in CITYSCAPES_CLASSES:
            continue
        row = _find_visible(pixels, polygon)
        if row is None:
            faults.append(Fault(f"{where}, objects[{polygon.index}]", HIDDEN, False, polygon.label))
        else:
            rows.append(row)
    return (width, height), rows, faults


@dataclass(frozen=True)
class _Polygon:
    """A polygon: its index in the file, its class, whether it is a group, and its corners (x, y)."""

    index: int
    label: str
    is_group: bool
    corners: list[tuple[float, float]]

    def window(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Return its rows and columns in an image (width, height), with a margin of a pixel."""
        xs, ys = zip(*self.corners, strict=True)
        rows = slice(max(int(min(ys)) - 1, 0), min(max(int(max(ys)) + 3, 0), size[1]))
        columns = slice(max(int(min(xs)) - 1, 0), min(max(int(max(xs)) + 3, 0), size[0]))
        return rows, columns


def _read_polygons(items: list[Any], where: str) -> tuple[list[_Polygon], list[Fault]]:
    """Return the polygons, in the order of the file, and the faults."""
    polygons: list[_Polygon] = []
    faults: list[Fault] = []
    for index, item in enumerate(items):
        place = f"objects[{index}]"
        label = item.get("label") if isinstance(item, dict) else None
        if not isinstance(label, str):
            faults.append(Fault(f"{where}, {place}", UNKNOWN_CLASS, False, show_value(label)))
            continue
        if item.get("deleted") or label in _UNDRAWN:
            continue
        is_group = label not in _OTHER_CLASSES and label.endswith("group")
        name = label.removesuffix("group") if is_group else label
        if name not in CITYSCAPES_CLASSES and name not in _OTHER_CLASSES:
            faults.append(Fault(f"{where}, {place}", UNKNOWN_CLASS, False, show_value(label)))
        corners = _read_corners(item.get("polygon"))
        if corners is None:
            faults.append(Fault(f"{where}, {place}", NOT_FINITE, False, "its polygon"))
            continue
        polygons.append(_Polygon(index, name, is_group, corners))
    return polygons, faults


MAX_DRAWN_PIXELS = 2 * MAX_PIXELS
MAX_CROSSINGS = 20_000_000
"""Limits of the pixels in all polygons' windows, and of the pairs of corner and row that drawing
visits; they take a few seconds. A hundred polygons of 200 corners and 500 rows are half of it."""


def _check_complexity(polygons: list[_Polygon], size: tuple[int, int], where: str) -> None:
    """Refuse polygons that take disproportionately long to draw."""
    pixels = crossings = 0
    for polygon in polygons:
        height, width = (max(part.stop - part.start, 0) for part in polygon.window(size))
        pixels += height * width
        crossings += height * len(polygon.corners)
    if pixels > MAX_DRAWN_PIXELS or crossings > MAX_CROSSINGS:
        raise BrokenFileError(
            f"{where}: {pluralize(len(polygons), 'polygon')} with "
            f"{sum(len(one.corners) for one in polygons)} "
            f"corners over {pixels} pixels are more than any image has."
        )


def _find_visible(pixels: I32, polygon: _Polygon) -> RawObject | None:
    """Return the visible part of a polygon as an object; None if it is fully occluded."""
    height, width = pixels.shape
    rows, columns = polygon.window((width, height))
    visible = pixels[rows, columns] == polygon.index + 1
    ys, xs = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    if not len(xs):
        return None
    visible = visible[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    left, top = int(xs[0]) + columns.start, int(ys[0]) + rows.start
    return RawObject(
        f"objects[{polygon.index}]",
        CITYSCAPES_CLASSES.index(polygon.label),
        (left, top, visible.shape[1], visible.shape[0]),
        area=float(np.count_nonzero(visible)),
        crowd=polygon.is_group,
        outline=_encode_rle(visible, left, top, (width, height)),
    )


def _encode_rle(visible: Flags, left: int, top: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return COCO's run-length encoding (RLE): alternating runs outside and inside, by columns.

    Args:
        visible: ``(h, w)`` pixels of a window of the image.
        left: the window's first column.
        top: the window's first row.
        size: width and height of the image.
    """
    width, height = size
    # Pad each column with an empty pixel at both ends, so that every run starts and ends in it.
    columns = np.zeros((visible.shape[1], visible.shape[0] + 2), dtype=np.int8)
    columns[:, 1:-1] = visible.T
    steps = np.diff(columns, axis=1)
    starts, ends = (
        column * height + row for column, row in (np.nonzero(steps == sign) for sign in (1, -1))
    )
    offset = left * height + top
    starts, ends = starts + offset, ends + offset
    # A run that reaches the bottom of a column continues at the top of the next.
    is_separate = starts[1:] > ends[:-1]
    starts = starts[np.concatenate([[True], is_separate])]
    ends = ends[np.concatenate([is_separate, [True]])]
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
