"""InfoNCE and AnInfoNCE by tiles, beside the plain form and lightly, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gpu_timing import Setting

from shiftproof.contrastive import AnInfoNCE, info_nce

TEMPERATURE = 0.1


def measure(setting: Setting) -> dict[str, Any]:
    """Return milliseconds and peak memory of each loss, its gradient included."""
    batch, dim = (64, 16) if setting.quick else (65_536, 512)
    torch.manual_seed(0)
    views = [torch.randn(batch, dim, device=setting.device, requires_grad=True) for _ in range(2)]
    learnt = AnInfoNCE(dim).to(setting.device)
    losses: dict[str, Callable[..., torch.Tensor]] = {
        "shiftproof InfoNCE": lambda u, v: info_nce(u, v, temperature=TEMPERATURE),
        "shiftproof AnInfoNCE": learnt,
        "plain torch InfoNCE": plain_info_nce,
        "lightly NTXentLoss": lightly_loss,
    }
    found: dict[str, Any] = {"batch": batch, "dim": dim}
    for name, loss in losses.items():
        found[name] = setting.attempt(lambda loss=loss: measure_loss(setting, loss, views))
    return found


def measure_loss(
    setting: Setting, loss: Callable[..., torch.Tensor], views: list[torch.Tensor]
) -> dict[str, Any]:
    """Return time and memory of a loss and its gradient."""

    def step() -> None:
        for view in views:
            view.grad = None
        loss(*views).backward()

    return {
        "peak_megabytes": setting.peak_megabytes(step),
        "milliseconds": setting.milliseconds(step, budget=3.0),
        "value": float(loss(*views).detach()),
    }


def plain_info_nce(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """SimCLR's loss as its matrix is written down: memory grows with the batch squared."""
    both = torch.nn.functional.normalize(torch.cat([u, v]), dim=1)
    logits = both @ both.T / TEMPERATURE
    logits.fill_diagonal_(-torch.inf)
    other = torch.arange(len(both), device=both.device).roll(len(u))
    return torch.nn.functional.cross_entropy(logits, other)


def lightly_loss(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The same loss of lightly."""
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=TEMPERATURE)(u, v)
