"""The losses of self-learning (Rusak et al. 2021, arXiv 2104.12928): per image, for any loop."""

from __future__ import annotations

import math

import torch

from shiftproof.errors import InputError


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy of the predicted distribution, ``-sum_j p_j log p_j``, in nats.

    The gradient goes through both factors (Rusak et al. 2021, section 3; TENT, Wang et al. 2021).
    An excluded class (a logit of minus infinity) contributes 0.

    Args:
        logits: ``(N, K)`` floating; computed in float32 where it is of half precision.

    Returns:
        ``(N,)``, from 0 to log K.

    >>> import torch
    >>> [round(value, 4) for value in entropy(torch.tensor([[0.0, 0.0], [100.0, 0.0]])).tolist()]
    [0.6931, 0.0]
    """
    log_p = _log_probabilities(logits)
    return -_expectation(log_p.exp(), log_p)


def generalized_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, q: float = 0.8
) -> torch.Tensor:
    """Return ``(1 - p_i^q) / q`` for the target class i: robust to wrong labels.

    ``q = 1`` is the mean absolute error, ``q -> 0`` the cross-entropy (Zhang & Sabuncu 2018, eq. 6;
    the robust pseudo-labels of Rusak et al. 2021, with q = 0.8). The gradient is finite, and zero
    in the limit, where ``p_i`` underflows.

    Args:
        logits: ``(N, K)`` floating; computed in float32 where it is of half precision.
        target: ``(N,)`` int64, the classes.
        q: from 0 to 1.

    Returns:
        ``(N,)``, from 0 to 1 / q.

    Raises:
        InputError: ``q`` is out of its range.

    >>> import torch
    >>> logits = torch.tensor([[0.25, 0.75]]).log()
    >>> round(float(generalized_cross_entropy(logits, torch.tensor([0]), q=1)), 4)
    0.75
    """
    if isinstance(q, bool) or not 0 <= q <= 1:
        raise InputError(f"q: expected 0 to 1, got {q!r}.")
    log_p = _log_probabilities(logits).gather(-1, target[:, None])[:, 0]
    if q == 0:
        return -log_p
    # Through the logarithm: the gradient of p^q alone is infinite at p = 0.
    return -torch.expm1(q * log_p) / q


def hard_pseudo_label_loss(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return ``-log p_i`` for the class i that the teacher predicts.

    Args:
        logits: ``(N, K)`` floating, the student's.
        teacher: ``(N, K)`` floating, the teacher's; no gradient goes there.

    Returns:
        ``(N,)``, 0 or more.
    """
    return generalized_cross_entropy(logits, teacher.detach().argmax(-1), q=0)


def soft_pseudo_label_loss(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy ``-sum_j p_teacher,j log p_j`` to the teacher's distribution.

    Args and result as for :func:`hard_pseudo_label_loss`. A class that the teacher excludes (a
    logit of minus infinity) contributes 0, whatever its probability.
    """
    target = _log_probabilities(teacher.detach()).exp()
    return -_expectation(target, _log_probabilities(logits))


def robust_pseudo_label_loss(
    logits: torch.Tensor, teacher: torch.Tensor, q: float = 0.8
) -> torch.Tensor:
    """Return the generalized cross-entropy to the class that the teacher predicts.

    Args and result as for :func:`hard_pseudo_label_loss` and :func:`generalized_cross_entropy`.
    """
    return generalized_cross_entropy(logits, teacher.detach().argmax(-1), q)


def is_confident(teacher: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return ``(N,)`` bool: where the teacher's largest probability is at least ``threshold``."""
    return _log_probabilities(teacher.detach()).amax(-1).exp() >= threshold


def marginal_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy of the mean predicted distribution, in nats (Zhang et al. 2022).

    Args:
        logits: ``(B, K)`` floating: of B augmentations of one image.

    Returns:
        A scalar, from 0 to log K.

    >>> import torch
    >>> round(float(marginal_entropy(torch.tensor([[50.0, 0.0], [0.0, 50.0]]))), 4)
    0.6931
    """
    log_p = _log_probabilities(logits)
    # The logarithm of the mean, without underflow of single probabilities.
    mean = log_p.logsumexp(0) - math.log(len(logits))
    p = mean.exp()
    # 0 times minus infinity is 0 for an excluded class.
    return -(p * mean.masked_fill(p == 0, 0)).sum()


def _expectation(p: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    """Return ``sum_j p_j log_p_j``, in which 0 times minus infinity is 0."""
    return (p * log_p.masked_fill(p == 0, 0)).sum(-1)


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    # Autocast would do this in half precision on some devices.
    with torch.autocast(logits.device.type, enabled=False):
        return torch.log_softmax(logits, -1)
