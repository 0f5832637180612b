"""Label-free estimates of the error rates of several classifiers on the same images.

They are heuristics without a guarantee; ``benchmarks/router.py`` measures where they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from shiftproof.adapt.base.probabilities import Probabilities, compute_entropy
from shiftproof.adapt.learning.few_classes import explain_by_classes, keep_classes
from shiftproof.adapt.safeguards.guard import MIN_SPREAD

Basis = Literal["confidence", "gain", "source"]
"""Basis of the estimate of an expert's error rate.

``"confidence"``: its confidence, for experts without a learned loss (the source, and other
statistics). ``"gain"``: the gain of confidence by its changed predictions, for experts that learn
from their own predictions and can become overconfident. ``"source"``: the source's confidence in
its predictions, for experts whose logits are no confidences (LAME, T3A); such an expert can never
seem better than the source.
"""

COLLAPSE_FACTOR = 1.2
"""Factor by which a lack of spread in the predictions increases an estimated error."""

GAIN_PER_CHANGE = 0.5
"""Required gain of mean confidence per share of changed predictions.

It is larger than the guard's, since the choice is between several adapters.
"""

MIN_IMAGES = 4
"""Minimum batch size for finding the reason why the source's predictions collapse; the smallest
measured.
"""

MIN_DIFFERENCE = 0.01
"""Minimum effect of a collapse on the source's estimate for finding its reason, by one more
pass.
"""

MEMORY = 128.0
"""Images over which the weight of earlier predictions decays to 1 / e."""


class MeanAnswers(NamedTuple):
    """Decayed sums ``(E, K)`` of the probabilities of E experts, over ``images``."""

    sums: NDArray[np.float64]
    images: float

    def add(self, answers: Sequence[Probabilities]) -> MeanAnswers:
        """Return the sums after a batch, ``(N, K)`` of each expert."""
        new = np.stack([part.sum(0, dtype=np.float64) for part in answers])
        count = len(answers[0])
        kept = float(np.exp(-count / MEMORY))
        # The number of classes is unknown before the first batch.
        sums = new if not self.images else kept * self.sums + new
        return MeanAnswers(sums, kept * self.images + count)

    def spread(self) -> NDArray[np.float64]:
        """Return ``(E,)`` the entropy of each expert's mean probabilities, in nats."""
        return compute_entropy(self.sums / self.images)


class Shift(NamedTuple):
    """The shift of a batch as measured in the first layers.

    Attributes:
        distance: of their statistics from the source's; NaN if unknown.
        remove: returns the source's probabilities ``(N, K)`` with these layers normalized by the
            batch; None if they cannot be.
    """

    distance: float
    remove: Callable[[], Probabilities | None]

    def select_rows(self, rows: NDArray[np.bool_]) -> Shift:
        """Return the shift of some images; with None for probabilities that are not finite."""

        def remove() -> Probabilities | None:
            answers = self.remove()
            if answers is None or not np.isfinite(answers[rows]).all():
                return None
            return answers[rows]

        return Shift(self.distance, remove)


def _remove_nothing() -> None:
    return None


UNKNOWN = Shift(math.nan, _remove_nothing)
"""An unknown shift."""


