"""Public checks of the contracts of models, adapters and corruptions, also for your own ones.

A check returns None, or raises an AssertionError with the expected and the actual value. The checks
of adapters import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.models.structure import require_torch
from shiftproof.testing.corruptions import check_corruption
from shiftproof.testing.detectors import check_detector
from shiftproof.testing.encoders import check_encoder
from shiftproof.testing.segmenters import check_segmenter

if TYPE_CHECKING:
    from shiftproof.testing.adapted_models import check_adapted
    from shiftproof.testing.adapters import check_adapter

__all__ = [
    "check_adapted",
    "check_adapter",
    "check_corruption",
    "check_detector",
    "check_encoder",
    "check_segmenter",
]


def __getattr__(name: str) -> Any:
    if name == "check_adapter":
        require_torch()
        from shiftproof.testing.adapters import check_adapter

        return check_adapter
    if name == "check_adapted":
        require_torch()
        from shiftproof.testing.adapted_models import check_adapted

        return check_adapted
    raise AttributeError(f"module 'shiftproof.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
