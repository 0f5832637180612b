"""Loading of detectors by spec: ``torchvision:retinanet_resnet50_fpn``,
``onnx:yolo.onnx?decode=yolov8``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from shiftproof.classes import Classes
from shiftproof.errors import InputError
from shiftproof.models.any_size import choose_classes, try_on_black
from shiftproof.models.classifiers.class_names import check_names, read_classes
from shiftproof.models.detectors.detector import Detector
from shiftproof.models.detectors.file import check_detector_checkpoint, load_detector_checkpoint
from shiftproof.models.detectors.function import load_function_detector
from shiftproof.models.detectors.onnx import check_onnx_detector, load_onnx_detector
from shiftproof.models.detectors.options import DetectorOptions, LoadedDetector
from shiftproof.models.detectors.torchvision import (
    check_torchvision_detector,
    load_torchvision_detector,
)
from shiftproof.models.detectors.transformers import load_transformers_detector
from shiftproof.models.detectors.ultralytics import load_ultralytics
from shiftproof.models.image_text.pretrained import check_pretrained
from shiftproof.models.loading import Loader, SpecReader
from shiftproof.models.onnx_input import INPUT_OPTIONS
from shiftproof.models.own_functions import check_function
from shiftproof.models.targets import check_file, fetch_classes
from shiftproof.specs import Pixels

DetectorLoader: TypeAlias = Loader[DetectorOptions, LoadedDetector]
"""One row of ``DETECTOR_LOADERS``."""

DETECTOR_LOADERS: dict[str, DetectorLoader] = {
    "torchvision": DetectorLoader(
        load_torchvision_detector,
        "A torchvision detector with its published weights (COCO).",
        "torchvision:fasterrcnn_resnet50_fpn@COCO_V1",
        frozenset({"pretrained", "score", "overlap", "limit"}),
        check=check_torchvision_detector,
    ),
    "transformers": DetectorLoader(
        load_transformers_detector,
        "A Hugging Face detector (such as DETR), or an open-vocabulary one (such as OWL-ViT).",
        "transformers:facebook/detr-resnet-50",
        frozenset({"score", "limit", "template"}),
        check=check_pretrained,
    ),
    "ultralytics": DetectorLoader(
        load_ultralytics,
        "A YOLO or YOLO-World checkpoint of Ultralytics; it can run code, so use trusted files only.",
        "ultralytics:yolov8n.pt",
        frozenset({"size", "score", "overlap", "limit"}),
        check=check_file,
    ),
    "onnx": DetectorLoader(
        load_onnx_detector,
        "An ONNX file, run by ONNX Runtime, with a decoding of its outputs.",
        "onnx:yolov8n.onnx?decode=yolov8&classes=coco.names",
        frozenset({"decode", *INPUT_OPTIONS, "size", "score", "overlap", "limit"}),
        check=check_onnx_detector,
    ),
    "file": DetectorLoader(
        load_detector_checkpoint,
        "Weights on disk (.pt, .pth, .safetensors) for a detector of torchvision.",
        "file:checkpoint.pt?arch=torchvision:fasterrcnn_resnet50_fpn",
        frozenset({"arch", "weights", "score", "overlap", "limit"}),
        check=check_detector_checkpoint,
    ),
    "python": DetectorLoader(
        load_function_detector,
        "A function of yours that returns a network that follows torchvision, a function from images "
        "to Detections, or a Detector; importing it runs its module.",
        "python:my_nets:make_detector?classes=names.txt",
        check=check_function,
    ),
}
"""Sources of detectors by the prefix that ``load_detector`` and the command line take."""


def load_detector(
    spec: str,
    *,
    device: str = "cpu",
    classes: Classes | Iterable[str] | str | Path | None = None,
    pretrained: bool | None = None,
    arch: str | None = None,
    weights: str | None = None,
    decode: str | None = None,
    layout: str | None = None,
    pixels: str | None = None,
    size: Pixels | None = None,
    score: float | None = None,
    overlap: float | None = None,
    limit: int | None = None,
    template: str | None = None,
    vocabulary: Classes | Iterable[str] | None = None,
) -> Detector:
    """Load a detector by its spec.

    Args:
        spec: ``SOURCE:NAME`` with a source of ``DETECTOR_LOADERS``. Every keyword below except
            ``device`` may be part of the spec instead, as in
            ``"onnx:model.onnx?decode=yolov8&size=480x640&classes=coco.names"``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        classes: the classes of the labels: names, or the path of a text file with one name a line.
            None takes those of the source. If the source has classes, the numbers must agree.
        pretrained: False keeps random weights (``torchvision`` only), for a trial without an
            internet connection.
        arch: the architecture of a checkpoint, such as ``"torchvision:fasterrcnn_resnet50_fpn"``.
        weights: which of several sets in a checkpoint: ``"ema"``, ``"raw"``, or the path in it.
        decode: the decoding of an ONNX file's outputs, a name of ``DECODINGS``.
        layout: the order of the axes of an ONNX file's input, ``"nchw"`` or ``"nhwc"``, if the file
            leaves it open.
        pixels: the values that an ONNX file takes, ``"0..1"`` or ``"0..255"``. None takes the
            first; of an input of uint8 the last, or refuses what the file leaves open.
        size: input size in pixels, for networks with a dynamic one.
        score: score threshold, 0..1. None takes the source's: usually 0.001, since average
            precision needs low-scoring boxes too; torchvision's own for its detectors.
        overlap: threshold of non-maximum suppression: intersection over union in 0..1 within a
            class.
        limit: maximum number of boxes per image.
        template: prompt template of OWL-ViT, with ``{}`` for the name; None is the name alone.
        vocabulary: class names for an open-vocabulary detector if ``classes`` are not given, such
            as those of the data. Other detectors ignore it.

    Returns:
        A detector, checked on one black image.

    Raises:
        UnknownNameError: no such source, model, weights, decoding or option; says the nearest.
        InputError: an option that this source does not take, given twice, or out of its range; no
            classes are given and the source has none.
        ModelError: the weights cannot be loaded or do not fit, or the model does not run.
        BrokenFileError: a file is missing or damaged.
        MissingExtraError: the library of that source is not installed; says the pip line.
    """
    keywords: dict[str, Any] = {
        "classes": classes,
        "pretrained": pretrained,
        "arch": arch,
        "weights": weights,
        "decode": decode,
        "layout": layout,
        "pixels": pixels,
        "size": size,
        "score": score,
        "overlap": overlap,
        "limit": limit,
        "template": template,
    }
    words = None if vocabulary is None else read_classes(vocabulary)
    return _load(spec, keywords, device, words)


def check_detector(spec: str, *, classes: str | None = None) -> None:
    """Refuse an invalid detector spec from names and files alone, without loading the model.

    With several models, all are checked before the first is loaded.

    Args:
        spec: as for :func:`load_detector`.
        classes: likewise.

    Raises:
        UnknownNameError, InputError, BrokenFileError, ModelError, MissingExtraError: as for
            :func:`load_detector`.
    """
    keywords = {**dict.fromkeys(_KEYWORDS), "classes": classes}
    options = _READER.check(spec, keywords)
    _check_ranges(options)
    check_names(options["classes"])


_KEYWORDS = (
    "classes", "pretrained", "arch", "weights", "decode", *INPUT_OPTIONS, "size", "score",
    "overlap", "limit", "template",
)  # fmt: skip
_READER = SpecReader(DETECTOR_LOADERS, ("classes",), "Detector(module, classes)")


def _load(spec: str, keywords: dict[str, Any], device: str, words: Classes | None) -> Detector:
    request = _READER.read(spec, keywords)
    asked = request.options
    _check_ranges(asked)
    if asked["classes"] is not None:
        asked["classes"] = read_classes(fetch_classes(asked["classes"]))
    options = DetectorOptions(device=device, vocabulary=words, **asked)
    loaded = request.loader.load(request.target, options)
    meant = choose_classes(
        spec, options.classes, loaded.classes, outputs="labels",
        ways="give classes=NAMES.txt, a text file with one name a line",
    )  # fmt: skip
    detector = Detector(
        loaded.module,
        meant,
        convention=loaded.convention,
        device=device,
        name=request.name,
        assumed=loaded.assumed,
    )
    try_on_black(detector, 64, 64)
    return detector


def _check_ranges(options: dict[str, Any]) -> None:
    for name in ("score", "overlap"):
        value = options[name]
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name}: expected 0..1, got {value!r}.")
    limit = options["limit"]
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise InputError(f"limit: expected a number of boxes, 1 or more, got {limit!r}.")
