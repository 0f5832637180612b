"""Pure functions of arrays and tables: no models, no state, and no files except COCO's."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shiftproof.metrics.calibration import brier_scores, expected_calibration_error
    from shiftproof.metrics.classification import (
        confidence,
        cross_entropy,
        top_classes,
        top_k_error,
    )
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
    from shiftproof.metrics.dense_estimation import (
        HitRate,
        box_agreement,
        estimate_by_ratio,
        expect_average_precision,
        expect_mean_iou,
        find_hits,
        fit_hit_rate,
        label_agreement,
        mirror_boxes,
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
    "HitRate",
    "Interval",
    "Matches",
    "VocEvaluator",
    "VocScores",
    "affine_fit",
    "agreement",
    "area_under_risk_coverage",
    "average_thresholded_confidence",
    "bootstrap_mean",
    "box_agreement",
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
    "estimate_by_ratio",
    "excess_area_under_risk_coverage",
    "expect_average_precision",
    "expect_mean_iou",
    "expected_calibration_error",
    "find_hits",
    "fit_hit_rate",
    "fit_temperature",
    "flip_rate",
    "flips",
    "interval_over_seeds",
    "label_agreement",
    "linear_r2",
    "match_precision",
    "mean_correlation_coefficient",
    "mean_corruption_error",
    "mean_flip_rate",
    "mean_iou",
    "mean_performance_by_group",
    "mean_performance_under_corruption",
    "mirror_boxes",
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

# Loaded at first use: who needs one of these modules does not wait for all.
_NAMES = {
    "ALEXNET_CLEAN_ERROR": "shiftproof.metrics.corruption",
    "ALEXNET_ERROR": "shiftproof.metrics.corruption",
    "COCO_METRICS": "shiftproof.metrics.detection",
    "LEVEL": "shiftproof.metrics.intervals",
    "REPLICATES": "shiftproof.metrics.intervals",
    "CocoEvaluator": "shiftproof.metrics.detection",
    "CocoScores": "shiftproof.metrics.detection",
    "HitRate": "shiftproof.metrics.dense_estimation",
    "Interval": "shiftproof.metrics.intervals",
    "Matches": "shiftproof.metrics.detection",
    "VocEvaluator": "shiftproof.metrics.voc",
    "VocScores": "shiftproof.metrics.voc",
    "affine_fit": "shiftproof.metrics.identifiability",
    "agreement": "shiftproof.metrics.estimation",
    "area_under_risk_coverage": "shiftproof.metrics.selective",
    "average_thresholded_confidence": "shiftproof.metrics.estimation",
    "bootstrap_mean": "shiftproof.metrics.intervals",
    "box_agreement": "shiftproof.metrics.dense_estimation",
    "brier_scores": "shiftproof.metrics.calibration",
    "class_ious": "shiftproof.metrics.segmentation",
    "class_recalls": "shiftproof.metrics.segmentation",
    "coco_difference_intervals": "shiftproof.metrics.detection",
    "coco_intervals": "shiftproof.metrics.detection",
    "coco_metrics": "shiftproof.metrics.detection",
    "confidence": "shiftproof.metrics.classification",
    "conformal_threshold": "shiftproof.metrics.conformal",
    "corruption_error": "shiftproof.metrics.corruption",
    "cross_entropy": "shiftproof.metrics.classification",
    "dci": "shiftproof.metrics.identifiability",
    "difference_of_confidences": "shiftproof.metrics.estimation",
    "estimate_by_ratio": "shiftproof.metrics.dense_estimation",
    "excess_area_under_risk_coverage": "shiftproof.metrics.selective",
    "expect_average_precision": "shiftproof.metrics.dense_estimation",
    "expect_mean_iou": "shiftproof.metrics.dense_estimation",
    "expected_calibration_error": "shiftproof.metrics.calibration",
    "find_hits": "shiftproof.metrics.dense_estimation",
    "fit_hit_rate": "shiftproof.metrics.dense_estimation",
    "fit_temperature": "shiftproof.metrics.scaling",
    "flip_rate": "shiftproof.metrics.perturbation",
    "flips": "shiftproof.metrics.perturbation",
    "interval_over_seeds": "shiftproof.metrics.identifiability",
    "label_agreement": "shiftproof.metrics.dense_estimation",
    "linear_r2": "shiftproof.metrics.identifiability",
    "match_precision": "shiftproof.metrics.identifiability",
    "mean_correlation_coefficient": "shiftproof.metrics.identifiability",
    "mean_corruption_error": "shiftproof.metrics.corruption",
    "mean_flip_rate": "shiftproof.metrics.perturbation",
    "mean_iou": "shiftproof.metrics.segmentation",
    "mean_performance_by_group": "shiftproof.metrics.corruption",
    "mean_performance_under_corruption": "shiftproof.metrics.corruption",
    "mirror_boxes": "shiftproof.metrics.dense_estimation",
    "nonconformity": "shiftproof.metrics.conformal",
    "percentile_interval": "shiftproof.metrics.intervals",
    "pixel_accuracy": "shiftproof.metrics.segmentation",
    "pixel_confusion": "shiftproof.metrics.segmentation",
    "prediction_sets": "shiftproof.metrics.conformal",
    "relative_corruption_error": "shiftproof.metrics.corruption",
    "relative_mean_corruption_error": "shiftproof.metrics.corruption",
    "relative_performance_under_corruption": "shiftproof.metrics.corruption",
    "resample_weights": "shiftproof.metrics.intervals",
    "risk_at_coverage": "shiftproof.metrics.selective",
    "risk_coverage": "shiftproof.metrics.selective",
    "scale_logits": "shiftproof.metrics.scaling",
    "sum_resamples": "shiftproof.metrics.intervals",
    "top5_distances": "shiftproof.metrics.perturbation",
    "top_classes": "shiftproof.metrics.classification",
    "top_k_error": "shiftproof.metrics.classification",
    "voc_average_precision": "shiftproof.metrics.voc",
    "voc_interval": "shiftproof.metrics.voc",
    "voc_replicates": "shiftproof.metrics.voc",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'shiftproof.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
