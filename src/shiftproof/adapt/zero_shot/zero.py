"""ZERO: majority vote of an image's confident views (Farina et al. 2024, arXiv 2405.18330)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch

from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import EpisodicAdapter
from shiftproof.adapt.base.options import check_count, check_number
from shiftproof.adapt.learning.pixels import PixelSpace
from shiftproof.adapt.zero_shot.crops import count_confident, make_views, order_by_confidence
from shiftproof.adapt.zero_shot.head import check_classifier, find_zero_shot_head
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

_MIN_PROBABILITY = 1e-30
"""Lower bound of probabilities, so that logarithms are finite."""


def count_votes(logits: torch.Tensor, kept: int) -> torch.Tensor:
    """Return the votes for each class ``(K,)``, with an extra vote to break a tie.

    The ``kept`` views with the lowest entropy vote for their predicted classes: the mean of their
    distributions at temperature 0. A tie is won by the class predicted by the most confident of the
    other views that predict a tied class, or by the first tied class (Farina et al. 2024, section
    4).

    Args:
        logits: ``(N, K)``, those of the views.
        kept: number of voting views, 1 to N.
    """
    answers = logits[order_by_confidence(logits)].argmax(1)
    votes = torch.bincount(answers[:kept], minlength=logits.shape[1]).float()
    tied = votes == votes.max()
    if int(tied.sum()) > 1:
        broken = [label for label in answers[kept:].tolist() if bool(tied[label])]
        votes[broken[0] if broken else int(votes.argmax())] += 1
    return votes


@final
class ZERO(EpisodicAdapter):
    """A zero-shot classifier by majority vote of each image's most confident views.

    Farina et al. 2024 (arXiv 2405.18330): of an image and ``views - 1`` random crops of it,
    randomly mirrored, the ``share`` with the lowest entropy is selected, and the class that most of
    them predict wins. It needs no gradients and keeps no state between images. The logits are
    logarithms of the shares of votes; classes with equally many votes are ordered by mean
    probability, which never outweighs a vote.

    Cost per image: ``views`` forward passes of the image tower.

    Differs from the published code: ties are broken by views in order of confidence, not in the
    order they were drawn.

    Args:
        model: a zero-shot ``Classifier`` (CLIP, SigLIP) with a ``Preprocess``.
        views: number of views, 1 or more, including the image.
        share: share of voting views, from 0 to 1; rounded down, at least one view. The published
            code uses 0.3, the paper's first version 0.1.
        seed: random seed of the crops.

    Raises:
        InputError: an option is out of its range.
        ModelError: it is not a zero-shot classifier, or its preprocessing is a function.
    """

    def __init__(
        self, model: Classifier, *, views: int = 64, share: float = 0.3, seed: int = 0
    ) -> None:
        self.views = check_count("views", views)
        self.share = check_number("share", share, 0, 1)
        self.seed = check_count("seed", seed, minimum=0)
        check_classifier(model, "ZERO")
        self._network = AdaptedNetwork(model)
        find_zero_shot_head(self._network, "ZERO")
        self._pixels = PixelSpace(self._network.classifier.preprocess, "ZERO")
        self.reset()

    def __repr__(self) -> str:
        return f"ZERO({self.views} views, share={self.share})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "zero",
            "views": self.views,
            "share": self.share,
            "seed": self.seed,
            **self._network.settings(),
        }

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._answer(image[None]) for image in inputs])

    def _answer(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of one image ``(1, C, H, W)``; the source's if it is not finite."""
        if not bool(torch.isfinite(image).all()):
            return self._network.forward(image).float()
        views = make_views(self._pixels, image, self.views, seed=self.seed, method="zero")
        logits = self._network.forward(views).float()
        kept = count_confident(self.share, self.views)
        mean = torch.softmax(logits[order_by_confidence(logits)[:kept]], 1).mean(0)
        # The mean probability counts at most half a vote: it orders classes with equally many
        # votes.
        scores = count_votes(logits, kept) + mean / 2
        return torch.log((scores / scores.sum()).clamp_min(_MIN_PROBABILITY))[None]

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield nothing."""
        return iter(())
