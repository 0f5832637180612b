"""Calibration before a run, on labeled images that are held out of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from shiftproof.bench.cells.filling import Workload, fill
from shiftproof.bench.cells.on_device import PendingLogits
from shiftproof.bench.cells.protocol import Protocol
from shiftproof.bench.cells.stream import list_episodes
from shiftproof.bench.cells.views import View
from shiftproof.bench.tasks.classification.calibrators import (
    Calibrator,
    calibrate_model,
    check_enough,
)
from shiftproof.bench.tasks.classification.recorder import ClassifierRecording
from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.data import ImageData, check_labels, open_data
from shiftproof.data.subset import draw_samples
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.models import ClassifierLike
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.logits import LogitRecords, read_logits, write_logits
from shiftproof.runs.scores.reading import read_form, write_form
from shiftproof.runs.scores.trust import Calibrations
from shiftproof.types import CLEAN, Image, Images, Logits, Sample, Settings

HeldOutLike: TypeAlias = "ImageData | str | Path | float"
"""A labeled dataset, or what ``open_data`` takes; or the share to hold out of the run's own images,
as a number or as the text "fraction=0.2"."""

FOLDER = "calibration"
"""Where a run keeps the held-out images' logits and what was fitted on them."""

FITTED = "fitted.json"

HELD_OUT_RECORDS = f"{FOLDER}/records"

