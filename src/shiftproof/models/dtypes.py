"""Precision of a network's computation: that of its weights, or 16 bits by autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias, get_args

Dtype: TypeAlias = Literal["fp32", "bf16", "fp16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


def autocast(device: str, dtype: Dtype) -> AbstractContextManager[object]:
    """Return the context in which a network on ``device`` runs: torch's autocast, or none for fp32."""
    if dtype == "fp32":
        return nullcontext()
    import torch

    half = torch.bfloat16 if dtype == "bf16" else torch.float16
    return torch.autocast(device.partition(":")[0], half)
