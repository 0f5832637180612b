"""The public names, written down: a change here is a change that users see."""

import importlib
import inspect
import subprocess
import sys

import pytest

SURFACE = {
    "shiftproof": {
        "Classes", "Classifier", "Detections", "Detector", "Encoder", "Preprocess", "Run",
        "Segmenter", "ShiftproofError", "__version__", "adapt", "bench", "contrastive", "corrupt",
        "corruptions", "data", "embed", "load_classifier", "load_detector", "load_encoder", "load_run",
        "load_segmenter", "metrics", "models",
        "probe", "report", "runs", "similarity", "stylize", "testing",
    },
    "shiftproof.adapt": {
        "ADAPTERS", "LAME", "AdaptedDetector", "AdaptedSegmenter", "Adapter", "AdapterEntry", "BatchNorm",
        "Event",
        "Guard", "RDumb", "SelfLearning", "adapting", "entropy", "generalized_cross_entropy", "load",
        "make_adapter", "save",
    },
    "shiftproof.bench": {
        "SOURCE", "Classification", "Detection", "Grid", "Measured", "Prepared", "Protocol",
        "Segmentation", "StreamEstimate", "Task", "estimate_stream", "parse_protocol", "run", "score",
    },
    "shiftproof.contrastive": {
        "AnInfoNCE", "LossEnsemble", "Queue", "SlowStart", "info_nce", "mixing", "process",
        "slow_start", "train",
    },
    "shiftproof.data": {
        "CITYSCAPES_CLASSES", "VOC_CLASSES", "CityscapesData", "CocoData", "CorruptedArrays",
        "CorruptedData", "CorruptedTree", "DemoPhotographs", "DetectionData", "Estimate",
        "Exported", "Fault", "FoundDataset", "ImageArrays", "ImageData", "ImageFolder", "ImageObjects",
        "ImageTable", "MaskCounts", "Part", "SegmentationData", "VocData", "YoloData", "check_labels",
        "check_masks", "estimate_export", "export_corrupted", "find_dataset", "open_data",
        "open_detection_data", "open_segmentation_data", "read_class_map",
    },
    "shiftproof.embed": {
        "Embedded", "Part", "Picture", "Pictures", "SavedDataset", "SplitPictures", "TarPictures",
        "embed", "open_pictures",
    },
    "shiftproof.metrics": {
        "ALEXNET_CLEAN_ERROR", "ALEXNET_ERROR", "COCO_METRICS", "CocoEvaluator", "CocoScores",
        "Interval", "Matches", "VocEvaluator", "VocScores", "agreement", "average_thresholded_confidence",
        "bootstrap_mean", "class_ious", "class_recalls", "coco_difference_intervals",
        "coco_intervals", "coco_metrics",
        "affine_fit", "confidence", "corruption_error", "cross_entropy", "dci",
        "difference_of_confidences", "linear_r2", "match_precision",
        "mean_correlation_coefficient", "expected_calibration_error", "mean_corruption_error",
        "mean_iou", "mean_performance_by_group", "pixel_accuracy", "pixel_confusion",
        "mean_performance_under_corruption", "relative_corruption_error",
        "relative_mean_corruption_error", "relative_performance_under_corruption", "top_classes",
        "top_k_error", "voc_average_precision", "voc_interval", "voc_replicates",
    },
    "shiftproof.probe": {"probe"},
    "shiftproof.runs": {"ProbeRun", "Run", "RunFolder", "load_run"},
    "shiftproof.similarity": {
        "AccuracyBySimilarity", "ApproximateTopK", "approximate_top_k",
        "Certificate", "Coreset", "Deduplicated", "Embeddings", "Nearest",
        "Place", "Proof", "Pruning", "SimilarityGap", "TopK", "accuracy_by_similarity",
        "audit", "by_class",
        "coreset", "cumulative", "deduplicate", "deduplicate_in_parts", "gap", "histogram", "merge_nearest",
        "merge_prunings", "merge_top_k", "nearest", "nearest_in_parts",
        "nearest_to_each", "open_embeddings", "prove",
        "prove_in_parts", "prune", "prune_in_parts", "prune_to", "read_datacomp", "top_k", "top_k_in_parts",
        "top_k_of_each", "write_datacomp",
        "write_keys",
    },
    "shiftproof.shards": {
        "Arrays", "Backend", "Job", "Local", "PartFolder", "Ray", "Scheduled", "merge_parts",
        "run_shards",
    },
    "shiftproof_reproduce": {
        "RECIPES", "Finding", "Recipe", "Result", "Table", "publish", "read_result", "render",
        "reproduce",
    },
    "shiftproof.stylize": {
        "AdaIN", "Chosen", "DrawnStyles", "Engine", "Paintings", "Styles", "Stylize",
        "choose_style", "estimate_stylized", "export_stylized", "free", "open_styles", "stylize",
        "stylize_keyed",
    },
}  # fmt: skip

FREE_OF = {
    "shiftproof": {"numpy", "numba", "cv2", "torch", "pyarrow", "typer", "rich", "jinja2", "PIL"},
    "shiftproof.corruptions": {"torch", "pyarrow", "typer", "jinja2", "scipy"},
    "shiftproof.metrics": {"torch", "pycocotools", "numba", "cv2", "pyarrow", "scipy", "pandas"},
    "shiftproof.models": {"torch", "torchvision", "timm", "onnxruntime"},
    "shiftproof.contrastive": {"torch", "pyarrow", "numba", "cv2"},
    "shiftproof.data": {"torch", "pyarrow", "yaml"},
    "shiftproof.embed": {"torch", "pyarrow", "numba", "cv2", "yaml"},
    "shiftproof.adapt": {"torch"},
    "shiftproof.bench": {"torch", "pyarrow", "jinja2"},
    "shiftproof.report": {"torch", "jinja2"},
    "shiftproof.runs": {"torch", "pyarrow", "jinja2"},
    "shiftproof_reproduce": {"torch", "torchvision", "pyarrow", "jinja2"},
    "shiftproof.shards": {"torch", "ray", "pyarrow", "numba"},
    "shiftproof.similarity": {"torch", "faiss", "ray", "fsspec", "numba", "pyarrow", "jinja2"},
    "shiftproof.stylize": {"torch", "numba", "cv2", "pyarrow", "yaml"},
    "shiftproof.cli": {"torch", "torchvision", "pyarrow", "jinja2", "numba", "cv2"},
}


@pytest.mark.parametrize("module", SURFACE)
def test_the_public_names_are_these(module):
    imported = importlib.import_module(module)
    assert set(imported.__all__) == SURFACE[module]
    for name in SURFACE[module]:
        assert getattr(imported, name) is not None
        assert name in dir(imported)


@pytest.mark.parametrize("module", SURFACE)
def test_public_functions_and_classes_are_documented(module):
    imported = importlib.import_module(module)
    for name in SURFACE[module]:
        value = getattr(imported, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, f"{module}.{name} has no docstring"


@pytest.mark.parametrize("module", FREE_OF)
def test_importing_it_does_not_import(module):
    code = f"import sys, {module}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & FREE_OF[module]


def test_an_unknown_name_is_an_attribute_error():
    import shiftproof

    with pytest.raises(AttributeError, match="no attribute 'corupt'"):
        _ = shiftproof.corupt
