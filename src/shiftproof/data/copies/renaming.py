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
from shiftproof.data.detection.coco_files import read_names, rename, starts_like_coco
from shiftproof.data.detection.voc_files import find_stem
from shiftproof.data.detection.yolo import SPLITS, is_yolo, make_relative, read_config
from shiftproof.data.layouts import LAYOUTS
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.border import show_name
from shiftproof.io.images import is_image
from shiftproof.io.text import read_json, read_text
from shiftproof.io.xml import parse_xml


@dataclass(frozen=True)
class Form:
    """One form of all images of a tree in a folder.

    Attributes:
        mark: suffix of its names that distinguishes it from other forms; "" if there is none.
        outputs: the name of each image in this form, including the mark.
    """

    mark: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Carried:
    """The copies of an annotation or other file.

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


def carry_over(tree: Tree, name: str, forms: Sequence[Form]) -> Carried:
    """Return the copies of a file.

    Annotations get the images' new names: ``file_name`` in COCO files, ``<filename>`` in VOC's XML,
    the lists of images of VOC and YOLO, and the ``path`` of its YAML file where it leads back to the
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
    if tree.layout == "saved" and (found := _change_saved(tree, name)) is not None:
        return Carried({name: found})
    if LAYOUTS[tree.layout].task != "detection":
        return Carried(dict.fromkeys(name_carried(tree, name, forms)))
    path = tree.root / name
    suffix = path.suffix.lower()
    new_names = name_carried(tree, name, forms)
    if suffix == ".xml":
        return Carried(
            {
                new: _rename_in_voc(tree, name, form.outputs)
                for new, form in zip(new_names, forms, strict=len(new_names) > 1)
            }
        )
    if len(new_names) > 1:
        return Carried(dict.fromkeys(new_names))
    if is_yolo(path):
        return Carried({name: _rewrite_yolo_config(tree, name)})
    if suffix == ".json" and (tree.named.get(name) or starts_like_coco(path)):
        return Carried({name: _rename_in_coco(tree, name, forms)})
    if suffix == ".txt" and tree.layout == "voc":
        return _rename_in_image_set(tree, name, forms)
    if suffix == ".txt" and _split_at_mark(tree, name) is None:
        return Carried({name: _rename_in_list(tree, name, forms)})
    return Carried({name: None})


def _change_saved(tree: Tree, name: str) -> bytes | None:
    """Rewrite the description files of ``datasets``; None for other files.

    Only the splits that are in the copy are listed. ``datasets`` caches by a table's fingerprint,
    so the copy drops it to have it recomputed.
    """
    path = PurePosixPath(name)
    if name == "dataset_dict.json":
        told = read_json(tree.root / name)
        told["splits"] = [one for one in told["splits"] if f"{one}/state.json" in tree.carried]
    elif path.name == "state.json":
        told = {**read_json(tree.root / name), "_fingerprint": None}
    else:
        return None
    return json.dumps(told, indent=2).encode()


def _is_unchanged(forms: Sequence[Form]) -> bool:
    return len(forms) == 1 and all(old == new for old, new in forms[0].outputs.items())


# ---------------------------------------------------------------- what belongs to one picture


def _split_at_mark(tree: Tree, name: str) -> tuple[str, str] | None:
    """Return the parts of a file's name before and after the mark, for a file of one image.

    None if the file belongs to no image, or to all.
    """
    path = PurePosixPath(name)
    if tree.layout == "yolo":
        bare = str(path.with_suffix(""))
        return (bare, path.suffix) if path.suffix == ".txt" and bare in tree.owners else None
    if (picture := tree.mask_owners.get(name)) is not None:
        stem = PurePosixPath(picture).stem
        return str(path.with_name(stem)), path.stem.removeprefix(stem) + path.suffix
    if tree.layout == "voc":
        found = _find_voc_owner(tree, name)
        return None if found is None else (str(path.with_suffix("")), path.suffix)
    if tree.layout == "cityscapes":
        inside = "/".join(path.parts[1:-1])
        end = len(path.stem)
        while end > 0:
            if f"{inside}/{path.stem[:end]}" in tree.owners:
                return str(path.with_name(path.stem[:end])), path.stem[end:] + path.suffix
            end = path.stem.rfind("_", 0, end)
    return None


def _find_voc_owner(tree: Tree, name: str) -> str | None:
    """Return the image of a VOC file, whose path in the folder of its kind is the image's."""
    bare = PurePosixPath(name).with_suffix("")
    for text in tree.folders:
        folder = PurePosixPath(text)
        if bare.is_relative_to(folder):
            inner = bare.relative_to(folder)
        elif bare.is_relative_to(folder.parent):
            inner = PurePosixPath(*bare.relative_to(folder.parent).parts[1:])
        else:
            continue
        if (picture := tree.owners.get(str(folder / inner))) is not None:
            return picture
    return None


