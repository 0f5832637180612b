"""What lies in a folder that is copied: the images, and what is carried over beside them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from shiftproof.data.detection import layout_of
from shiftproof.data.disk import find_images
from shiftproof.data.tars import check_names
from shiftproof.data.writing import ImageFormat, cityscapes_stem, written_name
from shiftproof.data.yolo import labels_of
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.border import check_names as check_utf8
from shiftproof.io.images import is_image
from shiftproof.io.tars import is_tar

TEXT_SUFFIXES = frozenset(
    {".csv", ".json", ".md", ".names", ".txt", ".xml", ".yaml", ".yml"}
)  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """A folder and what is in it; names are paths below it, sorted, with ``/`` on every system.

    Attributes:
        root: the folder.
        layout: plain, cityscapes, voc, yolo, coco or webdataset.
        pictures: the images to change; of webdataset the tars.
        carried: all other files, which every copy gets: none for a plain folder.
    """

    root: Path
    layout: str
    pictures: tuple[str, ...]
    carried: tuple[str, ...] = ()

    @cached_property
    def owners(self) -> frozenset[str]:
        """The names, without suffix, by which other files say to which picture they belong."""
        return frozenset(_owner(self.layout, name) for name in self.pictures)


def _owner(layout: str, picture: str) -> str:
    path = PurePosixPath(picture)
    if layout == "yolo":
        path = PurePosixPath(labels_of(picture))
    elif layout == "cityscapes":
        # Below the folders of all kinds: leftImg8bit, gtFine, disparity, ...
        return f"{'/'.join(path.parts[1:-1])}/{cityscapes_stem(path.stem)[0]}"
    return str(path.with_suffix(""))


def open_tree(source: Path) -> Tree:
    """Find out what ``source`` is: one image or tar, or a folder in one of the known layouts.

    In a known layout images are changed where the layout has its photographs: in ``JPEGImages``
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
        check_utf8(source, tars)
        if tars and not any(is_image(Path(name)) for name in every):
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
