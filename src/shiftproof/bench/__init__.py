"""Measure models on the corruption grid and keep one record per image."""

from shiftproof.bench.classification import SOURCE, run
from shiftproof.bench.detection import run_detection
from shiftproof.bench.detection_records import DetectionRecords, read_detections
from shiftproof.bench.estimates import StreamEstimate, estimate_stream
from shiftproof.bench.folder import RunFolder
from shiftproof.bench.protocol import Protocol, parse_protocol
from shiftproof.bench.records import CellRecords, read_cell
from shiftproof.bench.runs import Run
from shiftproof.bench.scoring import score

__all__ = [
    "SOURCE",
    "CellRecords",
    "DetectionRecords",
    "Protocol",
    "Run",
    "RunFolder",
    "StreamEstimate",
    "estimate_stream",
    "parse_protocol",
    "read_cell",
    "read_detections",
    "run",
    "run_detection",
    "score",
]
