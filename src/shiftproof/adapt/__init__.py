"""Models that learn while they predict, without labels.

All but the table and the abstract base need torch, which is imported with the first of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.adapt.adapter import Adapter
from shiftproof.adapt.context import adapting
from shiftproof.adapt.detector import AdaptedDetector
from shiftproof.adapt.events import Event
from shiftproof.adapt.graphs.export import AdaptedGraph, AdaptedLayer, export_onnx
from shiftproof.adapt.segmenter import AdaptedSegmenter
from shiftproof.adapt.state import load, save
from shiftproof.adapt.table import ADAPTERS, AdapterEntry, make_adapter
from shiftproof.lazy import load_name
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
    "EATA": "shiftproof.adapt.eata",
    "LAME": "shiftproof.adapt.lame",
    "MEMO": "shiftproof.adapt.memo",
    "NOTE": "shiftproof.adapt.note",
    "ROID": "shiftproof.adapt.roid",
    "SAR": "shiftproof.adapt.sar",
    "T3A": "shiftproof.adapt.t3a",
    "TDA": "shiftproof.adapt.tda",
    "TPT": "shiftproof.adapt.tpt",
    "ZERO": "shiftproof.adapt.zero",
    "ActMAD": "shiftproof.adapt.actmad",
    "BatchNorm": "shiftproof.adapt.batchnorm",
    "CLIPArTT": "shiftproof.adapt.clipartt",
    "CoTTA": "shiftproof.adapt.cotta",
    "DeYO": "shiftproof.adapt.deyo",
    "DenseLearning": "shiftproof.adapt.dense_learning",
    "Guard": "shiftproof.adapt.guard",
    "MeanTeacher": "shiftproof.adapt.mean_teacher",
    "RDumb": "shiftproof.adapt.rdumb",
    "RoTTA": "shiftproof.adapt.rotta",
    "Router": "shiftproof.adapt.router",
    "SelfLearning": "shiftproof.adapt.selflearning",
    "entropy": "shiftproof.adapt.losses",
    "generalized_cross_entropy": "shiftproof.adapt.losses",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        require_torch()
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
