"""What a path is: which layout of data sets, which of its files are images, what is left aside."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from shiftproof.data.detection.cityscapes import is_cityscapes
from shiftproof.data.detection.coco import lacking
from shiftproof.data.detection.coco_files import (
    CocoFile,
    coco_candidates,
    find_coco,
    is_label_map,
    tell_nearly_coco,
)
from shiftproof.data.detection.voc import voc_folders
from shiftproof.data.detection.voc_files import VocFiles, find_voc
from shiftproof.data.detection.yolo import YoloConfig, has_labels, is_yolo
from shiftproof.data.disk import ImageListing, all_files, find_images, folders_in, shorten
from shiftproof.data.images.corrupted import is_corrupted_tree
from shiftproof.data.images.corrupted_arrays import is_corrupted_arrays
from shiftproof.data.images.csv_table import ImageTable
from shiftproof.data.images.parquet import ParquetImages, is_parquet, parquet_splits
from shiftproof.data.images.rows import RowImages, choose_label, class_names
from shiftproof.data.images.saved import SavedDataset, is_saved_dataset, list_splits
from shiftproof.data.images.tars import TarFiles
from shiftproof.data.segmentation.layouts import (
    LABEL_MAPS,
    LAYOUTS,
    choose_split,
    folders_of,
    layout_in,
)
from shiftproof.data.splits import is_asked
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    LabelError,
    ShiftproofError,
    UnknownNameError,
)
from shiftproof.io import files
from shiftproof.io.border import show_name, suggest_sibling
from shiftproof.io.images import is_image, read_size
from shiftproof.io.places import has_braces, is_url
from shiftproof.io.tars import is_tar, open_tar
from shiftproof.io.text import read_json
from shiftproof.io.urls import redact_urls

TITLES = {
    "coco": "COCO",
    "voc": "Pascal VOC",
    "yolo": "YOLO",
    "cityscapes": "Cityscapes",
    "webdataset": "webdataset tars",
    "saved": "a data set saved by Hugging Face's datasets",
    "parquet": "Parquet files",
    "plain": "a plain folder of images",
    "image": "one image",
    "table": "a CSV file",
    "corrupted tree": "a -C tree",
    "corrupted arrays": "-C arrays",
    **{name: LAYOUTS[name].title for name in LABEL_MAPS},
}
"""The layouts by name, with their titles for people."""

DETECTION = ("coco", "voc", "yolo", "cityscapes")

PACKED = ("webdataset", "saved", "parquet")
"""Layouts whose images are no files of their own."""

MARKS = (
    "leftImg8bit and gtFine (Cityscapes), JPEGImages and Annotations, or images and XML files "
    "(Pascal VOC), a data.yaml, or images and labels (YOLO), or a JSON with images, annotations and "
    "categories (COCO)"
)


@dataclass(frozen=True)
class Part:
    """What has annotations of its own: a split, or a JSON file.

    Attributes:
        title: for people, who also choose it by this.
        annotations: the file or folder of the annotations, below the root; "" where there is none.
        folders: the folders of the images, below the root.
        pictures: the images that are there, below the root, in order.
        names: what the annotations call each image, where that is no path below the root.
        missing: so many images are named, but not there.
        problem: why it cannot be opened.
        is_absent: whether the problem is that its images are not here.
        about: what else a person has to know of it, to stand behind its images.
    """

    title: str
    annotations: str
    folders: tuple[str, ...]
    pictures: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    problem: ShiftproofError | None = None
    is_absent: bool = False
    about: str = ""


@dataclass(frozen=True)
class FoundDataset:
    """A data set on the disk: what it was taken for, before anything of it is opened.

    Attributes:
        root: the folder that all paths are relative to, and ids of images, too.
        layout: one of :data:`TITLES`.
        source: the file or folder that was named.
        parts: its splits, or the JSON files that have images of their own.
        left_aside: a sentence for each thing that is not used, with the reason.
        said: further notes on how it was read, for a person.
        rooted: whether the root was given, in place of what the annotations say.
        address: the URL or the brace pattern that was named, where it was one.
        walk: the listing of a plain folder of images, kept so that it is walked once.
    """

    root: Path
    layout: str
    source: Path
    parts: tuple[Part, ...]
    left_aside: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    rooted: bool = False
    address: str = ""
    walk: ImageListing | None = field(default=None, repr=False, compare=False)

    @property
    def pictures(self) -> tuple[str, ...]:
        """The images of all parts, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.pictures))

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the images of all parts, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.folders))

    @property
    def splits(self) -> tuple[str, ...]:
        """The titles of the parts."""
        return tuple(part.title for part in self.parts)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it was taken for, a sentence for each part."""
        title = TITLES[self.layout]
        if not self.parts:
            return (f"{title}: {self.source}",)
        return tuple(_sentence(title, part) for part in self.parts)

    @property
    def problem(self) -> ShiftproofError | None:
        """Why nothing of it can be used, or None."""
        problems = [part.problem for part in self.parts if part.problem is not None]
        return problems[0] if problems and len(problems) == len(self.parts) else None

    def the_part(self) -> Part:
        """Return the only part.

        Raises:
            InputError: there are several; or whatever the problem of the only one is.
        """
        broken = next(
            (p.problem for p in self.parts if isinstance(p.problem, BrokenFileError)), None
        )
        if len(self.parts) > 1 and broken is not None:
            raise BrokenFileError(
                f"{broken} {self.source} holds {shorten(self.splits)}; give one of them, or a "
                "split (--split)."
            ) from broken
        if len(self.parts) != 1:
            raise InputError(
                f"{self.source} holds {shorten(self.splits) or 'no such annotations'}; give one "
                "of them, or a split (--split)."
            )
        if self.parts[0].problem is not None:
            raise self.parts[0].problem
        return self.parts[0]

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON holds; of the images their number."""
        return {
            "source": redact_urls(self.address or str(self.source)),
            "root": str(self.root),
            "layout": self.layout,
            "images": len(self.pictures),
            "parts": [
                {
                    "title": part.title,
                    "annotations": part.annotations,
                    "folders": list(part.folders),
                    "images": len(part.pictures),
                    "missing": part.missing,
                    "problem": None if part.problem is None else str(part.problem),
                }
                for part in self.parts
            ],
            "left_aside": list(self.left_aside),
            "said": list(self.said),
        }


