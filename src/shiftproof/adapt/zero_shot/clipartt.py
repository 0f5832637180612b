"""CLIPArTT: sentences of each image's top classes as pseudo-labels (Hakim et al. 2024, arXiv
2405.00754).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import torch

from shiftproof.adapt.base.features import keep_inputs
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import EpisodicAdapter
from shiftproof.adapt.base.options import check_count, check_number, check_rate
from shiftproof.adapt.learning.steps import GradientSteps, find_norm_parameters
from shiftproof.adapt.normalization.passes import HookedNetwork, use_batch
from shiftproof.adapt.normalization.priors import check_numeric_prior
from shiftproof.adapt.zero_shot.head import SentenceEncoder, check_classifier, find_zero_shot_head
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

_NOT_FINITE = (
    "The loss, its gradient or the batch's statistics were not finite; the source answered."
)


def transductive_loss(
    images: torch.Tensor, texts: torch.Tensor, *, scale: float, temperature: float
) -> torch.Tensor:
    """Return the cross-entropy of image-sentence similarities with targets from the similarities
    within images and within sentences.

    With unit vectors v of B images and t of their sentences, ``p_i`` is the softmax over j of
    ``scale v_i . t_j``, and the target ``Q = softmax((v v^T + t t^T) / 2 temperature)`` (Hakim et
    al. 2024, eq. 3 to 5). As in the published code, which gave the paper's results, Q is normalized
    over the images for each sentence, and gradients flow through it, too.

    Args:
        images: ``(B, D)`` of length 1.
        texts: ``(B, D)`` of length 1.
        scale: factor of the cosine in a logit.
        temperature: temperature of the target, above 0.
    """
    target = torch.softmax((images @ images.T + texts @ texts.T) / 2 / temperature, -1).T
    return -(target * torch.log_softmax(scale * images @ texts.T, -1)).sum(1).mean()


@final
class CLIPArTT(EpisodicAdapter):
    """A zero-shot classifier whose norm layers are adapted with sentences of each image's top
    classes.

    Hakim et al. 2024 (arXiv 2405.00754): each image gets a sentence of its ``top`` classes ("a
    photo of a cat or dog or fox."); scale and shift of the image tower's norm layers take ``steps``
    steps of Adam on :func:`transductive_loss` over the batch, with new sentences before each; the
    batch is classified with the classifier's class vectors; and the weights are reset to the
    source. No state is kept between batches. For a batch of one image the source predicts.

    Cost per batch: ``2 steps + 1`` forward and ``steps`` backward passes of the image tower, and
    forward passes of the text tower over new sentences.

    Differs from the published code: the classifier's class vectors may come from several templates;
    the batch norm statistics of CLIP's ResNets are mixed with the source's by ``prior``, which is 0
    there.

    Args:
        model: a zero-shot ``Classifier`` (CLIP, SigLIP).
        lr: learning rate of Adam.
        steps: steps per batch, 1 or more.
        top: number of classes in a sentence, 1 or more; at most all.
        temperature: temperature of the target, above 0.
        template: a sentence with ``{}``; None uses the classifier's, or "a photo of a {}." if it
            has none.
        prior: N of batch norm, 0 or more; infinity keeps the source's statistics.

    Raises:
        InputError: an option is out of its range.
        ModelError: it is not a zero-shot classifier, its weights are of half precision, or it has
            no norm layer with parameters.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        lr: float = 1e-3,
        steps: int = 10,
        top: int = 3,
        temperature: float = 0.01,
        template: str | None = None,
        prior: float = 16,
    ) -> None:
        self.lr = check_rate(lr)
        self.steps = check_count("steps", steps)
        self.top = check_count("top", top)
        self.temperature = check_number("temperature", temperature, 1e-6, math.inf, below=True)
        self.prior = check_numeric_prior(prior)
        names = check_classifier(model, "CLIPArTT").classes.names
        self._network = AdaptedNetwork(model)
        self._head = find_zero_shot_head(self._network, "CLIPArTT")
        self._names = names if model.outputs is not None else self._head.names
        self.template = self._head.choose_template(template)
        self._sentences = SentenceEncoder(self._head.texts, "CLIPArTT")
        self._hooked = HookedNetwork(self._network)
        learned = list(find_norm_parameters(self._network.module, "CLIPArTT"))
        self._steps = GradientSteps(self._network.own(learned), "adam", self.lr)
        self.reset()

    def __repr__(self) -> str:
        return f"CLIPArTT(lr={self.lr}, {self.steps} steps, top={self.top})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "clipartt",
            "lr": self.lr,
            "steps": self.steps,
            "top": self.top,
            "temperature": self.temperature,
            "template": self.template,
            "prior": "inf" if self.prior == math.inf else self.prior,
            "values": sum(p.numel() for p in self._steps.parameters.values()),
            **self._network.settings(),
        }

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield the adapted parameters, which have the source's values between batches."""
        return iter(self._steps.parameters.values())

    # ------------------------------------------------------------ one batch

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        choose = use_batch(self.prior, len(inputs))
        finite = torch.isfinite(inputs).flatten(1).all(1)
        try:
            if int(finite.sum()) > 1 and self._learn(inputs[finite]):
                logits, observed = self._hooked.predict(inputs, choose)
                if observed.is_finite:
                    return logits
        finally:
            self._steps.restore(self._steps.first)
            self._count_batch()
        return self._network.forward(inputs)

    def _learn(self, inputs: torch.Tensor) -> bool:
        """Take the steps for a batch; False if one is not finite."""
        choose = use_batch(self.prior, len(inputs))
        known: dict[tuple[int, ...], torch.Tensor] = {}
        for _ in range(self.steps):
            logits, _ = self._hooked.predict(inputs, choose)
            texts = self._encode_top_classes(logits, known)
            with (
                torch.enable_grad(),
                keep_inputs(self._head.layer) as kept,
                self._hooked.run(inputs, choose) as (_, observed),
            ):
                loss = transductive_loss(
                    kept[-1].float(),
                    texts,
                    scale=self._head.scale,
                    temperature=self.temperature,
                )
                if not observed.is_finite or not self._steps.take(loss):
                    self._skip(_NOT_FINITE)
                    return False
        return True

    def _encode_top_classes(
        self, logits: torch.Tensor, known: dict[tuple[int, ...], torch.Tensor]
    ) -> torch.Tensor:
        """Return the vector of each image's sentence ``(B, D)``; ``known`` caches those of the
        batch.
        """
        top_classes = logits.topk(min(self.top, logits.shape[1]), 1).indices.tolist()
        keys = [tuple(places) for places in top_classes]
        new = [key for key in dict.fromkeys(keys) if key not in known]
        if new:
            words = [" or ".join(self._names[place] for place in key) for key in new]
            sentences = [self.template.replace("{}", each) for each in words]
            with torch.no_grad():
                vectors = self._sentences.encode(self._sentences.tokenize(sentences))
            known.update(zip(new, vectors, strict=True))
        return torch.stack([known[key] for key in keys])
