"""Models that learn while they predict, without labels.

All but the table and the abstract base need torch, which is imported with the first of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.adapt.base.events import Event
from shiftproof.adapt.base.state import load, save
from shiftproof.adapt.context import adapting
from shiftproof.adapt.dense.adapted_detector import AdaptedDetector
from shiftproof.adapt.dense.adapted_segmenter import AdaptedSegmenter
from shiftproof.adapt.graphs.export import AdaptedGraph, AdaptedLayer, export_onnx
from shiftproof.adapt.table import ADAPTERS, AdapterEntry, make_adapter
from shiftproof.lazy import load_name
from shiftproof.models.structure import require_torch

if TYPE_CHECKING:
    from shiftproof.adapt.dense.mean_teacher import MeanTeacher
    from shiftproof.adapt.dense.self_learning import DenseLearning
    from shiftproof.adapt.learning.losses import entropy, generalized_cross_entropy
    from shiftproof.adapt.methods.actmad import ActMAD
    from shiftproof.adapt.methods.batchnorm import BatchNorm
    from shiftproof.adapt.methods.cotta import CoTTA
    from shiftproof.adapt.methods.deyo import DeYO
    from shiftproof.adapt.methods.eata import EATA
    from shiftproof.adapt.methods.lame import LAME
    from shiftproof.adapt.methods.memo import MEMO
    from shiftproof.adapt.methods.note import NOTE
    from shiftproof.adapt.methods.rdumb import RDumb
    from shiftproof.adapt.methods.roid import ROID
    from shiftproof.adapt.methods.rotta import RoTTA
    from shiftproof.adapt.methods.sar import SAR
    from shiftproof.adapt.methods.selflearning import SelfLearning
    from shiftproof.adapt.methods.t3a import T3A
    from shiftproof.adapt.safeguards.guard import Guard
    from shiftproof.adapt.safeguards.router import Router
    from shiftproof.adapt.zero_shot.clipartt import CLIPArTT
    from shiftproof.adapt.zero_shot.tda import TDA
    from shiftproof.adapt.zero_shot.tpt import TPT
    from shiftproof.adapt.zero_shot.zero import ZERO

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
    "EATA": "shiftproof.adapt.methods.eata",
    "LAME": "shiftproof.adapt.methods.lame",
    "MEMO": "shiftproof.adapt.methods.memo",
    "NOTE": "shiftproof.adapt.methods.note",
    "ROID": "shiftproof.adapt.methods.roid",
    "SAR": "shiftproof.adapt.methods.sar",
    "T3A": "shiftproof.adapt.methods.t3a",
    "TDA": "shiftproof.adapt.zero_shot.tda",
    "TPT": "shiftproof.adapt.zero_shot.tpt",
    "ZERO": "shiftproof.adapt.zero_shot.zero",
    "ActMAD": "shiftproof.adapt.methods.actmad",
    "BatchNorm": "shiftproof.adapt.methods.batchnorm",
    "CLIPArTT": "shiftproof.adapt.zero_shot.clipartt",
    "CoTTA": "shiftproof.adapt.methods.cotta",
    "DeYO": "shiftproof.adapt.methods.deyo",
    "DenseLearning": "shiftproof.adapt.dense.self_learning",
    "Guard": "shiftproof.adapt.safeguards.guard",
    "MeanTeacher": "shiftproof.adapt.dense.mean_teacher",
    "RDumb": "shiftproof.adapt.methods.rdumb",
    "RoTTA": "shiftproof.adapt.methods.rotta",
    "Router": "shiftproof.adapt.safeguards.router",
    "SelfLearning": "shiftproof.adapt.methods.selflearning",
    "entropy": "shiftproof.adapt.learning.losses",
    "generalized_cross_entropy": "shiftproof.adapt.learning.losses",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        require_torch()
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
