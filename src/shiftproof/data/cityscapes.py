"""Cityscapes: polygons in the order in which they were drawn, boxes of what stays visible."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from shiftproof.classes import Classes
from shiftproof.data.boxes import (
    HIDDEN,
    NO_ANNOTATIONS,
    NOT_FINITE,
    UNKNOWN_CLASS,
    UNREADABLE,
    DetectionData,
    Fault,
    Row,
    checked,
    image_sizes,
    number,
    size_faults,
)
from shiftproof.data.disk import find_images, folders_in, shortened
from shiftproof.data.folder import name_of
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.images import MAX_PIXELS
from shiftproof.io.text import read_json

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
"""Its number is negative, which the data set's own tools take for "hides nothing"."""


@final
class CityscapesData(DetectionData):
    """Images with boxes of the eight classes of Cityscapes that are counted one by one.

    The polygons of ``gtFine`` are painted in the order of the file, later ones over earlier ones. An
    object's box is the smallest around the pixels that stay visible, its area their number, and its
    mask they themselves. Groups (``cargroup``) are crowds.

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
        there = [folder.name for folder in folders_in(home / "leftImg8bit")]
        if split is not None and split not in there:
            raise InputError(f"{home} has no split {split!r}; there are {shortened(there)}.")
        faults: list[Fault] = []
        objects = {}
        said = []
        inner = "leftImg8bit" + (f"/{split}" if split else "")
        for found in find_images(home / inner).names:
            name = f"{inner}/{found}"
            path = home / polygons_of(name)
            if not path.is_file():
                detail = f"expected {polygons_of(name)}"
                faults.append(Fault(name, NO_ANNOTATIONS, kept=False, detail=detail))
                continue
            try:
                size, rows, wrong = visible_objects(read_json(path), path.name)
            except BrokenFileError as error:
                faults.append(Fault(name, UNREADABLE, kept=False, detail=str(error)))
                continue
            faults += wrong
            said.append(size)
            objects[name], wrong = checked(name, size, rows)
            faults += wrong
        if not objects:
            raise InputError(f"{home / inner} has no image with annotations that can be read.")
        faults += size_faults(list(objects), image_sizes(home, objects), said)
        super().__init__(
            name_of(home) + (f" {split}" if split else ""),
            home,
            objects,
            Classes(CITYSCAPES_CLASSES),
            faults=faults,
        )


def is_cityscapes(root: Path) -> bool:
    """Whether a folder has the two folders of Cityscapes."""
    return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()


def polygons_of(name: str) -> str:
    """Return the path of the polygons of an image, both relative to the root."""
    stem = name.removeprefix("leftImg8bit/").rsplit(".", 1)[0].removesuffix("_leftImg8bit")
    return f"gtFine/{stem}_gtFine_polygons.json"


def visible_objects(value: Any, where: str) -> tuple[tuple[int, int], list[Row], list[Fault]]:
    """Return width and height, the objects that are visible, and what is wrong with the others.

    Raises:
        BrokenFileError: no polygons of an image.
    """
    if not isinstance(value, dict) or not isinstance(value.get("objects"), list):
        raise BrokenFileError(f"{where}: expected imgHeight, imgWidth and objects.")
    width, height = value.get("imgWidth"), value.get("imgHeight")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise BrokenFileError(f"{where}: expected imgWidth and imgHeight as whole numbers above 0.")
    if width * height > MAX_PIXELS:
        raise BrokenFileError(f"{where}: {width} x {height} pixels is above the limit.")
    canvas = PillowImage.new("I", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    wanted: list[tuple[int, str, bool, slice, slice]] = []
    faults: list[Fault] = []
    for at, item in enumerate(value["objects"]):
        place = f"objects[{at}]"
        label = item.get("label") if isinstance(item, dict) else None
        if not isinstance(label, str):
            faults.append(Fault(f"{where}, {place}", UNKNOWN_CLASS, False, repr(label)))
            continue
        if item.get("deleted") or label in _NOT_DRAWN:
            continue
        is_group = label not in _OTHERS and label.endswith("group")
        label = label.removesuffix("group") if is_group else label
        if label not in CITYSCAPES_CLASSES and label not in _OTHERS:
            faults.append(Fault(f"{where}, {place}", UNKNOWN_CLASS, False, repr(item["label"])))
        corners = _corners(item.get("polygon"))
        if corners is None:
            faults.append(Fault(f"{where}, {place}", NOT_FINITE, False, "its polygon"))
            continue
        # Everything hides what lies behind it, also what is no object.
        draw.polygon(corners, fill=at + 1)
        if label in CITYSCAPES_CLASSES:
            wanted.append((at, label, is_group, *_window(corners)))
    pixels = np.asarray(canvas)
    rows = []
    for at, label, is_group, high, wide in wanted:
        ys, xs = np.nonzero(pixels[high, wide] == at + 1)
        if not len(xs):
            faults.append(Fault(f"{where}, objects[{at}]", HIDDEN, False, label))
            continue
        left, top = int(xs.min()) + wide.start, int(ys.min()) + high.start
        size = (int(xs.max() - xs.min()) + 1, int(ys.max() - ys.min()) + 1)
        rows.append(
            Row(
                f"objects[{at}]",
                CITYSCAPES_CLASSES.index(label),
                (left, top, *size),
                area=float(len(xs)),
                crowd=is_group,
                outline=_run_lengths(xs + wide.start, ys + high.start, width, height),
            )
        )
    return (width, height), rows, faults


def _run_lengths(
    xs: NDArray[np.int64], ys: NDArray[np.int64], width: int, height: int
) -> dict[str, Any]:
    """Return the pixels as COCO's run-length code: runs outside and inside by turns, down the columns."""
    places = np.sort(xs * height + ys)
    breaks = np.flatnonzero(np.diff(places) > 1)
    starts = places[np.concatenate([[0], breaks + 1])]
    ends = places[np.concatenate([breaks, [len(places) - 1]])] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [width * height]])).tolist()
    return {"size": [height, width], "counts": counts}


def _window(corners: list[tuple[float, float]]) -> tuple[slice, slice]:
    """Return rows and columns that hold the polygon, with a pixel to spare."""
    xs, ys = zip(*corners, strict=True)
    high = slice(max(int(min(ys)) - 1, 0), max(int(max(ys)) + 3, 0))
    wide = slice(max(int(min(xs)) - 1, 0), max(int(max(xs)) + 3, 0))
    return high, wide


def _corners(polygon: Any) -> list[tuple[float, float]] | None:
    if not isinstance(polygon, list) or len(polygon) < 2:
        return None
    corners = []
    for point in polygon:
        if not isinstance(point, list) or len(point) != 2:
            return None
        x, y = number(point[0]), number(point[1])
        # Far beyond any image is no polygon either, and the drawer counts in 32 bits.
        if not (abs(x) < 1e6 and abs(y) < 1e6):
            return None
        corners.append((x, y))
    return corners
