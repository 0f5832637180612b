"""Negatives from earlier batches (He et al. 2020, arXiv 1911.05722)."""

from __future__ import annotations

import torch

from shiftproof.errors import InputError


class Queue(torch.nn.Module):
    """The last ``size`` vectors that were pushed, as negatives for ``info_nce`` and ``AnInfoNCE``.

    >>> queue = Queue(3, dim=1)
    >>> queue.push(torch.tensor([[1.0], [2.0]]))
    >>> queue.push(torch.tensor([[3.0], [4.0]]))
    >>> queue.vectors.ravel().tolist()
    [2.0, 3.0, 4.0]

    Args:
        size: maximum number of vectors; it holds fewer until as many were pushed.
        dim: dimension of the vectors.
    """

    stored: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int, *, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise InputError(f"Expected a size and a dim of at least 1, got {size} and {dim}.")
        self.size, self.dim = size, dim
        self.register_buffer("stored", torch.zeros(size, dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def vectors(self) -> torch.Tensor:
        """Return ``(N, dim)``, oldest first, without a gradient; ``push`` does not change it."""
        return self.stored[self.size - int(self.count) :]

    def push(self, vectors: torch.Tensor) -> None:
        """Add ``(N, dim)`` vectors, detached; the oldest are dropped.

        Raises:
            InputError: another shape.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise InputError(
                f"Expected vectors of shape (N, {self.dim}), got {tuple(vectors.shape)}."
            )
        new = vectors.detach().to(self.stored)[-self.size :]
        # A new tensor each time: the autograd graph of a loss may still hold the old one.
        self.stored = torch.cat([self.stored[len(new) :], new])
        self.count = (self.count + len(new)).clamp(max=self.size)
