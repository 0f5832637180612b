"""Classifiers that learn while they predict, without labels."""

from __future__ import annotations

from shiftproof.adapt.adapter import Adapter
from shiftproof.adapt.batchnorm import BatchNorm
from shiftproof.adapt.context import adapting
from shiftproof.adapt.detector import AdaptedDetector
from shiftproof.adapt.events import Event
from shiftproof.adapt.guard import Guard
from shiftproof.adapt.lame import LAME
from shiftproof.adapt.losses import entropy, generalized_cross_entropy
from shiftproof.adapt.rdumb import RDumb
from shiftproof.adapt.segmenter import AdaptedSegmenter
from shiftproof.adapt.selflearning import SelfLearning
from shiftproof.adapt.state import load, save
from shiftproof.adapt.table import ADAPTERS, AdapterEntry, make_adapter

__all__ = [
    "ADAPTERS",
    "LAME",
    "AdaptedDetector",
    "AdaptedSegmenter",
    "Adapter",
    "AdapterEntry",
    "BatchNorm",
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
