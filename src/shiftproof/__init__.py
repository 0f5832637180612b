"""Measure how a vision model breaks when the world changes, and repair it without labels.

>>> import numpy as np, shiftproof
>>> image = np.zeros((32, 32, 3), np.uint8)
>>> shiftproof.corrupt(image, "fog", severity=3, key="night.png").shape
(32, 32, 3)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shiftproof._version import __version__
from shiftproof.lazy import load_name

if TYPE_CHECKING:
    from shiftproof import (
        adapt,
        bench,
        comparison,
        contrastive,
        corruptions,
        data,
        embed,
        evaluate,
        integrations,
        metrics,
        models,
        probe,
        report,
        runs,
        similarity,
        stylize,
        testing,
    )
    from shiftproof.classes import Classes
    from shiftproof.comparison.compare import compare
    from shiftproof.corruptions import corrupt
    from shiftproof.errors import ShiftproofError
    from shiftproof.models import (
        Classifier,
        Detector,
        Encoder,
        Preprocess,
        Segmenter,
        load_classifier,
        load_detector,
        load_encoder,
        load_segmenter,
    )
    from shiftproof.runs import Run, load_run
    from shiftproof.types import Detections

__all__ = [
    "Classes",
    "Classifier",
    "Detections",
    "Detector",
    "Encoder",
    "Preprocess",
    "Run",
    "Segmenter",
    "ShiftproofError",
    "__version__",
    "adapt",
    "bench",
    "compare",
    "comparison",
    "contrastive",
    "corrupt",
    "corruptions",
    "data",
    "embed",
    "evaluate",
    "integrations",
    "load_classifier",
    "load_detector",
    "load_encoder",
    "load_run",
    "load_segmenter",
    "metrics",
    "models",
    "probe",
    "report",
    "runs",
    "similarity",
    "stylize",
    "testing",
]

# Loaded at first use: `import shiftproof` stays quick and needs no optional library.
_MODULES = {
    "adapt", "bench", "comparison", "contrastive", "corruptions", "data", "embed", "evaluate",
    "integrations",
    "metrics", "models", "probe", "report", "runs", "similarity", "stylize", "testing",
}  # fmt: skip
_NAMES = {
    "Classes": "shiftproof.classes",
    "Classifier": "shiftproof.models",
    "Detections": "shiftproof.types",
    "Detector": "shiftproof.models",
    "Encoder": "shiftproof.models",
    "Preprocess": "shiftproof.models",
    "Run": "shiftproof.runs",
    "Segmenter": "shiftproof.models",
    "ShiftproofError": "shiftproof.errors",
    "compare": "shiftproof.comparison",
    "corrupt": "shiftproof.corruptions",
    "load_classifier": "shiftproof.models",
    "load_detector": "shiftproof.models",
    "load_encoder": "shiftproof.models",
    "load_run": "shiftproof.runs",
    "load_segmenter": "shiftproof.models",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"shiftproof.{name}")
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