# ---------------------------------------------------------------- COCO


def _rename_in_coco(tree: Tree, name: str, forms: Sequence[Form]) -> bytes | None:
    """Return a COCO file with the images' new names, None if it is unchanged."""
    if _is_unchanged(forms):
        return None
    value = read_json(tree.root / name)
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list) or not all(
        isinstance(item, dict) and isinstance(item.get("file_name"), str) for item in images
    ):
        return None
    shown_as = _match_pictures(tree, name, [item["file_name"] for item in images])
    every = [{**item, "file_name": _find_new_name(item["file_name"], shown_as, forms[0])}
             for item in images]  # fmt: skip
    annotations = value.get("annotations")
    notes = annotations if isinstance(annotations, list) else []
    notes = [note for note in notes if isinstance(note, dict)]
    new_images = [make_ids([item.get("id") for item in images], form.mark, place)
                  for place, form in enumerate(forms)]  # fmt: skip
    added = []
    for place, form in enumerate(forms[1:], start=1):
        shown: dict[Any, Any] = {}
        for item, identity in zip(images, new_images[place], strict=True):
            if shown_as.get(item["file_name"]) in form.outputs and identity is not None:
                shown[item["id"]] = identity
                file_name = _find_new_name(item["file_name"], shown_as, form)
                every.append({**item, "id": identity, "file_name": file_name})
        numbers = make_ids([note.get("id") for note in notes], form.mark, place)
        for note, number in zip(notes, numbers, strict=True):
            owner = note.get("image_id")
            if isinstance(owner, (int, str)) and owner in shown:
                copied = {**note, "image_id": shown[owner]}
                added.append(copied if number is None else {**copied, "id": number})
    value["images"] = every
    if added:
        value["annotations"] = [*annotations, *added]
    # NaN is kept: a copy corrects nothing.
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


def _match_pictures(tree: Tree, name: str, said: Sequence[str]) -> Mapping[str, str]:
    """Return the image of each name in a COCO file, also for captions and segments."""
    known = tree.named.get(name)
    if known:
        return known
    folders = {"."} | {str(folder) for p in tree.pictures for folder in PurePosixPath(p).parents}
    pictures = frozenset(tree.pictures)
    readings = read_names(name, said, sorted(folders), pictures.__contains__)
    if not readings:
        return {}
    best = max(readings, key=lambda reading: reading.hits)
    return {text: best.picture(text) for text in said}