def estimate_source(
    source: Probabilities, widest: Probabilities, lack: float, shift: Shift = UNKNOWN
) -> float:
    """Estimate the error rate of a source whose predictions may have collapsed.

    ``1 - c`` with its mean confidence c if classes are the reason
    (:func:`~shiftproof.adapt.learning.few_classes.keep_classes`, or where the shift cannot be removed
    :func:`~shiftproof.adapt.learning.few_classes.explain_by_classes`). Else ``(1 - c) (1 + COLLAPSE_FACTOR
    lack)``, but at least :func:`measure_difference` from the widest predictions, unless the batch
    has fewer images than ``MIN_IMAGES`` or an unknown shift. The reason is determined only if it
    makes a difference of ``MIN_DIFFERENCE``.

    Args:
        source: ``(N, K)`` finite probabilities.
        widest: likewise, of the expert with the largest spread.
        lack: relative lack of entropy in the source's mean probabilities, compared with the widest;
            0 to 1.
        shift: of the batch.
    """
    smaller = 1 - float(source.max(1).mean())
    collapsed = smaller * (1 + COLLAPSE_FACTOR * lack)
    if len(source) < MIN_IMAGES or not math.isfinite(shift.distance) or source.shape[1] < 2:
        return collapsed
    larger = max(collapsed, measure_difference(source, widest))
    if larger - smaller <= MIN_DIFFERENCE:
        return larger
    unshifted = shift.remove()
    confidence_ratio = float(widest.max(1).mean() / source.max(1).mean())
    answers = torch.from_numpy(source)
    if unshifted is None:
        is_few = explain_by_classes(answers, shift.distance, confidence_ratio)
    else:
        is_few = keep_classes(
            answers, torch.from_numpy(unshifted), shift.distance, confidence_ratio
        )
    return smaller if is_few else larger


def measure_difference(first: Probabilities, second: Probabilities) -> float:
    """Return the total variation distance between two mean predictions.

    It is a lower bound of the error rate of one classifier if the mean prediction of the other
    gives the true class frequencies.

    Args:
        first: ``(N, K)`` probabilities.
        second: likewise.
    """
    return float(np.abs(first.mean(0) - second.mean(0)).sum() / 2)


def estimate_errors(
    answers: Sequence[Probabilities],
    bases: Sequence[Basis],
    spread: NDArray[np.float64],
    shift: Shift = UNKNOWN,
) -> NDArray[np.float64]:
    """Estimate the error rate of each of E experts on a batch.

    - ``"confidence"``: ``(1 - c) (1 + CROWDING d)`` with the mean largest probability c and the
      relative lack d of entropy in the mean probabilities, compared with the largest among these
      experts. A source whose predictions collapse under a shift is overconfident, but not one on a
      batch of few classes: the source's estimate is that of :func:`estimate_source`.
    - ``"gain"``: the estimate of the reference, minus the gain of confidence beyond
      ``GAIN_PER_CHANGE`` times the share of changed predictions; 1 if the predictions collapse
      (below ``MIN_SPREAD``). The reference is the best expert of the first kind except the source,
      else the source.
    - ``"source"``: 1 minus the mean probability of its predictions under the source.

    Args:
        answers: ``(N, K)`` finite probabilities of each expert, N above 0; the source first.
        bases: the basis of each expert; the source's is ``"confidence"``.
        spread: ``(E,)`` from :class:`MeanAnswers`.
        shift: of the batch.

    Returns:
        ``(E,)`` from 0 to 1.
    """
    confidences = np.array([float(part.max(1).mean()) for part in answers])
    own = [place for place, basis in enumerate(bases) if basis == "confidence"]
    widest = max(float(spread[own].max()), 1e-9)
    found = np.ones(len(answers))
    for place in own:
        lack = 1 - float(spread[place]) / widest
        found[place] = (1 - confidences[place]) * (1 + COLLAPSE_FACTOR * lack)
    widest_place = max(own, key=lambda place: float(spread[place]))
    found[0] = estimate_source(
        answers[0], answers[widest_place], 1 - float(spread[0]) / widest, shift
    )
    others = own[1:] or own
    reference = min(others, key=lambda place: float(found[place]))
    for place, basis in enumerate(bases):
        if basis == "gain" and spread[place] >= MIN_SPREAD * widest:
            changed = (answers[place].argmax(1) != answers[reference].argmax(1)).mean()
            gain = confidences[place] - confidences[reference]
            found[place] = found[reference] - (gain - GAIN_PER_CHANGE * float(changed))
        if basis == "source":
            rows = np.arange(len(answers[0]))
            found[place] = 1 - float(answers[0][rows, answers[place].argmax(1)].mean())
    return np.clip(found, 0.0, 1.0)
