"""ZERO: the sure views of an image vote (Farina et al. 2024, arXiv 2405.18330)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch

from shiftproof.adapt.network import AdaptedNetwork
from shiftproof.adapt.networked import EpisodicAdapter
from shiftproof.adapt.options import check_count, check_number
from shiftproof.adapt.pixels import PixelSpace
from shiftproof.adapt.views import count_kept, order_by_confidence, view_inputs
from shiftproof.adapt.zero_shot import check_classifier, find_zero_shot_head
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

_SMALLEST = 1e-30
"""What stands for a probability of nought, whose logarithm is no number."""


def count_votes(logits: torch.Tensor, kept: int) -> torch.Tensor:
    """Return ``(K,)`` the votes for each class, a tie broken by one vote more.

    The ``kept`` views of the least entropy vote for their classes: the mean of their distributions
    at temperature 0. Of classes with as many votes that one wins which the surest of the other
    views answers that answers one of them; the first, where none does (Farina et al. 2024, section
    4).

    Args:
        logits: ``(N, K)`` of the views.
        kept: 1 to N.
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
    """A zero-shot classifier that answers for each image what its sure views vote for.

    Farina et al. 2024 (arXiv 2405.18330): of an image and ``views - 1`` random crops of it,
    mirrored by chance, the ``share`` of the least entropy is kept, and the class most of them
    answer is the answer. No gradients, nothing is kept from image to image. The logits are
    logarithms of the shares of votes; where votes are equal in number they keep the order of the
    mean probability, which never outweighs a vote.

    What it costs: ``views`` forward passes of the image tower for each image.

    Differs from the published code: the views that break a tie are looked at in the order of their
    confidence, not in that in which they were drawn.

    Args:
        model: a zero-shot ``Classifier`` (CLIP, SigLIP) with a ``Preprocess``.
        views: 1 or more, the image among them.
        share: of the views that vote, above 0 to 1; rounded down, one at least. 0.3 is the
            published code's; the paper's first version had 0.1.
        seed: of the crops.

    Raises:
        InputError: an option is out of its range.
        ModelError: it is no zero-shot classifier, or its preprocessing is a function.
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
        """What reproduces this adapter, as JSON takes it."""
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
        """Return the logits of one image ``(1, C, H, W)``; the source's where it is not finite."""
        if not bool(torch.isfinite(image).all()):
            return self._network.forward(image).float()
        views = view_inputs(self._pixels, image, self.views, seed=self.seed, method="zero")
        logits = self._network.forward(views).float()
        kept = count_kept(self.share, self.views)
        mean = torch.softmax(logits[order_by_confidence(logits)[:kept]], 1).mean(0)
        # Half a vote for all of the mean: it orders classes that have as many votes.
        scores = count_votes(logits, kept) + mean / 2
        return torch.log((scores / scores.sum()).clamp_min(_SMALLEST))[None]

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield nothing."""
        return iter(())
