"""Label-free estimates of the error rates of several classifiers on the same images.

They are heuristics without a guarantee; ``benchmarks/router.py`` measures where they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from shiftproof.adapt.few_classes import explain_by_classes
from shiftproof.adapt.guard import LEAST_SPREAD
from shiftproof.adapt.probabilities import Probabilities, entropy_of

Basis = Literal["confidence", "gain", "source"]
"""Basis of the estimate of an expert's error rate.

``"confidence"``: its confidence, for experts without a learned loss (the source, and other
statistics). ``"gain"``: the gain of confidence by its changed predictions, for experts that learn from
their own predictions and can become overconfident. ``"source"``: the source's confidence in its
predictions, for experts whose logits are no confidences (LAME, T3A); such an expert can never seem
better than the source.
"""

CROWDING = 1.2
"""Factor by which a lack of spread in the predictions increases an estimated error."""

GAIN_PER_CHANGE = 0.5
"""Required gain of mean confidence per share of changed predictions.

It is larger than the guard's, since the choice is between several adapters.
"""

ENOUGH = 16
"""Images of a batch from which on its answers tell whether they crowd by their classes or by a shift."""

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
        return entropy_of(self.sums / self.images)


def estimate_crowding(source: Probabilities, widest: Probabilities, distance: float) -> float:
    """Return an error rate that the source has at the least if its answers crowd under a shift.

    0 if classes explain how far the batch is from the source
    (:func:`~shiftproof.adapt.few_classes.explain_by_classes`), in batches of fewer than ``ENOUGH``, and
    where no distance is known. Else the classes are taken to be as frequent as in the widest answers:
    of two classifiers whose answers are ``p`` and ``q`` on the average, one errs on the share
    ``sum_k |p_k - q_k| / 2`` of the images at the least, if the other is right on the average.

    Args:
        source: ``(N, K)`` finite probabilities.
        widest: likewise, of the expert whose answers are spread most.
        distance: of the first layers, or NaN.
    """
    if len(source) < ENOUGH or not np.isfinite(distance) or source.shape[1] < 2:
        return 0.0
    trust = float(widest.max(1).mean() / source.max(1).mean())
    if explain_by_classes(torch.from_numpy(source), distance, trust):
        return 0.0
    return float(np.abs(source.mean(0) - widest.mean(0)).sum() / 2)


def estimate_errors(
    answers: Sequence[Probabilities],
    bases: Sequence[Basis],
    spread: NDArray[np.float64],
    distance: float = float("nan"),
) -> NDArray[np.float64]:
    """Estimate the error rate of each of E experts on a batch.

    - ``"confidence"``: ``(1 - c) (1 + CROWDING d)`` with the mean largest probability c and the
      relative lack d of entropy in the mean probabilities, compared with the largest among these
      experts. A source whose predictions collapse under a shift is overconfident; its own estimate
      is at least that of :func:`estimate_crowding`.
    - ``"gain"``: the estimate of the reference, minus the gain of confidence beyond
      ``GAIN_PER_CHANGE`` times the share of changed predictions; 1 if the predictions collapse (below
      ``LEAST_SPREAD``). The reference is the best expert of the first kind except the source, else
      the source.
    - ``"source"``: 1 minus the mean probability of its predictions under the source.

    Args:
        answers: ``(N, K)`` finite probabilities of each expert, N above 0; the source first.
        bases: the basis of each expert; the source's is ``"confidence"``.
        spread: ``(E,)`` from :class:`MeanAnswers`.
        distance: of the batch from the source, in its first layers; NaN where it is not known.

    Returns:
        ``(E,)`` from 0 to 1.
    """
    sure = np.array([float(part.max(1).mean()) for part in answers])
    own = [place for place, basis in enumerate(bases) if basis == "confidence"]
    widest = max(float(spread[own].max()), 1e-9)
    found = np.ones(len(answers))
    for place in own:
        lack = 1 - float(spread[place]) / widest
        found[place] = (1 - sure[place]) * (1 + CROWDING * lack)
    widest_place = max(own, key=lambda place: float(spread[place]))
    crowding = estimate_crowding(answers[0], answers[widest_place], distance)
    found[0] = max(float(found[0]), crowding)
    others = own[1:] or own
    reference = min(others, key=lambda place: float(found[place]))
    for place, basis in enumerate(bases):
        if basis == "gain" and spread[place] >= LEAST_SPREAD * widest:
            changed = (answers[place].argmax(1) != answers[reference].argmax(1)).mean()
            gain = sure[place] - sure[reference]
            found[place] = found[reference] - (gain - GAIN_PER_CHANGE * float(changed))
        if basis == "source":
            rows = np.arange(len(answers[0]))
            found[place] = 1 - float(answers[0][rows, answers[place].argmax(1)].mean())
    return np.clip(found, 0.0, 1.0)
