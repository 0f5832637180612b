"""Temperature and prediction sets of a model, fitted on held-out images and applied to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.metrics.calibration import brier_scores
from shiftproof.metrics.classification import log_softmax
from shiftproof.metrics.conformal import (
    METHODS,
    compute_coverage_floor,
    compute_minimum_images,
    conformal_threshold,
    nonconformity,
    prediction_sets,
)
from shiftproof.metrics.scaling import fit_temperature, scale_logits
from shiftproof.rng import generator
from shiftproof.runs.records.classification import CalibratedPredictions
from shiftproof.runs.scores.trust import Calibration
from shiftproof.types import F64, I32, Logits

COVERAGE = 0.9
"""The default share of images whose sets contain the right class."""


def calibrate_model(
    logits: Logits, targets: I32, ids: Sequence[str], coverage: float = COVERAGE
) -> Calibration:
    """Fit temperature and thresholds on labeled images.

    The thresholds are those of the probabilities at the temperature, as in RAPS (Angelopoulos et al.
    2021). That both come from the same images costs the promise next to nothing: one number was fitted.

    Args:
        logits: ``(N, K)``; rows that are no numbers are left out.
        targets: ``(N,)`` in 0..K-1.
        ids: of the images, which decide their random numbers.
        coverage: between 0 and 1.

    Raises:
        InputError: too few images for sets of this coverage.
    """
    answered = np.flatnonzero(np.isfinite(log_softmax(logits)).any(axis=1))
    check_enough(len(answered), coverage)
    logits, targets = logits[answered], targets[answered]
    names = [ids[row] for row in answered.tolist()]
    temperature, reason = _try_temperature(logits, targets)
    probabilities = _compute_probabilities(logits, temperature or 1.0)
    uniforms = draw_uniforms(names)
    rows = np.arange(len(targets))
    return Calibration(
        images=len(targets),
        coverage=coverage,
        thresholds={
            method: conformal_threshold(
                nonconformity(probabilities, method=method, uniforms=uniforms)[rows, targets],
                coverage,
            )
            for method in METHODS
        },
        floor=compute_coverage_floor(len(targets), coverage),
        temperature=temperature,
        reason=reason,
        absent=logits.shape[1] - len(np.unique(targets)),
    )


def check_enough(images: int, coverage: float) -> None:
    """Refuse so few images that sets of this coverage would always be all classes.

    Raises:
        InputError: too few, or a coverage that is not between 0 and 1.
    """
    least = compute_minimum_images(coverage)
    if images < least:
        raise InputError(
            f"Expected at least {pluralize(least, 'held-out image')} for sets that hold the right class in "
            f"{100 * coverage:g} % of the images, got {images:,}; hold out more, or ask for a lower "
            "coverage."
        )


def draw_uniforms(ids: Sequence[str]) -> F64:
    """Return ``(N,)`` in 0..1, a number of each image's own: the same in all cells, for all models."""
    return np.array([generator(0, "prediction sets", name).random() for name in ids])


@dataclass(frozen=True)
class Calibrator:
    """Applies one model's temperature and thresholds to its logits.

    Attributes:
        calibration: what was fitted.
    """

    calibration: Calibration

    def answer(self, logits: Logits, targets: I32, ids: Sequence[str]) -> CalibratedPredictions:
        """Return the records of ``(N, K)`` logits; a row with NaN has no answer."""
        found = CalibratedPredictions.empty(len(targets))
        probabilities = _compute_probabilities(logits, self.calibration.divisor)
        answered = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
        probabilities, classes = probabilities[answered], targets[answered]
        rows = np.arange(len(answered))
        with np.errstate(divide="ignore"):
            found.loss[answered] = -np.log(probabilities[rows, classes])
        found.confidence[answered] = probabilities.max(axis=1)
        found.brier[answered] = brier_scores(probabilities, classes)
        uniforms = draw_uniforms([ids[row] for row in answered.tolist()])
        for place, method in enumerate(METHODS):
            scores = nonconformity(probabilities, method=method, uniforms=uniforms)
            sets = prediction_sets(scores, self.calibration.thresholds[method])
            found.sizes[answered, place] = sets.sum(axis=1)
            found.covers[answered, place] = sets[rows, classes]
        return found


def _try_temperature(logits: Logits, targets: I32) -> tuple[float | None, str | None]:
    try:
        return fit_temperature(logits, targets), None
    except InputError as error:
        return None, str(error)


def _compute_probabilities(logits: Logits, temperature: float) -> F64:
    return np.asarray(np.exp(log_softmax(scale_logits(logits, temperature))))
