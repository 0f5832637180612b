"""All-gather of embeddings with gradients equal to those of one process with all images."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from shiftproof.errors import InputError


def get_rank_and_size() -> tuple[int, int]:
    """Return the rank of this process and the world size.

    Raises:
        InputError: the process group is not initialized.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise InputError(
            "gather=True: torch.distributed has no process group; call init_process_group "
            "first, or leave gather out."
        )
    return dist.get_rank(), dist.get_world_size()


def all_reduce_mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``values`` over all processes, without a gradient; the same in each."""
    _, count = get_rank_and_size()
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / count


def all_reduce_max(value: torch.Tensor) -> torch.Tensor:
    """Return the maximum of ``value`` over all processes, without a gradient."""
    get_rank_and_size()
    largest = value.detach().clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def gather_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """Return the vectors of all processes, concatenated in the order of the ranks.

    The gradient of a vector is summed over all processes. So if each process averages the loss over
    its own anchors, and gradients are averaged over processes as in ``DistributedDataParallel``,
    the result is the gradient of the mean loss over all anchors.

    Vectors are ``(N, ...)``, of the same shape in all processes; ``(processes x N, ...)`` is
    returned.

    Raises:
        InputError: the shapes differ between processes, or the process group is not initialized.
    """
    _, count = get_rank_and_size()
    sizes = torch.zeros(count, dtype=torch.int64, device=vectors.device)
    sizes[dist.get_rank()] = len(vectors)
    dist.all_reduce(sizes)
    if len(set(sizes.tolist())) > 1:
        raise InputError(
            f"gather=True: expected the same number of pairs in every process, got {sizes.tolist()}; drop "
            "a smaller last batch."
        )
    together: torch.Tensor = _Gather.apply(vectors)
    return together


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(vectors) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, vectors.contiguous())
        ctx.count = len(vectors)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.count
        return total[start : start + ctx.count]
