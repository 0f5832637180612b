"""Scoring result files of classifiers from other frameworks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.bench.scoring.classifier_results import (
    JSON,
    SUFFIXES,
    ClassPredictions,
    has_cells,
    is_json_of_answers,
    read_cells,
    read_class_predictions,
)
from shiftproof.bench.scoring.name_matching import find_aliases
from shiftproof.bench.scoring.result_files import find_predictions, parse_cell
from shiftproof.bench.scoring.score_request import ScoreRequest
from shiftproof.bench.scoring.shared_cells import find_shared_cells
from shiftproof.bench.tasks.classification.calibrating import (
    read_share,
    split_samples,
    write_calibrations,
)
from shiftproof.bench.tasks.classification.calibrators import Calibrator, calibrate_model
from shiftproof.bench.tasks.classification.recorder import CellRecorder
from shiftproof.bench.tasks.classification.task import Classification
from shiftproof.classes import Classes, imagenet, number_classes
from shiftproof.counts import pluralize
from shiftproof.data import ImageData, open_data
from shiftproof.errors import InputError, LabelError
from shiftproof.io import files
from shiftproof.metrics.faults import read_integer
from shiftproof.models.classifiers.class_names import read_classes
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.classification import TOP, CellRecords, write_cell
from shiftproof.runs.run import Run
from shiftproof.runs.scores.classification import CLASS_NAMES, ClassNames
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.scores.trust import Calibration, Calibrations
from shiftproof.types import CLEAN, Cell, Indices, Logits, Sample, Settings


def holds_class_predictions(path: Path) -> bool:
    """Return whether a path has predictions of classifiers, by the type of its files.

    Of JSON files, which detectors have, too, the names in the first record say it.

    Raises:
        BrokenFileError: a file that cannot be read.
    """
    return bool(_find_suffixes(path)) if path.is_dir() else has_cells(path)


def _find_suffixes(root: Path) -> tuple[str, ...]:
    """Return the suffixes of the files of classifiers in a folder; none if it has none.

    A table beside the JSON files of a detector is not an answer unless it is named by a cell.
    """
    names = [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in (*SUFFIXES, JSON) and not path.name.startswith(".")
    ]
    jsons = [name for name in names if name.lower().endswith(JSON)]
    tables = [name for name in names if not name.lower().endswith(JSON)]
    if any(parse_cell(name) is not None for name in tables):
        return SUFFIXES
    of_cells = [name for name in jsons if parse_cell(name) is not None]
    if of_cells:
        said = (is_json_of_answers(root / name) for name in of_cells)
        return (JSON,) if next((one for one in said if one is not None), False) else ()
    return SUFFIXES if tables else ()


def score_class_predictions(request: ScoreRequest) -> Run:
    """Score predictions of classifiers; see :func:`shiftproof.bench.score`."""
    sources = {name: _Source.find(path) for name, path in request.given.items()}
    shared = find_shared_cells({name: one.cells for name, one in sources.items()})
    cells = shared.grid.cells
    truth, known = _find_truth(request, next(iter(sources.values())).choose_first(cells))
    held = (
        None
        if request.calibrate is None
        else _HeldRows.of(truth, request.calibrate, request.coverage)
    )
    fitted = {} if held is None else held.fit(sources, truth, known)
    folder = request.create_folder(
        "classification",
        {
            "models": {name: one.settings(cells) for name, one in sources.items()},
            "adapters": {},
            "data": truth.settings,
            "images": {"source": "answers made elsewhere"},
            **shared.settings(),
            **({} if held is None else {"calibration": held.settings}),
        },
        {"classes": {"title": known.title, "count": len(known)}, **shared.about()},
    )
    write_form(folder.path / CLASS_NAMES, ClassNames(known.title, tuple(known.names)))
    if held is not None:
        write_calibrations(folder, Calibrations(fitted))
    calibrators = {name: Calibrator(one) for name, one in fitted.items()}
    reader = _Answers(sources, truth, known, calibrators, None if held is None else held.rest)
    request.fill(folder, reader, cells, processes=_count_processes(sources, request.processes))
    request.summarize(folder, Classification(), shared.grid)
    return Run(folder.path)


def _find_truth(request: ScoreRequest, first: ClassPredictions) -> tuple[_Truth, Classes]:
    """Return images with labels, and the classes of the scores; ``first`` are one model's."""
    known = _guess_classes(first) if request.classes is None else read_classes(request.classes)
    if request.data is None:
        truth = _Truth.of_predictions(first, known)
        return truth, known or truth.count_classes()
    data = (
        request.data
        if isinstance(request.data, ImageData)
        else open_data(request.data, classes=known)
    )
    truth = _Truth.of_data(data)
    return truth, known or data.classes or truth.count_classes()