_FRACTION = re.compile(r"fraction=(.+)")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Images to calibrate on.

    Attributes:
        data: the images, with labels.
        coverage: the share of images whose sets are to hold the right class.
        view: gives the images in the model's size; of another dataset than the run's.
    """

    data: ImageData
    coverage: float
    view: View

    @property
    def settings(self) -> Settings:
        """The settings that determine the scores."""
        return {"data": self.data.settings(), "coverage": self.coverage}


def hold_out(
    data: ImageData, asked: HeldOutLike, classes: Classes, coverage: float
) -> tuple[ImageData, ImageData]:
    """Return the images that are measured, and those that are held out.

    A share is drawn by the images' ids, of each class its own, so that it is the same in every run.

    Raises:
        InputError: no labels, too few images for the coverage, a share that is not between 0 and 1,
            or images that are measured, too.
    """
    if not data.is_labeled:
        raise InputError(
            "Calibration holds what a model says against labels, and the images have none; give "
            "labeled images, or leave the calibration out."
        )
    share = read_share(asked)
    if share is None:
        assert not isinstance(asked, float)
        return data, _open_other(data, asked, classes, coverage)
    rest, held_out = split_samples(data.samples, share, coverage)
    return (
        data.narrow(rest, f"without the {len(held_out)} that are held out"),
        data.narrow(held_out, "held out, drawn by id, stratified by label"),
    )


def split_samples(
    samples: Sequence[Sample], share: float, coverage: float
) -> tuple[list[Sample], list[Sample]]:
    """Return the samples that are measured, and the share that is held out.

    Raises:
        InputError: too few for the coverage, or none is left to measure.
    """
    count = round(share * len(samples))
    check_enough(count, coverage)
    held_out = draw_samples(samples, count)
    names = {sample.id for sample in held_out}
    rest = [sample for sample in samples if sample.id not in names]
    if not rest:
        raise InputError(
            f"{share:g} of {pluralize(len(samples), 'image is', 'images are')} all of them, so that "
            "none is left to measure; "
            "hold out less."
        )
    return rest, held_out


def read_share(asked: HeldOutLike) -> float | None:
    """Return the share that is to be held out; None where a dataset was given.

    Raises:
        InputError: a share that is not between 0 and 1.
    """
    if isinstance(asked, str) and (found := _FRACTION.fullmatch(asked)):
        try:
            asked = float(found[1])
        except ValueError:
            asked = float("nan")
    elif isinstance(asked, str) and re.fullmatch(r"[0-9.]+%?", asked) and not Path(asked).exists():
        raise InputError(f"There is no dataset {asked!r}; for a share write fraction=0.2.")
    if isinstance(asked, int | float):
        if not 0 < asked < 1:
            raise InputError(
                f"Expected a fraction between 0 and 1, such as fraction=0.2; got {asked}."
            )
        return float(asked)
    return None


def _open_other(
    data: ImageData, asked: ImageData | str | Path, classes: Classes, coverage: float
) -> ImageData:
    other = asked if isinstance(asked, ImageData) else open_data(asked, classes=classes)
    if not other.is_labeled:
        raise InputError(
            f"{other.name} has no labels, and a model is calibrated on labeled images; give class "
            "folders, a CSV of path,label, or fraction=0.2 of the run's own images."
        )
    check_labels(other, classes)
    shared = set(other.content_fingerprints()) & set(data.content_fingerprints())
    if shared:
        raise InputError(
            f"{len(shared):,} of {pluralize(len(other), 'held-out image')} of {other.name} "
            f"{'is' if len(shared) == 1 else 'are'} measured in the run, too, which would make "
            "it look better than it is; give other images, or "
            "fraction=0.2 of the run's own."
        )
    check_enough(len(other), coverage)
    return other


# ---------------------------------------------------------------- before the run


def calibrate(
    folder: RunFolder,
    held_out: HeldOut,
    models: Mapping[str, ClassifierLike],
    protocol: Protocol,
    *,
    batch_size: int,
    seed: int,
    workers: int,
    show_progress: bool | None,
) -> ClassifierRecording:
    """Show the held-out images to every model, fit, and return how the run's answers are kept.

    A model that adapts sees them clean, from a reset on, in batches and in an order as in the run.

    Raises:
        InputError: too few could be read.
        BrokenFileError: a file of an earlier attempt cannot be read.
    """
    place = RunFolder(files.make_folder(folder.path / FOLDER))
    samples = held_out.data.samples
    there = read_calibrations(folder).models
    fitted = {**there, **{new: there[old] for old, new in folder.renamed.items() if old in there}}
    missing = {name: model for name, model in models.items() if name not in fitted}
    if missing:
        streams = list_episodes([CLEAN], samples, protocol, seed=seed)
        fill(
            place, Workload(held_out.view, streams, samples, missing), LogitRecording(),
            batch_size=batch_size, workers=workers, show_progress=show_progress,
        )  # fmt: skip
        for name in missing:
            found = read_logits(place.records_file(name, CLEAN))
            fitted[name] = calibrate_model(found.logits, found.target, found.ids, held_out.coverage)
        place.drop_cache()
    if fitted != there:
        write_calibrations(folder, Calibrations(fitted))
    return ClassifierRecording(
        {name: Calibrator(one) for name, one in read_calibrations(folder).models.items()}
    )


def write_calibrations(folder: RunFolder, fitted: Calibrations) -> None:
    """Write what was fitted before a run."""
    write_form(files.make_folder(folder.path / FOLDER) / FITTED, fitted)


def keep_calibrations(folder: RunFolder, names: Sequence[str]) -> None:
    """Keep only the calibrations of these models, in this order, if the run has any."""
    there = read_calibrations(folder).models
    if there:
        write_calibrations(folder, Calibrations({name: there[name] for name in names}))


def read_calibrations(folder: RunFolder) -> Calibrations:
    """Return what was fitted before a run, by model; nothing where it calibrated nothing.

    Raises:
        BrokenFileError: the file cannot be read.
    """
    path = folder.path / FOLDER / FITTED
    return read_form(path, Calibrations) if path.is_file() else Calibrations({})


class LogitRecorder:
    """Collects all logits of one model on the held-out images."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._logits: Logits | None = None
        self._error: dict[int, str] = {}

    @classmethod
    def of(cls, records: LogitRecords, samples: Sequence[Sample]) -> LogitRecorder:
        """Go on with a table of all samples.

        Raises:
            LookupError: it is of other samples.
        """
        if records.ids != [sample.id for sample in samples]:
            raise LookupError("records of other samples")
        recorder = cls(samples)
        recorder._logits = records.logits
        recorder._error = {
            row: reason for row, reason in enumerate(records.error) if reason is not None
        }
        return recorder

    def add(self, rows: Sequence[int], logits: Logits, positions: Sequence[int]) -> None:
        """Record a batch of samples, given by their places."""
        if self._logits is None:
            shape = (len(self._samples), logits.shape[1])
            self._logits = np.full(shape, np.nan, dtype=np.float32)
        self._logits[np.array(rows, dtype=np.int64)] = logits

    def add_broken(self, row: int, reason: str, position: int) -> None:
        """Record a file that could not be read."""
        self._error[row] = reason

    def finish(self) -> LogitRecords:
        """Return the table of all samples."""
        count = len(self._samples)
        logits = np.full((count, 1), np.nan, np.float32) if self._logits is None else self._logits
        return LogitRecords(
            ids=[sample.id for sample in self._samples],
            target=np.array([sample.label for sample in self._samples], dtype=np.int32),
            logits=logits,
            error=[self._error.get(row) for row in range(count)],
        )


class LogitRecording:
    """How the answers to held-out images are kept: with all their logits."""

    def __init__(self) -> None:
        self._plain = ClassifierRecording()

    def gather(self, images: Sequence[Image]) -> Images | list[Image]:
        """Return a batch as classifiers take it."""
        return self._plain.gather(images)

    def predict(self, model: ClassifierLike, batch: Any) -> Logits | PendingLogits:
        """Return the logits of a gathered batch."""
        return self._plain.predict(model, batch)

    def pick(self, answers: Logits | PendingLogits, places: Sequence[int]) -> Logits:
        """Return the logits of some of the images."""
        return self._plain.pick(answers, places)

    def recorder(self, samples: Sequence[Sample]) -> LogitRecorder:
        """Return an empty recorder."""
        return LogitRecorder(samples)

    def resume(self, path: Path, samples: Sequence[Sample]) -> LogitRecorder:
        """Return a recorder that continues a table."""
        return LogitRecorder.of(read_logits(path), samples)

    def write(self, path: Path, recorder: LogitRecorder) -> None:
        """Write what a recorder has."""
        write_logits(path, recorder.finish())
