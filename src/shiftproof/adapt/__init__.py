"""Classifiers that learn while they predict, without labels.

All but the table and the abstract base need torch, which is imported with the first of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shiftproof.adapt.adapter import Adapter
from shiftproof.adapt.context import adapting
from shiftproof.adapt.detector import AdaptedDetector
from shiftproof.adapt.events import Event
from shiftproof.adapt.segmenter import AdaptedSegmenter
from shiftproof.adapt.state import load, save
from shiftproof.adapt.table import ADAPTERS, AdapterEntry, make_adapter
from shiftproof.models.structure import require_torch

if TYPE_CHECKING:
    from shiftproof.adapt.batchnorm import BatchNorm
    from shiftproof.adapt.deyo import DeYO
    from shiftproof.adapt.eata import EATA
    from shiftproof.adapt.guard import Guard
    from shiftproof.adapt.lame import LAME
    from shiftproof.adapt.losses import entropy, generalized_cross_entropy
    from shiftproof.adapt.rdumb import RDumb
    from shiftproof.adapt.roid import ROID
    from shiftproof.adapt.sar import SAR
    from shiftproof.adapt.selflearning import SelfLearning
    from shiftproof.adapt.t3a import T3A

__all__ = [
    "ADAPTERS",
    "EATA",
    "LAME",
    "ROID",
    "SAR",
    "T3A",
    "AdaptedDetector",
    "AdaptedSegmenter",
    "Adapter",
    "AdapterEntry",
    "BatchNorm",
    "DeYO",
    "Event",
    "Guard",
    "RDumb",
    "SelfLearning",
    "adapting",
    "entropy",
    "generalized_cross_entropy",
    "load",
    "make_adapter",
    "save",
]

_NAMES = {
    "BatchNorm": "batchnorm",
    "DeYO": "deyo",
    "EATA": "eata",
    "Guard": "guard",
    "LAME": "lame",
    "RDumb": "rdumb",
    "ROID": "roid",
    "SAR": "sar",
    "SelfLearning": "selflearning",
    "T3A": "t3a",
    "entropy": "losses",
    "generalized_cross_entropy": "losses",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        require_torch()
        return getattr(importlib.import_module(f"shiftproof.adapt.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'shiftproof.adapt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