_TOGETHER = 8
"""Maximum number of files read at once: scores of 50,000 images and 1,000 classes are 200 MB."""


def _count_processes(sources: Mapping[str, _Source], workers: int) -> int:
    """Return the number of reading processes; 0 for a table, which is in memory."""
    is_table = any(source.path.is_file() for source in sources.values())
    return 0 if is_table else min(workers, _TOGETHER)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Reads the answers of all classifiers, as one table of records for each cell."""

    sources: Mapping[str, _Source]
    truth: _Truth
    classes: Classes
    calibrators: Mapping[str, Calibrator]
    rest: Indices | None

    def write(self, folder: RunFolder, model: str, cell: Cell) -> None:
        """Write the records of a cell, of the images that are not held out."""
        predictions = self.sources[model].read(cell)
        records = self.truth.record(predictions, self.classes, self.calibrators.get(model))
        if self.rest is not None:
            records = records.pick(self.rest)
        write_cell(folder.records_file(model, cell), records)


class _Source:
    """The predictions of one model: a file for each cell, or one table."""

    def __init__(self, path: Path, where: Mapping[Cell, Path | ClassPredictions]) -> None:
        self.path = path
        self.cells = dict(where)

    @classmethod
    def find(cls, path: Path) -> _Source:
        if path.is_dir():
            return cls(path, find_predictions(path, suffixes=_find_suffixes(path)).files)
        return cls(path, read_cells(path))

    def read(self, cell: Cell) -> ClassPredictions:
        found = self.cells[cell]
        return found if isinstance(found, ClassPredictions) else read_class_predictions(found)

    def choose_first(self, cells: Sequence[Cell]) -> ClassPredictions:
        """Return the predictions whose images and labels stand for all cells.

        Of a table they are those of the first cell with the images that most cells have, so that a
        cell with other images is the one that is named. Of files they are those of the first.
        """
        if not self.path.is_file():
            return self.read(cells[0])
        images = {cell: frozenset(self.read(cell).images or ()) for cell in cells}
        counts = Counter(images.values())
        # Of equally frequent ones the largest: a cell more often lacks images than has foreign ones.
        usual = max(counts, key=lambda one: (counts[one], len(one)))
        return self.read(next(cell for cell in cells if images[cell] == usual))

    def settings(self, cells: Sequence[Cell]) -> Settings:
        """Return the settings of the predictions, for the records: one fingerprint per file."""
        if self.path.is_file():
            return {"name": self.path.name, "answers": files.file_fingerprint(self.path)}
        return {
            "name": self.path.name,
            "answers": {
                str(cell): files.file_fingerprint(found)
                for cell in cells
                if isinstance(found := self.cells[cell], Path)
            },
        }


class _Truth:
    """The images and their true classes, for aligning predictions."""

    def __init__(
        self,
        samples: Sequence[Sample],
        settings: Settings,
        *,
        images_from: str,
        labels_from: str | None = None,
    ) -> None:
        """``images_from`` is the dataset or file of predictions whose images these are, and
        ``labels_from`` the file of predictions whose labels; None for a dataset.
        """
        self.samples = list(samples)
        self.settings = settings
        self._labels_from = labels_from
        self._images_from = images_from
        self._ids = {sample.id: row for row, sample in enumerate(self.samples)}
        self._aliases = find_aliases(
            [{"file_name": sample.id, "id": row} for row, sample in enumerate(self.samples)]
        )

    @classmethod
    def of_data(cls, data: ImageData) -> _Truth:
        return cls(data.samples, data.settings(), images_from=data.name)

    @classmethod
    def of_predictions(cls, predictions: ClassPredictions, classes: Classes | None) -> _Truth:
        """Take images and labels from a file of predictions."""
        if predictions.images is None:
            raise InputError(
                f"{predictions.where} does not say which images its rows are; expected the dataset "
                "beside the answers (data=, --data), or an array or a column called images."
            )
        if predictions.labels is None:
            labels: list[int | None] = [None] * len(predictions)
        else:
            labels = [
                _find_index(label, classes, f"{predictions.where}, {image}")
                for image, label in zip(predictions.images, predictions.labels, strict=True)
            ]
        samples = [
            Sample(name, label) for name, label in zip(predictions.images, labels, strict=True)
        ]
        _check_once(predictions, [sample.id for sample in samples])
        content = files.fingerprint(f"{one.id}\n{one.label}\n".encode() for one in samples)
        return cls(
            samples,
            {
                "name": predictions.where,
                "kind": "images of a file of answers",
                "images": len(samples),
                "labeled": predictions.labels is not None,
                "fingerprint": content,
            },
            images_from=predictions.where,
            labels_from=None if predictions.labels is None else predictions.where,
        )

    def count_classes(self) -> Classes:
        """Return classes without names, as many as the labels need."""
        return number_classes(1 + max((sample.label or 0) for sample in self.samples))

    def record(
        self, predictions: ClassPredictions, classes: Classes, calibrator: Calibrator | None
    ) -> CellRecords:
        """Return the table of a cell.

        Raises:
            InputError: an image is missing, duplicate or unknown; scores of other classes; the best
                classes alone where a calibrator needs all.
        """
        if calibrator is None and predictions.logits is None:
            return self._of_best(predictions, self._rows(predictions, classes), classes)
        rows, logits = self.order_logits(predictions, classes)
        recorder = CellRecorder(self.samples, calibrator)
        recorder.add(rows, logits, rows)
        return recorder.finish()

    def order_logits(
        self, predictions: ClassPredictions, classes: Classes
    ) -> tuple[list[int], Logits]:
        """Return the index of the image of each row, and the rows' logits ``(N, K)``.

        Raises:
            InputError: no scores, or scores of other classes; images as in :meth:`record`.
        """
        if predictions.logits is None:
            raise InputError(
                f"{predictions.where} has the best classes alone, and to calibrate takes the scores of all "
                "of them; give logits or probabilities (.npz, .npy, .parquet), or leave the "
                "calibration out."
            )
        rows = self._rows(predictions, classes)
        if predictions.logits.shape[1] != len(classes):
            raise InputError(
                f"{predictions.where}: {pluralize(predictions.logits.shape[1], 'score')} an image, for "
                f"{pluralize(len(classes), 'class')} ({classes.title})."
            )
        return rows, predictions.logits

    def _of_best(
        self, predictions: ClassPredictions, rows: Sequence[int], classes: Classes
    ) -> CellRecords:
        count = len(self.samples)
        top = np.full((count, TOP), -1, np.int32)
        confidence = np.full(count, np.nan, np.float32)
        for place, (row, best) in enumerate(zip(rows, predictions.top, strict=True)):
            where = f"{predictions.where}, {self.samples[row].id}"
            top[row, : len(best)] = [_find_index(one, classes, where) for one in best]
            if predictions.confidence is not None:
                confidence[row] = predictions.confidence[place]
        return CellRecords(
            ids=[sample.id for sample in self.samples],
            position=np.arange(count, dtype=np.int32),
            target=np.array([sample.target for sample in self.samples], np.int32),
            prediction=top[:, 0].copy(),
            confidence=confidence,
            loss=np.full(count, np.nan, np.float32),
            top=top,
            error=[None] * count,
        )

    def _rows(self, predictions: ClassPredictions, classes: Classes) -> list[int]:
        """Return the index of the image of each row, once the file's own labels agree."""
        rows = self._order_rows(predictions)
        if self._labels_from is not None and predictions.labels is not None:
            self._check_labels(predictions, rows, classes)
        return rows

    def _check_labels(
        self, predictions: ClassPredictions, rows: Sequence[int], classes: Classes
    ) -> None:
        for row, label in zip(rows, predictions.labels or (), strict=True):
            sample = self.samples[row]
            if _find_index(label, classes, predictions.where) != sample.label:
                raise InputError(
                    f"{predictions.where}: {sample.id} has the label {label!r:.40}, and in "
                    f"{self._labels_from} another; expected one label for an image in all cells. "
                    "Correct the files, or give the labels beside them (data=, --data)."
                )

    def _order_rows(self, predictions: ClassPredictions) -> list[int]:
        if predictions.images is None:
            if len(predictions) != len(self.samples):
                raise InputError(
                    f"{predictions.where}: {pluralize(len(predictions), 'row')}, and "
                    f"{pluralize(len(self.samples), 'image')}; expected "
                    "a row for each, in the order of the dataset, or the images' names beside them."
                )
            return list(range(len(predictions)))
        _check_once(predictions, predictions.images)
        rows = [self._place(name, predictions.where) for name in predictions.images]
        twice = next((row for row, count in Counter(rows).items() if count > 1), None)
        if twice is not None:
            raise InputError(
                f"{predictions.where}: {self.samples[twice].id} occurs twice, under two names."
            )
        if len(rows) < len(self.samples):
            lacking = sorted(set(range(len(self.samples))) - set(rows))
            raise InputError(
                f"{predictions.where}: {len(lacking)} of "
                f"{pluralize(len(self.samples), 'image')} of {self._images_from} "
                f"{'has' if len(lacking) == 1 else 'have'} no answer (first: "
                f"{self.samples[lacking[0]].id}); expected one for each."
            )
        return rows

    def _place(self, name: str, where: str) -> int:
        found = self._ids.get(name, self._aliases.get(name))
        if found is None:
            raise InputError(
                f"{where}: {name!r:.80} is none of the {pluralize(len(self.samples), 'image')} of "
                f"{self._images_from}; expected such as {self.samples[0].id}."
            )
        return int(found)