def _sentence(title: str, part: Part) -> str:
    name = part.annotations if part.annotations not in ("", ".") else ""
    heading = ", ".join(filter(None, [title, name, part.title if part.title != name else ""]))
    if part.problem is not None:
        return f"{heading}: cannot be used. {part.problem}"
    where = shorten(f"{folder}/" for folder in part.folders if folder != ".")
    what = "tar" if title == TITLES["webdataset"] else "image"
    images = f"{len(part.pictures):,} {what}{'' if len(part.pictures) == 1 else 's'}"
    missing = f"; {part.missing:,} more are named, but not there" if part.missing else ""
    return f"{heading}, {images}{f' in {where}' if where else ''}{missing}{part.about}"


def find_dataset(
    source: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
) -> FoundDataset:
    """Find out which data set a file or folder is, by the names of files and folders.

    The layouts, in the order in which their marks decide: Cityscapes (``leftImg8bit`` and
    ``gtFine``); Pascal VOC as published (``JPEGImages`` and ``Annotations``, in the folder or up to
    two below); YOLO with a YAML file; COCO (a JSON with images, annotations and categories, in the
    folder or one below); Pascal VOC in any two folders, or with each XML beside its image; YOLO
    without a YAML file (``images`` and ``labels``); -C trees and -C arrays; webdataset tars or Parquet
    files where no images lie beside them; images. What ``save_to_disk`` of Hugging Face's ``datasets``
    wrote is that before all else.

    Args:
        source: a folder, or the file that says what belongs to the data set; of tars also a brace
            pattern, or a URL of fsspec as text.
        split: the part to look at alone.
        images: the folder of the images, where several could be meant; as it stands, or below the source.
            Of tables the column.
        root: YOLO: the folder of the data, in place of what the YAML file says.

    Raises:
        InputError: nothing of the kind, no such split, or two readings.
        BrokenFileError: annotations that cannot be read, and none beside them that can.
    """
    path = Path(source)
    if is_address(source):
        return _find_at_address(str(source), split, images, root)
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a data set, a folder of images, or a file."
            f"{suggest_sibling(path)}"
        )
    layout = layout_of(path)
    if layout in ("saved", "parquet"):
        if root is not None:
            raise InputError(f"{path} is no YOLO data, so a root has no effect.")
        return _rows(path, layout, split, None if images is None else str(images))
    if layout == "masks" and images is not None:
        layout = "plain"  # which folder holds the photographs is said
    folder = None if images is None else _images_folder(path, Path(images))
    if root is not None and layout != "yolo":
        raise InputError(f"{path} is no YOLO data, so a root has no effect.")
    if layout == "coco":
        found = _coco(path, split, folder)
    elif layout == "yolo":
        found = _yolo(path, split, None if root is None else Path(root))
    elif layout == "voc":
        found = _voc(path, split)
    elif layout == "cityscapes":
        found = _cityscapes(path, split)
    elif layout in LABEL_MAPS:
        found = _label_maps(path, layout, split)
    else:
        found = _without_annotations(path, layout, split, folder)
    if images is not None and layout not in ("coco", "plain"):
        raise InputError(f"{path} is no COCO data, so a folder of images has no effect.")
    if split is not None and not found.parts:
        raise InputError(f"{path} has no split {split!r}.")
    others = _other_layouts(path, layout)
    return replace(found, left_aside=(*found.left_aside, *others), rooted=root is not None)


