"""Pure functions of arrays and tables: no model, no state, and no disk but for COCO's own files."""

from shiftproof.metrics.calibration import expected_calibration_error
from shiftproof.metrics.classification import confidence, cross_entropy, top_classes, top_k_error
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
    linear_r2,
    match_precision,
    mean_correlation_coefficient,
)
from shiftproof.metrics.intervals import Interval, bootstrap_mean
from shiftproof.metrics.segmentation import (
    class_ious,
    class_recalls,
    mean_iou,
    pixel_accuracy,
    pixel_confusion,
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
    "CocoEvaluator",
    "CocoScores",
    "Interval",
    "Matches",
    "VocEvaluator",
    "VocScores",
    "affine_fit",
    "agreement",
    "average_thresholded_confidence",
    "bootstrap_mean",
    "class_ious",
    "class_recalls",
    "coco_difference_intervals",
    "coco_intervals",
    "coco_metrics",
    "confidence",
    "corruption_error",
    "cross_entropy",
    "dci",
    "difference_of_confidences",
    "expected_calibration_error",
    "linear_r2",
    "match_precision",
    "mean_correlation_coefficient",
    "mean_corruption_error",
    "mean_iou",
    "mean_performance_by_group",
    "mean_performance_under_corruption",
    "pixel_accuracy",
    "pixel_confusion",
    "relative_corruption_error",
    "relative_mean_corruption_error",
    "relative_performance_under_corruption",
    "top_classes",
    "top_k_error",
    "voc_average_precision",
    "voc_interval",
    "voc_replicates",
]
