"""Contrastive learning with ground truth: losses, latents, mixing functions and training.

The losses need torch, which is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shiftproof.lazy import load_name

if TYPE_CHECKING:
    from shiftproof.contrastive import mixing, process, train
    from shiftproof.contrastive.losses import AnInfoNCE, LossEnsemble, info_nce
    from shiftproof.contrastive.negatives import Queue
    from shiftproof.contrastive.start import SlowStart, slow_start

__all__ = [
    "AnInfoNCE",
    "LossEnsemble",
    "Queue",
    "SlowStart",
    "info_nce",
    "mixing",
    "process",
    "slow_start",
    "train",
]

_MODULES = {"mixing", "process", "train"}
_NAMES = {
    "AnInfoNCE": "shiftproof.contrastive.losses",
    "LossEnsemble": "shiftproof.contrastive.losses",
    "Queue": "shiftproof.contrastive.negatives",
    "SlowStart": "shiftproof.contrastive.start",
    "info_nce": "shiftproof.contrastive.losses",
    "slow_start": "shiftproof.contrastive.start",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"shiftproof.contrastive.{name}")
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