def layout_of(path: Path) -> str:
    """Return which of :data:`TITLES` a file or folder is, by the marks alone."""
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in (".json", ".csv"):
            return "coco" if suffix == ".json" else "table"
        if suffix in (".yaml", ".yml") and is_yolo(path):
            return "yolo"
        if is_parquet(path.name):
            return "parquet"
        return "webdataset" if is_tar(path.name) else "image"
    return next(iter(_layouts(path)), None) or _find_packed_layout(path) or "plain"


def is_address(source: str | Path) -> bool:
    """Whether tars are named by a URL or a brace pattern, and no file or folder is called so."""
    text = str(source)
    return is_url(text) or (has_braces(text) and not Path(text).exists())


def _find_packed_layout(root: Path) -> str | None:
    """Return the packed layout of a folder; None where images lie beside the packed files."""
    found: str | None = None
    for name in all_files(root):
        if is_image(Path(name)):
            return None
        if is_tar(name):
            found = "webdataset"
        elif is_parquet(name):
            found = found or "parquet"
    return found


def _layouts(root: Path) -> Iterable[str]:
    """Yield the layouts whose marks a folder has, the deciding one first."""
    if is_saved_dataset(root):
        yield "saved"
    if is_cityscapes(root):
        yield "cityscapes"
    if voc_folders(root):
        yield "voc"
    elif yolo_files(root):
        yield "yolo"
    if coco_candidates(root):
        yield "coco"
    elif find_voc(root):
        yield "voc"
    elif has_labels(root):
        yield "yolo"
    if (name := layout_in(root)) in LABEL_MAPS:
        yield str(name)
    if is_corrupted_tree(root):
        yield "corrupted tree"
    elif is_corrupted_arrays(root):
        yield "corrupted arrays"


def _other_layouts(path: Path, layout: str) -> list[str]:
    if not path.is_dir() or layout not in DETECTION:
        return []
    others = [name for name in dict.fromkeys(_layouts(path)) if name in DETECTION]
    return [
        f"annotations of {TITLES[name]}: taken for {TITLES[layout]}; give their file to use them"
        for name in others
        if name != layout
    ]


def yolo_files(root: Path) -> list[Path]:
    """Return the YAML files in a folder that describe YOLO data."""
    return sorted(path for path in root.iterdir() if is_yolo(path))


def _images_folder(source: Path, images: Path) -> Path:
    """Return the folder that a person means: from here, or from the data set.

    Raises:
        InputError: there is none, or there are two.
    """
    homes = [source] if source.is_dir() else [source.parent, source.parent.parent]
    there = [folder for folder in (images, *(home / images for home in homes)) if folder.is_dir()]
    found = {folder.resolve(): folder for folder in reversed(there)}
    if len(found) > 1 and images != Path():
        shown = " and ".join(str(folder) for folder in found)
        raise InputError(f"{images} can be {shown}; give the whole path.")
    if not found:
        raise InputError(
            f"{images} is no folder, nor is it in {homes[-1]}; expected the folder of the images."
        )
    return homes[0] if images == Path() and source.is_dir() else there[0]


# ---------------------------------------------------------------- the layouts


