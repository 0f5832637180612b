"""TPT: test-time prompt tuning for each image (Shu et al. 2022, arXiv 2209.07511)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch

from shiftproof.adapt.base.features import run_with_features
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import EpisodicAdapter
from shiftproof.adapt.base.options import check_count, check_number, check_rate
from shiftproof.adapt.learning.losses import marginal_entropy
from shiftproof.adapt.learning.pixels import PixelSpace
from shiftproof.adapt.zero_shot.crops import count_confident, make_views, order_by_confidence
from shiftproof.adapt.zero_shot.head import SentenceEncoder, check_classifier, find_zero_shot_head
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings


@final
class TPT(EpisodicAdapter):
    """A zero-shot classifier whose prompt is tuned for each image.

    Shu et al. 2022 (arXiv 2209.07511): the vectors of the tokens before the class ("a photo of a")
    are parameters shared by all classes. Of an image and ``views - 1`` random crops of it, randomly
    mirrored, the ``share`` with the lowest entropy is selected; ``steps`` steps of AdamW minimize
    the entropy of their mean prediction (eq. 3, 4); the image is classified with the tuned prompt;
    and the prompt is reset. No state is kept between images.

    Cost per image: ``views + 1`` forward passes of the image tower, ``steps`` forward and backward
    passes of the text tower over the sentences of all classes, and one more forward pass.

    Differs from the published code: no AugMix on the crops, as there for ImageNet and its variants;
    of several templates only one is used, since one prompt is tuned.

    Args:
        model: a zero-shot ``Classifier`` (CLIP, SigLIP) with a ``Preprocess``.
        lr: learning rate of AdamW, whose weight decay is 0.01.
        steps: steps per image, 0 or more.
        views: number of views, 1 or more, including the image.
        share: share of selected views, from 0 to 1; rounded down, at least one view.
        template: a sentence with words before ``{}``, which stands for the class; None uses the
            classifier's, or "a photo of a {}." if it has none.
        seed: random seed of the crops.

    Raises:
        InputError: an option is out of its range, or the template has no word before the class.
        ModelError: it is not a zero-shot classifier, its preprocessing is a function, or its text
            tower is not supported.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        lr: float = 5e-3,
        steps: int = 1,
        views: int = 64,
        share: float = 0.1,
        template: str | None = None,
        seed: int = 0,
    ) -> None:
        self.lr = check_rate(lr)
        self.steps = check_count("steps", steps, minimum=0)
        self.views = check_count("views", views)
        self.share = check_number("share", share, 0, 1)
        self.seed = check_count("seed", seed, minimum=0)
        check_classifier(model, "TPT")
        self._network = AdaptedNetwork(model)
        self._head = find_zero_shot_head(self._network, "TPT")
        self._pixels = PixelSpace(self._network.classifier.preprocess, "TPT")
        self.template = self._head.choose_template(template)
        self._sentences = SentenceEncoder(self._head.texts, "TPT")
        self._place = self._sentences.find_context(self.template, self._head.names)
        self._tokens = self._sentences.tokenize(
            [self.template.replace("{}", name) for name in self._head.names]
        )
        start, end = self._place
        first = self._sentences.look_up(self._tokens)[0, start:end]
        self._first = first.detach().float().clone()
        with torch.inference_mode(False):
            self._context = torch.nn.Parameter(self._first.clone())
        self.reset()

    def __repr__(self) -> str:
        return f"TPT(lr={self.lr}, {self.views} views, {len(self._first)} words)"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "tpt",
            "lr": self.lr,
            "steps": self.steps,
            "views": self.views,
            "share": self.share,
            "template": self.template,
            "words": len(self._first),
            "seed": self.seed,
            **self._network.settings(),
        }

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the prompt's token vectors ``(L, D)``, which have their initial values between
        images.
        """
        return iter([self._context])

    # ------------------------------------------------------------ one image

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        logits = torch.cat([self._answer(image[None]) for image in inputs])
        self._count_batch()
        return logits

    def _answer(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of one image ``(1, C, H, W)`` after tuning the prompt, then reset
        it.
        """
        if not bool(torch.isfinite(image).all()):
            return self._network.forward(image).float()
        views = make_views(self._pixels, image, self.views, seed=self.seed, method="tpt")
        _, features = run_with_features(self._network, self._head.layer, views)
        try:
            if not self._tune(features.float()):
                self._skip("The loss or its gradient was not finite; the words stayed as they are.")
            return self._compare(features[:1].float())
        finally:
            with torch.no_grad():
                self._context.copy_(self._first)

    def _compare(self, features: torch.Tensor) -> torch.Tensor:
        """Return ``(N, K)`` logits of image vectors of length 1 with the current prompt."""
        start, end = self._place

        def put_words(looked_up: torch.Tensor) -> torch.Tensor:
            words = self._context.to(looked_up.dtype).expand(len(looked_up), -1, -1)
            return torch.cat([looked_up[:, :start], words, looked_up[:, end:]], 1)

        texts = self._sentences.encode(self._tokens, put_words)
        logits = self._head.scale * features @ texts.T + self._head.shift
        return self._network.select_classes(logits)

    def _tune(self, features: torch.Tensor) -> bool:
        """Tune the prompt on the views' vectors; False if the loss or gradient was not finite."""
        optimizer = torch.optim.AdamW([self._context], self.lr, weight_decay=0.01)
        kept: torch.Tensor | None = None
        for _ in range(self.steps):
            with torch.enable_grad():
                logits = self._compare(features if kept is None else features[kept])
                if kept is None:
                    kept = order_by_confidence(logits.detach())[
                        : count_confident(self.share, self.views)
                    ]
                    logits = logits[kept]
                loss = marginal_entropy(logits)
                (gradient,) = torch.autograd.grad(loss, [self._context])
            if not bool(torch.isfinite(gradient).all() & torch.isfinite(loss)):
                return False
            self._context.grad = gradient
            optimizer.step()
            self._context.grad = None
        return True
