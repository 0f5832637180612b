"""Finding Pascal VOC's XML files and their images, in folders of any name."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from shiftproof.data.detection.coco_files import is_label_map
from shiftproof.data.disk import drop_suffix, find_images, join_below, list_folders
from shiftproof.data.splits import matches_split, parse_splits
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.text import read_text

_MAX_CHECKED = 20
"""Number of XML files of a folder that are inspected."""


@dataclass(frozen=True)
class VocFiles:
    """A folder of images and one of XML files below the dataset's folder; they may be the same.

    Attributes:
        title: name shown to users.
        images: the folder of the images.
        annotations: the folder of the XML files.
        listed: the images of a list, without suffix; None for all.
    """

    title: str
    images: str
    annotations: str
    listed: frozenset[str] | None = None

    def narrow(self, root: Path, split: str) -> VocFiles | None:
        """Return the part of a split, by the folder's name, a list or subfolders, else None."""
        if matches_split(PurePosixPath(self.title).name, split):
            return self
        image_list = self._find_list_folder(root) / f"{split}.txt"
        if files.is_file(image_list):
            stems = {drop_suffix(name) for name in self._list_names(root)}
            lines = read_text(image_list, errors="replace").splitlines()
            matches = (find_stem(line, stems) for line in lines)
            return replace(self, listed=frozenset(stem for stem, _ in filter(None, matches)))
        images, annotations = join_below(self.images, split), join_below(self.annotations, split)
        is_folder = (root / images).is_dir() and (root / annotations).is_dir()
        if is_folder and self.images != self.annotations:
            return VocFiles(split, images, annotations)
        return None

    def list_splits(self, root: Path) -> list[str]:
        """Return the available splits."""
        lists = sorted(path.stem for path in self._find_list_folder(root).glob("*.txt"))
        folders = [folder.name for folder in list_folders(root / self.images)]
        title = PurePosixPath(self.title).name
        return [*([title] if parse_splits(title) else []), *lists, *folders]

    def _find_list_folder(self, root: Path) -> Path:
        return root / PurePosixPath(self.images).parent / "ImageSets" / "Main"

    def _list_names(self, root: Path) -> tuple[str, ...]:
        try:
            return find_images(root / self.images).names
        except InputError:  # none
            return ()

    def list_images(self, root: Path) -> tuple[str, ...]:
        """Return the images below ``root``; in a shared folder, those with an XML file."""
        names = self._list_names(root)
        if self.images == self.annotations:
            folder = root / self.annotations
            names = tuple(n for n in names if files.is_file((folder / n).with_suffix(".xml")))
        if self.listed is not None:
            names = tuple(name for name in names if drop_suffix(name) in self.listed)
        return tuple(join_below(self.images, name) for name in names)


def find_stem(line: str, stems: Collection[str]) -> tuple[str, str] | None:
    """Return the image of a list's line, without suffix, and the text that names it.

    The lists of a class have -1, 0 or 1 after the name; a name may contain spaces and a suffix.
    None if the line names none of ``stems``.

    >>> find_stem("my dog.jpg  1", {"my dog"})
    ('my dog', 'my dog.jpg')
    """
    text = line.strip()
    first_word = text.split(maxsplit=1)[:1]
    for name in (text, re.sub(r"\s+-?[01]$", "", text), *first_word):
        for stem in (name, re.sub(r"\.[A-Za-z0-9]{1,5}$", "", name)):
            if stem in stems:
                return stem, name
    return None


def find_voc(root: Path) -> list[VocFiles]:
    """Return the folders of VOC's XML files and images, in a folder or in its splits.

    They are ``images/`` and ``annotations/``, or two folders with other names, or a single folder.

    Raises:
        InputError: two folders may be the image folder.
    """
    found = []
    for base in (root, *(folder for folder in list_folders(root) if parse_splits(folder.name))):
        title = base.relative_to(root).as_posix()
        if _has_matching_images(base, base, recursive=False):
            found.append(VocFiles(title, title, title))
            continue
        for folder in list_folders(base):
            if not is_label_map(folder.name) and folder.name.lower() not in ("xml", "xmls"):
                continue
            candidates = [
                other
                for other in (base, *list_folders(base))
                if other != folder
                and not is_label_map(other.name)
                and _has_matching_images(folder, other)
            ]
            if len(candidates) > 1:
                shown = " and ".join(
                    f"{other.relative_to(root).as_posix()}/" for other in candidates
                )
                raise InputError(
                    f"{folder}: its images are found in {shown}; give a folder that holds one of "
                    "them."
                )
            if candidates:
                images = candidates[0].relative_to(root).as_posix()
                found.append(VocFiles(title, images, folder.relative_to(root).as_posix()))
    return found


def _has_matching_images(annotations: Path, images: Path, *, recursive: bool = True) -> bool:
    """Return whether an XML file in one folder has an image of the same name in another."""
    paths = annotations.rglob("*.xml") if recursive else annotations.glob("*.xml")
    for path in itertools.islice(paths, _MAX_CHECKED):
        with path.open("rb") as file:
            if b"<annotation" not in file.read(1000):
                continue
        folder = images / path.parent.relative_to(annotations)
        if folder.is_dir() and any(
            other.stem == path.stem and other.suffix.lower() != ".xml" for other in folder.iterdir()
        ):
            return True
    return False