def _coco(path: Path, split: str | None, images: Path | None) -> FoundDataset:
    root = path
    candidates = [path] if path.is_file() else coco_candidates(path)
    if path.is_file():
        # One file is one part, whatever it is called.
        files, others = find_coco(path.parent, candidates, images=images)
        beside = _images_beside(path)
        if images is None and files and files[0].is_absent and beside is not None:
            above = path.absolute().parent.parent
            files, others = find_coco(above, candidates, images=beside)
        if not files:
            raise InputError(
                f"{path}: expected COCO annotations, an object with images, annotations and "
                f"categories{lacking(read_json(path))}."
            )
        root = files[0].home
    else:
        files, others = find_coco(path, candidates, split=split, images=images)
        if not files:
            there = shorten(other.relative_to(path).as_posix() for other in candidates)
            asked = f"no split {split!r}" if split is not None else "no boxes in its JSON files"
            raise InputError(f"{path} has {asked}; there are {there}{tell_nearly_coco(path)}.")
        files, persons = _main(files)
        others += persons
        root = next((file.home for file in files if file.problem is None), path)
    parts = tuple(_coco_part(root, file) for file in files)
    found = FoundDataset(root, "coco", path, parts, tuple(others))
    said = [
        f"{part.annotations}: {part.missing:,} of the images that it names are not there"
        for part in parts
        if part.missing
    ]
    return replace(found, said=tuple(said))


def _images_beside(path: Path) -> Path | None:
    """Return the one folder beside that of a JSON that is called images, or the like.

    One of another name can be another data set, whose images may have the same names.
    """
    names = ("images", "image", "imgs", "img", "photos", "JPEGImages")
    there = [folder for folder in folders_in(path.absolute().parent.parent) if folder.name in names]
    return there[0] if len(there) == 1 else None


def _coco_part(root: Path, file: CocoFile) -> Part:
    missing = set(file.missing)
    pictures = dict.fromkeys(path for text, path in file.names.items() if text not in missing)
    here, above = file.path.resolve(), root.resolve()
    inside = here.relative_to(above).as_posix() if here.is_relative_to(above) else file.name
    folders = (file.folder,) if file.problem is None else ()
    return Part(
        inside,
        inside,
        folders,
        tuple(pictures),
        file.names,
        len(missing),
        file.problem,
        file.is_absent,
    )


def _main(files: Sequence[CocoFile]) -> tuple[list[CocoFile], list[str]]:
    """Return the files of objects, where COCO's own further ones (of persons, ...) lie beside them."""
    instances = [file for file in files if file.path.stem.startswith("instances_")]
    others = [
        file
        for file in files
        if file.path.stem.startswith(("person_keypoints_", "image_info_", "captions_", "stuff_"))
    ]
    if not instances or not others:
        return list(files), []
    said = [
        f"{file.name}: beside {instances[0].name}, which has all objects; give it alone to use it"
        for file in others
    ]
    return [file for file in files if file not in others], said


def _yolo(path: Path, split: str | None, root: Path | None) -> FoundDataset:
    config = path
    if path.is_dir() and (there := yolo_files(path)):
        if len(there) > 1:
            names = shorten(file.name for file in there)
            raise InputError(f"{path} holds {names}; give one of them.")
        config = there[0]
    layout = YoloConfig(config, root=root)
    if split is not None and split not in layout.splits:
        asked = [name for name in layout.splits if is_asked(split, name)]
        if not asked:
            layout.images(split)  # says which there are
        split = asked[0]
    wanted = list(layout.splits) if split is None else [split]
    parts = tuple(_yolo_part(layout, name, config) for name in wanted)
    said = ["no YAML file and no classes.txt: the classes are numbers"] if layout.numbered else []
    return FoundDataset(layout.home, "yolo", config, parts, (), tuple(said))


def _yolo_part(layout: YoloConfig, split: str, config: Path) -> Part:
    annotations = config.name if config.is_file() else ""
    folders = tuple(layout.folders(split))
    try:
        pictures = layout.images(split)
    except InputError as error:
        is_absent = not folders and not layout.leads_out(split)
        return Part(split, annotations, folders, (), problem=error, is_absent=is_absent)
    there = tuple(name for name in pictures if files.is_file(layout.home / name))
    return Part(split, annotations, folders, there, {}, len(pictures) - len(there))


def _voc(path: Path, split: str | None) -> FoundDataset:
    devkits = voc_folders(path)
    if devkits:
        every = [
            VocFiles(folder, _in(folder, "JPEGImages"), _in(folder, "Annotations"))
            for folder in devkits
        ]
    else:
        every = find_voc(path)
    parts = []
    for found in every:
        narrowed = found if split is None else found.narrow(path, split)
        if narrowed is not None:
            title = path.name if narrowed.title == "." else narrowed.title
            pictures = narrowed.pictures(path)
            parts.append(Part(title, narrowed.annotations, (narrowed.images,), pictures))
    if not parts:
        there = dict.fromkeys(name for found in every for name in found.splits(path))
        raise InputError(
            f"{path} has no split {split!r}; there are the splits {shorten(there) or 'none'}."
        )
    return FoundDataset(path, "voc", path, tuple(parts))


