"""Whether a batch looks as if it held images of few classes."""

from __future__ import annotations

import math

import torch

from shiftproof.adapt.losses import entropy

FEW_CLASSES = 0.7
"""Entropy of a batch's mean answer, as a share of the largest possible, below which it holds few
classes. Chosen on Fashion-MNIST, clean and under two holdout corruptions, at batches of 4 to 64."""


def holds_few_classes(logits: torch.Tensor) -> bool:
    """Whether the mean answer of a batch crowds into few classes: :data:`FEW_CLASSES`.

    So do the answers of a source that crowd under a strong shift; both look alike here.

    Args:
        logits: ``(N, K)`` floating; the largest entropy is the logarithm of the smaller of N and K.
    """
    most = min(logits.shape) if logits.numel() else 0
    if most < 2:
        return False
    mean = torch.softmax(logits.float(), -1).mean(0)
    return float(entropy(mean.log()[None])[0]) < FEW_CLASSES * math.log(most)
