"""Annotations for pictures that have new names, or that come in several forms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape

from shiftproof.data.boxes import check_inside
from shiftproof.data.trees import Tree
from shiftproof.data.voc import parse_xml
from shiftproof.data.yolo import SPLITS, is_yolo, read_config
from shiftproof.errors import InputError
from shiftproof.io.images import IMAGE_SUFFIXES, is_image
from shiftproof.io.text import read_json


@dataclass(frozen=True)
class Form:
    """One form in which the pictures of a tree come into a folder.

    Attributes:
        mark: what tells its names from those of the other forms; "" where nothing does.
        outputs: the name of each picture in this form, mark and all.
    """

    mark: str
    outputs: Mapping[str, str]


def carried_names(tree: Tree, name: str, forms: Sequence[Form]) -> list[str]:
    """Return what a carried file will be called: several names where each form has one of its own."""
    split = _of_one_picture(tree, name) if any(form.mark for form in forms) else None
    if split is None:
        return [name]
    return [f"{split[0]}{form.mark}{split[1]}" for form in forms]


def carried_over(tree: Tree, name: str, forms: Sequence[Form]) -> dict[str, bytes | None]:
    """Return what becomes of a carried file: names and contents, None for content that stays.

    Annotations get the images' new names: ``file_name`` in COCO files, ``<filename>`` in VOC's XML,
    the lists of images of YOLO, and the ``path`` of its YAML file where it leads back to the original.

    Where there are several forms, every form of a picture is an image of its own. What belongs to one
    picture by its name (VOC's XML and masks, YOLO's labels, the files in ``gtFine``) comes once for
    each form, under the name of the form; COCO's images and annotations come once for each form, with
    fresh ids (see :func:`fresh_ids`); lists of images (YOLO's, and VOC's ImageSets) name all forms.

    Raises:
        BrokenFileError: an annotation file that cannot be read.
        InputError: a path that leaves the folder.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if tree.layout == "yolo" and is_yolo(tree.root / name):
        return {name: _yolo_config(tree, name)}
    new_names = carried_names(tree, name, forms)
    if len(new_names) > 1:
        return {
            new: _with_new_name(tree, name, form, suffix)
            for new, form in zip(new_names, forms, strict=True)
        }
    if tree.layout == "yolo" and suffix == ".txt":
        return {name: _image_list(tree, name, forms)}
    if len(forms) == 1:
        return {name: _with_new_name(tree, name, forms[0], suffix)}
    if tree.layout == "coco" and suffix == ".json":
        return {name: _coco_json(tree, name, forms)}
    if tree.layout == "voc" and suffix == ".txt" and "ImageSets" in PurePosixPath(name).parts:
        return {name: _image_set(tree, name, forms)}
    return {name: None}


def _with_new_name(tree: Tree, name: str, form: Form, suffix: str) -> bytes | None:
    """Return the annotations of one form, or None where they stay as they are."""
    if all(old == new for old, new in form.outputs.items()):
        return None
    if tree.layout == "coco" and suffix == ".json":
        return _coco_json(tree, name, [form])
    if tree.layout == "voc" and suffix == ".xml":
        return _voc_xml(tree, name, form.outputs)
    return None


# ---------------------------------------------------------------- what belongs to one picture


def _of_one_picture(tree: Tree, name: str) -> tuple[str, str] | None:
    """Return what stands before and behind the mark in the name of a file of one picture.

    None where the file belongs to none, or to all.
    """
    path = PurePosixPath(name)
    owners = tree.owners
    if tree.layout == "yolo":
        bare = str(path.with_suffix(""))
        return (bare, path.suffix) if path.suffix == ".txt" and bare in owners else None
    if tree.layout == "voc":
        # The folder of the kind stands where the pictures' has JPEGImages, and may have folders in it.
        for at in range(len(path.parts) - 1):
            inner = PurePosixPath(*path.parts[:at], "JPEGImages", *path.parts[at + 1 :])
            if str(inner.with_suffix("")) in owners:
                return str(path.with_suffix("")), path.suffix
        return None
    if tree.layout == "cityscapes":
        inside = "/".join(path.parts[1:-1])
        end = len(path.stem)
        while end > 0:
            if f"{inside}/{path.stem[:end]}" in owners:
                return str(path.with_name(path.stem[:end])), path.stem[end:] + path.suffix
            end = path.stem.rfind("_", 0, end)
    return None


# ---------------------------------------------------------------- COCO


def _coco_json(tree: Tree, name: str, forms: Sequence[Form]) -> bytes | None:
    value = read_json(tree.root / name)
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list) or not all(
        isinstance(item, dict) and isinstance(item.get("file_name"), str) for item in images
    ):
        return None
    names = [check_inside(name, item["file_name"]) for item in images]
    prefix = _folder_of(names, forms[0].outputs)
    every = [{**item, "file_name": _renamed(item["file_name"], prefix, forms[0].outputs)}
             for item in images]  # fmt: skip
    annotations = value.get("annotations")
    notes = annotations if isinstance(annotations, list) else []
    notes = [note for note in notes if isinstance(note, dict)]
    new_images = [fresh_ids([item.get("id") for item in images], form.mark, place)
                  for place, form in enumerate(forms)]  # fmt: skip
    added = []
    for place, form in enumerate(forms[1:], start=1):
        shown: dict[Any, Any] = {}
        for item, identity in zip(images, new_images[place], strict=True):
            if prefix + item["file_name"] in form.outputs and identity is not None:
                shown[item["id"]] = identity
                file_name = _renamed(item["file_name"], prefix, form.outputs)
                every.append({**item, "id": identity, "file_name": file_name})
        numbers = fresh_ids([note.get("id") for note in notes], form.mark, place)
        for note, number in zip(notes, numbers, strict=True):
            owner = note.get("image_id")
            if isinstance(owner, (int, str)) and owner in shown:
                copied = {**note, "image_id": shown[owner]}
                added.append(copied if number is None else {**copied, "id": number})
    value["images"] = every
    if added:
        value["annotations"] = [*annotations, *added]
    # NaN stays what it is: a copy mends nothing.
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