def _in(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _cityscapes(path: Path, split: str | None) -> FoundDataset:
    parts = []
    for folder in folders_in(path):
        if not folder.name.startswith("leftImg8bit"):
            continue
        for inner in folders_in(folder):
            if split is not None and inner.name != split:
                continue
            name = f"{folder.name}/{inner.name}"
            pictures = tuple(f"{name}/{found}" for found in _images_in(inner))
            title = inner.name if folder.name == "leftImg8bit" else name
            parts.append(Part(title, f"gtFine/{inner.name}", (name,), pictures))
    return FoundDataset(path, "cityscapes", path, tuple(parts))


def _label_maps(path: Path, layout: str, split: str | None) -> FoundDataset:
    reader = LAYOUTS[layout]
    splits = reader.splits(path) if split is None else [choose_split(reader, path, split)]
    parts = []
    for name in splits:
        try:
            found = reader.find(path, name)
        except InputError as error:
            parts.append(Part(name, "", (), (), problem=error))
            continue
        maps = folders_of(found.masks.values())
        parts.append(Part(name, maps[0], folders_of(found.masks), tuple(found.masks)))
    return FoundDataset(path, layout, path, tuple(parts))


def _images_in(folder: Path) -> tuple[str, ...]:
    try:
        return find_images(folder).names
    except InputError:  # none
        return ()


def _find_at_address(
    address: str, split: str | None, images: str | Path | None, root: str | Path | None
) -> FoundDataset:
    if any(given is not None for given in (split, images, root)):
        raise InputError(
            f"{redact_urls(address)} names tars: leave out the split, images and root."
        )
    tars = TarFiles.find(address)
    part = _tar_part(tars.title, tars)
    return FoundDataset(tars.home, "webdataset", Path(address), (part,), address=address)


_LOOKED_AT = 100
"""Members of a tar by which it is said what its samples are made of."""


def _tar_part(title: str, tars: TarFiles) -> Part:
    """Return the part of some tars; of the first it is said what its samples are made of."""
    name, place = next(iter(tars.places.items()))
    try:
        with open_tar(place, name) as source:
            first = itertools.islice(source.entries(), _LOOKED_AT)
            kinds = Counter(entry.suffix for entry in first if entry.info.isreg())
    except BrokenFileError as error:
        return Part(title, "", (".",), tuple(tars.places), about=f"; {error}")
    shown = shorten(show_name(f".{kind}") for kind, _ in kinds.most_common())
    return Part(
        title, "", (".",), tuple(tars.places), about=f"; the first holds {shown or 'nothing'}"
    )


def _rows(path: Path, layout: str, split: str | None, column: str | None) -> FoundDataset:
    """Find the splits of a data set whose images are rows of tables."""
    splits: list[str | None]
    if layout == "saved":
        splits = list(list_splits(path)) or [None]
    else:
        splits = [found.split or None for found in parquet_splits(path)]
    if split is not None and split not in splits:
        raise UnknownNameError.of(f"split of {path}", split, [name for name in splits if name])
    parts = []
    for name in splits if split is None else [split]:
        title = name or path.name
        try:
            kind = SavedDataset if layout == "saved" else ParquetImages
            data = kind(path, name, labeled=False, column=column)
        except ShiftproofError as error:
            parts.append(Part(title, "", (), (), problem=error))
            continue
        ids = tuple(sample.id for sample in data.samples)
        parts.append(Part(title, "", (), ids, about=_columns_of(data)))
    home = path if path.is_dir() else path.parent
    return FoundDataset(home, layout, path, tuple(parts))


def _columns_of(data: RowImages) -> str:
    """Say which columns hold images and labels."""
    try:
        label = choose_label(data.features, None, data.name)
    except LabelError as error:
        return f" in the column {show_name(data.column)}; {str(error).removesuffix('.')}"
    if label is None:
        return f" in the column {show_name(data.column)}, without labels"
    names = class_names(data.features[label])
    kinds = "" if names is None else f" ({len(names)} classes)"
    return f" in the column {show_name(data.column)}, labels in {show_name(label)}{kinds}"


def find_plain(path: Path, *, images: str | Path | None = None) -> FoundDataset:
    """Read a folder as a plain folder of images; all other files are ignored.

    Args:
        path: the folder.
        images: the folder in it that holds them, where others lie beside it.

    Raises:
        InputError: no images, or no such folder.
    """
    folder = None if images is None else _images_folder(path, Path(images))
    return _without_annotations(path, "plain", None, folder)


def _without_annotations(
    path: Path, layout: str, split: str | None, images: Path | None
) -> FoundDataset:
    if split is not None:
        raise InputError(f"{path} has no splits that are known, so {split!r} has no effect.")
    if layout == "webdataset":
        tars = TarFiles.find(path)
        home = path.parent if path.is_file() else path
        return FoundDataset(home, layout, path, (_tar_part("tars", tars),))
    if path.is_file():
        if layout == "image" and not (is_image(path) or read_size(path) is not None):
            raise InputError(_no_data(path))
        table = ImageTable(path) if layout == "table" else None
        samples = () if table is None else table.samples
        pictures = (path.name,) if table is None else tuple(sample.id for sample in samples)
        return FoundDataset(path.parent, layout, path, (Part(path.name, "", (".",), pictures),))
    if layout == "corrupted arrays":
        return FoundDataset(path, layout, path, ())
    found = find_images(path)
    names = found.names
    aside = _name_other_files(found.kinds)
    inner = "."
    if images is not None:
        if not images.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{images} is not below {path}; give a folder in it.")
        inner = images.resolve().relative_to(path.resolve()).as_posix()
    elif layout == "plain":
        _check_maps(path, names)
    if inner != ".":
        chosen = tuple(name for name in names if name.startswith(f"{inner}/"))
        aside.append(f"{len(names) - len(chosen):,} images outside of {inner}/")
        names = chosen
    aside += [f"{link}: a link to images that are there already" for link in found.links]
    aside += [f"{output}/: what shiftproof has written there" for output in found.outputs]
    part = Part(path.name or str(path), "", (inner,), names)
    walk = found if inner == "." else None
    return FoundDataset(path, layout, path, (part,), tuple(aside), walk=walk)


def _no_data(path: Path) -> str:
    if path.suffix.lower() in (".gz", ".tgz", ".zip", ".7z"):
        return f"{path} is an archive; unpack it and give the folder."
    return f"{path} is a file of no known kind; expected images or a data set."


def _name_other_files(kinds: Mapping[str, int]) -> list[str]:
    """Say which files of a plain folder are no images."""
    if not kinds:
        return []
    ranked = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ", ".join(f"{count} {kind}" for kind, count in ranked[:5])
    return [f"{sum(kinds.values()):,} files that are no images ({shown})"]


def _check_maps(root: Path, names: Sequence[str]) -> None:
    """Refuse a folder of photographs and maps of the same names: either can be meant.

    Raises:
        InputError: there are such maps.
    """
    folders = {name.rpartition("/")[0] for name in names}
    if not any(is_label_map(part) for folder in folders for part in folder.split("/")):
        return
    photographs: dict[tuple[str, str], str] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        for at in range(len(parts) - 1):
            if not is_label_map("/".join(parts[:-1])):
                photographs.setdefault(_key(parts, at), "/".join(parts[: at + 1]))
    beside: Counter[tuple[str, str]] = Counter()
    total: Counter[str] = Counter()
    for name in names:
        parts = PurePosixPath(name).parts
        for at in range(len(parts) - 1):
            if is_label_map(parts[at]) and not is_label_map("/".join(parts[:at])):
                folder = "/".join(parts[: at + 1])
                total[folder] += 1
                if (photo := photographs.get(_key(parts, at))) is not None:
                    beside[photo, folder] += 1
                break
    for (photo, folder), count in beside.most_common(1):
        if 2 * count >= total[folder]:
            raise InputError(
                f"{root}: {folder}/ holds images of the same names as {photo}/: maps of labels, or "
                f"more photographs? Give {root / photo} alone, or the folder as images (--images "
                f"{photo}), or all of it (--images .)."
            )


def _key(parts: Sequence[str], at: int) -> tuple[str, str]:
    """Return what a photograph and its map share: the folder above, and the path below."""
    stem = PurePosixPath(*parts[at + 1 :]).with_suffix("").as_posix()
    for ending in ("_mask", "_masks", "_seg", "_label", "_labels", "_gt", "_depth", "-mask"):
        stem = stem.removesuffix(ending)
    return "/".join(parts[:at]), stem
