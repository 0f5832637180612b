"""The classes of the numbers in label maps: published tables, and given names."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.classes import Classes
from shiftproof.errors import BrokenFileError, LabelError
from shiftproof.io.text import read_csv
from shiftproof.models.classifiers.class_names import read_classes
from shiftproof.types import I16, LabelMap

VOID = 255
"""The number of ignored pixels in Cityscapes, Pascal VOC and most other datasets."""

MAX_NUMBERS = 65_536
"""Number of values of a 16-bit label map."""

_UNKNOWN = -2


@dataclass(frozen=True, eq=False)
class LabelSpace:
    """The classes of the numbers in label maps.

    Attributes:
        classes: the classes of the data.
        index_of: from a number to the index of its class.
        void: the numbers of ignored pixels.
    """

    classes: Classes
    index_of: Mapping[int, int]
    void: frozenset[int] = frozenset({VOID})

    @functools.cached_property
    def _table(self) -> I16:
        table = np.full(MAX_NUMBERS, _UNKNOWN, np.int16)
        for number in self.void:
            table[number] = -1
        for number, index in self.index_of.items():
            table[number] = index
        return table

    def to_classes(self, stored: NDArray[np.integer[Any]]) -> LabelMap:
        """Return the class of each pixel, -1 for ignored ones.

        Args:
            stored: ``(H, W)`` integers from a file.

        Raises:
            LabelError: an unknown number; says which, and how many pixels have it.

        >>> space = LabelSpace(Classes(("road", "sky")), {7: 0, 23: 1})
        >>> space.to_classes(np.array([[7, 23, 255]]))
        array([[ 0,  1, -1]], dtype=int16)
        """
        if stored.size and not 0 <= stored.min() <= stored.max() < MAX_NUMBERS:
            wrong = stored.min() if stored.min() < 0 else stored.max()
            raise self._unknown(int(wrong), int((stored == wrong).sum()))
        labels: LabelMap = self._table[stored]
        unknown = labels == _UNKNOWN
        if unknown.any():
            first = int(stored[unknown][0])
            raise self._unknown(first, int((stored == first).sum()))
        return labels

    def _unknown(self, number: int, pixels: int) -> LabelError:
        known = sorted({*self.index_of, *self.void})
        shown = ", ".join(map(str, known[:12])) + (", …" if len(known) > 12 else "")
        return LabelError(
            f"{pixels} pixel{'' if pixels == 1 else 's'} with the number {number}, which is no class "
            f"of {self.classes.title} and not void (known: {shown}). Name its class, or call it void."
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings, for JSON."""
        return {
            "title": self.classes.title,
            "classes": list(self.classes.names),
            "numbers": {str(number): index for number, index in sorted(self.index_of.items())},
            "void": sorted(self.void),
        }


@functools.cache
def cityscapes_ids() -> LabelSpace:
    """Return Cityscapes' ids (``labelIds``): 19 are classes, all others void.

    From the table of cityscapesScripts; -1, the license plate, is 255 in 8 bits.
    """
    rows = _read_rows("cityscapes")
    kept = {int(row["id"]): int(row["train_id"]) for row in rows if int(row["train_id"]) != VOID}
    void = {int(row["id"]) for row in rows} - set(kept) - {-1}
    return LabelSpace(cityscapes_train_ids().classes, kept, frozenset({*void, VOID}))


@functools.cache
def cityscapes_train_ids() -> LabelSpace:
    """Return Cityscapes' 19 classes by their ids for training (``labelTrainIds``)."""
    trained = {int(row["train_id"]): row["name"] for row in _read_rows("cityscapes")}
    trained.pop(VOID)
    names = tuple(trained[index] for index in range(len(trained)))
    return LabelSpace(Classes(names, title="Cityscapes"), {i: i for i in range(len(names))})


@functools.cache
def ade20k() -> LabelSpace:
    """Return the 150 classes of ADE20K's scene parsing: 1 to 150; 0 is void."""
    names = tuple(row["name"] for row in _read_rows("ade20k"))
    numbers = {place + 1: place for place in range(len(names))}
    return LabelSpace(Classes(names, title="ADE20K"), numbers, frozenset({0}))


@functools.cache
def voc() -> LabelSpace:
    """Return Pascal VOC's background and 20 classes; 255 is the void border of objects."""
    names = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
        "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
        "train", "tvmonitor",
    )  # fmt: skip
    return LabelSpace(Classes(names, title="Pascal VOC"), {i: i for i in range(len(names))})


SPACES: dict[str, Callable[[], LabelSpace]] = {
    "cityscapes": cityscapes_train_ids,
    "ade20k": ade20k,
    "voc": voc,
}
"""The published lists of classes by their name for ``classes=``."""


def make_numbered_space(count: int, void: Iterable[int] = (VOID,)) -> LabelSpace:
    """Return classes without names, 0 to ``count`` - 1."""
    kept = [number for number in range(count) if number not in set(void)]
    names = tuple(str(number) for number in kept)
    numbers = {number: place for place, number in enumerate(kept)}
    return LabelSpace(Classes(names, title="numbered"), numbers, frozenset(void))


def read_space(given: str | Path | Classes | Iterable[str], void: Iterable[int]) -> LabelSpace:
    """Return the label space for given classes.

    Args:
        given: a name of ``SPACES``; names in the order of the numbers from 0 on, or a text or JSON
            file of them; a CSV file with rows ``number,name``.
        void: numbers of ignored pixels, unless the file names them.

    Raises:
        BrokenFileError: the file is missing or holds no such list.
    """
    if isinstance(given, (str, Path)) and str(given) in SPACES:
        return SPACES[str(given)]()
    if isinstance(given, (str, Path)) and Path(given).suffix.lower() == ".csv":
        return _read_numbered_names(Path(given), void)
    classes = read_classes(given)
    title = classes.title if classes.title != "custom" else "the given classes"
    classes = Classes(classes.names, title=title)
    numbers = {index: index for index in range(len(classes))}
    return LabelSpace(classes, numbers, frozenset(void) - set(numbers))


def read_class_names(given: str | Path | Classes | Iterable[str]) -> Classes:
    """Return the classes of a model, given as for :func:`read_space`."""
    return read_space(given, ()).classes


def _read_numbered_names(path: Path, void: Iterable[int]) -> LabelSpace:
    numbers: dict[int, str] = {}
    for index, (line, cells) in enumerate(read_csv(path)):
        if index == 0 and not cells[0].isdecimal():
            continue  # the headings
        is_row = len(cells) == 2 and cells[0].isdecimal() and len(cells[0]) < 6 and cells[1]
        if not is_row or int(cells[0]) >= MAX_NUMBERS or int(cells[0]) in numbers:
            raise BrokenFileError(
                f"{path}, line {line}: expected a number of 0 to {MAX_NUMBERS - 1}, each once, and the name "
                f"of its class (7,road), got {','.join(cells)[:60]!r}."
            )
        numbers[int(cells[0])] = cells[1]
    if not numbers:
        raise BrokenFileError(f"{path}: expected rows number,name, got none.")
    names = tuple(dict.fromkeys(numbers.values()))
    index_of = {number: names.index(name) for number, name in numbers.items()}
    classes = Classes(names, title="the given classes")
    return LabelSpace(classes, index_of, frozenset(void) - set(index_of))


def _read_rows(title: str) -> list[dict[str, str]]:
    path = resources.files("shiftproof") / "labels" / f"{title}.csv"
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
