"""Tests whether a batch seems to contain few classes."""

from __future__ import annotations

import math

import torch

from shiftproof.adapt.learning.losses import entropy

FEW_CLASSES = 0.7
"""Entropy of a batch's mean prediction, relative to the largest possible, below which it counts as
having few classes. Chosen on Fashion-MNIST, clean and under two holdout corruptions, at batches of
4 to 64.
"""


EXPLAINED = 0.28
"""Distance from the source, per agreement of predictions, that classes explain.

Measured with :func:`explain_by_classes` in batches of 64 and 16 on three networks (ResNets for 10
and 277 classes, EfficientNet-Lite0): it is below 0.21 for clean streams of 1 to 5 classes, on which
batch statistics do harm, and above 0.37 for mixed classes under corruptions, on which they help,
except for one blur of glyphs. This is the geometric mean of both.
"""

KEPT_AGREEMENT = 0.5
"""Minimum share of the agreement that remains without the shift if classes are the reason.

This and :data:`EXPLAINED_WITHOUT` were chosen on the hold-out corruptions, in batches of 64, 32 and
4 of two small ResNets, a ResNet for 277 glyphs and a CLIP, with classes mixed, sorted, in bursts,
two and one. At 0.4 the error on sorted streams was up to 0.8 points higher, at 0.6 that on streams
of one class by 2.3.
"""

EXPLAINED_WITHOUT = 0.5
"""Distance, per remaining agreement, that classes explain.

The choices are the same up to 0.6; at 0.4 the error on sorted streams was up to 1.4 points higher.
"""


def measure_agreement(probabilities: torch.Tensor) -> float:
    """Return the excess agreement of two predictions over that of uniform classes.

    The mean of ``sum_k p_ik p_jk`` over pairs of different images, minus ``1 / K``: 0 for mixed
    classes, and ``1 / C - 1 / K`` for confident predictions of C classes. It can be slightly below
    0.

    Args:
        probabilities: ``(M, K)`` floating; 0 if M is below 2.
    """
    count, classes = probabilities.shape
    if count < 2:
        return 0.0
    total = probabilities.sum(0).square().sum() - probabilities.square().sum()
    return float(total) / (count * (count - 1)) - 1 / classes


def explain_by_classes(
    probabilities: torch.Tensor, distance: float, confidence_ratio: float = 1.0
) -> bool:
    """Whether the classes on a batch explain its distance from the source.

    The means of a batch of C classes lie about ``(1 / C - 1 / K) b`` from those of all K, where b
    is the variance between classes as a share of all variance. A larger distance
    (:data:`EXPLAINED`) is a shift, under which the source's predictions may collapse, too.

    Statistics of few classes lower a network's confidence; statistics that remove a shift do not,
    or less. So the distance is multiplied by the square of ``confidence_ratio``; the square was
    chosen with :data:`EXPLAINED`.

    Args:
        probabilities: ``(M, K)`` floating, the source's predictions.
        distance: of the first layers' statistics, in units of the source's variance.
        confidence_ratio: mean confidence with the batch's statistics, relative to the source's;
            clipped at 1.
    """
    return distance * min(confidence_ratio, 1.0) ** 2 < EXPLAINED * measure_agreement(probabilities)


def keep_classes(
    source: torch.Tensor, unshifted: torch.Tensor, distance: float, confidence_ratio: float = 1.0
) -> bool:
    """Whether a source's predictions collapse because of a batch's classes, not because of a shift.

    Without the shift in the first layers, images of few classes still get the same predictions, and
    images of many classes get others. The mean predictions p before and q after agree by
    ``sum_k p_k q_k - 1 / K``. Classes are the reason if this explains the distance as in
    :func:`explain_by_classes`, with :data:`EXPLAINED_WITHOUT`; or if both this and the agreement of
    the predictions after (:func:`measure_agreement`) are at least :data:`KEPT_AGREEMENT` of that
    before.

    Args:
        source: ``(M, K)`` floating, the source's predictions.
        unshifted: ``(M, K)``, its predictions with the first layers normalized by the batch.
        distance: as in :func:`explain_by_classes`.
        confidence_ratio: likewise.
    """
    kept = float(source.mean(0) @ unshifted.mean(0)) - 1 / source.shape[1]
    if distance * min(confidence_ratio, 1.0) ** 2 < EXPLAINED_WITHOUT * kept:
        return True
    return min(kept, measure_agreement(unshifted)) >= KEPT_AGREEMENT * measure_agreement(source)


def holds_few_classes(logits: torch.Tensor) -> bool:
    """Whether the mean prediction of a batch is concentrated on few classes: :data:`FEW_CLASSES`.

    This cannot distinguish few classes from predictions that collapse under a strong shift.

    Args:
        logits: ``(N, K)`` floating; the largest entropy is the logarithm of the smaller of N and K.
    """
    most = min(logits.shape) if logits.numel() else 0
    if most < 2:
        return False
    mean = torch.softmax(logits.float(), -1).mean(0)
    return float(entropy(mean.log()[None])[0]) < FEW_CLASSES * math.log(most)
