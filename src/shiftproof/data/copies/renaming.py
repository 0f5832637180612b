"""Rewriting annotations for images with new names, or in several forms."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shiftproof.data.copies.trees import Tree
from shiftproof.data.detection.coco_files import (
    find_path_mappings,
    replace_last_part,
    starts_like_coco,
)
from shiftproof.data.detection.voc_files import find_stem
from shiftproof.data.detection.yolo import SPLITS, is_yolo, list_entries, make_relative, read_config
from shiftproof.data.layouts import LAYOUTS
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.border import show_name
from shiftproof.io.images import is_image
from shiftproof.io.text import read_json, read_text
from shiftproof.io.xml import parse_xml


@dataclass(frozen=True)
class Form:
    """One form of all images of a tree: the originals, or the images of one mark.

    Attributes:
        mark: suffix of the names that distinguishes it from other forms; "" if there is none.
        outputs: the name of each image in this form, including the mark.
    """

    mark: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class CarriedFile:
    """The copies of a file that is not an image of the dataset, such as annotations.

    Attributes:
        contents: content by new name; None for unchanged content.
        unmatched: entries that match no image, one sentence each.
    """

    contents: dict[str, bytes | None]
    unmatched: tuple[str, ...] = ()


def name_carried(tree: Tree, name: str, forms: Sequence[Form]) -> list[str]:
    """Return the new names of a file: several if each form has its own."""
    split = _split_at_mark(tree, name) if any(form.mark for form in forms) else None
    if split is None:
        return [name]
    return [f"{split[0]}{form.mark}{split[1]}" for form in forms]


def carry_over(tree: Tree, name: str, forms: Sequence[Form]) -> CarriedFile:
    """Return the copies of a file.

    Annotations get the images' new names: ``file_name`` in COCO files, ``<filename>`` in VOC's XML,
    the image lists of VOC and YOLO, and the ``path`` of YOLO's YAML file if it refers to the
    original.

    If there are several forms, every form of an image is a separate image. Files of one image by
    name (VOC's XML, label maps, YOLO's labels, the files in ``gtFine``) are copied once for each
    form, under the form's name; COCO's images and annotations are repeated for each form, with new
    ids (see :func:`make_ids`); lists of images (YOLO's, and VOC's ImageSets) name all forms.

    Raises:
        BrokenFileError: an annotation file that cannot be read.
        InputError: a path that leaves the folder.
    """
    if tree.layout == "voc masks" and name.endswith(".txt"):
        return _rename_in_image_set(tree, name, forms)
    if tree.layout == "saved":
        return CarriedFile({name: _rewrite_saved(tree, name)})
    if LAYOUTS[tree.layout].task != "detection":
        return CarriedFile(dict.fromkeys(name_carried(tree, name, forms)))
    path = tree.root / name
    suffix = path.suffix.lower()
    new_names = name_carried(tree, name, forms)
    if suffix == ".xml":
        return CarriedFile(
            {
                new: _rename_in_voc(tree, name, form.outputs)
                for new, form in zip(new_names, forms, strict=len(new_names) > 1)
            }
        )
    if len(new_names) > 1:
        return CarriedFile(dict.fromkeys(new_names))
    if is_yolo(path):
        return CarriedFile({name: _rewrite_yolo_config(tree, name)})
    if suffix == ".json" and (tree.coco_names.get(name) or starts_like_coco(path)):
        return CarriedFile({name: _rename_in_coco(tree, name, forms)})
    if suffix == ".txt" and tree.layout == "voc":
        return _rename_in_image_set(tree, name, forms)
    if suffix == ".txt" and _split_at_mark(tree, name) is None:
        return CarriedFile({name: _rename_in_list(tree, name, forms)})
    return CarriedFile({name: None})


def _rewrite_saved(tree: Tree, name: str) -> bytes | None:
    """Rewrite the description files of ``datasets``; None for other files.

    Only the splits that are in the copy are listed. ``datasets`` caches by a table's fingerprint,
    so the copy drops it to have it recomputed.
    """
    if name != "dataset_dict.json" and PurePosixPath(name).name != "state.json":
        return None
    content = read_json(tree.root / name)
    if name == "dataset_dict.json":
        splits = content["splits"]
        content["splits"] = [split for split in splits if f"{split}/state.json" in tree.carried]
    elif isinstance(content, dict) and "_fingerprint" in content:
        content["_fingerprint"] = None
    else:
        return None  # of another program
    return json.dumps(content, indent=2).encode()


def _keeps_names(forms: Sequence[Form]) -> bool:
    return len(forms) == 1 and all(old == new for old, new in forms[0].outputs.items())


# ---------------------------------------------------------------- files of a single image


def _split_at_mark(tree: Tree, name: str) -> tuple[str, str] | None:
    """Return the parts of a file's name before and after the mark, for a file of one image.

    None if the file belongs to no image, or to all.
    """
    path = PurePosixPath(name)
    if tree.layout == "yolo":
        without_suffix = str(path.with_suffix(""))
        is_label_file = path.suffix == ".txt" and without_suffix in tree.images_by_stem
        return (without_suffix, path.suffix) if is_label_file else None
    if (image := tree.images_by_mask.get(name)) is not None:
        stem = PurePosixPath(image).stem
        return str(path.with_name(stem)), path.stem.removeprefix(stem) + path.suffix
    if tree.layout == "voc":
        image = _find_voc_image(tree, name)
        return None if image is None else (str(path.with_suffix("")), path.suffix)
    if tree.layout == "cityscapes":
        folder = "/".join(path.parts[1:-1])
        end = len(path.stem)
        while end > 0:
            if f"{folder}/{path.stem[:end]}" in tree.images_by_stem:
                return str(path.with_name(path.stem[:end])), path.stem[end:] + path.suffix
            end = path.stem.rfind("_", 0, end)
    return None


def _find_voc_image(tree: Tree, name: str) -> str | None:
    """Return the image of a VOC file: that of the same path in the folder of the images."""
    path = PurePosixPath(name).with_suffix("")
    for folder in map(PurePosixPath, tree.folders):
        if path.is_relative_to(folder):
            stem = path.relative_to(folder)
        elif path.is_relative_to(folder.parent):
            stem = PurePosixPath(*path.relative_to(folder.parent).parts[1:])
        else:
            continue
        if (image := tree.images_by_stem.get(str(folder / stem))) is not None:
            return image
    return None


# ---------------------------------------------------------------- COCO


def _rename_in_coco(tree: Tree, name: str, forms: Sequence[Form]) -> bytes | None:
    """Return a COCO file with the images' new names, None if it is unchanged."""
    if _keeps_names(forms):
        return None
    content = read_json(tree.root / name)
    records = content.get("images") if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(
        isinstance(record, dict) and isinstance(record.get("file_name"), str) for record in records
    ):
        return None
    by_file_name = _match_images(tree, name, [record["file_name"] for record in records])
    new_records = [
        {**record, "file_name": _find_new_name(record["file_name"], by_file_name, forms[0])}
        for record in records
    ]
    annotations = content.get("annotations")
    annotations = annotations if isinstance(annotations, list) else []
    copied = [annotation for annotation in annotations if isinstance(annotation, dict)]
    new_annotations = []
    for index, form in enumerate(forms[1:], start=1):
        new_ids: dict[Any, Any] = {}
        image_ids = make_ids([record.get("id") for record in records], form.mark, index)
        for record, image_id in zip(records, image_ids, strict=True):
            if by_file_name.get(record["file_name"]) in form.outputs and image_id is not None:
                new_ids[record["id"]] = image_id
                file_name = _find_new_name(record["file_name"], by_file_name, form)
                new_records.append({**record, "id": image_id, "file_name": file_name})
        annotation_ids = make_ids([annotation.get("id") for annotation in copied], form.mark, index)
        for annotation, annotation_id in zip(copied, annotation_ids, strict=True):
            image_id = annotation.get("image_id")
            if isinstance(image_id, (int, str)) and image_id in new_ids:
                new = {**annotation, "image_id": new_ids[image_id]}
                new_annotations.append(
                    new if annotation_id is None else {**new, "id": annotation_id}
                )
    content["images"] = new_records
    if new_annotations:
        content["annotations"] = [*annotations, *new_annotations]
    # NaN is kept: a copy corrects nothing.
    return json.dumps(content, ensure_ascii=False).encode("utf-8")


