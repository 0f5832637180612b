"""The public names, written down: a change here is a change that users see."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

SURFACE = {
    "shiftproof": {
        "Classes", "Classifier", "Detections", "Detector", "Encoder", "Preprocess", "Run",
        "Segmenter", "ShiftproofError", "__version__", "adapt", "bench", "compare", "comparison",
        "contrastive", "corrupt",
        "corruptions",
        "data", "embed", "evaluate", "integrations",
        "load_classifier", "load_detector", "load_encoder", "load_run",
        "load_segmenter", "metrics", "models",
        "probe", "report", "runs", "similarity", "stylize", "testing",
    },
    "shiftproof.adapt": {
        "ADAPTERS", "ActMAD",
        "AdaptedDetector", "AdaptedGraph", "AdaptedLayer", "AdaptedSegmenter",
        "Adapter", "AdapterEntry", "BatchNorm", "CLIPArTT", "CoTTA", "DenseLearning", "DeYO", "EATA",
        "Event", "Guard", "LAME", "MEMO", "MeanTeacher", "NOTE", "RDumb", "ROID", "RoTTA", "Router",
        "SAR", "SelfLearning", "T3A", "TDA", "TPT", "ZERO", "adapting", "entropy", "export_onnx",
        "generalized_cross_entropy", "load", "make_adapter", "save",
    },
    "shiftproof.bench": {
        "SOURCE", "Classification", "Detection", "Grid", "Measured", "OnTheFly", "Prepared", "Protocol",
        "Recorder", "Recording", "Segmentation", "Stability", "StreamEstimate", "Task", "View", "as_loaded",
        "estimate_stream", "find_breaking", "measure_stability", "parse_protocol", "rank_runs", "run",
        "run_anytime", "run_within", "score",
        "score_conditions",
        "Forecast", "forecast_run", "DenseEstimate", "estimate_unlabeled",
    },
    "shiftproof.comparison": {
        "Check", "Comparison", "Condition", "Difference", "Side", "compare", "comparison_junit",
        "comparison_markdown", "parse_condition",
    },
    "shiftproof.compute": {"processes", "progress"},
    "shiftproof.compute.processes": {"limit_items", "map_ordered", "start_workers"},
    "shiftproof.compute.progress": {"Advance", "console", "progress"},
    "shiftproof.contrastive": {
        "AnInfoNCE", "LossEnsemble", "Queue", "SlowStart", "info_nce", "mixing", "process",
        "slow_start", "train",
    },
    "shiftproof.corruptions": {
        "COMMON", "CORRUPTIONS", "EXTRA", "GROUPS", "HOLDOUT", "SUITES", "Corrupt", "CorruptTargets",
        "CorruptedDataset", "Corruption", "CorruptionFunction", "DepthFolder", "Suite", "chain",
        "corrupt", "corrupt_batch", "corrupt_video", "frost_with", "find_function", "scale", "suite",
        "with_depth",
    },
    "shiftproof.corruptions.torch": {"corrupt_tensor"},
    "shiftproof.data": {
        "CITYSCAPES_CLASSES", "VOC_CLASSES", "CityscapesData", "CocoData", "CorruptedArrays",
        "CorruptedData", "CorruptedTree", "DemoPhotographs", "DetectionData", "Estimate",
        "ExportResult", "Fault", "FoundDataset", "ImageArrays", "ImageData", "ImageFolder", "ImageObjects",
        "ImageTable", "MaskCounts", "PackedDetectionData", "PackedTree", "ParquetImages", "Part",
        "SavedDataset", "SegmentationData", "TarData", "VocData", "YoloData", "check_labels", "check_masks",
        "choose_images", "estimate_export", "export_corrupted", "find_dataset",
        "open_data", "open_detection_data", "open_segmentation_data", "read_class_map",
    },
    "shiftproof.embed": {
        "Embedded", "EmbeddingForecast", "Part", "Picture", "Pictures", "SavedDataset",
        "SplitPictures", "TarPictures", "TextForecast", "Texts", "embed", "embed_texts",
        "forecast_embedding", "forecast_texts", "open_pictures", "open_texts",
    },
    "shiftproof.errors": {
        "BrokenFileError", "ImageError", "InputError", "LabelError", "MissingExtraError", "ModelError",
        "RunError", "RunMismatchError", "ShiftproofError", "UnfinishedError", "UnknownNameError",
    },
    "shiftproof.io": {
        "atomic", "begin", "fingerprint", "make_folder", "read_json", "write_bytes", "write_json",
    },
    "shiftproof.evaluate": {"SETS", "evaluate", "find_labels", "join_audit"},
    "shiftproof.integrations": {
        "EpochGrid", "Logged", "TRACKERS", "check_tracker", "collect", "log_run",
    },
    "shiftproof.metrics": {
        "ALEXNET_CLEAN_ERROR", "ALEXNET_ERROR", "COCO_METRICS", "CocoEvaluator", "CocoScores",
        "Interval", "LEVEL", "Matches", "REPLICATES", "VocEvaluator", "VocScores", "agreement",
        "average_thresholded_confidence", "area_under_risk_coverage", "brier_scores",
        "conformal_threshold", "excess_area_under_risk_coverage", "fit_temperature", "nonconformity",
        "prediction_sets", "risk_at_coverage", "risk_coverage", "scale_logits",
        "bootstrap_mean", "class_ious", "class_recalls",
        "coco_difference_intervals", "coco_intervals", "coco_metrics",
        "affine_fit", "confidence", "corruption_error", "cross_entropy", "dci",
        "difference_of_confidences", "flip_rate", "flips", "mean_flip_rate", "linear_r2", "match_precision",
        "percentile_interval", "sum_resamples",
        "interval_over_seeds", "resample_weights", "mean_correlation_coefficient",
        "expected_calibration_error", "mean_corruption_error",
        "mean_performance_by_group", "mean_iou", "pixel_accuracy", "pixel_confusion",
        "mean_performance_under_corruption", "relative_corruption_error",
        "relative_mean_corruption_error", "relative_performance_under_corruption", "top5_distances",
        "top_classes",
        "top_k_error", "voc_average_precision", "voc_interval", "voc_replicates",
        "HitRate", "box_agreement", "estimate_by_ratio", "expect_average_precision",
        "expect_mean_iou", "find_hits", "fit_hit_rate", "label_agreement", "mirror_boxes",
    },
    "shiftproof.models": {
        "DECODINGS", "DETECTOR_LOADERS", "ENCODER_LOADERS", "CLASSIFIER_LOADERS", "SEGMENTER_LOADERS",
        "CallablePreprocess", "Framing", "LoadedSegmenter", "NormalizedSegmentation", "Segmenter",
        "SegmenterConvention", "SegmenterLike", "SegmenterLoader", "TransformersSegmentation",
        "load_segmenter",
        "ClassMatch", "Classifier", "ClassifierLike", "Convention", "Decoding", "Detector",
        "DetectorLike", "DetectorLoader", "Encoder", "EncoderLike", "EncoderLoader", "Loaded",
        "LoadedDetector", "ClassifierLoader", "OnnxConvention", "Preprocess", "Preprocessing",
        "TEXT_LOADERS", "TextEncoder", "TextTower", "TorchvisionConvention", "TransformersConvention",
        "load_classifier", "load_detector", "load_encoder", "load_text_encoder", "match_classes",
    },
    "shiftproof.probe": {"probe"},
    "shiftproof.report": {
        "conditions_csv", "conditions_latex", "corruption_title", "draw_bars", "draw_curves",
        "describe_differences", "describe_subset", "describe_trust", "print_conditions", "print_ranking",
        "print_table", "table_csv", "table_latex", "table_markdown", "write_ranking", "write_report",
        "write_sheet",
    },
    "shiftproof.rng": {"generator"},
    "shiftproof.runs": {
        "AnyRun", "AnytimeRun", "AnytimeScores", "AuditRun", "AuditScores", "BreakingRun",
        "BreakingScores", "BrokenImage", "EvaluationRun", "EvaluationScores",
        "GridScores", "Headline", "Images", "Measure",
        "ProbeRun", "ProbeScores", "Replicates", "Resampling", "Run", "RunFolder", "ModelScores", "load_run",
        "open_table", "explain_other_images", "provenance", "write_table",
    },
    "shiftproof.similarity": {
        "AccuracyBySimilarity", "ApproximateTopK", "approximate_top_k",
        "Certificate", "Coreset", "Deduplicated", "Embeddings", "Nearest",
        "Proof", "Pruning", "Sharding", "SimilarityGap", "TopK", "accuracy_by_similarity",
        "audit", "by_class",
        "coreset", "cumulative", "deduplicate", "deduplicate_in_parts", "gap", "histogram", "merge_nearest",
        "merge_prunings", "merge_top_k", "nearest", "nearest_in_parts",
        "nearest_to_each", "open_embeddings", "prove",
        "prove_in_parts", "prune", "prune_in_parts", "prune_to", "read_datacomp", "top_k", "top_k_in_parts",
        "top_k_of_each", "write_datacomp",
        "write_keys",
    },
    "shiftproof.shards": {
        "Arrays", "Backend", "FileParts", "Job", "Local", "PartFolder", "Parts", "Ray", "Scheduled",
        "check_finished", "fill_parts", "merge_parts", "pack_files", "run_shards",
    },
    "shiftproof.storage": {
        "fetch", "fetch_output", "find_output", "find_output_file", "is_tar_url", "write_file_to",
        "write_to",
    },
    "shiftproof_reproduce": {
        "RECIPES", "Finding", "Recipe", "Result", "Table", "publish", "read_result", "render",
        "reproduce",
    },
    "shiftproof.stylize": {
        "AdaIN", "ChosenStyle", "DrawnStyles", "Engine", "Paintings", "Styles", "Stylize",
        "choose_style", "estimate_stylized", "export_stylized", "free", "open_styles", "stylize",
        "stylize_keyed",
    },
    "shiftproof.testing": {
        "check_adapted",
        "check_adapter", "check_corruption", "check_detector", "check_encoder", "check_segmenter",
    },
    "shiftproof.types": {
        "CLEAN", "Cell", "Detections", "Image", "Images", "Logits", "Mask", "Sample", "Settings",
    },
}  # fmt: skip

MODULES = {
    "shiftproof.classes": {
        "LABEL_SETS", "Classes", "LabelSet", "check_outputs", "normalize_unicode", "imagenet", "label_set",
        "name_classes", "number_classes", "to_classes",
    },
    "shiftproof.errors": {
        "BrokenFileError", "ImageError", "InputError", "LabelError", "MissingExtraError",
        "ModelError", "RunError", "RunMismatchError", "ShiftproofError", "UnfinishedError",
        "UnknownNameError", "suggest_name",
    },
    "shiftproof.rng": {"check_seed", "generator"},
    "shiftproof.specs": {
        "Pixels", "Readers", "SOURCES_OF_FILES", "Source", "merge_options", "parse_spec", "read_number",
        "read_numbers", "read_options", "read_pixels", "read_switch", "split_name",
    },
    "shiftproof.types": {
        "CLEAN", "F16", "F32", "F64", "I16", "I32", "I64", "I8", "U16", "U32", "U64", "U8", "Cell",
        "Detections", "Flags", "Image", "Images", "Indices", "LabelMap", "Logits", "Mask",
        "Sample", "Settings",
    },
}  # fmt: skip
"""Modules that are imported by name: what they define themselves."""

FREE_OF = {
    "shiftproof": {"numpy", "numba", "cv2", "torch", "pyarrow", "typer", "rich", "jinja2", "PIL"},
    "shiftproof.corruptions": {"torch", "pyarrow", "typer", "jinja2", "scipy"},
    "shiftproof.metrics": {"torch", "pycocotools", "numba", "cv2", "pyarrow", "scipy", "pandas"},
    "shiftproof.models": {"torch", "torchvision", "timm", "onnxruntime"},
    "shiftproof.contrastive": {"torch", "pyarrow", "numba", "cv2"},
    "shiftproof.data": {"numpy", "torch", "pyarrow", "yaml", "loky", "cv2", "PIL"},
    "shiftproof.embed": {"torch", "pyarrow", "numba", "cv2", "yaml"},
    "shiftproof.adapt": {"torch"},
    "shiftproof.bench": {"numpy", "torch", "pyarrow", "jinja2", "loky", "cv2", "msgspec"},
    "shiftproof.report": {"torch", "jinja2"},
    "shiftproof.runs": {"torch", "pyarrow", "jinja2"},
    "shiftproof_reproduce": {"torch", "torchvision", "pyarrow", "jinja2"},
    "shiftproof.shards": {"torch", "ray", "pyarrow", "numba"},
    "shiftproof.testing": {"torch"},
    "shiftproof.similarity": {"torch", "faiss", "ray", "fsspec", "numba", "pyarrow", "jinja2"},
    "shiftproof.stylize": {"torch", "numba", "cv2", "pyarrow", "yaml"},
    "shiftproof.cli": {"torch", "torchvision", "pyarrow", "jinja2", "numba", "cv2"},
}


@pytest.mark.parametrize("module", SURFACE)
def test_the_public_names_are_these(module):
    imported = importlib.import_module(module)
    message = (
        f"{{}}: write it down in {module}, SURFACE in {Path(__file__).name}, or make it private"
    )
    assert set(imported.__all__) == SURFACE[module], message.format(
        sorted(set(imported.__all__) ^ SURFACE[module])
    )
    for name in SURFACE[module]:
        assert getattr(imported, name) is not None
        assert name in dir(imported)


def list_packages(text: str) -> set[str]:
    """The packages whose ``__init__.py`` holds a text."""
    root = Path(importlib.import_module("shiftproof").__file__).parent
    return {
        ".".join(["shiftproof", *path.parent.relative_to(root).parts])
        for path in root.rglob("__init__.py")
        if text in path.read_text(encoding="utf-8") and path.parent.name != "kernels"
    }


def find_imported_names(body: list[ast.stmt]) -> set[str]:
    return {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("module", sorted(list_packages("def __getattr__")))
def test_a_name_that_is_loaded_lazily_stands_in_all_lists_of_its_package(module):
    imported = importlib.import_module(module)
    body = ast.parse(inspect.getsource(imported)).body
    for_types = next(node.body for node in body if isinstance(node, ast.If))
    typed, at_once = find_imported_names(for_types), find_imported_names(body)
    public = set(imported.__all__)
    unknown = public - typed - at_once
    assert not unknown, f"{sorted(unknown)}: import it below TYPE_CHECKING, for who checks types"
    hidden = typed - public
    assert not hidden, f"{sorted(hidden)}: add it to __all__, or do not import it"
    if hasattr(imported, "_NAMES"):
        lazy = {*imported._NAMES, *getattr(imported, "_MODULES", ())}
        assert not lazy ^ typed, f"{sorted(lazy ^ typed)}: add it to _NAMES, or take it out there"


def own_names(module: str) -> set[str]:
    """The public names that the source of a module binds at its top level, but for imports."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    bound = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in bound if not name.startswith("_")}


@pytest.mark.parametrize("module", MODULES)
def test_the_names_of_a_module_are_these(module):
    differing = own_names(module) ^ MODULES[module]
    assert not differing, f"{sorted(differing)}: write it down in MODULES, or make it private (_)"


def test_every_package_with_public_names_is_written_down():
    unlisted = list_packages("__all__") - set(SURFACE)
    assert not unlisted, f"{sorted(unlisted)}: a package with an __all__ needs a row of SURFACE"


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
    heavy = set(done.stdout.split()) & FREE_OF[module]
    assert not heavy, f"importing {module} imports {sorted(heavy)}: import it where it is used"


def test_an_unknown_name_is_an_attribute_error():
    import shiftproof

    with pytest.raises(AttributeError, match="no attribute 'corupt'"):
        _ = shiftproof.corupt
