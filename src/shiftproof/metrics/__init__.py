"""Pure functions of arrays and tables: no model, no state, and no disk but for COCO's own files."""

from shiftproof.metrics.calibration import brier_scores, expected_calibration_error
from shiftproof.metrics.classification import confidence, cross_entropy, top_classes, top_k_error
from shiftproof.metrics.conformal import (
    conformal_threshold,
    nonconformity,
    prediction_sets,
)
from shiftproof.metrics.corruption import (
    ALEXNET_CLEAN_ERROR,
    ALEXNET_ERROR,
    corruption_error,
    mean_corruption_error,
    mean_performance_by_group,
    mean_performance_under_corruption,
    relative_corruption_error,
    relative_mean_corruption_error,
    relative_performance_under_corruption,
)
from shiftproof.metrics.detection import (
    COCO_METRICS,
    CocoEvaluator,
    CocoScores,
    Matches,
    coco_difference_intervals,
    coco_intervals,
    coco_metrics,
)
from shiftproof.metrics.estimation import (
    agreement,
    average_thresholded_confidence,
    difference_of_confidences,
)
from shiftproof.metrics.identifiability import (
    affine_fit,
    dci,
    interval_over_seeds,
    linear_r2,
    match_precision,
    mean_correlation_coefficient,
)
from shiftproof.metrics.intervals import (
    LEVEL,
    REPLICATES,
    Interval,
    bootstrap_mean,
    percentile_interval,
    resample_weights,
    sum_resamples,
)
from shiftproof.metrics.perturbation import flip_rate, flips, mean_flip_rate, top5_distances
from shiftproof.metrics.scaling import fit_temperature, scale_logits
from shiftproof.metrics.segmentation import (
    class_ious,
    class_recalls,
    mean_iou,
    pixel_accuracy,
    pixel_confusion,
)
from shiftproof.metrics.selective import (
    area_under_risk_coverage,
    excess_area_under_risk_coverage,
    risk_at_coverage,
    risk_coverage,
)
from shiftproof.metrics.voc import (
    VocEvaluator,
    VocScores,
    voc_average_precision,
    voc_interval,
    voc_replicates,
)

__all__ = [
    "ALEXNET_CLEAN_ERROR",
    "ALEXNET_ERROR",
    "COCO_METRICS",
    "LEVEL",
    "REPLICATES",
    "CocoEvaluator",
    "CocoScores",
    "Interval",
    "Matches",
    "VocEvaluator",
    "VocScores",
    "affine_fit",
    "agreement",
    "area_under_risk_coverage",
    "average_thresholded_confidence",
    "bootstrap_mean",
    "brier_scores",
    "class_ious",
    "class_recalls",
    "coco_difference_intervals",
    "coco_intervals",
    "coco_metrics",
    "confidence",
    "conformal_threshold",
    "corruption_error",
    "cross_entropy",
    "dci",
    "difference_of_confidences",
    "excess_area_under_risk_coverage",
    "expected_calibration_error",
    "fit_temperature",
    "flip_rate",
    "flips",
    "interval_over_seeds",
    "linear_r2",
    "match_precision",
    "mean_correlation_coefficient",
    "mean_corruption_error",
    "mean_flip_rate",
    "mean_iou",
    "mean_performance_by_group",
    "mean_performance_under_corruption",
    "nonconformity",
    "percentile_interval",
    "pixel_accuracy",
    "pixel_confusion",
    "prediction_sets",
    "relative_corruption_error",
    "relative_mean_corruption_error",
    "relative_performance_under_corruption",
    "resample_weights",
    "risk_at_coverage",
    "risk_coverage",
    "scale_logits",
    "sum_resamples",
    "top5_distances",
    "top_classes",
    "top_k_error",
    "voc_average_precision",
    "voc_interval",
    "voc_replicates",
]