def make_ids(ids: Sequence[Any], mark: str, place: int) -> list[int | str | None]:
    """Return new ids for the form with index ``place``; index 0 keeps the ids.

    ``place`` times a power of ten, larger than all ids and at least a million, is added to an
    integer: the second form of image 139 is 1000139. So the ids agree between all files of a
    dataset. The mark is appended to a string; anything else is no id and gives None.
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


def _find_new_name(text: str, pictures: Mapping[str, str], form: Form) -> str:
    output = form.outputs.get(pictures.get(text, ""))
    return text if output is None else rename(text, output)


# ---------------------------------------------------------------- Pascal VOC


def _rename_in_voc(tree: Tree, name: str, outputs: Mapping[str, str]) -> bytes | None:
    """Return the XML of one image with its new name, None if it is unchanged."""
    picture = _find_voc_owner(tree, name) if tree.layout == "voc" else None
    if picture is None or outputs.get(picture, picture) == picture:
        return None
    data = (tree.root / name).read_bytes()
    if parse_xml(data, name).findtext("filename") is None:
        return None
    # Character references work in every encoding.
    new = html.escape(PurePosixPath(outputs[picture]).name, quote=False).encode(
        "ascii", "xmlcharrefreplace"
    )
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(data[:2])
    plain = data if encoding is None else data.decode(encoding).encode("utf-8")
    written, count = re.subn(
        rb"(<filename\s*>\s*)[^<]*?(\s*</filename\s*>)",
        lambda match: match[1] + new + match[2],
        plain,
        count=1,
    )
    if not count:
        raise BrokenFileError(f"{name}: its <filename> could not be given the image's new name.")
    return written if encoding is None else written.decode("utf-8").encode(encoding)


def _rename_in_image_set(tree: Tree, name: str, forms: Sequence[Form]) -> Carried:
    """Return an image list with each line repeated for each form; the text after a name is kept."""
    base = _list_base(tree, name)
    if base is None or _is_unchanged(forms):
        return Carried({name: None})
    prefix = "" if base == "." else f"{base}/"
    stems = {
        stem.removeprefix(prefix): picture
        for stem, picture in tree.owners.items()
        if stem.startswith(prefix)
    }
    text = read_text(tree.root / name, errors="surrogateescape")
    changed: list[str] = []
    unmatched = []
    for number, line in enumerate(text.splitlines(), start=1):
        found = find_stem(line, stems)
        if found is None:
            changed.append(line)
            if line.strip():
                shown = show_name(line.strip()[:80])
                unmatched.append(f"{name}, line {number}: {shown!r} names no image; left as it is")
            continue
        stem, word = found
        start = line.index(word)
        for form in forms:
            new = form.outputs[stems[stem]].removeprefix(prefix)
            # A name without a suffix stays without one.
            new = new if word != stem else str(PurePosixPath(new).with_suffix(""))
            changed.append(line[:start] + new + line[start + len(word) :])
    written = _split_lines(changed)
    same = changed == text.splitlines()
    return Carried({name: None if same else written}, tuple(unmatched))


def _list_base(tree: Tree, name: str) -> str | None:
    """Return the image folder of a VOC list, None if it is no such list."""
    parts = PurePosixPath(name).parts
    if "ImageSets" not in parts[:-1]:
        return None
    home = PurePosixPath(*parts[: parts.index("ImageSets")])
    return next((text for text in tree.folders if PurePosixPath(text).parent == home), None)


# ---------------------------------------------------------------- YOLO


def _rename_in_list(tree: Tree, name: str, forms: Sequence[Form]) -> bytes | None:
    """Return an image list with the new names; None for labels of boxes and other texts."""
    text = read_text(tree.root / name, errors="surrogateescape")
    lines = text.splitlines()
    filled = [line.strip() for line in lines if line.strip()]
    if not filled or tree.layout != "yolo":
        return None
    here = str(PurePosixPath(name).parent)
    pictures = [_find_line_picture(tree, here, word) for word in filled]
    if not any(pictures) and not all(is_image(Path(word)) for word in filled):
        return None
    changed = []
    for line in lines:
        word = line.strip()
        if not word:
            changed.append(line)
            continue
        word = _make_relative(tree, name, word)
        picture = _find_line_picture(tree, here, word)
        changed += dict.fromkeys(
            word if picture is None else rename(word, form.outputs[picture]) for form in forms
        )
    return _split_lines(changed)


def _find_line_picture(tree: Tree, here: str, word: str) -> str | None:
    """Return the image of a list's line; "./" is the folder of the list."""
    slashed = word.replace("\\", "/")
    bases = (here,) if slashed.startswith("./") else (".", here)
    found = (make_relative(tree.root, str(Path(base, slashed))) for base in bases)
    return next((name for name in found if name in tree.known), None)


def _split_lines(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _make_relative(tree: Tree, name: str, word: str) -> str:
    """Return a path relative to the tree: a copy must not refer to the clean images."""
    inside = make_relative(tree.root, word.replace("\\", "/"))
    if inside is None:
        raise InputError(
            f"{name}: {word} leaves {tree.root}, so a copy would lead back to it; write the path "
            "relative to the folder."
        )
    return inside if Path(word).is_absolute() else word


def _rewrite_yolo_config(tree: Tree, name: str) -> bytes | None:
    """Return a YAML file that refers to this copy, None if it is unchanged."""
    value: Any = read_config(tree.root / name)
    data = (tree.root / name).read_bytes()
    written = data
    here = PurePosixPath(name).parent
    for split in (*SPLITS, "validation"):
        entry = value.get(split) or []
        for part in entry if isinstance(entry, list) else [entry]:
            written = _rewrite_entry(tree, name, str(here), str(part), written)
    path = value.get("path")
    if isinstance(path, str) and path:
        inside = make_relative(tree.root, path)
        is_kept = not Path(path).is_absolute() and not path.startswith("..") and inside is not None
        if not (is_kept and (tree.root / path).is_dir()):
            # It points outside the tree, or to a path of other programs: not to the copy.
            note = b"# path is taken out: this copy is where this file is."
            written = re.sub(
                rb"(?m)^(\xef\xbb\xbf)?['\"]?path['\"]?[ \t]*:.*$", note, written, count=1
            )
    return None if written == data else written


def _rewrite_entry(tree: Tree, name: str, here: str, entry: str, data: bytes) -> bytes:
    """Return the YAML file with one entry rewritten so that it cannot refer to the clean images."""
    leads_out = InputError(
        f"{name}: expected a path below the dataset's folder, got {entry!r}, which leaves it, so "
        "a copy would lead back to the clean images."
    )
    if Path(entry).is_absolute():
        inside = make_relative(tree.root, entry)
        if inside is None:
            raise leads_out
        return data.replace(entry.encode(), inside.encode())
    for text in (entry, entry.removeprefix("../")):
        if make_relative(tree.root, str(Path(here, text))) is not None:
            return data
    raise leads_out
