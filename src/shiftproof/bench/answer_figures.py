"""The figures of labeled answers, on the images as they are and on every resample of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.bench.summary import SEED
from shiftproof.compute.progress import progress
from shiftproof.metrics import intervals
from shiftproof.metrics.answer_order import order_answers
from shiftproof.metrics.answer_resamples import Answers, Resampled, blocks_of, resample_answers
from shiftproof.metrics.calibration import calibration_error_of
from shiftproof.runs.records.classification import TOP, CalibratedAnswers, CellRecords
from shiftproof.runs.resamples import Replicates, divide
from shiftproof.types import F32, F64, Flags


@dataclass(frozen=True, eq=False)
class Said:
    """What a model says in one cell, as it is or with its temperature, ``(N,)`` each.

    ``missed`` is 1 where the right class is not among the first five, NaN where that is not known.
    """

    counts: Flags
    right: Flags
    missed: F64
    confidence: F32
    loss: F32
    brier: F32

    @classmethod
    def of(cls, record: CellRecords, classes: int, scaled: CalibratedAnswers | None = None) -> Said:
        """Return what the records hold of a model with so many classes."""
        source = record if scaled is None else scaled
        unknown = np.full(len(record), np.nan, np.float32)
        return cls(
            counts=record.readable,
            right=record.prediction == record.target,
            missed=_miss_top(record, classes),
            confidence=source.confidence,
            loss=source.loss,
            brier=unknown if source.brier is None else source.brier,
        )


def replicate_answers(
    records: Sequence[tuple[CellRecords, CalibratedAnswers | None]],
    classes: int,
    *,
    title: str,
    show_progress: bool | None,
) -> list[dict[str, Replicates]]:
    """Return the figures of tables of answers to the same images, of which each is sorted once.

    Args:
        records: the tables, each with the answers at a temperature where these are meant.
        classes: of the models.
        title: of the display.
        show_progress: None shows it on a terminal only.
    """
    if not records:
        return []
    count = len(records[0][0])
    makers = [functools.partial(_order, record, classes, scaled) for record, scaled in records]
    blocks = blocks_of(count)
    with progress(title, len(makers) * blocks, show=show_progress) as advance:
        found = resample_answers(makers, count, seed=SEED, done=advance)
    return [_figures(one) for one in found]


def _order(record: CellRecords, classes: int, scaled: CalibratedAnswers | None) -> Answers:
    said = Said.of(record, classes, scaled)
    places = np.flatnonzero(said.counts)
    confidence = said.confidence[places]
    if np.isnan(confidence).any():  # an answer that is no number has no place in the order
        return Answers(_columns(said), None)
    order = order_answers(
        confidence, ~said.right[places], places=places, binned_of=len(said.counts)
    )
    return Answers(_columns(said), order)


def _columns(said: Said) -> F64:
    """``(N, 5)``: whether the image counts, whether the answer is wrong, also the five; loss, Brier."""
    values = (~said.right, said.missed, said.loss, said.brier)
    return np.stack([said.counts, *(np.where(said.counts, one, 0) for one in values)], axis=1)


def _miss_top(record: CellRecords, classes: int) -> F64:
    in_top = (record.top == record.target[:, None]).any(axis=1)
    # Answers made elsewhere may have fewer than five classes, and then no top-5 error.
    short = (record.top[:, min(TOP, classes) - 1] < 0) & (record.prediction >= 0)
    return np.where(short, np.nan, ~in_top)


def _figures(found: Resampled) -> dict[str, Replicates]:
    counted, wrong, missed, loss, brier = found.sums.T
    calibration = divide(calibration_error_of(found.calibration), counted)
    return {
        "error": divide(wrong, counted),
        "top5_error": divide(missed, counted),
        # Moved resamples may leave the range in which the figure lies.
        "calibration_error": np.clip(intervals.without_bias(calibration), 0, 1),
        "loss": divide(loss, counted),
        "brier": divide(brier, counted),
        "aurc": found.selection.aurc,
        "excess_aurc": found.selection.excess_aurc,
        "risk80": found.selection.risk,
    }
