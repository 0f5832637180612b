"""Measure models on the corruption grid and keep one record per image."""

from shiftproof.bench.classification import SOURCE, Run, run
from shiftproof.bench.estimates import StreamEstimate, estimate_stream
from shiftproof.bench.folder import RunFolder
from shiftproof.bench.protocol import Protocol, parse_protocol
from shiftproof.bench.records import CellRecords, read_cell

__all__ = [
    "SOURCE",
    "CellRecords",
    "Protocol",
    "Run",
    "RunFolder",
    "StreamEstimate",
    "estimate_stream",
    "parse_protocol",
    "read_cell",
    "run",
]
