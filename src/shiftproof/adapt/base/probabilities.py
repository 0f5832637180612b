"""Probabilities from logits, as arrays or tensors."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Probabilities: TypeAlias = NDArray[np.float32]
"""``(M, K)`` float32: one row per image, summing to 1; NaN where the logits are not finite."""


def to_probabilities(logits: Any) -> Probabilities:
    """Return the softmax of ``(N, K)`` logits, an array or a tensor."""
    values = logits if isinstance(logits, np.ndarray) else logits.detach().float().cpu().numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        exponent = np.exp(values - values.max(1, keepdims=True))
        return np.asarray(exponent / exponent.sum(1, keepdims=True), dtype=np.float32)


def compute_entropy(distribution: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entropy in nats along the last axis of ``(..., K)`` probabilities; 0 log 0 is
    0.
    """
    shares = np.asarray(distribution, dtype=np.float64)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(-1))
