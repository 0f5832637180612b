"""LAME: corrects predictions without changing the model (Boudiaf et al. 2022, arXiv 2201.05718)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, final

import torch

from shiftproof.adapt.base.features import find_finite_rows, run_with_features
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.base.networked import EpisodicAdapter
from shiftproof.adapt.base.options import check_count, check_preset
from shiftproof.adapt.learning.few_classes import holds_few_classes
from shiftproof.adapt.learning.parameters import last_layer_name
from shiftproof.errors import UnknownNameError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Settings
from shiftproof.unit_rows import normalize_tensor

Links = Literal["published", "symmetric"]

LINKS: tuple[Links, ...] = ("published", "symmetric")
"""The ways to link an image with its neighbors."""

ITERATIONS = 100
"""Maximum; the assignments converge in about ten."""

TOLERANCE = 1e-5
"""Largest change of an assignment at convergence."""


def laplacian_assignments(
    logits: torch.Tensor,
    features: torch.Tensor,
    neighbors: int = 5,
    links: Links = "published",
) -> torch.Tensor:
    """Return class assignments that are close to the model's and to those of each image's
    neighbors.

    Fixed point of ``z_i ~ p_i exp(sum_j w_ij z_j)``, the bound that Boudiaf et al. 2022 (eq. 7)
    minimize step by step; ``w`` links each image to its nearest neighbors by the cosine of
    their features.

    ``links="published"``: ``w_ij`` is 1 if j is a neighbor of i, in this direction only, as in the
        code behind the paper's numbers. ``"symmetric"``: in both directions with half the weight
        each, as the bound assumes. They differ if j is a neighbor of i but i is not one of j.

    Differs from the published code, which adds 1e-10 to the probabilities, stops by the change of
    the energy, not of the assignments, and excludes the image itself by its distance of 0, not by
    its index.

    Args:
        logits: ``(N, K)`` floating.
        features: ``(N, D)`` floating.
        neighbors: number of nearest neighbors; fewer in smaller batches.
        links: ``"published"`` or ``"symmetric"``.

    Returns:
        ``(N, K)`` float32: log-probabilities.
    """
    log_p = torch.log_softmax(logits.float(), -1)
    k = min(neighbors, len(logits) - 1)
    if k < 1:
        return log_p
    unit = normalize_tensor(features.float().flatten(1))
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-2)  # below any cosine, to exclude the image itself
    weights = torch.zeros_like(similarity)
    weights.scatter_(1, similarity.topk(k, dim=1).indices, 1.0)
    if links == "symmetric":
        weights = (weights + weights.T) / 2
    z = log_p.exp()
    for _ in range(ITERATIONS):
        log_z = torch.log_softmax(log_p + weights @ z, -1)
        moved = (log_z.exp() - z).abs().max()
        z = log_z.exp()
        if float(moved) < TOLERANCE:
            break
    return torch.log_softmax(log_p + weights @ z, -1)


@final
class LAME(EpisodicAdapter):
    """Assigns classes to a batch jointly: images with similar features get similar predictions.

    Changes no parameter and keeps no state (Boudiaf et al. 2022, arXiv 2201.05718): it cannot
    collapse, and it helps most if neighbors in the stream have the same class. The features are the
    inputs of the last linear layer. The logits are log-probabilities.

    Differs from the paper: a batch is assigned jointly only if it has few classes
    (:func:`~shiftproof.adapt.learning.few_classes.holds_few_classes`); else the source's predictions are
    returned. With mixed classes, neighbors often have another class: joint assignment raised the
    error on clean images of Fashion-MNIST from 6.8 to 10.9 % in batches of 64. ``preset="paper"``
    assigns every batch.

    Args:
        model: a ``Classifier`` on torch, or a plain ``torch.nn.Module`` that gives logits.
        neighbors: 1 or more; the paper's best numbers of neighbors are 1 to 5.
        links: ``"published"`` or ``"symmetric"``, as in ``laplacian_assignments``.
        preset: ``"paper"`` assigns every batch jointly.

    Raises:
        InputError: ``neighbors`` is below 1.
        UnknownNameError: no such ``links`` or ``preset``.
        ModelError: the model has no linear layer, or its graph is fixed.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> LAME(net)(torch.rand(8, 3, 2, 2)).shape
    torch.Size([8, 3])
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        neighbors: int = 5,
        links: Links = "published",
        preset: Literal["paper"] | None = None,
    ) -> None:
        if links not in LINKS:
            raise UnknownNameError.of("links", str(links), LINKS)
        self.neighbors = check_count("neighbors", neighbors)
        self.links: Links = links
        self.preset = check_preset(preset)
        self._network = AdaptedNetwork(model)
        self._head = self._network.module.get_submodule(last_layer_name(self._network.module))
        self.reset()

    def __repr__(self) -> str:
        return f"LAME(neighbors={self.neighbors}, links={self.links!r})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this adapter, for JSON."""
        return {
            "adapter": "lame",
            "neighbors": self.neighbors,
            "links": self.links,
            "preset": self.preset,
            **self._network.settings(),
        }

    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        logits, features = run_with_features(self._network, self._head, inputs)
        sound = find_finite_rows(logits, features)
        assigned = torch.log_softmax(logits.float(), -1)
        if self.preset == "paper" or holds_few_classes(logits[sound]):
            assigned[sound] = laplacian_assignments(
                logits[sound], features[sound], self.neighbors, self.links
            )
        return assigned

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield nothing."""
        return iter(())
