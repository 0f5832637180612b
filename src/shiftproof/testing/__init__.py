"""The contracts as public checks: run them over your own functions, too.

A check returns None, or raises AssertionError with what was expected and what came.
"""

from shiftproof.testing.adapters import check_adapter
from shiftproof.testing.corruptions import check_corruption
from shiftproof.testing.detectors import check_detector
from shiftproof.testing.encoders import check_encoder
from shiftproof.testing.segmenters import check_segmenter

__all__ = [
    "check_adapter",
    "check_corruption",
    "check_detector",
    "check_encoder",
    "check_segmenter",
]
