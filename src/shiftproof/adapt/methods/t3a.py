"""T3A: prototypes instead of the last layer (Iwasawa & Matsuo 2021, NeurIPS)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, final

import torch

from shiftproof.adapt.base.events import Event
from shiftproof.adapt.base.features import find_finite_rows, run_with_features
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import NetworkAdapter
from shiftproof.adapt.base.options import check_count, check_preset
from shiftproof.adapt.base.tensors import check_names, copy_tensor, copy_to_cpu
from shiftproof.adapt.learning.few_classes import holds_few_classes
from shiftproof.adapt.learning.losses import entropy, is_confident
from shiftproof.adapt.learning.parameters import last_layer_name
from shiftproof.errors import InputError, ModelError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings
from shiftproof.unit_rows import normalize_tensor

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State


class Supports(NamedTuple):
    """Support examples: features ``(M, D)``, classes ``(M,)``, entropies ``(M,)``."""

    features: torch.Tensor
    labels: torch.Tensor
    entropies: torch.Tensor

    def join(self, more: Supports) -> Supports:
        """Return these supports, followed by others."""
        return Supports(*(torch.cat(pair) for pair in zip(self, more, strict=True)))

    def keep_most_confident(self, per_class: int, classes: int) -> Supports:
        """Return the ``per_class`` supports of the lowest entropy of each class, ordered by
        class.
        """
        kept = []
        for label in range(classes):
            places = torch.nonzero(self.labels == label)[:, 0]
            order = self.entropies[places].sort(stable=True).indices
            kept.append(places[order[:per_class]])
        chosen = torch.cat(kept)
        return Supports(*(part[chosen] for part in self))


def average_supports(supports: Supports, classes: int) -> torch.Tensor:
    """Return ``(K, D)`` prototypes of unit length: the normalized mean of the unit supports.

    Iwasawa & Matsuo 2021, eq. 3; a class without supports has the prototype 0.
    """
    unit = normalize_tensor(supports.features)
    sums = unit.new_zeros(classes, unit.shape[1]).index_add_(0, supports.labels, unit)
    return normalize_tensor(sums)


PROTOTYPE_CONFIDENCE = 0.5
"""Confidence of the network below which prototypes predict. Chosen on Fashion-MNIST, clean and
under two holdout corruptions, mixed, sorted and of one class.
"""


@final
class T3A(NetworkAdapter):
    """A classifier whose last layer is replaced by class prototypes, updated by each batch.

    The first support of a class is its row of the weights. Each image adds its features, the input
    of the last layer, to the supports of the predicted class; the ``per_class`` supports of the
    lowest entropy are kept. The logits are the products of the features with the normalized means
    of the supports (Iwasawa & Matsuo 2021, algorithm 1), without a bias. One forward pass, no
    gradients, and the norm layers are unchanged.

    Differs from the paper: prototypes predict only images whose confidence is below
    :data:`PROTOTYPE_CONFIDENCE`, in batches that do not seem to have few classes
    (:func:`~shiftproof.adapt.learning.few_classes.holds_few_classes`); for others the network's own logits
    are returned. On a stream of few classes the prototypes of the others consist of wrong
    predictions: used for all images, they raised the error on clean images of one class from 18.9
    to 29.7 %. ``preset="paper"`` uses them for all; so does the model of ``merge()``, as a plain
    layer cannot choose.

    Until the first image it is the source. Logits of prototypes are on another scale than the
    network's: only their order is meaningful, not their confidence.

    Args:
        model: a ``Classifier`` on torch, or a plain ``torch.nn.Module`` that gives logits, whose
            last layer is linear.
        per_class: maximum number of supports per class, 1 or more; the paper chooses among 1, 5,
            20, 50, 100 and all.
        preset: ``"paper"`` uses the prototypes for every image.

    Raises:
        InputError: ``per_class`` is below 1.
        UnknownNameError: no such ``preset``.
        ModelError: the last layer is not linear, or its outputs are not the logits; or the
            classifier's classes are sums of several outputs.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> T3A(net)(torch.rand(8, 3, 2, 2)).shape
    torch.Size([8, 3])
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        per_class: int = 20,
        preset: Literal["paper"] | None = None,
    ) -> None:
        self.per_class = check_count("per_class", per_class)
        self.preset = check_preset(preset)
        self._network = AdaptedNetwork(model)
        self._head_name = last_layer_name(self._network.module)
        head = self._network.module.get_submodule(self._head_name)
        if not isinstance(head, torch.nn.Linear):
            raise ModelError(
                f"The last layer {self._head_name!r} is {type(head).__name__}: prototypes take the "
                "place of a torch.nn.Linear."
            )
        self._head = head
        self._rows = self._find_rows()
        self._first = self._read_weights()
        self._supports = self._first
        self._images = 0

    def __repr__(self) -> str:
        return f"T3A(per_class={self.per_class})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "t3a",
            "per_class": self.per_class,
            "preset": self.preset,
            **self._network.settings(),
        }

    @property
    def events(self) -> Sequence[Event]:
        """None."""
        return ()

    def _find_rows(self) -> torch.Tensor:
        """Return ``(K,)``: the output of the last layer for each class."""
        outputs = torch.eye(self._head.out_features, device=self._head.weight.device)
        try:
            identity = self._network.select_classes(outputs)
        except (IndexError, RuntimeError) as error:
            raise ModelError(
                f"The last layer {self._head_name!r} gives {self._head.out_features} values, which "
                "are not the outputs that the classifier chooses among."
            ) from error
        if not bool(((identity == 0) | (identity == 1)).all() and (identity.sum(0) == 1).all()):
            raise ModelError(
                "Classes that are sums or maxima of several outputs have no single row of weights to "
                "begin with; T3A needs one output a class."
            )
        return identity.argmax(0)

    def _read_weights(self) -> Supports:
        """Return the rows of the last layer as supports, each of the class predicted for it."""
        with torch.no_grad():
            weights = self._head.weight[self._rows].detach().float()
            bias = self._head.bias
            logits = weights @ weights.T
            logits = logits if bias is None else logits + bias[self._rows].float()
        return Supports(weights.clone(), logits.argmax(1), entropy(logits))

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        logits, features = run_with_features(self._network, self._head, inputs)
        if logits.shape[1] != len(self._rows):
            raise ModelError(
                f"The last layer {self._head_name!r} gives {len(self._rows)} values, and the model "
                f"{logits.shape[1]}: they are not its logits."
            )
        logits, features = logits.float(), features.float()
        sound = find_finite_rows(logits, features)
        supports, images = self._supports, self._images
        if not self._network.is_frozen:
            new = Supports(features[sound], logits[sound].argmax(1), entropy(logits[sound]))
            supports = supports.join(new).keep_most_confident(self.per_class, len(self._rows))
            images += len(new.features)
            self._supports, self._images = supports, images
        if images == 0:
            return logits
        answers = logits.clone()
        rows = sound if self.preset == "paper" else self._find_unconfident(logits, sound)
        answers[rows] = features[rows] @ average_supports(supports, len(self._rows)).T
        return answers

    def _find_unconfident(self, logits: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
        """Return ``(N,)`` bool: the images that prototypes predict."""
        if holds_few_classes(logits[sound]):
            return torch.zeros_like(sound)
        return sound & ~is_confident(logits, PROTOTYPE_CONFIDENCE)

    def end_epoch(self) -> None:
        """Do nothing at the end of a pass."""

    def reset(self) -> None:
        """Return to the source model."""
        with self._network.lock:
            self._supports, self._images = self._first, 0

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield nothing: there are no parameters learned by gradients."""
        return iter(())

    def merge(self) -> torch.nn.Module:
        """Return a copy of the model with the prototypes in its last layer; at first the source.

        It uses them for every image, as with ``preset="paper"``.
        """
        with self._network.lock, torch.no_grad():
            module = self._network.copy()
            if self._images:
                head = module.get_submodule(self._head_name)
                assert isinstance(head, torch.nn.Linear)
                head.weight[self._rows] = average_supports(self._supports, len(self._rows)).to(
                    head.weight
                )
                if head.bias is not None:
                    head.bias[self._rows] = 0
        return module

    def state(self) -> State:
        """Return the supports, and the number of images."""
        with self._network.lock:
            parts = {f"supports/{n}": copy_to_cpu(p) for n, p in self._supports._asdict().items()}
            return {**parts, "images": torch.tensor(self._images)}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of another adapter with the same settings."""
        names = {f"supports/{name}" for name in Supports._fields}
        check_names(state, (), {*names, "images"})
        images = int(copy_tensor(state, "images", torch.tensor(0)))
        given = state.get("supports/labels")
        count = 0 if given is None or given.ndim != 1 else len(given)
        like = Supports(
            self._first.features.new_zeros(count, self._first.features.shape[1]),
            self._first.labels.new_zeros(count),
            self._first.entropies.new_zeros(count),
        )
        read = {n: copy_tensor(state, f"supports/{n}", part) for n, part in like._asdict().items()}
        supports = Supports(**read)
        labels = supports.labels
        if images < 0 or not bool(((labels >= 0) & (labels < len(self._rows))).all()):
            raise InputError("The state is damaged: its supports have classes that do not exist.")
        with self._network.lock:
            self._supports, self._images = supports, images