def _match_images(tree: Tree, name: str, file_names: Sequence[str]) -> Mapping[str, str]:
    """Return the image of each file name in a COCO file, including captions and segments."""
    if known := tree.coco_names.get(name):
        return known
    folders = {"."} | {str(folder) for i in tree.images for folder in PurePosixPath(i).parents}
    mappings = find_path_mappings(name, file_names, sorted(folders), tree.image_set.__contains__)
    if not mappings:
        return {}
    best = max(mappings, key=lambda mapping: mapping.hits)
    return {file_name: best.resolve(file_name) for file_name in file_names}


def make_ids(ids: Sequence[Any], mark: str, form: int) -> list[int | str | None]:
    """Return new ids for the form with this index; index 0 keeps the ids.

    ``form`` times a power of ten, larger than all ids and at least a million, is added to an
    integer: the second form of image 139 is 1000139. So the ids agree between all files of a
    dataset. The mark is appended to a string; anything else is not an id and gives None.
    """
    numbers = [abs(number) for number in ids if type(number) is int]
    step = 10 ** max(len(str(max(numbers, default=0))), 6)
    if any(type(number) is int and number < 0 for number in ids):
        step *= 10
    return [
        number + form * step if type(number) is int
        else (f"{number}{mark}" if form else number) if isinstance(number, str)
        else None
        for number in ids
    ]  # fmt: skip


