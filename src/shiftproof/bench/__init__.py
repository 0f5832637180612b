"""Measure models on the corruption grid and keep one record per image."""

from shiftproof.bench.anytime import run_anytime
from shiftproof.bench.breaking import find_breaking
from shiftproof.bench.classification import Classification
from shiftproof.bench.conditions import score_conditions
from shiftproof.bench.dense_estimates import DenseEstimate, estimate_unlabeled
from shiftproof.bench.detection import Detection
from shiftproof.bench.estimates import StreamEstimate, estimate_stream
from shiftproof.bench.forecast import Forecast, forecast_run
from shiftproof.bench.pairing import rank_runs
from shiftproof.bench.protocol import Protocol, parse_protocol
from shiftproof.bench.recording import Recorder, Recording
from shiftproof.bench.run import run
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
