"""What can be seen without labels of how often several classifiers are wrong on the same images.

Measured, and no theorem: ``benchmarks/router.py`` says where it holds and where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shiftproof.adapt.guard import LEAST_SPREAD
from shiftproof.adapt.probabilities import Probabilities, entropy_of

Basis = Literal["confidence", "gain", "source"]
"""What an expert is judged by.

``"confidence"``: its own, as it has learned nothing that makes it sure (the source, and other
statistics). ``"gain"``: the confidence that its changed answers bring, as what learns from itself
can become sure of anything. ``"source"``: the source's confidence in its answers, as its logits are
no confidence of its own (LAME, T3A); such an expert can never look better than the source.
"""

CROWDING = 1.2
"""How many times an error is taken larger, per lack of spread of the answers."""

GAIN_PER_CHANGE = 0.5
"""Mean confidence that a learner's answers must bring, per share of answers that changed.

More than the guard asks, as the choice is between adapters and not for or against one.
"""

MEMORY = 128.0
"""Images over which the mean answer is forgotten, to 1 / e."""


class MeanAnswers(NamedTuple):
    """How often each class was answered lately: sums ``(E, K)`` for E experts over ``images``."""

    sums: NDArray[np.float64]
    images: float

    def add(self, answers: Sequence[Probabilities]) -> MeanAnswers:
        """Return it with a batch more, ``(N, K)`` of each expert; older ones fade."""
        new = np.stack([part.sum(0, dtype=np.float64) for part in answers])
        count = len(answers[0])
        kept = float(np.exp(-count / MEMORY))
        # Before the first batch the number of classes is not known.
        sums = new if not self.images else kept * self.sums + new
        return MeanAnswers(sums, kept * self.images + count)

    def spread(self) -> NDArray[np.float64]:
        """Return ``(E,)`` the entropy of each expert's mean answer, in nats."""
        return entropy_of(self.sums / self.images)


def estimate_errors(
    answers: Sequence[Probabilities], bases: Sequence[Basis], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of wrong answers that each of E experts seems to have on a batch.

    - ``"confidence"``: ``(1 - c) (1 + CROWDING d)``, with c the mean largest probability and d what
      the entropy of the mean answer lacks, as a share of the largest among these experts. A source
      whose answers crowd under a shift is wrong more often than it says.
    - ``"gain"``: that of the reference, less what the confidence gained beyond ``GAIN_PER_CHANGE``
      for each share of changed answers; 1 where the answers crowd (below ``LEAST_SPREAD``). The
      reference is the best of those above that is not the source, or the source.
    - ``"source"``: one less the mean probability that the source gives to its answers.

    Args:
        answers: ``(N, K)`` of each expert, N above 0, finite; the source's first.
        bases: of each expert; the source's is ``"confidence"``.
        spread: ``(E,)`` from :class:`MeanAnswers`.

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
