"""Models that learn while they predict, without labels.

All but the table and the abstract base need torch, which is imported with the first of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shiftproof.adapt.adapter import Adapter
from shiftproof.adapt.context import adapting
from shiftproof.adapt.detector import AdaptedDetector
from shiftproof.adapt.events import Event
from shiftproof.adapt.graphs.export import AdaptedGraph, AdaptedLayer, export_onnx
from shiftproof.adapt.segmenter import AdaptedSegmenter
from shiftproof.adapt.state import load, save
from shiftproof.adapt.table import ADAPTERS, AdapterEntry, make_adapter
from shiftproof.models.structure import require_torch

if TYPE_CHECKING:
    from shiftproof.adapt.actmad import ActMAD
    from shiftproof.adapt.batchnorm import BatchNorm
    from shiftproof.adapt.clipartt import CLIPArTT
    from shiftproof.adapt.cotta import CoTTA
    from shiftproof.adapt.dense_learning import DenseLearning
    from shiftproof.adapt.deyo import DeYO
    from shiftproof.adapt.eata import EATA
    from shiftproof.adapt.guard import Guard
    from shiftproof.adapt.lame import LAME
    from shiftproof.adapt.losses import entropy, generalized_cross_entropy
    from shiftproof.adapt.mean_teacher import MeanTeacher
    from shiftproof.adapt.memo import MEMO
    from shiftproof.adapt.note import NOTE
    from shiftproof.adapt.rdumb import RDumb
    from shiftproof.adapt.roid import ROID
    from shiftproof.adapt.rotta import RoTTA
    from shiftproof.adapt.router import Router
    from shiftproof.adapt.sar import SAR
    from shiftproof.adapt.selflearning import SelfLearning
    from shiftproof.adapt.t3a import T3A
    from shiftproof.adapt.tda import TDA
    from shiftproof.adapt.tpt import TPT
    from shiftproof.adapt.zero import ZERO

__all__ = [
    "ADAPTERS",
    "EATA",
    "LAME",
    "MEMO",
    "NOTE",
    "ROID",
    "SAR",
    "T3A",
    "TDA",
    "TPT",
    "ZERO",
    "ActMAD",
    "AdaptedDetector",
    "AdaptedGraph",
    "AdaptedLayer",
    "AdaptedSegmenter",
    "Adapter",
    "AdapterEntry",
    "BatchNorm",
    "CLIPArTT",
    "CoTTA",
    "DeYO",
    "DenseLearning",
    "Event",
    "Guard",
    "MeanTeacher",
    "RDumb",
    "RoTTA",
    "Router",
    "SelfLearning",
    "adapting",
    "entropy",
    "export_onnx",
    "generalized_cross_entropy",
    "load",
    "make_adapter",
    "save",
]

_NAMES = {
    "ActMAD": "actmad",
    "BatchNorm": "batchnorm",
    "CLIPArTT": "clipartt",
    "DeYO": "deyo",
    "DenseLearning": "dense_learning",
    "MeanTeacher": "mean_teacher",
    "EATA": "eata",
    "CoTTA": "cotta",
    "Guard": "guard",
    "LAME": "lame",
    "MEMO": "memo",
    "NOTE": "note",
    "RDumb": "rdumb",
    "ROID": "roid",
    "SAR": "sar",
    "RoTTA": "rotta",
    "Router": "router",
    "SelfLearning": "selflearning",
    "T3A": "t3a",
    "TDA": "tda",
    "TPT": "tpt",
    "ZERO": "zero",
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
