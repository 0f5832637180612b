"""Scale rows of vectors to length 1 at any magnitude that float32 can hold.

Squares in float32 overflow above 1e19 and lose digits below 1e-19. Rows of such lengths are first divided
by their largest absolute value. All other rows get exactly the bits of a plain division.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.types import F32, F64

if TYPE_CHECKING:
    import torch

MIN_LENGTH = 1e-15
"""Below this length, the squares of a row's values are too small for float32."""


def measure_rows(values: F32, *, scale: bool) -> F64:
    """Return the lengths of rows ``(N, D)`` as ``(N,)`` float64; NaN or infinity for rows with either.

    With ``scale``, rows whose squares leave the range of float32 are divided in place by their
    largest absolute value, and the lengths are those of the divided rows.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        norms: F64 = np.sqrt(np.einsum("nd,nd->n", values, values)).astype(np.float64)
    extreme = np.flatnonzero((norms < MIN_LENGTH) | np.isinf(norms))
    if not extreme.size:
        return norms
    peaks = find_row_maxima(values[extreme])
    with np.errstate(invalid="ignore", under="ignore"):
        divided = values[extreme] / peaks[:, None]
        lengths = np.sqrt(np.einsum("nd,nd->n", divided, divided)).astype(np.float64)
    norms[extreme] = np.where(np.isinf(peaks), np.inf, lengths * (1 if scale else peaks))
    if scale:
        values[extreme] = divided
    return norms


def find_row_maxima(values: NDArray[Any]) -> NDArray[Any]:
    """Return each row's largest absolute value ``(N,)``; 1 for a row of zeros."""
    peaks = np.abs(values).max(axis=1, initial=0)
    maxima: NDArray[Any] = np.where(peaks == 0, np.ones_like(peaks), peaks)
    return maxima


def normalize_rows(values: F32) -> F32:
    """Return rows ``(N, D)`` of length 1; rows of zeros, NaN or infinity are unchanged.

    Lengths are computed in float64, in which no square of a float32 overflows.
    """
    norms = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))
    usable = np.isfinite(norms) & (norms > 0)
    scaled: F32 = values.copy()
    scaled[usable] = (values[usable] / norms[usable, None]).astype(np.float32)
    return scaled


def normalize_tensor(values: torch.Tensor) -> torch.Tensor:
    """Return a tensor ``(..., D)`` with rows of length 1; rows of zeros are unchanged.

    Gradients are those of a plain division by the length.
    """
    rows, lengths = measure_tensor_rows(values)
    unit: torch.Tensor = rows / lengths.where(lengths > 0, lengths.new_ones(()))
    return unit


def measure_tensor_rows(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows ``(..., D)`` and their lengths ``(..., 1)``, whose quotient has length 1.

    Rows whose squares leave the range of their dtype are first divided by their largest absolute
    value; the lengths are those of the divided rows.
    """
    import torch

    with torch.no_grad():
        lengths = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        peaks = values.abs().amax(-1, keepdim=True)
        extreme = (lengths < MIN_LENGTH) | torch.isinf(lengths)
        scales = torch.where(extreme & (peaks > 0) & torch.isfinite(peaks), peaks, 1)
    rows = values / scales  # dividing by 1 changes no bit
    return rows, torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
