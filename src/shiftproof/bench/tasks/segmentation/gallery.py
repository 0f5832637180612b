"""Small pictures for the report on segmenters: images that lose most, with truth and answers painted."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from shiftproof.bench.cells.recording import Learner
from shiftproof.bench.cells.views import View
from shiftproof.bench.tasks.interface import Prepared
from shiftproof.bench.tasks.segmentation.recorder import SegmenterRecording
from shiftproof.data import SegmentationData
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.metrics.segmentation import class_ious, mean_iou
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.segmentation import SegmentationRecords, read_segmentation
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.scores.segmentation import Answer, ClassColor, Example, Gallery, Sheet
from shiftproof.runs.thumbnails import encode_thumbnail
from shiftproof.types import CLEAN, F64, Cell, Image, LabelMap, Sample

WORST = 12
"""Images that are shown."""

MODELS = 3
"""So many models' answers are shown, and of the examples so many adapted ones' as well."""

NEARLY = 0.8
"""An image is shown in the mildest cell in which it loses this share of the most that it loses."""

LONG_SIDE = 320
QUALITY = 82

Color = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class GalleryPicture:
    """The data and models from which the pictures of a run are made.

    Attributes:
        data: has the label maps.
        models: whose answers are shown; the first decides which images.
        learners: that adapt. What they answered in the run depends on all that came before; shown is
            what they answer with one image to adapt to.
        photograph: the image in a cell; None where only the clean one is known.
        answer: the label map that a model gives of an image in a cell, in the data's classes.
    """

    data: SegmentationData
    models: Sequence[str]
    photograph: Callable[[Sample, Cell], Image | None]
    answer: Callable[[str, Sample, Cell, Image], LabelMap]
    learners: Sequence[str] = ()


def save_gallery(folder: RunFolder, prepared: Prepared, view: View, cells: Sequence[Cell]) -> None:
    """Write ``gallery.json`` and its pictures, with new predictions of the loaded models."""
    data, recording = prepared.data, prepared.recording
    assert isinstance(data, SegmentationData)
    assert isinstance(recording, SegmenterRecording)

    def answer(name: str, sample: Sample, cell: Cell, photo: Image) -> LabelMap:
        model = prepared.models[name]
        if isinstance(model, Learner):
            model.reset()
        (labels,) = recording.predict(model, [photo])
        return labels

    learners = [name for name, one in prepared.models.items() if isinstance(one, Learner)]
    plain = [name for name in prepared.models if name not in learners]
    save_shown(folder, GalleryPicture(data, plain, view.load, answer, learners), cells)


def save_shown(folder: RunFolder, source: GalleryPicture, cells: Sequence[Cell]) -> None:
    """Write ``gallery.json`` and the pictures it names, for a run whose records are complete."""
    data, shown = source.data, source.models[:MODELS]
    tables = {
        name: {cell: read_segmentation(folder.records_file(name, cell)) for cell in cells}
        for name in shown
    }
    painter = _Painter(folder, source, tables)
    ious = (
        _compute_cell_ious(tables[shown[0]], len(data.classes)) if shown and CLEAN in cells else {}
    )
    sheets = (
        painter.sheet(number, row, lost, cell)
        for number, (row, lost, cell) in enumerate(_choose(ious))
    )
    kept = tuple(one for one in sheets if one is not None)
    chosen = _choose_cells(cells)
    found = [
        painter.example(place, row, chosen) for place, row in enumerate(_choose_examples(ious))
    ]
    examples = tuple(one for one in found if one is not None)
    named = {name for sheet in kept for name in sheet.classes} | painter.named
    colors = tuple(
        ClassColor(name, color)
        for name, color in zip(data.classes.names, painter.colors, strict=True)
        if name in named
    )
    write_form(folder.gallery_file, Gallery(colors=colors, sheets=kept, examples=examples))


def _compute_cell_ious(tables: Mapping[Cell, SegmentationRecords], classes: int) -> dict[Cell, F64]:
    """Return ``(N,)`` mIoU of each image over its own classes, NaN where it could not be read."""
    return {cell: compute_image_ious(table, classes) for cell, table in tables.items()}


def compute_image_ious(table: SegmentationRecords, classes: int) -> F64:
    """Return ``(N,)`` mIoU of each image over the classes that it has, NaN where it has none."""
    hits, truth, predicted = np.split(
        table.compute_marginals(classes), [classes, 2 * classes], axis=1
    )
    ious = class_ious(hits, truth, predicted)
    return mean_iou(np.where(truth > 0, ious, np.nan))


def _choose(ious: Mapping[Cell, F64]) -> list[tuple[int, float, Cell]]:
    """Return the images that lose most over all cells: the row, the mean loss, the cell to show."""
    corrupted = [cell for cell in ious if not cell.is_clean]
    if not corrupted:
        return []
    losses = np.stack([ious[CLEAN] - ious[cell] for cell in corrupted])
    mean = losses.mean(axis=0)
    rows = [row for row in np.argsort(-mean, kind="stable").tolist() if mean[row] > 0][:WORST]
    return [(row, float(mean[row]), _choose_mildest(corrupted, losses[:, row])) for row in rows]


def _choose_examples(ious: Mapping[Cell, F64]) -> list[int]:
    """Return the image that loses most and one with the median loss."""
    corrupted = [cell for cell in ious if not cell.is_clean]
    if not corrupted:
        return []
    mean = np.stack([ious[CLEAN] - ious[cell] for cell in corrupted]).mean(axis=0)
    rows = [row for row in np.argsort(-mean, kind="stable").tolist() if np.isfinite(mean[row])]
    return list(dict.fromkeys([rows[0], rows[len(rows) // 2]])) if rows else []


def _choose_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return the clean cell, and of each corruption the one in the middle of its severities."""
    severities: dict[str, list[int]] = {}
    for cell in cells:
        if not cell.is_clean:
            severities.setdefault(cell.corruption, []).append(cell.severity)
    middle = [Cell(name, sorted(found)[len(found) // 2]) for name, found in severities.items()]
    return [CLEAN, *middle]


def _choose_mildest(cells: Sequence[Cell], losses: F64) -> Cell:
    """Return the mildest cell in which nearly the most is lost; of several the one that loses most."""
    enough = [at for at in range(len(cells)) if losses[at] >= NEARLY * losses.max()]
    best = min(enough, key=lambda at: (cells[at].severity, -losses[at], cells[at].corruption))
    return cells[best]


@dataclass(frozen=True, eq=False)
class _Painter:
    """Paints the pictures of one run."""

    folder: RunFolder
    source: GalleryPicture
    tables: Mapping[str, Mapping[Cell, SegmentationRecords]]
    named: set[str] = field(default_factory=set)
    """Classes that examples have."""

    @property
    def colors(self) -> list[Color]:
        """Of the classes of the data."""
        return choose_class_colors(self.source.data.classes.names)

    def sheet(self, number: int, row: int, lost: float, cell: Cell) -> Sheet | None:
        """Paint one image; None where it cannot be read any more."""
        sample = self.source.data.samples[row]
        try:
            clean = self.source.photograph(sample, CLEAN)
            corrupted = self.source.photograph(sample, cell)
            truth = self.source.data.read_mask(sample)
        except BrokenFileError:
            return None
        assert clean is not None
        images = {"clean": clean} if corrupted is None else {"clean": clean, "corrupted": corrupted}
        place = files.make_folder(self.folder.path / "gallery" / str(number))
        pictures = {name: self._save(place / f"{name}.jpg", one) for name, one in images.items()}
        pictures["truth"] = self._paint(place / "truth.jpg", clean, truth)
        answers: dict[str, tuple[Answer, ...]] = {}
        there = set(np.unique(truth).tolist())
        for at, model in enumerate(self.tables):
            found = []
            for which, of in (("clean", CLEAN), ("corrupted", cell)):
                photo = images.get(which, clean)
                labels = self.source.answer(model, sample, of, photo)
                file = self._paint(place / f"{which}-{at}.jpg", photo, labels)
                pictures[f"{model} {which}"] = file
                found.append(Answer(str(of), file, self._iou(model, of, row)))
                there |= set(np.unique(labels).tolist())
            answers[model] = tuple(found)
        names = self.source.data.classes.names
        classes = tuple(names[index] for index in sorted(there) if index >= 0)
        return Sheet(sample.id, str(cell), min(round(lost, 6), 1.0), pictures, classes, answers)

    def example(self, number: int, row: int, cells: Sequence[Cell]) -> Example | None:
        """Paint one image in all these cells; None where it cannot be read any more."""
        sample = self.source.data.samples[row]
        place = files.make_folder(self.folder.path / "gallery" / f"example-{number}")
        try:
            clean = self.source.photograph(sample, CLEAN)
            truth = self.source.data.read_mask(sample)
            seen = {cell: self.source.photograph(sample, cell) for cell in cells}
        except BrokenFileError:
            return None
        assert clean is not None
        names = [*self.tables, *self.source.learners[:MODELS]]
        answers: dict[str, dict[str, Answer]] = {name: {} for name in names}
        for cell, photo in seen.items():
            ground = clean if photo is None else photo
            for at, name in enumerate(names):
                labels = self.source.answer(name, sample, cell, ground)
                file = self._paint(place / f"{cell}-{at}.jpg", ground, labels)
                iou = self._iou(name, cell, row) if name in self.tables else None
                answers[name][str(cell)] = Answer(str(cell), file, iou)
                self._note(labels)
        self._note(truth)
        photos = {
            str(cell): self._save(place / f"{cell}.jpg", photo)
            for cell, photo in seen.items()
            if photo is not None
        }
        return Example(sample.id, self._paint(place / "truth.jpg", clean, truth), photos, answers)

    def _note(self, labels: LabelMap) -> None:
        names = self.source.data.classes.names
        self.named.update(names[index] for index in np.unique(labels).tolist() if index >= 0)

    def _iou(self, model: str, cell: Cell, row: int) -> float | None:
        value = compute_image_ious(self.tables[model][cell], len(self.source.data.classes))[row]
        return None if np.isnan(value) else round(float(value), 6)

    def _paint(self, path: Path, image: Image, labels: LabelMap) -> str:
        return self._save(path, paint(image, labels, self.colors))

    def _save(self, path: Path, image: Image) -> str:
        files.write_bytes(path, encode_thumbnail(image, LONG_SIDE, QUALITY), durable=False)
        return path.relative_to(self.folder.path).as_posix()


BACKGROUND = ("background", "other", "unlabeled")
"""Names of classes that are all that is left: painted gray, so that the others stand out."""


def choose_class_colors(names: Sequence[str]) -> list[Color]:
    """Return a color for each class: hues a golden section apart, so that neighbors differ."""
    colors = []
    for place, name in enumerate(names):
        hue = (0.02 + place * 0.618034) % 1
        value = (0.95, 0.65, 0.8)[place % 3]
        is_rest = name.strip("_ ").lower() in BACKGROUND
        red, green, blue = (0.35,) * 3 if is_rest else colorsys.hsv_to_rgb(hue, 0.75, value)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colors


def paint(image: Image, labels: LabelMap, colors: Sequence[Color]) -> Image:
    """Return the image in gray with its classes painted over it, small; what has no class stays gray.

    Args:
        image: ``(H, W, 3)`` uint8.
        labels: ``(H, W)`` int16, -1 for no class.
        colors: of the classes.

    Returns:
        ``(h, w, 3)`` uint8, no longer than ``LONG_SIDE``: the nearest label of each pixel, since
        labels have no mean.
    """
    height, width = labels.shape
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    gray = np.asarray(PillowImage.fromarray(image).convert("L").resize(size), np.float32)
    rows = np.minimum((np.arange(size[1]) / scale).astype(int), height - 1)
    columns = np.minimum((np.arange(size[0]) / scale).astype(int), width - 1)
    small = labels[np.ix_(rows, columns)]
    table = np.array([*colors, (0, 0, 0)], np.float32)
    painted = 0.3 * gray[..., None] + 0.7 * table[small]
    found = np.where((small >= 0)[..., None], painted, gray[..., None])
    return found.astype(np.uint8)