def _find_new_name(file_name: str, images: Mapping[str, str], form: Form) -> str:
    output = form.outputs.get(images.get(file_name, ""))
    return file_name if output is None else replace_last_part(file_name, output)


# ---------------------------------------------------------------- Pascal VOC


def _rename_in_voc(tree: Tree, name: str, outputs: Mapping[str, str]) -> bytes | None:
    """Return the XML of one image with its new name, None if it is unchanged."""
    image = _find_voc_image(tree, name) if tree.layout == "voc" else None
    if image is None or outputs.get(image, image) == image:
        return None
    data = (tree.root / name).read_bytes()
    if parse_xml(data, name).findtext("filename") is None:
        return None
    # Character references work in every encoding.
    new_name = html.escape(PurePosixPath(outputs[image]).name, quote=False).encode(
        "ascii", "xmlcharrefreplace"
    )
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(data[:2])
    content = data if encoding is None else data.decode(encoding).encode("utf-8")
    changed, count = re.subn(
        rb"(<filename\s*>\s*)[^<]*?(\s*</filename\s*>)",
        lambda match: match[1] + new_name + match[2],
        content,
        count=1,
    )
    if not count:
        raise BrokenFileError(f"{name}: its <filename> could not be given the image's new name.")
    return changed if encoding is None else changed.decode("utf-8").encode(encoding)


def _rename_in_image_set(tree: Tree, name: str, forms: Sequence[Form]) -> CarriedFile:
    """Return an image list with each line repeated for each form; the text after a name is kept."""
    folder = _find_list_folder(tree, name)
    if folder is None or _keeps_names(forms):
        return CarriedFile({name: None})
    prefix = "" if folder == "." else f"{folder}/"
    stems = {
        stem.removeprefix(prefix): image
        for stem, image in tree.images_by_stem.items()
        if stem.startswith(prefix)
    }
    text = read_text(tree.root / name, errors="surrogateescape")
    changed: list[str] = []
    unmatched = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = find_stem(line, stems)
        if match is None:
            changed.append(line)
            if line.strip():
                shown = show_name(line.strip()[:80])
                unmatched.append(f"{name}, line {number}: {shown!r} names no image; left as it is")
            continue
        stem, written = match
        start = line.index(written)
        for form in forms:
            new_name = form.outputs[stems[stem]].removeprefix(prefix)
            # A name without a suffix stays without one.
            if written == stem:
                new_name = str(PurePosixPath(new_name).with_suffix(""))
            changed.append(line[:start] + new_name + line[start + len(written) :])
    is_unchanged = changed == text.splitlines()
    return CarriedFile({name: None if is_unchanged else _join_lines(changed)}, tuple(unmatched))


