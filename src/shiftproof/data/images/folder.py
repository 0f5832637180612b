"""A folder of images: one folder per class, or flat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import final

from shiftproof.classes import (
    LABEL_SETS,
    Classes,
    LabelSet,
    imagenet,
    label_set,
    normalize_unicode,
    to_classes,
)
from shiftproof.counts import pluralize
from shiftproof.data.disk import ImageListing, find_images, shorten
from shiftproof.data.images.image_files import ImageFiles
from shiftproof.errors import BrokenFileError, LabelError
from shiftproof.io.text import read_csv, read_json
from shiftproof.types import Sample, Settings


@final
class ImageFolder(ImageFiles):
    """Images below a folder; the first folder of an image's path is its class.

    A class folder is named by WordNet id, class name or index (see ``Classes.find``), or by a key
    of ``class_map``; images may be at any depth below it. If all images are in the root itself,
    they have no labels. An image's id is its path below the root, with ``/`` on every system; the
    samples are sorted by it.

    Args:
        root: the folder.
        classes: the model's classes or a list of their names, or the label set of a published dataset
            with a subset of them: then folders outside the subset are ignored, and the dataset's
            frame is cropped. None reads no labels.
        class_map: from folder name to class, for names that the model does not have.
        labeled: None reads labels if there are any; False ignores the folders' names; True requires
            labels.
        only: the images, as paths below the root, or a listing of ``find_images``; by default all.

    Attributes:
        folders_left_out: the folders outside the label set, with their numbers of images.

    Raises:
        InputError: no such folder, or no images in it.
        LabelError: class folders that the model does not know, or images beside them.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Classes | LabelSet | Iterable[str] | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
        only: Sequence[str] | ImageListing | None = None,
    ) -> None:
        root = Path(root)
        listing = find_images(root) if only is None else only
        if not isinstance(listing, ImageListing):
            listing = ImageListing(tuple(listing))
        self.other_files, self.links = sum(listing.other_counts.values()), listing.links
        labels = FolderLabels(classes, class_map=class_map, labeled=labeled, where=str(root))
        samples = labels.make_samples(listing.names)
        self.folders_left_out = labels.count_left_out(listing.names)
        super().__init__(name_folder(root), root, samples, labels.classes, border=labels.border)

    @property
    def hint(self) -> str | None:
        """Advice if the class folders are exactly those of a published dataset, else None.

        The published errors are over the dataset's own classes; over all classes they are higher.
        """
        if self.classes is None or self.classes.title != imagenet().title:
            return None
        classes = {sample.label for sample in self.samples}
        for title in LABEL_SETS:
            outputs = label_set(title).outputs
            is_one_to_one = all(len(group) == 1 for group in outputs)
            if is_one_to_one and classes == {group[0] for group in outputs}:
                return (
                    f"{self.name} has exactly the {pluralize(len(outputs), 'class')} of {title}, whose "
                    f"published errors are over these alone. For those, open it with label_set({title!r}) as "
                    f"its classes and measure model.restrict(label_set({title!r}))."
                )
        return None

    def settings(self) -> Settings:
        """Return the settings for the records, including what was ignored."""
        return {
            **super().settings(),
            "files that are no images": self.other_files,
            "links to images that are there already": list(self.links),
            "images of no class": sum(self.folders_left_out.values()),
            "pixels cut off each side": self.border,
        }


def name_folder(root: Path) -> str:
    """Return the name of a folder, even if it is given as ``.``."""
    return root.resolve().name or str(root)


