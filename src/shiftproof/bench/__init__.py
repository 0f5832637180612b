"""Measure models on the corruption grid and keep one record per image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.lazy import load_name

if TYPE_CHECKING:
    from shiftproof.bench.cells.protocol import Protocol, parse_protocol
    from shiftproof.bench.cells.recording import Recorder, Recording
    from shiftproof.bench.cells.views import OnTheFly, View, as_loaded
    from shiftproof.bench.estimates.dense_estimates import DenseEstimate, estimate_unlabeled
    from shiftproof.bench.estimates.error_estimates import StreamEstimate, estimate_stream
    from shiftproof.bench.grid.forecast import Forecast, forecast_run
    from shiftproof.bench.grid.grid_run import run
    from shiftproof.bench.other_runs.anytime import run_anytime
    from shiftproof.bench.other_runs.breaking import find_breaking
    from shiftproof.bench.other_runs.stability import Stability, measure_stability
    from shiftproof.bench.other_runs.within import run_within
    from shiftproof.bench.reanalysis.conditions import score_conditions
    from shiftproof.bench.reanalysis.pairing import rank_runs
    from shiftproof.bench.scoring.score import score
    from shiftproof.bench.tasks.classification.task import Classification
    from shiftproof.bench.tasks.detection.task import Detection
    from shiftproof.bench.tasks.interface import SOURCE, Grid, Measured, Prepared, Task
    from shiftproof.bench.tasks.segmentation.task import Segmentation

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
    "Classification": "shiftproof.bench.tasks.classification.task",
    "DenseEstimate": "shiftproof.bench.estimates.dense_estimates",
    "Detection": "shiftproof.bench.tasks.detection.task",
    "Forecast": "shiftproof.bench.grid.forecast",
    "Grid": "shiftproof.bench.tasks.interface",
    "Measured": "shiftproof.bench.tasks.interface",
    "OnTheFly": "shiftproof.bench.cells.views",
    "Prepared": "shiftproof.bench.tasks.interface",
    "Protocol": "shiftproof.bench.cells.protocol",
    "Recorder": "shiftproof.bench.cells.recording",
    "Recording": "shiftproof.bench.cells.recording",
    "SOURCE": "shiftproof.bench.tasks.interface",
    "Segmentation": "shiftproof.bench.tasks.segmentation.task",
    "Stability": "shiftproof.bench.other_runs.stability",
    "StreamEstimate": "shiftproof.bench.estimates.error_estimates",
    "Task": "shiftproof.bench.tasks.interface",
    "View": "shiftproof.bench.cells.views",
    "as_loaded": "shiftproof.bench.cells.views",
    "estimate_stream": "shiftproof.bench.estimates.error_estimates",
    "estimate_unlabeled": "shiftproof.bench.estimates.dense_estimates",
    "find_breaking": "shiftproof.bench.other_runs.breaking",
    "forecast_run": "shiftproof.bench.grid.forecast",
    "measure_stability": "shiftproof.bench.other_runs.stability",
    "parse_protocol": "shiftproof.bench.cells.protocol",
    "rank_runs": "shiftproof.bench.reanalysis.pairing",
    "run": "shiftproof.bench.grid.grid_run",
    "run_anytime": "shiftproof.bench.other_runs.anytime",
    "run_within": "shiftproof.bench.other_runs.within",
    "score": "shiftproof.bench.scoring.score",
    "score_conditions": "shiftproof.bench.reanalysis.conditions",
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
