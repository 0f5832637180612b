"""Error, calibration, loss and selective risk of labeled answers, with bootstrap replicates."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.bench.tasks.summary import SEED
from shiftproof.compute.progress import progress
from shiftproof.metrics import intervals
from shiftproof.metrics.calibration import compute_calibration_error
from shiftproof.metrics.confidence_order import order_by_confidence
from shiftproof.metrics.confidence_resamples import (
    PredictionTable,
    ResampledSums,
    count_blocks,
    sum_tables,
)
from shiftproof.runs.records.classification import TOP, CalibratedPredictions, CellRecords
from shiftproof.runs.resamples import Replicates, divide
from shiftproof.types import F32, F64, Flags


@dataclass(frozen=True, eq=False)
class PredictionScores:
    """Scores of a model's answers in one cell, ``(N,)`` each; with a temperature if it has one.

    ``counts`` is whether the image was readable; ``missed`` is 1 where the true class is not among
    the five most probable ones, NaN where these are unknown.
    """

    counts: Flags
    right: Flags
    missed: F64
    confidence: F32
    loss: F32
    brier: F32

    @classmethod
    def of(
        cls, record: CellRecords, classes: int, scaled: CalibratedPredictions | None = None
    ) -> PredictionScores:
        """Read the scores from the records of a model with ``classes`` classes."""
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


def replicate_figures(
    records: Sequence[tuple[CellRecords, CalibratedPredictions | None]],
    classes: int,
    *,
    title: str,
    show_progress: bool | None,
) -> list[dict[str, Replicates]]:
    """Return the replicates of each figure, for each table of answers to the same images."""
    if not records:
        return []
    count = len(records[0][0])
    makers = [functools.partial(_order, record, classes, scaled) for record, scaled in records]
    blocks = count_blocks(count)
    with progress(title, len(makers) * blocks, show=show_progress) as advance:
        found = sum_tables(makers, count, seed=SEED, done=advance)
    return [_name_figures(one) for one in found]


def _order(
    record: CellRecords, classes: int, scaled: CalibratedPredictions | None
) -> PredictionTable:
    scores = PredictionScores.of(record, classes, scaled)
    places = np.flatnonzero(scores.counts)
    confidence = scores.confidence[places]
    if np.isnan(confidence).any():  # NaN cannot be sorted
        return PredictionTable(_stack_columns(scores), None)
    order = order_by_confidence(
        confidence, ~scores.right[places], places=places, resample_size=len(scores.counts)
    )
    return PredictionTable(_stack_columns(scores), order)


def _stack_columns(scores: PredictionScores) -> F64:
    """``(N, 5)``: readable, wrong, not in the top 5, loss, Brier score."""
    values = (~scores.right, scores.missed, scores.loss, scores.brier)
    # Each column in one piece: all that follows goes through them one by one.
    rows = np.stack([scores.counts, *(np.where(scores.counts, one, 0) for one in values)])
    return np.asarray(rows.T, dtype=np.float64)


def _miss_top(record: CellRecords, classes: int) -> F64:
    in_top = (record.top == record.target[:, None]).any(axis=1)
    # Imported answers may list fewer than five classes; then there is no top-5 error.
    short = (record.top[:, min(TOP, classes) - 1] < 0) & (record.prediction >= 0)
    return np.where(short, np.nan, ~in_top)


def _name_figures(found: ResampledSums) -> dict[str, Replicates]:
    counted, wrong, missed, loss, brier = found.sums.T
    calibration = divide(compute_calibration_error(found.calibration), counted)
    return {
        "error": divide(wrong, counted),
        "top5_error": divide(missed, counted),
        # The bias correction may leave the range of the calibration error.
        "calibration_error": np.clip(intervals.correct_bias(calibration), 0, 1),
        "loss": divide(loss, counted),
        "brier": divide(brier, counted),
        "aurc": found.selective.aurc,
        "excess_aurc": found.selective.excess_aurc,
        "risk80": found.selective.risk,
    }