class FolderLabels:
    """The labels of images by the first folder of their paths.

    Arguments as for :class:`ImageFolder`; ``where`` is the place in error messages. ``classes`` and
    ``border`` are the label set's if one is given.

    Raises:
        LabelError: labels are required, but no classes given.
    """

    def __init__(
        self,
        classes: Classes | LabelSet | Iterable[str] | None,
        *,
        class_map: Mapping[str, str] | None,
        labeled: bool | None,
        where: str,
    ) -> None:
        if labeled and classes is None:
            raise LabelError(f"{where}: labels need classes; none were given.")
        self._label_set = classes if isinstance(classes, LabelSet) else None
        self.classes = classes.classes if isinstance(classes, LabelSet) else to_classes(classes)
        self.border = 0 if self._label_set is None else self._label_set.border
        self._class_map = {normalize_unicode(key): name for key, name in (class_map or {}).items()}
        self._labeled = labeled
        self._where = where

    def make_samples(self, names: Sequence[str]) -> list[Sample]:
        """Return the samples of images, by their paths; those outside the label set are left out.

        Raises:
            LabelError: class folders that are not known, or images beside them.
        """
        folders = sorted({name.split("/")[0] for name in names if "/" in name})
        if (
            self._labeled is False
            or self.classes is None
            or (not folders and self._labeled is None)
        ):
            return [Sample(name) for name in names]
        without_folder = [name for name in names if "/" not in name]
        if without_folder:
            raise LabelError(
                f"{self._where}: {len(without_folder)} of "
                f"{pluralize(len(names), 'image is', 'images are')} not in a class folder (first: "
                f"{without_folder[0]}). Put them into one, or measure without labels (--unlabeled, "
                "labeled=False)."
            )
        left_out = self.count_left_out(names)
        kept = [folder for folder in folders if folder not in left_out]
        if not kept:
            raise LabelError(
                f"{self._where}: none of the {pluralize(len(folders), 'class folder')} is in the label set "
                f"{self.classes.title}: {shorten(folders)}."
            )
        where = f"{self._where}, class map"
        labels = {
            folder: _find_label(folder, self.classes, self._class_map, where) for folder in kept
        }
        unknown = [folder for folder, label in labels.items() if label is None]
        if unknown:
            raise LabelError(
                _explain_unknown_folders(self._where, names, kept, unknown, self.classes)
            )
        named_folders = ((name, name.split("/")[0]) for name in names)
        return [Sample(name, labels[folder]) for name, folder in named_folders if folder in labels]

    def knows_all(self, folders: Sequence[str]) -> bool:
        """Return whether there are folders, and each is named after a class or is to be ignored."""
        return bool(folders) and all(map(self._is_known, folders))

    def _is_known(self, folder: str) -> bool:
        if self.classes is None:
            return False
        is_class = (
            normalize_unicode(folder) in self._class_map or self.classes.find(folder) is not None
        )
        return is_class or (self._label_set is not None and self._label_set.leaves_out(folder))

    def count_left_out(self, names: Iterable[str]) -> dict[str, int]:
        """Return the folders outside the label set, with their numbers of images."""
        if self._label_set is None or self._labeled is False:
            return {}
        counts = Counter(name.split("/")[0] for name in names if "/" in name)
        return {
            folder: count
            for folder, count in sorted(counts.items())
            if normalize_unicode(folder) not in self._class_map
            and self._label_set.leaves_out(folder)
        }


def _find_label(
    folder: str, classes: Classes, class_map: Mapping[str, str], where: str
) -> int | None:
    class_name = class_map.get(normalize_unicode(folder))
    if class_name is None:
        return classes.find(folder)
    try:
        return classes.index(class_name)
    except LabelError as error:
        raise LabelError(f"{where}, folder {folder!r}: {error}") from error


def _explain_unknown_folders(
    where: str, names: Sequence[str], folders: list[str], unknown: list[str], classes: Classes
) -> str:
    shown = ", ".join(classes.names) if len(classes) <= 20 else "the model's names"
    ambiguous = [folder for folder in unknown if len(classes.find_all(folder)) > 1]
    if ambiguous:
        return f"{where}: the class folder {classes.describe_ambiguity(ambiguous[0])}"
    subfolders = {name.split("/")[1] for name in names if name.count("/") > 1}
    if len(unknown) == len(folders) and any(classes.find(one) is not None for one in subfolders):
        deeper = " or ".join(f"{where}/{folder}" for folder in folders[:3])
        advice = f"The class folders are one level deeper: give {deeper}."
    else:
        first_advice = (
            "Name the model's classes (--classes FILE, a name a line in the order of its outputs), give"
            if classes.is_numbered
            else "Give"
        )
        advice = (
            f"{first_advice} a class map (--class-map FILE, rows of folder,class), or measure without "
            "labels (--unlabeled, labeled=False)."
        )
    known = f"only {len(folders) - len(unknown)}" if len(unknown) < len(folders) else "none"
    return (
        f"{where}: the model knows {known} of the {pluralize(len(folders), 'class folder')}. Unknown: "
        f"{shorten(unknown)}. Expected a WordNet id, a name or an index of its "
        f"{pluralize(len(classes), 'class')} ({shown}). {advice}"
    )


def read_class_map(path: str | Path) -> dict[str, str]:
    """Read a class map: a CSV with rows ``folder,class``, or a JSON object of folder to class.

    A first row ``folder,class`` of the CSV is a header. A class is what ``Classes.find`` takes.

    Raises:
        BrokenFileError: the file is missing, or is neither.
        LabelError: a folder is given twice.
    """
    path = Path(path)
    table = _read_json_map(path) if path.suffix.lower() == ".json" else _read_csv_map(path)
    if not table:
        raise BrokenFileError(f"{path}: expected rows of folder,class; got none.")
    return table


def _read_json_map(path: Path) -> dict[str, str]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise BrokenFileError(f"{path}: expected a JSON object of folder to class.")
    for folder, name in content.items():
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise BrokenFileError(
                f"{path}, folder {folder!r}: expected a class's name or index, got {name!r:.80}."
            )
    return {folder: str(name) for folder, name in content.items()}


def _read_csv_map(path: Path) -> dict[str, str]:
    table: dict[str, str] = {}
    for index, (line, row) in enumerate(read_csv(path)):
        if index == 0 and [cell.lower() for cell in row] == ["folder", "class"]:
            continue
        if len(row) != 2 or not all(row):
            raise BrokenFileError(f"{path}, line {line}: expected folder,class; got {row!r:.80}.")
        folder, name = row
        if folder in table:
            raise LabelError(f"{path}, line {line}: the folder {folder!r} is given twice.")
        table[folder] = name
    return table