@dataclass(frozen=True, eq=False)
class _HeldRows:
    """Indices of the images held out for calibration, and of the evaluated ones."""

    rest: Indices
    held: Indices
    coverage: float

    @classmethod
    def of(cls, truth: _Truth, request: float | str, coverage: float) -> _HeldRows:
        share = read_share(request)
        if share is None:
            raise InputError(
                f"Answers made elsewhere are calibrated on a share of their own images; expected "
                f"fraction=0.2, got {request!r:.80}."
            )
        if truth.samples[0].label is None:
            raise InputError(
                "Calibration holds answers against labels, and the images have none; give labels, or "
                "leave the calibration out."
            )
        _, held = split_samples(truth.samples, share, coverage)
        names = {sample.id for sample in held}
        among = np.array([sample.id in names for sample in truth.samples])
        return cls(np.flatnonzero(~among), np.flatnonzero(among), coverage)

    @property
    def settings(self) -> Settings:
        return {"held-out images": len(self.held), "coverage": self.coverage}

    def fit(
        self, sources: Mapping[str, _Source], truth: _Truth, classes: Classes
    ) -> dict[str, Calibration]:
        """Calibrate every model on the held-out images in the clean cell."""
        return {name: self._fit_one(one, truth, classes) for name, one in sources.items()}

    def _fit_one(self, source: _Source, truth: _Truth, classes: Classes) -> Calibration:
        if CLEAN not in source.cells:
            raise InputError(
                f"{source.path} has no answers to the clean images, on which a model is calibrated; add "
                "them as clean, or leave the calibration out."
            )
        rows, logits = truth.order_logits(source.read(CLEAN), classes)
        ordered = np.empty_like(logits)
        ordered[rows] = logits
        samples = [truth.samples[row] for row in self.held.tolist()]
        targets = np.array([sample.label for sample in samples], dtype=np.int32)
        ids = [sample.id for sample in samples]
        return calibrate_model(ordered[self.held], targets, ids, self.coverage)


def _check_once(predictions: ClassPredictions, names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count != 1:
        raise InputError(
            f"{predictions.where}: "
            + (f"{name!r:.80} is there {count} times" if names else "no images")
            + "; expected each image once."
        )


def _find_index(text: str, classes: Classes | None, where: str) -> int:
    if not text.strip():
        raise LabelError(f"{where}: expected the index or the name of a class, got an empty cell.")
    try:
        if classes is not None:
            return classes.index(text)
        number = read_integer(text)
        if number is not None and number >= 0:
            return number
    except LabelError as error:
        is_counted = classes is not None and classes.is_numbered
        advice = " Give the classes if there are more (classes=, --classes)." if is_counted else ""
        raise LabelError(f"{where}: {error}{advice}") from error
    raise LabelError(
        f"{where}: {text!r:.60} is a class by its name, and the classes were not given: give their "
        "names in the order of the outputs (classes=, --classes)."
    )


def _guess_classes(predictions: ClassPredictions) -> Classes | None:
    """Return ImageNet's classes for 1,000 scores, numbered ones for others; None without scores."""
    if predictions.logits is None:
        return None
    count: Any = predictions.logits.shape[1]
    return imagenet() if count == 1000 else number_classes(count)
