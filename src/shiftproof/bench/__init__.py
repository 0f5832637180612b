"""Measure models on the corruption grid and keep one record per image."""

from shiftproof.bench.classification import Classification
from shiftproof.bench.detection import Detection
from shiftproof.bench.estimates import StreamEstimate, estimate_stream
from shiftproof.bench.protocol import Protocol, parse_protocol
from shiftproof.bench.run import run
from shiftproof.bench.scoring import score
from shiftproof.bench.segmentation import Segmentation
from shiftproof.bench.task import SOURCE, Grid, Measured, Prepared, Task

__all__ = [
    "SOURCE",
    "Classification",
    "Detection",
    "Grid",
    "Measured",
    "Prepared",
    "Protocol",
    "Segmentation",
    "StreamEstimate",
    "Task",
    "estimate_stream",
    "parse_protocol",
    "run",
    "score",
]