def _find_list_folder(tree: Tree, name: str) -> str | None:
    """Return the image folder of a VOC list, None if the file is not such a list."""
    parts = PurePosixPath(name).parts
    if "ImageSets" not in parts[:-1]:
        return None
    root = PurePosixPath(*parts[: parts.index("ImageSets")])
    return next((folder for folder in tree.folders if PurePosixPath(folder).parent == root), None)


# ---------------------------------------------------------------- YOLO


def _rename_in_list(tree: Tree, name: str, forms: Sequence[Form]) -> bytes | None:
    """Return an image list with the new names; None for labels of boxes and other texts."""
    text = read_text(tree.root / name, errors="surrogateescape")
    lines = text.splitlines()
    paths = [line.strip() for line in lines if line.strip()]
    if not paths or tree.layout != "yolo":
        return None
    folder = str(PurePosixPath(name).parent)
    images = [_find_line_image(tree, folder, path) for path in paths]
    if not any(images) and not all(is_image(Path(path)) for path in paths):
        return None
    changed = []
    for line in lines:
        path = line.strip()
        if not path:
            changed.append(line)
            continue
        path = _rewrite_path_in_list(tree, name, path)
        image = _find_line_image(tree, folder, path)
        changed += dict.fromkeys(
            path if image is None else replace_last_part(path, form.outputs[image])
            for form in forms
        )
    return _join_lines(changed)


def _find_line_image(tree: Tree, folder: str, path: str) -> str | None:
    """Return the image of a path in a list; ``./`` is the folder of the list."""
    slashed = path.replace("\\", "/")
    bases = (folder,) if slashed.startswith("./") else (".", folder)
    candidates = (make_relative(tree.root, str(Path(base, slashed))) for base in bases)
    return next((name for name in candidates if name in tree.image_set), None)


def _join_lines(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _rewrite_path_in_list(tree: Tree, name: str, path: str) -> str:
    """Return a path relative to the tree: a copy must not refer to the clean images."""
    relative = make_relative(tree.root, path.replace("\\", "/"))
    if relative is None:
        raise InputError(
            f"{name}: {path} leaves {tree.root}, so a copy would refer to the clean images; write the "
            "path relative to the folder."
        )
    return relative if Path(path).is_absolute() else path


def _rewrite_yolo_config(tree: Tree, name: str) -> bytes | None:
    """Return a YAML file that refers to this copy, None if it is unchanged."""
    config: Any = read_config(tree.root / name)
    data = (tree.root / name).read_bytes()
    changed = data
    folder = PurePosixPath(name).parent
    for split in (*SPLITS, "validation"):
        for entry in list_entries(config.get(split) or []):
            changed = _rewrite_entry(tree, name, str(folder), str(entry), changed)
    path = config.get("path")
    if isinstance(path, str) and path:
        relative = make_relative(tree.root, path)
        is_inside = (
            not Path(path).is_absolute() and not path.startswith("..") and relative is not None
        )
        if not (is_inside and (tree.root / path).is_dir()):
            # It refers to a folder outside the tree, or to one of another program: not to the copy.
            note = b"# path is taken out: this copy is where this file is."
            changed = re.sub(
                rb"(?m)^(\xef\xbb\xbf)?['\"]?path['\"]?[ \t]*:.*$", note, changed, count=1
            )
    return None if changed == data else changed


def _rewrite_entry(tree: Tree, name: str, folder: str, entry: str, data: bytes) -> bytes:
    """Return the YAML file with one entry rewritten so that it cannot refer to the clean images."""
    if Path(entry).is_absolute():
        relative = make_relative(tree.root, entry)
        if relative is not None:
            return data.replace(entry.encode(), relative.encode())
    elif any(
        make_relative(tree.root, str(Path(folder, path))) is not None
        for path in (entry, entry.removeprefix("../"))
    ):
        return data
    raise InputError(
        f"{name}: expected a path below the dataset's folder, got {entry!r}, which leaves it, so "
        "a copy would refer to the clean images."
    )
