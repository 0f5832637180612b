"""Selection and weights of the images to learn from."""

from __future__ import annotations

import math

import torch

MOMENTUM = 0.9
"""Momentum of the mean prediction (Niu et al. 2022, eq. 4, and Marsden et al. 2024)."""


def entropy_margin(share: float, classes: int) -> float:
    """Return ``share`` of the maximum entropy, ``log K``, in nats."""
    return share * math.log(max(classes, 2))


def weigh_entropies(entropies: torch.Tensor, margin: float) -> torch.Tensor:
    """Return ``exp(E0 - H)``, more than 1 for an entropy below the margin (Niu et al. 2022, eq. 3).

    Args:
        entropies: ``(N,)`` in nats; no gradient goes there.
        margin: E0.
    """
    return torch.exp(margin - entropies.detach())


def similarity_to(mean: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Return ``(N,)``: the cosine similarity of distributions ``(N, K)`` to a mean one ``(K,)``."""
    return torch.nn.functional.cosine_similarity(mean[None], probabilities.detach(), dim=1)


def update_mean(mean: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
    """Return an exponential moving average, updated by the mean of some rows.

    Args:
        mean: ``(K,)``, None before the first update.
        rows: ``(M, K)``, M above 0.
    """
    new = rows.detach().float().mean(0)
    return new if mean is None else MOMENTUM * mean + (1 - MOMENTUM) * new
