"""Whether a batch looks as if it held images of few classes."""

from __future__ import annotations

import math

import torch

from shiftproof.adapt.losses import entropy

FEW_CLASSES = 0.7
"""Entropy of a batch's mean answer, as a share of the largest possible, below which it holds few
classes. Chosen on Fashion-MNIST, clean and under two holdout corruptions, at batches of 4 to 64."""


EXPLAINED = 0.28
"""Distance from the source, per agreement of answers, that classes explain.

Measured with :func:`explain_by_classes` in batches of 64 and 16 on three networks (ResNets for 10 and
277 classes, EfficientNet-Lite0): clean streams of 1 to 5 classes which normalizing by the batch harms lie
below 0.21, and mixed classes under corruptions which it repairs above 0.37, but for one blur of glyphs.
This is the geometric mean of both.
"""

KEPT = 0.5
"""Share of the agreement that is kept without the shift where classes are the reason.

It and :data:`EXPLAINED_WITHOUT` were chosen on the hold-out corruptions, in batches of 64, 32 and 4 of two
small ResNets, a ResNet for 277 glyphs and a CLIP, with classes mixed, sorted, in bursts, two and one. At
0.4 sorted streams were up to 0.8 points worse, and at 0.6 those of one class by 2.3.
"""

EXPLAINED_WITHOUT = 0.5
"""Distance per agreement that is kept, up to which classes explain it.

The choices are the same up to 0.6; at 0.4 sorted streams were up to 1.4 points worse.
"""


def measure_agreement(probabilities: torch.Tensor) -> float:
    """Return by how much more often two answers agree than if all classes were as frequent.

    The mean of ``sum_k p_ik p_jk`` over pairs of different images, less ``1 / K``: 0 for mixed
    classes, and ``1 / C - 1 / K`` for sure answers of C classes. By chance it can be below 0.

    Args:
        probabilities: ``(M, K)`` floating; 0 if M is below 2.
    """
    count, classes = probabilities.shape
    if count < 2:
        return 0.0
    total = probabilities.sum(0).square().sum() - probabilities.square().sum()
    return float(total) / (count * (count - 1)) - 1 / classes


def explain_by_classes(probabilities: torch.Tensor, distance: float, trust: float = 1.0) -> bool:
    """Whether the classes on a batch explain its distance from the source.

    The means of a batch of C classes lie about ``(1 / C - 1 / K) b`` from those of all K, where b is the
    variance between classes as a share of all variance. A larger distance (:data:`EXPLAINED`) is
    a shift, under which the source may well crowd its answers.

    Normalizing by statistics of few classes makes a network unsure, normalizing a shift away does not,
    or less. So the distance counts in proportion to the square of ``trust``; the square was chosen
    with :data:`EXPLAINED`.

    Args:
        probabilities: ``(M, K)`` floating, the source's answers.
        distance: of the first layers' statistics, in units of the source's variance.
        trust: mean confidence with the batch's statistics, as a share of the source's; at most 1
            counts.
    """
    return distance * min(trust, 1.0) ** 2 < EXPLAINED * measure_agreement(probabilities)


def keep_classes(
    source: torch.Tensor, without: torch.Tensor, distance: float, trust: float = 1.0
) -> bool:
    """Whether a source's answers crowd because of the classes on a batch, and not of a shift.

    Once the shift of the first layers is removed, few classes are still answered with the same few, and a
    source that crowded gives its images to others. So the mean answers p before and q after agree by
    ``sum_k p_k q_k - 1 / K``. Classes are the reason if this is enough to explain the distance as in
    :func:`explain_by_classes`, with :data:`EXPLAINED_WITHOUT`. Or if this, and the agreement of the answers
    after by themselves (:func:`measure_agreement`), are :data:`KEPT` of that before.

    Args:
        source: ``(M, K)`` floating, the source's answers.
        without: ``(M, K)``, its answers where the first layers normalize by the batch.
        distance: as in :func:`explain_by_classes`.
        trust: likewise.
    """
    kept = float(source.mean(0) @ without.mean(0)) - 1 / source.shape[1]
    if distance * min(trust, 1.0) ** 2 < EXPLAINED_WITHOUT * kept:
        return True
    return min(kept, measure_agreement(without)) >= KEPT * measure_agreement(source)


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
