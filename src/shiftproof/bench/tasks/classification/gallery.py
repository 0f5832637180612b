"""Small pictures for the report: photographs in every cell, and the images with most errors.

Kept in the run's folder, so that the report can be made again without the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.bench.cells.views import View
from shiftproof.classes import Classes
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.metrics.estimation import find_differences
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.classification import CellRecords, read_cell
from shiftproof.runs.scores.classification import Gallery, GalleryPicture, Prediction, Sheet, Worst
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.thumbnails import encode_thumbnail
from shiftproof.types import CLEAN, Cell, Sample

SHEETS = 3
"""Photographs that are shown in every cell."""

WORST = 12
"""Number of images with most errors."""

LONG_SIDE = 192
QUALITY = 82


def save_gallery(
    folder: RunFolder,
    view: View,
    cells: Sequence[Cell],
    samples: Sequence[Sample],
    models: Sequence[str],
    classes: Classes,
) -> None:
    """Write ``gallery.json`` and the pictures it names, for a run whose records are complete."""
    tables = {
        name: {cell: read_cell(folder.records_file(name, cell)) for cell in cells}
        for name in models
    }
    wrong, seen = _count_wrong(tables[models[0]])
    pictures = _Pictures(folder, view, samples, tables, classes)
    shown = enumerate(_choose_worst(wrong, seen) if CLEAN in cells else ())
    worst = (pictures.pair(number, row, int(wrong[row]), int(seen[row])) for number, row in shown)
    content = Gallery(
        sheets=tuple(
            pictures.sheet(number, row)
            for number, row in enumerate(_choose_half_wrong(wrong, seen))
        ),
        worst=tuple(one for one in worst if one is not None),
    )
    write_form(folder.gallery_file, content)


def _count_wrong(table: Mapping[Cell, CellRecords]) -> tuple[Any, Any]:
    """Return each image's number of errors over the corrupted cells, and of cells in which it was
    read.
    """
    clean = table.get(CLEAN)
    count = len(next(iter(table.values())))
    wrong, seen = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    for cell, record in table.items():
        if cell.is_clean:
            continue
        unlabeled = record.target < 0
        expected = np.where(unlabeled, clean.prediction, record.target) if clean else record.target
        wrong += record.readable & find_differences(record.prediction, expected)
        seen += record.readable
    return wrong, seen


def _choose_half_wrong(wrong: Any, seen: Any) -> list[int]:
    """Choose the photographs whose share of wrong cells is nearest to one half."""
    readable = [row for row in range(len(wrong)) if seen[row] > 0]
    return sorted(readable, key=lambda row: (abs(wrong[row] / seen[row] - 0.5), row))[:SHEETS]


def _choose_worst(wrong: Any, seen: Any) -> list[int]:
    hit = [row for row in range(len(wrong)) if seen[row] > 0 and wrong[row] > 0]
    return sorted(hit, key=lambda row: (-wrong[row] / seen[row], row))[:WORST]


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Saves the pictures of one run, with what the models answered."""

    folder: RunFolder
    view: View
    samples: Sequence[Sample]
    tables: Mapping[str, Mapping[Cell, CellRecords]]
    classes: Classes

    def sheet(self, number: int, row: int) -> Sheet:
        """Return an image in every cell."""
        sample = self.samples[row]
        place = files.make_folder(self.folder.path / "gallery" / str(number))
        pictures: dict[str, str] = {}
        for cell in next(iter(self.tables.values())):
            path = place / f"{cell}.jpg"
            if path.is_file() or _save_picture(path, self.view, sample, cell):
                pictures[str(cell)] = path.relative_to(self.folder.path).as_posix()
        return Sheet(
            id=sample.id,
            label=self._label(sample),
            files=pictures,
            predictions={
                name: {
                    str(cell): _predict(record, row, self.classes) for cell, record in table.items()
                }
                for name, table in self.tables.items()
            },
        )

    def pair(self, number: int, row: int, wrong: int, seen: int) -> Worst | None:
        """Return the image clean, and in the mildest cell with a wrong prediction.

        The first model was wrong in ``wrong`` of the ``seen`` corrupted cells.
        """
        sample, table = self.samples[row], next(iter(self.tables.values()))
        expected = sample.label if sample.label is not None else int(table[CLEAN].prediction[row])
        failing = [
            cell
            for cell, record in table.items()
            if not cell.is_clean
            and record.error[row] is None
            and (record.prediction[row] != expected or record.prediction[row] < 0)
        ]
        sure = {cell: np.nan_to_num(table[cell].confidence[row]) for cell in failing}
        cell = min(failing, key=lambda c: (c.severity, -float(sure[c])))
        place = files.make_folder(self.folder.path / "gallery" / "worst")
        shown = []
        for which, path in ((CLEAN, f"{number}-clean.jpg"), (cell, f"{number}-{cell}.jpg")):
            file = place / path
            if not file.is_file() and not _save_picture(file, self.view, sample, which):
                return None
            name = file.relative_to(self.folder.path).as_posix()
            shown.append(
                GalleryPicture(str(which), name, _predict(table[which], row, self.classes))
            )
        return Worst(sample.id, self._label(sample), wrong, seen, *shown)

    def _label(self, sample: Sample) -> str | None:
        return None if sample.label is None else self.classes.names[sample.label]


def _predict(record: CellRecords, row: int, classes: Classes) -> Prediction:
    prediction, target = int(record.prediction[row]), int(record.target[row])
    if prediction < 0:  # unreadable, or the model returned NaN
        return Prediction()
    return Prediction(
        name=classes.names[prediction],
        confidence=round(float(record.confidence[row]), 4),
        correct=None if target < 0 else prediction == target,
    )


def _save_picture(path: Path, view: View, sample: Sample, cell: Cell) -> bool:
    try:
        image = view.load(sample, cell)
    except BrokenFileError:
        return False
    files.write_bytes(path, encode_thumbnail(image, LONG_SIDE, QUALITY), durable=False)
    return True
