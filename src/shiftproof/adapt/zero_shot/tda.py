"""TDA: two caches of image vectors beside the class vectors (Karmanov et al. 2024, arXiv
2403.18293).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, final

import torch

from shiftproof.adapt.base.events import Event
from shiftproof.adapt.base.features import find_finite_rows, run_with_features
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import NetworkAdapter
from shiftproof.adapt.base.options import check_count, check_number
from shiftproof.adapt.base.tensors import check_names, copy_tensor, copy_to_cpu
from shiftproof.adapt.learning.losses import entropy
from shiftproof.adapt.zero_shot.head import check_classifier, find_zero_shot_head
from shiftproof.errors import InputError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State

NEGATIVE_ENTROPY = (0.2, 0.5)
"""Range of the entropy of images in the negative cache, as shares of log2 K."""

MIN_NEGATIVE_PROBABILITY = 0.03
"""Probability above which a class of an image in the negative cache has the value 1."""

PUBLISHED_SCALE = 100.0
"""The logit scale of CLIP, for which the weights were published."""


class Cache(NamedTuple):
    """Cached images: keys ``(M, D)``, classes ``(M,)``, entropies ``(M,)``, values ``(M, K)``.

    The values are 1 for the classes for which (or against which) a key votes, else 0.
    """

    keys: torch.Tensor
    labels: torch.Tensor
    entropies: torch.Tensor
    values: torch.Tensor

    def add(self, other: Cache, shots: int) -> Cache:
        """Return the cache with one more image; in a full class the one of highest entropy is
        evicted.
        """
        of_class = torch.nonzero(self.labels == other.labels[0])[:, 0]
        if len(of_class) < shots:
            return Cache(*(torch.cat(pair) for pair in zip(self, other, strict=True)))
        worst = of_class[self.entropies[of_class].argmax()]
        if not bool(other.entropies[0] < self.entropies[worst]):
            return self
        parts = [part.clone() for part in self]
        for part, new in zip(parts, other, strict=True):
            part[worst] = new[0]
        return Cache(*parts)

    def vote(self, features: torch.Tensor, sharpness: float) -> torch.Tensor:
        """Return ``(K,)``: the sum of the values weighted by ``exp(-sharpness (1 - cosine))``."""
        return torch.exp(-sharpness * (1 - self.keys @ features)) @ self.values


@final
class TDA(NetworkAdapter):
    """A zero-shot classifier that also compares images with confident earlier ones of its stream.

    Karmanov et al. 2024 (arXiv 2403.18293), image by image, without gradients. The positive cache
    keeps the ``shots`` images of the lowest entropy of each predicted class; the negative one
    ``negative_shots`` of those whose entropy is between 0.2 and 0.5 of log2 K. An image's logits
    are those of the class vectors, plus ``alpha`` times the sum over the positive cache of
    ``exp(-beta (1 - cosine))`` for the cached class (eq. 5), minus the same with the negative
    options over the classes that a cached image has above 0.03 (eq. 8). An image enters the caches
    before its prediction, as in the published code.

    Differs from the published code: it uses the image alone, not the mean of 64 views as there for
    the variants of ImageNet; with a logit scale other than 100 both weights are scaled in
    proportion.

    Args:
        model: a zero-shot ``Classifier`` (CLIP, SigLIP).
        shots: images per class in the positive cache, 1 or more.
        alpha: its weight, 0 or more, for logits of scale 100. The defaults are the published
            ones for ImageNet; other datasets have others.
        beta: its sharpness, 0 or more.
        negative_shots: images per class in the negative cache, 1 or more.
        negative_alpha: its weight; 0 turns it off.
        negative_beta: its sharpness.

    Raises:
        InputError: an option is out of its range.
        ModelError: it is not a zero-shot classifier.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        shots: int = 3,
        alpha: float = 2.0,
        beta: float = 5.0,
        negative_shots: int = 2,
        negative_alpha: float = 0.117,
        negative_beta: float = 1.0,
    ) -> None:
        self.shots = check_count("shots", shots)
        self.alpha = check_number("alpha", alpha, 0, math.inf, below=True)
        self.beta = check_number("beta", beta, 0, math.inf, below=True)
        self.negative_shots = check_count("negative_shots", negative_shots)
        self.negative_alpha = check_number(
            "negative_alpha", negative_alpha, 0, math.inf, below=True
        )
        self.negative_beta = check_number("negative_beta", negative_beta, 0, math.inf, below=True)
        classes = len(check_classifier(model, "TDA").classes)
        self._network = AdaptedNetwork(model)
        self._head = find_zero_shot_head(self._network, "TDA")
        weight = next(self._head.layer.parameters())
        self._empty = Cache(
            weight.new_zeros(0, weight.shape[1], dtype=torch.float32),
            weight.new_zeros(0, dtype=torch.int64),
            weight.new_zeros(0, dtype=torch.float32),
            weight.new_zeros(0, classes, dtype=torch.float32),
        )
        self._positive = self._negative = self._empty

    def __repr__(self) -> str:
        return f"TDA(shots={self.shots}, alpha={self.alpha}, beta={self.beta})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "tda",
            "shots": self.shots,
            "alpha": self.alpha,
            "beta": self.beta,
            "negative_shots": self.negative_shots,
            "negative_alpha": self.negative_alpha,
            "negative_beta": self.negative_beta,
            **self._network.settings(),
        }

    @property
    def events(self) -> Sequence[Event]:
        """None."""
        return ()

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        logits, features = run_with_features(self._network, self._head.layer, inputs)
        logits, features = logits.float(), features.float()
        sound = find_finite_rows(logits, features)
        positive, negative = self._positive, self._negative
        answers = logits.clone()
        for row in torch.nonzero(sound)[:, 0].tolist():
            image = slice(row, row + 1)
            if not self._network.is_frozen:
                positive, negative = self._remember(
                    positive, negative, logits[image], features[image]
                )
            answers[row] += self._correct(positive, negative, features[row])
        self._positive, self._negative = positive, negative
        return answers

    def _remember(
        self, positive: Cache, negative: Cache, logits: torch.Tensor, features: torch.Tensor
    ) -> tuple[Cache, Cache]:
        """Return both caches, with one more image where it belongs."""
        labels, entropies = logits.argmax(1), entropy(logits)
        own = torch.nn.functional.one_hot(labels, logits.shape[1]).float()
        positive = positive.add(Cache(features, labels, entropies, own), self.shots)
        low, high = (share * math.log2(max(logits.shape[1], 2)) for share in NEGATIVE_ENTROPY)
        if self.negative_alpha > 0 and low < float(entropies) < high:
            possible = torch.softmax(logits, 1)
            possible = ((possible > MIN_NEGATIVE_PROBABILITY) & (possible < 1)).float()
            image = Cache(features, labels, entropies, possible)
            negative = negative.add(image, self.negative_shots)
        return positive, negative

    def _correct(self, positive: Cache, negative: Cache, features: torch.Tensor) -> torch.Tensor:
        """Return ``(K,)``: the correction of an image's logits by both caches."""
        votes = self.alpha * positive.vote(features, self.beta)
        votes = votes - self.negative_alpha * negative.vote(features, self.negative_beta)
        return votes * (self._head.scale / PUBLISHED_SCALE)

    def end_epoch(self) -> None:
        """Do nothing at the end of a pass."""

    def reset(self) -> None:
        """Empty both caches."""
        with self._network.lock:
            self._positive = self._negative = self._empty

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield nothing: there are no parameters learned by gradients."""
        return iter(())

    def merge(self) -> torch.nn.Module:
        """Return a copy of the model: the caches are not part of it."""
        return self._network.copy()

    def state(self) -> State:
        """Return both caches."""
        with self._network.lock:
            caches = {"positive": self._positive, "negative": self._negative}
            return {
                f"{kind}/{name}": copy_to_cpu(part)
                for kind, cache in caches.items()
                for name, part in cache._asdict().items()
            }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        check_names(
            state, (), {f"{kind}/{n}" for kind in ("positive", "negative") for n in Cache._fields}
        )
        positive, negative = (self._read(state, kind) for kind in ("positive", "negative"))
        with self._network.lock:
            self._positive, self._negative = positive, negative

    def _read(self, state: Mapping[str, torch.Tensor], kind: str) -> Cache:
        labels = state.get(f"{kind}/labels")
        count = 0 if labels is None or labels.ndim != 1 else len(labels)
        like = {
            n: part.new_zeros(count, *part.shape[1:]) for n, part in self._empty._asdict().items()
        }
        cache = Cache(**{n: copy_tensor(state, f"{kind}/{n}", part) for n, part in like.items()})
        if not bool(((cache.labels >= 0) & (cache.labels < cache.values.shape[1])).all()):
            raise InputError("The state is damaged: it caches images of classes that do not exist.")
        return cache
