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

from shiftproof.adapt.few_classes import explain_by_classes, keep_classes
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

ENOUGH = 4
"""Images of a batch from which on it is asked why the source's answers crowd; the fewest measured."""

WORTH_ASKING = 0.01
"""By how much crowding must raise the source's estimate for its reason to be asked for, by one more pass."""

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


class Shift(NamedTuple):
    """What the first layers say of a batch.

    Attributes:
        distance: of their statistics from the source's; NaN where it is not known.
        remove: gives the source's answers ``(N, K)`` where these layers normalize by the batch; None where
            they cannot.
    """

    distance: float
    remove: Callable[[], Probabilities | None]

    def of_rows(self, rows: NDArray[np.bool_]) -> Shift:
        """Return the same of some images; None in place of answers that are not finite."""

        def remove() -> Probabilities | None:
            answers = self.remove()
            if answers is None or not np.isfinite(answers[rows]).all():
                return None
            return answers[rows]

        return Shift(self.distance, remove)


def _remove_nothing() -> None:
    return None


UNKNOWN = Shift(math.nan, _remove_nothing)
"""Where nothing is known of the first layers."""


def estimate_source(
    source: Probabilities, widest: Probabilities, lack: float, shift: Shift = UNKNOWN
) -> float:
    """Estimate the error rate of a source whose answers may crowd.

    ``1 - c`` with its mean confidence c if classes are the reason
    (:func:`~shiftproof.adapt.few_classes.keep_classes`, or where the shift cannot be removed
    :func:`~shiftproof.adapt.few_classes.explain_by_classes`). Else ``(1 - c) (1 + CROWDING lack)``, and at
    the least :func:`measure_difference` from the widest answers, unless the batch has fewer images than
    ``ENOUGH`` or nothing is known of its shift. The reason is asked for where it makes a difference of
    ``WORTH_ASKING``.

    Args:
        source: ``(N, K)`` finite probabilities.
        widest: likewise, of the expert whose answers are spread most.
        lack: of the entropy in the source's mean probabilities, relative to the widest; 0 to 1.
        shift: what the first layers say.
    """
    least = 1 - float(source.max(1).mean())
    crowded = least * (1 + CROWDING * lack)
    if len(source) < ENOUGH or not math.isfinite(shift.distance) or source.shape[1] < 2:
        return crowded
    most = max(crowded, measure_difference(source, widest))
    if most - least <= WORTH_ASKING:
        return most
    without = shift.remove()
    trust = float(widest.max(1).mean() / source.max(1).mean())
    answers = torch.from_numpy(source)
    if without is None:
        is_few = explain_by_classes(answers, shift.distance, trust)
    else:
        is_few = keep_classes(answers, torch.from_numpy(without), shift.distance, trust)
    return least if is_few else most


def measure_difference(first: Probabilities, second: Probabilities) -> float:
    """Return half of the sum of the differences between two mean answers.

    One of two classifiers errs on this share of the images at the least, if the other is right on the
    average: where the classes are as frequent as it says.

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
      experts. A source whose predictions collapse under a shift is overconfident, and one that is shown
      few classes is not: its own estimate is that of :func:`estimate_source`.
    - ``"gain"``: the estimate of the reference, minus the gain of confidence beyond
      ``GAIN_PER_CHANGE`` times the share of changed predictions; 1 if the predictions collapse (below
      ``LEAST_SPREAD``). The reference is the best expert of the first kind except the source, else
      the source.
    - ``"source"``: 1 minus the mean probability of its predictions under the source.

    Args:
        answers: ``(N, K)`` finite probabilities of each expert, N above 0; the source first.
        bases: the basis of each expert; the source's is ``"confidence"``.
        spread: ``(E,)`` from :class:`MeanAnswers`.
        shift: what the first layers say of the batch.

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
    found[0] = estimate_source(
        answers[0], answers[widest_place], 1 - float(spread[0]) / widest, shift
    )
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
