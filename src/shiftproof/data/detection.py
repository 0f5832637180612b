"""Tell which layout a data set for detection has, by its marks, and open it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftproof.data.boxes import DetectionData, check_inside
from shiftproof.data.cityscapes import CityscapesData, is_cityscapes
from shiftproof.data.coco import CocoData, is_coco
from shiftproof.data.disk import folders_in, shortened
from shiftproof.data.voc import VocData, voc_folders
from shiftproof.data.yolo import YoloData, is_yolo
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.text import read_json

_ENOUGH = 20
"""So many images of a JSON are looked for in a folder that may be theirs."""


def open_detection_data(
    source: str | Path | DetectionData,
    *,
    split: str | None = None,
    images: str | Path | None = None,
) -> DetectionData:
    """Open a data set for detection by the marks of its layout; nothing is told by values.

    The marks, in this order: ``leftImg8bit`` and ``gtFine`` are Cityscapes; ``JPEGImages`` and
    ``Annotations``, in the folder or up to two below, Pascal VOC; a YAML file with ``names`` and
    ``train``, ``val`` or ``test``, or a folder with one, YOLO; a JSON file with images, annotations
    and categories, or a folder with one in it or in its ``annotations``, COCO.

    Ids are relative to the folder, so they are also the keys with which
    :func:`~shiftproof.data.export_corrupted` corrupts that folder.

    Args:
        source: the folder, the YAML or JSON file, or a data set, which comes back as it is.
        split: VOC: a list in ``ImageSets/Main``, all images by default. Cityscapes and YOLO: val by
            default. COCO: picks the JSON whose name it is in.
        images: COCO only: the folder of the images, where it is not beside the JSON.

    Raises:
        InputError: no marks, several data sets, or what the layout's reader refuses.
    """
    if isinstance(source, DetectionData):
        if split is not None or images is not None:
            raise InputError("A data set is open already: give split and images where it is made.")
        return source
    path = Path(source)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a data set with boxes.")
    if path.is_file() and path.suffix.lower() == ".json":
        return _coco(path.parent, path, images)
    layout = layout_of(path)
    if images is not None and layout != "coco":
        raise InputError(f"{path} is no COCO data, so a folder of images has no effect.")
    if layout == "cityscapes":
        return CityscapesData(path, split or "val")
    if layout == "voc":
        return VocData(path, split)
    if layout == "yolo":
        return YoloData(path if path.is_file() else _only(path, yolo_files(path)), split or "val")
    if layout == "coco":
        named = [file for file in coco_files(path) if split is None or split in file.stem]
        return _coco(path, _only(path, named, "; give one of them, or a split"), images)
    raise InputError(
        f"{path} is no data set with boxes: expected leftImg8bit and gtFine (Cityscapes), JPEGImages "
        "and Annotations (Pascal VOC), a data.yaml (YOLO), or a JSON with images, annotations and "
        "categories (COCO)."
    )


def layout_of(path: Path) -> str | None:
    """Return cityscapes, voc, yolo or coco by the marks, or None."""
    if path.is_file():
        return "yolo" if is_yolo(path) else None
    if is_cityscapes(path):
        return "cityscapes"
    if voc_folders(path):
        return "voc"
    if yolo_files(path):
        return "yolo"
    if coco_files(path):
        return "coco"
    return None


def yolo_files(root: Path) -> list[Path]:
    """Return the YAML files in a folder that describe YOLO data."""
    return sorted(path for path in root.iterdir() if is_yolo(path))


def coco_files(root: Path) -> list[Path]:
    """Return the JSON files of COCO objects in a folder or in its ``annotations``."""
    folders = [root, root / "annotations"]
    found = [path for folder in folders if folder.is_dir() for path in folder.glob("*.json")]
    return sorted(path for path in found if _starts_like_coco(path) and is_coco(_read(path)))


def _starts_like_coco(path: Path) -> bool:
    # So that a folder of other large JSON files is not parsed.
    with path.open("rb") as file:
        start = file.read(65536)
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and any(
        word in start for word in (b'"info"', b'"images"', b'"annotations"', b'"categories"')
    )


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except BrokenFileError:
        return None


def _coco(root: Path, path: Path, images: str | Path | None) -> CocoData:
    if images is not None:
        return CocoData(images, path)
    value = read_json(path)
    if not is_coco(value):
        raise InputError(
            f"{path}: expected COCO annotations, an object with images, annotations and categories."
        )
    names = [item.get("file_name") for item in value["images"] if isinstance(item, dict)]
    wanted = [check_inside(path.name, name) for name in names[:_ENOUGH] if isinstance(name, str)]
    # Annotations lie beside the images or in a folder of their own beside the folder of the images.
    home = root.parent if root.name == "annotations" else root
    folder = _holding(home, wanted)
    if folder is None and home == root:
        home = root.parent
        folder = _holding(home, wanted)
    if folder is None:
        raise InputError(
            f"{path}: no folder in {home} holds its images ({shortened(wanted, 3) or 'none named'}); "
            "give the folder as images."
        )
    return CocoData(folder, path, root=home)


def _holding(home: Path, names: Sequence[str]) -> Path | None:
    """Return the folder in or below ``home``, up to two deep, that holds most of the files."""
    first = folders_in(home)
    folders = [home, *first, *(inner for outer in first for inner in folders_in(outer))]
    counts = [sum((folder / name).is_file() for name in names) for folder in folders]
    most = max(counts)
    return folders[counts.index(most)] if most else None


def _only(root: Path, found: Sequence[Path], advice: str = "; give one of them") -> Path:
    if len(found) != 1:
        names = shortened(path.relative_to(root).as_posix() for path in found)
        raise InputError(f"{root} holds {names or 'no such annotations'}{advice}.")
    return found[0]
