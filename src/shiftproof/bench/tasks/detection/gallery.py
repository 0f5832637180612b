"""Small pictures for the report on detectors, and the boxes to draw on them.

Pictures and boxes are kept apart, so that the page can draw the boxes sharp, in its own colors, and
switch them on and off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.bench.cells.views import View
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.metrics.matching import Corners, compute_ious, match_by_score
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.detection import DetectionRecords, ImageDetections, read_detections
from shiftproof.runs.scores.detection import (
    Box,
    Gallery,
    GalleryPicture,
    GroundTruthBox,
    PredictedBox,
    Sheet,
    Worst,
)
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.thumbnails import encode_thumbnail
from shiftproof.types import CLEAN, F64, I64, Cell, Flags, Sample

SHEETS = 3
"""Photographs that are shown in every cell."""

WORST = 12
"""Number of images with the largest losses."""

LOOKED_AT = 200
"""Number of images, evenly spread, among which the gallery is chosen."""

OVERLAP = 0.5
"""Threshold of the intersection over union for a match."""

LONG_SIDE = 384
QUALITY = 80


@dataclass(frozen=True, eq=False)
class _Objects:
    """Ground-truth objects of an image; ``counts`` is False for crowds and difficult objects."""

    labels: I64
    positions: F64
    counts: Flags


def save_gallery(
    folder: RunFolder,
    view: View | None,
    cells: Sequence[Cell],
    samples: Sequence[Sample],
    models: Sequence[str],
    truth: Mapping[str, Any],
) -> None:
    """Write ``gallery.json`` and the pictures it names, for a run whose records are complete.

    Without a view the gallery is empty. Each ``file_name`` of the truth is a sample's id.
    """
    content = Gallery(overlap=OVERLAP)
    if view is not None:
        content = _fill(folder, view, cells, samples, models, truth)
    write_form(folder.gallery_file, content)


def _fill(
    folder: RunFolder,
    view: View,
    cells: Sequence[Cell],
    samples: Sequence[Sample],
    models: Sequence[str],
    truth: Mapping[str, Any],
) -> Gallery:
    tables = {
        name: {cell: read_detections(folder.records_file(name, cell)) for cell in cells}
        for name in models
    }
    names = [str(record["name"]) for record in truth["categories"]]
    objects = _read_objects(truth, samples)
    step = -(-len(samples) // LOOKED_AT)
    rows = [
        row
        for row in range(0, len(samples), step)
        if all(table.error[row] is None for table in tables[models[0]].values())
        and objects[row].counts.any()
    ]
    thresholds = {
        name: _choose_threshold(tables[name][CLEAN if CLEAN in cells else cells[0]], objects, rows)
        for name in models
    }
    source, threshold = tables[models[0]], thresholds[models[0]]
    kept = {row: _find_hits_per_cell(source, objects[row], row, threshold) for row in rows}
    pictures = _Pictures(folder, view, samples, tables, objects, thresholds, names)
    sheets = (pictures.sheet(number, row) for number, row in enumerate(_choose_half_lost(kept)))
    worst = (
        pictures.pair(number, row, kept[row]) for number, row in enumerate(_choose_worst(kept))
    )
    return Gallery(
        overlap=OVERLAP,
        thresholds=thresholds,
        sheets=tuple(one for one in sheets if one is not None),
        worst=tuple(one for one in worst if one is not None),
    )


def _read_objects(truth: Mapping[str, Any], samples: Sequence[Sample]) -> list[_Objects]:
    place = {record["id"]: at for at, record in enumerate(truth["categories"])}
    image_of = {record["id"]: record["file_name"] for record in truth["images"]}
    found: dict[str, list[Mapping[str, Any]]] = {sample.id: [] for sample in samples}
    for one in truth["annotations"]:
        name = image_of[one["image_id"]]
        if name in found:
            found[name].append(one)
    return [
        _Objects(
            np.array([place[one["category_id"]] for one in found[sample.id]], dtype=np.int64),
            np.array([one["bbox"] for one in found[sample.id]], dtype=np.float64).reshape(-1, 4),
            np.array(
                [not one.get("iscrowd") and not one.get("difficult") for one in found[sample.id]],
                dtype=np.bool_,
            ),
        )
        for sample in samples
    ]


def assign_objects(
    found: ImageDetections, objects: _Objects, threshold: float
) -> list[tuple[int, int]]:
    """Return the detections above ``threshold`` by decreasing score, each with its object or -1."""
    ious = compute_ious(
        Corners.from_positions(found.positions), Corners.from_positions(objects.positions)
    )
    ious[found.labels[:, None] != objects.labels] = 0
    matched = match_by_score(ious, found.scores, OVERLAP)
    order = np.argsort(-found.scores, kind="stable").tolist()
    return [(row, int(matched[row])) for row in order if found.scores[row] >= threshold]


def _choose_threshold(
    table: DetectionRecords, objects: Sequence[_Objects], rows: Sequence[int]
) -> float:
    """Return the score threshold of maximum F1 on clean images."""
    scores, right = [], []
    wanted = 0
    for row in rows:
        one = objects[row]
        wanted += int(one.counts.sum())
        for at, hit in assign_objects(table.found[row], one, 0.0):
            if hit < 0 or one.counts[hit]:
                scores.append(float(table.found[row].scores[at]))
                right.append(hit >= 0)
    if not any(right):
        return 0.5
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right)[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + wanted)
    return round(float(np.array(scores)[order][int(f1.argmax())]), 4)


def _find_hits_per_cell(
    tables: Mapping[Cell, DetectionRecords], objects: _Objects, row: int, threshold: float
) -> dict[Cell, set[int]]:
    """Return which of the objects that count are detected in each cell."""
    return {
        cell: {
            hit
            for _, hit in assign_objects(table.found[row], objects, threshold)
            if hit >= 0 and objects.counts[hit]
        }
        for cell, table in tables.items()
    }


def _compute_lost_share(kept: Mapping[Cell, set[int]]) -> tuple[float, int]:
    """Return the share of clean detections lost over the corrupted cells, and their number."""
    clean = kept.get(CLEAN, set())
    cells = [found for cell, found in kept.items() if not cell.is_clean]
    if not clean or not cells:
        return 0.0, 0
    lost = sum(len(clean - found) for found in cells)
    return lost / (len(clean) * len(cells)), len(clean)


def _choose_half_lost(kept: Mapping[int, Mapping[Cell, set[int]]]) -> list[int]:
    """Choose the images that lose about one half of what they show clean, those with several objects."""

    def order(row: int) -> tuple[bool, float, int]:
        share, count = _compute_lost_share(kept[row])
        return count < 2, abs(share - 0.5), row

    return sorted((row for row in kept if _compute_lost_share(kept[row])[1]), key=order)[:SHEETS]


def _choose_worst(kept: Mapping[int, Mapping[Cell, set[int]]]) -> list[int]:
    hit = [row for row in kept if _compute_lost_share(kept[row])[0] > 0]
    return sorted(
        hit,
        key=lambda row: (
            -_compute_lost_share(kept[row])[0],
            -_compute_lost_share(kept[row])[1],
            row,
        ),
    )[:WORST]


# ---------------------------------------------------------------- as written to the file


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Saves the pictures of one run, with the boxes to draw on them."""

    folder: RunFolder
    view: View
    samples: Sequence[Sample]
    tables: Mapping[str, Mapping[Cell, DetectionRecords]]
    objects: Sequence[_Objects]
    thresholds: Mapping[str, float]
    names: Sequence[str]

    def sheet(self, number: int, row: int) -> Sheet | None:
        """Return an image in every cell; None where nothing could be read of it."""
        place = files.make_folder(self.folder.path / "gallery" / str(number))
        pictures: dict[str, str] = {}
        size = None
        for cell in next(iter(self.tables.values())):
            path = place / f"{cell}.jpg"
            saved = _save_picture(path, self.view, self.samples[row], cell)
            if saved is not None:
                pictures[str(cell)] = path.relative_to(self.folder.path).as_posix()
                size = size or saved
        if size is None:
            return None
        return Sheet(
            id=self.samples[row].id,
            size=size,
            things=_list_things(self.objects[row], self.names),
            files=pictures,
            found={
                name: {str(cell): self._list_found(name, cell, row) for cell in cells}
                for name, cells in self.tables.items()
            },
        )

    def pair(self, number: int, row: int, kept: Mapping[Cell, set[int]]) -> Worst | None:
        """Return the image clean, and in the mildest cell with the largest loss."""
        first = next(iter(self.tables))
        clean = kept[CLEAN]
        cell = min(
            (cell for cell in kept if not cell.is_clean),
            key=lambda one: (-len(clean - kept[one]), one.severity, one.corruption),
        )
        place = files.make_folder(self.folder.path / "gallery" / "worst")
        shown: list[GalleryPicture] = []
        size = None
        for where, path in (
            (CLEAN, place / f"{number}-clean.jpg"),
            (cell, place / f"{number}-{cell}.jpg"),
        ):
            size = _save_picture(path, self.view, self.samples[row], where)
            if size is None:
                return None
            file = path.relative_to(self.folder.path).as_posix()
            shown.append(GalleryPicture(str(where), file, self._list_found(first, where, row)))
        assert size is not None
        share, count = _compute_lost_share(kept)
        return Worst(
            id=self.samples[row].id,
            size=size,
            things=_list_things(self.objects[row], self.names),
            lost=_round(share),
            clean_found=count,
            clean=shown[0],
            corrupted=shown[1],
        )

    def _list_found(self, model: str, cell: Cell, row: int) -> tuple[PredictedBox, ...]:
        """Return the boxes to draw: label, and index of the matched object or None."""
        found = self.tables[model][cell].found[row]
        return tuple(
            PredictedBox(
                self.names[found.labels[at]],
                _round(found.scores[at]),
                _to_box(found.positions[at]),
                None if hit < 0 else hit,
            )
            for at, hit in assign_objects(found, self.objects[row], self.thresholds[model])
        )


def _list_things(objects: _Objects, names: Sequence[str]) -> tuple[GroundTruthBox, ...]:
    return tuple(
        GroundTruthBox(names[label], _to_box(position), bool(counts))
        for label, position, counts in zip(
            objects.labels, objects.positions, objects.counts, strict=True
        )
    )


def _to_box(position: F64) -> Box:
    x, y, width, height = (_round(value) for value in position)
    return x, y, width, height


def _round(value: float) -> float:
    return round(float(value), 3)


def _save_picture(path: Path, view: View, sample: Sample, cell: Cell) -> tuple[int, int] | None:
    """Write a small picture and return the width and height of the image, None where there is none."""
    try:
        image = view.load(sample, cell)
    except BrokenFileError:
        return None
    if not path.is_file():
        files.write_bytes(path, encode_thumbnail(image, LONG_SIDE, QUALITY), durable=False)
    return image.shape[1], image.shape[0]
