"""Measure models on the corruption grid and keep one record per image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.lazy import load_name

if TYPE_CHECKING:
    from shiftproof.bench.anytime import run_anytime
    from shiftproof.bench.breaking import find_breaking
    from shiftproof.bench.classification import Classification
    from shiftproof.bench.conditions import score_conditions
    from shiftproof.bench.dense_estimates import DenseEstimate, estimate_unlabeled
    from shiftproof.bench.detection import Detection
    from shiftproof.bench.estimates import StreamEstimate, estimate_stream
    from shiftproof.bench.forecast import Forecast, forecast_run
    from shiftproof.bench.grid_run import run
    from shiftproof.bench.pairing import rank_runs
    from shiftproof.bench.protocol import Protocol, parse_protocol
    from shiftproof.bench.recording import Recorder, Recording
    from shiftproof.bench.scoring import score
    from shiftproof.bench.segmentation import Segmentation
    from shiftproof.bench.stability import Stability, measure_stability
    from shiftproof.bench.task import SOURCE, Grid, Measured, Prepared, Task
    from shiftproof.bench.views import OnTheFly, View, as_loaded
    from shiftproof.bench.within import run_within

__all__ = [
    "SOURCE",
    "Classification",
    "DenseEstimate",
    "Detection",
    "Forecast",
    "Grid",
    "Measured",
    "OnTheFly",
    "Prepared",
    "Protocol",
    "Recorder",
    "Recording",
    "Segmentation",
    "Stability",
    "StreamEstimate",
    "Task",
    "View",
    "as_loaded",
    "estimate_stream",
    "estimate_unlabeled",
    "find_breaking",
    "forecast_run",
    "measure_stability",
    "parse_protocol",
    "rank_runs",
    "run",
    "run_anytime",
    "run_within",
    "score",
    "score_conditions",
]

_NAMES = {
    "Classification": "shiftproof.bench.classification",
    "DenseEstimate": "shiftproof.bench.dense_estimates",
    "Detection": "shiftproof.bench.detection",
    "Forecast": "shiftproof.bench.forecast",
    "Grid": "shiftproof.bench.task",
    "Measured": "shiftproof.bench.task",
    "OnTheFly": "shiftproof.bench.views",
    "Prepared": "shiftproof.bench.task",
    "Protocol": "shiftproof.bench.protocol",
    "Recorder": "shiftproof.bench.recording",
    "Recording": "shiftproof.bench.recording",
    "SOURCE": "shiftproof.bench.task",
    "Segmentation": "shiftproof.bench.segmentation",
    "Stability": "shiftproof.bench.stability",
    "StreamEstimate": "shiftproof.bench.estimates",
    "Task": "shiftproof.bench.task",
    "View": "shiftproof.bench.views",
    "as_loaded": "shiftproof.bench.views",
    "estimate_stream": "shiftproof.bench.estimates",
    "estimate_unlabeled": "shiftproof.bench.dense_estimates",
    "find_breaking": "shiftproof.bench.breaking",
    "forecast_run": "shiftproof.bench.forecast",
    "measure_stability": "shiftproof.bench.stability",
    "parse_protocol": "shiftproof.bench.protocol",
    "rank_runs": "shiftproof.bench.pairing",
    "run": "shiftproof.bench.grid_run",
    "run_anytime": "shiftproof.bench.anytime",
    "run_within": "shiftproof.bench.within",
    "score": "shiftproof.bench.scoring",
    "score_conditions": "shiftproof.bench.conditions",
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