def fresh_ids(ids: Sequence[Any], mark: str, place: int) -> list[int | str | None]:
    """Return ids for the form number ``place`` of what has these ids; 0 keeps them.

    A whole number gets ``place`` times a power of ten on top that is above all of them, and a million
    at least: of image 139 the first further form is 1000139. So the ids are the same in all files of
    a data set. A text gets the mark behind it; anything else is no id and stays without one.
    """
    numbers = [abs(number) for number in ids if type(number) is int]
    step = 10 ** max(len(str(max(numbers, default=0))), 6)
    if any(type(number) is int and number < 0 for number in ids):
        step *= 10
    return [
        number + place * step if type(number) is int
        else (f"{number}{mark}" if place else number) if isinstance(number, str)
        else None
        for number in ids
    ]  # fmt: skip


def _folder_of(names: Sequence[str], outputs: Mapping[str, str]) -> str:
    """Return the folder, "" or with a ``/`` behind it, below which most of the names lie."""
    folders = {""}
    for picture in outputs:
        folders |= {f"{folder}/" for folder in PurePosixPath(picture).parents if folder.name}
    first = names[:100]
    return max(sorted(folders), key=lambda folder: sum(folder + name in outputs for name in first))


def _renamed(name: str, prefix: str, outputs: Mapping[str, str]) -> str:
    output = outputs.get(prefix + name)
    return name if output is None else output.removeprefix(prefix)


# ---------------------------------------------------------------- Pascal VOC


def _voc_xml(tree: Tree, name: str, outputs: Mapping[str, str]) -> bytes | None:
    path = PurePosixPath(name)
    data = (tree.root / name).read_bytes()
    said = parse_xml(data, name).findtext("filename")
    if said is None:
        return None
    folder = path.parent.parent / "JPEGImages"
    suffixes = {PurePosixPath(said.strip()).suffix, *IMAGE_SUFFIXES}
    candidates = [str(folder / (path.stem + suffix)) for suffix in sorted(suffixes)]
    found = next((outputs[picture] for picture in candidates if picture in outputs), None)
    if found is None:
        return None
    new = escape(PurePosixPath(found).name).encode("utf-8")
    return re.sub(
        rb"(<filename\s*>\s*)[^<]*?(\s*</filename\s*>)",
        lambda match: match[1] + new + match[2],
        data,
        count=1,
    )


def _image_set(tree: Tree, name: str, forms: Sequence[Form]) -> bytes:
    """Return a list of stems, each line once for each form; what stands behind a stem stays."""
    parts = PurePosixPath(name).parts
    base = PurePosixPath(*parts[: parts.index("ImageSets")], "JPEGImages")
    owners = tree.owners
    text = (tree.root / name).read_text(encoding="utf-8", errors="surrogateescape")
    changed = []
    for line in text.splitlines():
        words = line.split(maxsplit=1)
        if not words or str(base / check_inside(name, words[0])) not in owners:
            changed.append(line)
            continue
        start = line.index(words[0]) + len(words[0])
        changed += [line[:start] + form.mark + line[start:] for form in forms]
    return _lines(changed)


# ---------------------------------------------------------------- YOLO


def _image_list(tree: Tree, name: str, forms: Sequence[Form]) -> bytes | None:
    """Return a list of images with their new names; labels of boxes and other texts are none."""
    text = (tree.root / name).read_text(encoding="utf-8", errors="surrogateescape")
    lines = text.splitlines()
    filled = [line.strip() for line in lines if line.strip()]
    if not filled or not all(is_image(Path(line)) for line in filled):
        return None
    here = str(PurePosixPath(name).parent)
    changed = []
    for line in lines:
        word = line.strip()
        if not word:
            changed.append(line)
            continue
        word = _below_root(tree, name, word)
        bare = word.removeprefix("./")
        # "./" stands for the folder of the list, anything else for the data's.
        prefix = f"{here}/" if word.startswith("./") and here != "." else ""
        before = word[: len(word) - len(bare)]
        new = [before + _renamed(bare, prefix, form.outputs) for form in forms]
        changed += dict.fromkeys(new)
    return _lines(changed)


def _lines(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _below_root(tree: Tree, name: str, word: str) -> str:
    """Return a path relative to the tree: a copy must not lead back to the clean images."""
    if Path(word).is_absolute():
        try:
            word = Path(word).resolve().relative_to(tree.root.resolve()).as_posix()
        except ValueError as error:
            raise InputError(
                f"{name}: {word} leaves {tree.root}, so a copy would lead back to it; write the path "
                "relative to the folder."
            ) from error
    return check_inside(name, word)


def _yolo_config(tree: Tree, name: str) -> bytes | None:
    value: Any = read_config(tree.root / name)
    for split in SPLITS:
        entry = value.get(split) or []
        for part in entry if isinstance(entry, list) else [entry]:
            check_inside(name, str(part))
    path = value.get("path")
    if not isinstance(path, str) or not path:
        return None
    try:
        check_inside(name, path)
        leads_out = False
    except InputError:
        leads_out = True
    if not leads_out and (tree.root / path).is_dir():
        return None
    # "path" leads out of the tree, or to a place that other programs know: the copy is elsewhere.
    data = (tree.root / name).read_bytes()
    note = b"# path is taken out: this copy is where this file is."
    return re.sub(rb"(?m)^['\"]?path['\"]?[ \t]*:.*$", note, data, count=1)
