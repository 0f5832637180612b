"""COCO: one JSON with images, annotations and categories, beside a folder of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from shiftproof.classes import Classes
from shiftproof.data.detection.boxes import (
    UNKNOWN_SIZE,
    DetectionData,
    ImageObjects,
    RawObject,
    check_boxes,
    check_inside,
    find_size_faults,
    read_image_sizes,
)
from shiftproof.data.disk import join_below
from shiftproof.data.images.folder import name_folder
from shiftproof.errors import InputError
from shiftproof.io.text import read_json
from shiftproof.metrics.annotations import (
    PARTS,
    Annotations,
    ImageId,
    derive_missing_boxes,
    read_annotations,
)
from shiftproof.metrics.faults import NO_NAME, UNKNOWN_IMAGE, Fault


@final
class CocoData(DetectionData):
    """Images with the boxes of a COCO annotation file.

    Image and category ids are the file's, so that results of other programs fit; the classes are
    the categories by ascending id. An annotation without ``iscrowd`` is not a crowd, and one without
    ``area`` gets that of its box. An annotation without ``bbox`` gets that of its segmentation, by the
    definition of pycocotools. The file is read by
    :func:`~shiftproof.metrics.annotations.read_annotations`, as in the metrics: valid entries are
    kept, and invalid ones become faults.

    Args:
        images: the folder that ``file_name`` is relative to.
        annotations: the JSON file.
        root: the folder to which ids are relative: ``images``, the default, or a folder above it.
        paths: from each ``file_name`` to the image below ``root``, if the names are not paths below
            ``images``.

    Raises:
        InputError: not COCO annotations, no valid image or category in them, a file that is listed
            for two images, or paths that leave the folder.
        BrokenFileError: not valid JSON.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        *,
        root: str | Path | None = None,
        paths: Mapping[str, str] | None = None,
    ) -> None:
        folder, path = Path(images), Path(annotations)
        data_root = folder if root is None else Path(root)
        prefix = _find_prefix(folder, data_root)
        content = read_json(path)
        where = path.name
        if not is_coco(content):
            raise InputError(
                f"{path}: expected COCO annotations, an object with images, annotations and "
                f"categories{describe_lacking(content)}. Are these the detections, or captions?"
            )
        parsed = read_annotations(where, content)
        _check_categories(where, parsed)
        faults = list(parsed.faults)
        image_names: dict[ImageId, str] = {}
        for image_id, image in parsed.images.items():
            if image.file_name is None:
                faults.append(Fault(image.place, NO_NAME, kept=False, detail="no file_name"))
            else:
                image_names[image_id] = (paths or {}).get(image.file_name) or join_below(
                    prefix, check_inside(where, image.file_name)
                )
        if not image_names:
            raise _make_empty_error(where, "images", faults)
        sizes = read_image_sizes(data_root, image_names.values())
        if parsed.boxless:  # of images whose size is not in the JSON
            found = len(parsed.faults)
            parsed = derive_missing_boxes(where, parsed, dict(zip(image_names, sizes, strict=True)))
            faults += parsed.faults[found:]
        rows = _list_rows(where, parsed, image_names, faults)
        annotated_sizes = [parsed.images[image_id].size for image_id in image_names]
        faults += find_size_faults(list(image_names.values()), sizes, annotated_sizes)
        objects: dict[str, ImageObjects] = {}
        for (image_id, name), annotated_size, file_size in zip(
            image_names.items(), annotated_sizes, sizes, strict=True
        ):
            if name in objects:
                raise InputError(f"{where}: {name} is listed for two images; expected it once.")
            size = annotated_size or file_size or UNKNOWN_SIZE
            objects[name], box_faults = check_boxes(name, size, rows[image_id], keep_negative=True)
            faults += box_faults
        super().__init__(
            f"{name_folder(data_root)} ({path.stem})",
            data_root,
            objects,
            Classes(tuple(parsed.categories.values())),
            image_ids={name: image_id for image_id, name in image_names.items()},
            category_ids=list(parsed.categories),
            faults=faults,
        )


def _check_categories(where: str, annotations: Annotations) -> None:
    if not annotations.categories:
        raise _make_empty_error(where, "categories", annotations.faults)
    if not all(isinstance(category, int) for category in annotations.categories):
        raise InputError(
            f"{where}: expected whole numbers as category ids, got "
            f"{next(iter(annotations.categories))!r:.40}."
        )


def _make_empty_error(where: str, part: str, faults: Sequence[Fault]) -> InputError:
    first = f" (first: {faults[0]})" if faults else ""
    return InputError(f"{where}: expected {part}, but none can be used{first}.")


def _list_rows(
    where: str, annotations: Annotations, image_names: Mapping[ImageId, str], faults: list[Fault]
) -> dict[ImageId, list[RawObject]]:
    """Return the annotated objects of each image that has a name."""
    rows: dict[ImageId, list[RawObject]] = {image_id: [] for image_id in image_names}
    labels = {category: index for index, category in enumerate(annotations.categories)}
    for index, image_id in enumerate(annotations.image):
        if image_id not in rows:
            detail = f"image_id {image_id!r:.60}, which has no file_name"
            faults.append(
                Fault(f"{where}, {annotations.places[index]}", UNKNOWN_IMAGE, False, detail)
            )
            continue
        x, y, width, height = annotations.boxes[index].tolist()
        rows[image_id].append(
            RawObject(
                annotations.places[index],
                labels[annotations.category[index]],
                (x, y, width, height),
                area=float(annotations.area[index]) if annotations.has_area[index] else None,
                crowd=bool(annotations.crowd[index]),
                difficult=bool(annotations.difficult[index]),
                outline=annotations.outlines[index],
                instead=annotations.instead.get(index, ""),
            )
        )
    return rows


def describe_lacking(content: Any) -> str:
    """Return the missing parts of COCO annotations, as the end of an error sentence.

    >>> describe_lacking({"images": [], "annotations": []})
    '; it has no list of categories'
    """
    if not isinstance(content, dict):
        return ""
    missing = [part for part in PARTS if not isinstance(content.get(part), list)]
    return f"; it has no list of {' and none of '.join(missing)}" if missing else ""


def is_coco(content: Any) -> bool:
    """Return whether a JSON value is COCO annotations of objects."""
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in PARTS)


def _find_prefix(folder: Path, data_root: Path) -> str:
    try:
        return folder.resolve().relative_to(data_root.resolve()).as_posix()
    except ValueError as error:
        raise InputError(
            f"{folder} is not below {data_root}; give a root above the images."
        ) from error
