"""Generated scenes with known boxes: items of Fashion-MNIST on crops of photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shiftproof.compute.progress import progress
from shiftproof.data import CocoData, DemoPhotographs, open_data
from shiftproof.errors import BrokenFileError, MissingExtraError
from shiftproof.io import fingerprint, make_folder, read_json, write_bytes, write_json
from shiftproof.rng import generator
from shiftproof.stylize import DrawnStyles
from shiftproof.types import Image, Settings
from shiftproof_reproduce.fashion import CLASSES
from shiftproof_reproduce.result import to_json

ANNOTATIONS = "annotations/instances.json"
"""COCO annotations in a folder of scenes; the images are in ``images``."""


@dataclass(frozen=True, kw_only=True)
class SceneKind:
    """Parameters of scenes.

    Attributes:
        side: height and width of the image in pixels.
        items: range of the number of items.
        sizes: range of an item's longer side, as a share of the image's side.
        overlap: maximum share of an item that lies on earlier ones.
        seed: random seed.
    """

    side: int = 128
    items: tuple[int, int] = (1, 4)
    sizes: tuple[float, float] = (0.2, 0.5)
    overlap: float = 0.15
    seed: int = 0


def read_backgrounds(folder: str | Path | None = None) -> list[Image]:
    """Return photographs for the backgrounds.

    They come from a folder; by default they are the 20 of the extra ``demo``, or generated textures
    if it is not installed.
    """
    if folder is not None:
        data = open_data(folder, classes=None, labeled=False)
        return [data.read(sample) for sample in data.samples]
    try:
        photographs = DemoPhotographs()
    except MissingExtraError:
        textures = DrawnStyles()
        return [textures.read(number) for number in range(20)]
    return [photographs.read(sample) for sample in photographs.samples]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of scenes: items ``(M, 28, 28)`` uint8, white on black, with their classes
    ``(M,)``, and background photographs.
    """

    items: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    photographs: Sequence[Image]


def draw_scene(
    parts: Parts, kind: SceneKind, *, key: str
) -> tuple[Image, NDArray[np.int64], NDArray[np.int64]]:
    """Return one scene, a pure function of the arguments; ``key`` identifies it.

    The image is ``(side, side, 3)`` uint8 RGB, the boxes ``(N, 4)`` int64 x, y, width, height, and
    the classes ``(N,)``.
    """
    items, photographs = parts.items, parts.photographs
    rng = generator(kind.seed, "scene", key)
    image = _crop_background(photographs[int(rng.integers(len(photographs)))], kind.side, rng)
    hidden = np.zeros((kind.side, kind.side), dtype=bool)
    boxes: list[tuple[int, int, int, int]] = []
    classes: list[int] = []
    wanted = int(rng.integers(kind.items[0], kind.items[1] + 1))
    for _ in range(6 * wanted):
        if len(boxes) == wanted:
            break
        chosen = int(rng.integers(len(items)))
        size = round(kind.side * rng.uniform(*kind.sizes))
        opacity, gray = _crop_item(items[chosen], size)
        height, width = opacity.shape
        top = int(rng.integers(0, kind.side - height + 1))
        left = int(rng.integers(0, kind.side - width + 1))
        place = slice(top, top + height), slice(left, left + width)
        tint = rng.uniform(60, 255, 3)
        solid = opacity > 0.5
        if (hidden[place] & solid).sum() > kind.overlap * solid.sum():
            continue
        hidden[place] |= solid
        painted = gray[..., None] * tint
        image[place] = image[place] * (1 - opacity[..., None]) + painted * opacity[..., None]
        boxes.append((left, top, width, height))
        classes.append(int(parts.labels[chosen]))
    return (
        np.clip(np.rint(image), 0, 255).astype(np.uint8),
        np.array(boxes, dtype=np.int64).reshape(-1, 4),
        np.array(classes, dtype=np.int64),
    )


def _crop_background(photograph: Image, side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random square crop of a photograph, at least as large as the scene, randomly
    mirrored.
    """
    smaller = min(photograph.shape[:2])
    crop = int(rng.integers(min(side, smaller), smaller + 1))
    top = int(rng.integers(0, photograph.shape[0] - crop + 1))
    left = int(rng.integers(0, photograph.shape[1] - crop + 1))
    part = photograph[top : top + crop, left : left + crop]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    resized = cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=cv2.INTER_AREA)
    return resized.astype(np.float64)


def _crop_item(
    item: NDArray[np.uint8], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return opacity and gray values in 0..1 of an item, cropped and scaled to a longer side of
    ``size``.
    """
    rows, columns = np.flatnonzero(item.max(1) > 40), np.flatnonzero(item.max(0) > 40)
    cut = item[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else item
    scale = size / max(cut.shape)
    shape = max(2, round(cut.shape[1] * scale)), max(2, round(cut.shape[0] * scale))
    gray = cv2.resize(cut, shape, interpolation=cv2.INTER_LINEAR).astype(np.float64) / 255
    return np.clip(gray * 5, 0, 1), 0.25 + 0.75 * gray


def write_scenes(
    folder: Path,
    count: int,
    parts: Parts,
    kind: SceneKind,
    *,
    name: str,
    show_progress: bool | None = None,
) -> CocoData:
    """Write scenes as PNG with their boxes as COCO JSON, unless they exist already.

    The files are ``images/00000.png`` and so on, and ``annotations/instances.json``; the scenes'
    keys begin with ``name``.
    """
    arrays = (parts.items, parts.labels, *parts.photographs)
    about = {
        "kind": to_json(kind),
        "count": count,
        "name": name,
        "data": fingerprint(array.tobytes() for array in arrays),
    }
    path = folder / ANNOTATIONS
    if _read_about(path) != about:
        make_folder(path.parent)
        make_folder(folder / "images")
        records: list[Settings] = []
        annotations: list[Settings] = []
        size = {"width": kind.side, "height": kind.side}
        with progress(f"Scenes ({name})", count, show=show_progress) as advance:
            for number in range(count):
                image, boxes, classes = draw_scene(parts, kind, key=f"{name} {number}")
                file_name = f"{number:05}.png"
                _, encoded = cv2.imencode(".png", image[..., ::-1])
                write_bytes(folder / "images" / file_name, encoded.tobytes(), durable=False)
                records.append({"id": number + 1, "file_name": file_name, **size})
                for box, label in zip(boxes.tolist(), classes.tolist(), strict=True):
                    place = {"image_id": number + 1, "category_id": label + 1, "bbox": box}
                    area = {"area": box[2] * box[3], "iscrowd": 0}
                    annotations.append({"id": len(annotations) + 1, **place, **area})
                advance()
        categories = [{"id": at + 1, "name": word} for at, word in enumerate(CLASSES.names)]
        content = {"images": records, "annotations": annotations, "categories": categories}
        # Written last: it marks the folder as complete.
        write_json(path, {"info": about, **content})
    return CocoData(folder / "images", path, root=folder)


def _read_about(path: Path) -> Any:
    try:
        return read_json(path).get("info")
    except (BrokenFileError, AttributeError):
        return None
