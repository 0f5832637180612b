"""What lies in a folder that is corrupted: the images, and what is carried over beside them."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape

from shiftproof import files
from shiftproof.data.boxes import check_inside
from shiftproof.data.detection import layout_of
from shiftproof.data.disk import find_images
from shiftproof.data.tars import check_names, is_tar
from shiftproof.data.voc import parse_xml
from shiftproof.data.writing import ImageFormat, written_name
from shiftproof.data.yolo import SPLITS, is_yolo, read_config
from shiftproof.errors import BrokenFileError, InputError

TEXT_SUFFIXES = frozenset(
    {".csv", ".json", ".md", ".names", ".txt", ".xml", ".yaml", ".yml"}
)  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """A folder and what is in it; names are paths below it, sorted, with ``/`` on every system.

    Attributes:
        root: the folder.
        layout: plain, cityscapes, voc, yolo, coco or webdataset.
        pictures: the images to corrupt; of webdataset the tars.
        carried: all other files, which every cell gets: none for a plain folder.
    """

    root: Path
    layout: str
    pictures: tuple[str, ...]
    carried: tuple[str, ...] = ()


def open_tree(source: Path) -> Tree:
    """Find out what ``source`` is: one image or tar, or a folder in one of the known layouts.

    In a known layout images are corrupted where the layout has its photographs: in ``JPEGImages``
    (VOC) and ``leftImg8bit...`` (Cityscapes), anywhere but in ``annotations`` (COCO), and anywhere
    (YOLO). All other files are carried over: masks and maps of labels are images, too. A folder with
    tars and no images is webdataset.

    Raises:
        InputError: nothing that could be corrupted.
    """
    if source.is_file():
        layout = "webdataset" if is_tar(source.name) else "plain"
        return Tree(source.parent, layout, (source.name,))
    if not source.is_dir():
        raise InputError(f"{source} does not exist; expected an image or a folder of images.")
    layout = layout_of(source) or "plain"
    if layout == "plain":
        every = list(_all_files(source))
        tars = tuple(sorted(name for name in every if is_tar(name)))
        if tars and not any(files.is_image(Path(name)) for name in every):
            rest = tuple(sorted(set(every) - set(tars)))
            return Tree(source, "webdataset", tars, rest)
        return Tree(source, "plain", find_images(source).names)
    pictures = tuple(n for n in find_images(source).names if _is_photograph(layout, n))
    if not pictures:
        raise InputError(f"{source} holds no images where {layout} data has them.")
    carried = tuple(sorted(set(_all_files(source)) - set(pictures)))
    return Tree(source, layout, pictures, carried)


def _is_photograph(layout: str, name: str) -> bool:
    parts = PurePosixPath(name).parts[:-1]
    if layout == "voc":
        return "JPEGImages" in parts
    if layout == "cityscapes":
        return bool(parts) and parts[0].startswith("leftImg8bit")
    return layout == "yolo" or "annotations" not in parts


def _all_files(root: Path) -> Iterator[str]:
    """Yield every file that is not hidden, also behind links to folders, but none twice."""
    visited: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            inner.clear()
            continue
        visited.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix()


def output_names(tree: Tree, image_format: ImageFormat) -> dict[str, str]:
    """Return the new name of every picture of a tree; of tars, which keep theirs, see ``tars``.

    Where two would share a name, the old suffix stays, too; where annotations find their image by its
    stem, that cannot be.

    Raises:
        InputError: two pictures cannot be told apart, or the format cannot hold one.
    """
    if tree.layout == "webdataset":
        for name in tree.pictures:
            try:
                check_names(tree.root / name, image_format)
            except BrokenFileError:
                continue  # named when its turn comes
        return {name: name for name in tree.pictures}
    plain = {name: written_name(name, image_format) for name in tree.pictures}
    shared = Counter(plain.values())
    doubled = [name for name, output in plain.items() if shared[output] > 1]
    if doubled and tree.layout in ("voc", "yolo"):
        raise InputError(
            f"{tree.root}: {doubled[0]} and another image differ by their suffix alone, and share "
            "their annotations; rename one."
        )
    return {
        name: output if shared[output] == 1 else name + PurePosixPath(output).suffix
        for name, output in plain.items()
    }


# ---------------------------------------------------------------- annotations with new file names


def rewritten(tree: Tree, name: str, outputs: Mapping[str, str]) -> bytes | None:
    """Return a carried file with the images' new names, or None where it stays as it is.

    Rewritten are ``file_name`` in COCO files, ``<filename>`` in VOC's XML, the lists of images of
    YOLO, and the ``path`` of its YAML file where it leads back to the original.

    Raises:
        BrokenFileError: an annotation file that cannot be read.
        InputError: a path that leaves the folder.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if tree.layout == "yolo" and is_yolo(tree.root / name):
        return _yolo_config(tree, name)
    if tree.layout == "yolo" and suffix == ".txt":
        return _image_list(tree, name, outputs)
    if all(old == new for old, new in outputs.items()):
        return None
    if tree.layout == "coco" and suffix == ".json":
        return _coco_json(tree, name, outputs)
    if tree.layout == "voc" and suffix == ".xml":
        return _voc_xml(tree, name, outputs)
    return None


def _coco_json(tree: Tree, name: str, outputs: Mapping[str, str]) -> bytes | None:
    value = files.read_json(tree.root / name)
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list) or not all(
        isinstance(item, dict) and isinstance(item.get("file_name"), str) for item in images
    ):
        return None
    names = [check_inside(name, item["file_name"]) for item in images]
    prefix = _folder_of(names, outputs)
    for item in images:
        item["file_name"] = _renamed(item["file_name"], prefix, outputs)
    # NaN stays what it is: a copy mends nothing.
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


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


def _voc_xml(tree: Tree, name: str, outputs: Mapping[str, str]) -> bytes | None:
    path = PurePosixPath(name)
    data = (tree.root / name).read_bytes()
    said = parse_xml(data, name).findtext("filename")
    if said is None:
        return None
    folder = path.parent.parent / "JPEGImages"
    suffixes = {PurePosixPath(said.strip()).suffix, *files.IMAGE_SUFFIXES}
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


def _image_list(tree: Tree, name: str, outputs: Mapping[str, str]) -> bytes | None:
    """Return a list of images with their new names; labels of boxes and other texts are none."""
    text = (tree.root / name).read_text(encoding="utf-8", errors="surrogateescape")
    lines = text.splitlines()
    filled = [line.strip() for line in lines if line.strip()]
    if not filled or not all(files.is_image(Path(line)) for line in filled):
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
        changed.append(word[: len(word) - len(bare)] + _renamed(bare, prefix, outputs))
    return ("\n".join(changed) + "\n").encode("utf-8", "surrogateescape")


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
