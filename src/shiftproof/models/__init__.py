"""Networks as classifiers, detectors and encoders, whichever library they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.lazy import load_name

if TYPE_CHECKING:
    from shiftproof.models.classifiers.classifier import Classifier, ClassifierLike
    from shiftproof.models.classifiers.load import (
        CLASSIFIER_LOADERS,
        ClassifierLoader,
        load_classifier,
    )
    from shiftproof.models.classifiers.options import Loaded
    from shiftproof.models.detectors.class_match import ClassMatch, match_classes
    from shiftproof.models.detectors.decodings import DECODINGS, Decoding
    from shiftproof.models.detectors.detector import Convention, Detector, DetectorLike
    from shiftproof.models.detectors.load import DETECTOR_LOADERS, DetectorLoader, load_detector
    from shiftproof.models.detectors.onnx import OnnxConvention
    from shiftproof.models.detectors.options import LoadedDetector
    from shiftproof.models.detectors.torchvision import TorchvisionConvention
    from shiftproof.models.detectors.transformers import TransformersConvention
    from shiftproof.models.encoders.encoder import Encoder, EncoderLike
    from shiftproof.models.encoders.load import ENCODER_LOADERS, EncoderLoader, load_encoder
    from shiftproof.models.encoders.texts import TEXT_LOADERS, TextEncoder, load_text_encoder
    from shiftproof.models.image_text.towers import TextTower
    from shiftproof.models.preprocess import CallablePreprocess, Preprocess, Preprocessing
    from shiftproof.models.segmenters.load import (
        SEGMENTER_LOADERS,
        SegmenterLoader,
        load_segmenter,
    )
    from shiftproof.models.segmenters.normalized import NormalizedSegmentation
    from shiftproof.models.segmenters.options import LoadedSegmenter
    from shiftproof.models.segmenters.segmenter import (
        Segmenter,
        SegmenterConvention,
        SegmenterLike,
    )
    from shiftproof.models.segmenters.transformers import TransformersSegmentation
    from shiftproof.models.segmenters.windows import Framing

__all__ = [
    "CLASSIFIER_LOADERS",
    "DECODINGS",
    "DETECTOR_LOADERS",
    "ENCODER_LOADERS",
    "SEGMENTER_LOADERS",
    "TEXT_LOADERS",
    "CallablePreprocess",
    "ClassMatch",
    "Classifier",
    "ClassifierLike",
    "ClassifierLoader",
    "Convention",
    "Decoding",
    "Detector",
    "DetectorLike",
    "DetectorLoader",
    "Encoder",
    "EncoderLike",
    "EncoderLoader",
    "Framing",
    "Loaded",
    "LoadedDetector",
    "LoadedSegmenter",
    "NormalizedSegmentation",
    "OnnxConvention",
    "Preprocess",
    "Preprocessing",
    "Segmenter",
    "SegmenterConvention",
    "SegmenterLike",
    "SegmenterLoader",
    "TextEncoder",
    "TextTower",
    "TorchvisionConvention",
    "TransformersConvention",
    "TransformersSegmentation",
    "load_classifier",
    "load_detector",
    "load_encoder",
    "load_segmenter",
    "load_text_encoder",
    "match_classes",
]

# Loaded at first use, so that using one of these modules does not import all.
_NAMES = {
    "CLASSIFIER_LOADERS": "shiftproof.models.classifiers.load",
    "DECODINGS": "shiftproof.models.detectors.decodings",
    "DETECTOR_LOADERS": "shiftproof.models.detectors.load",
    "ENCODER_LOADERS": "shiftproof.models.encoders.load",
    "SEGMENTER_LOADERS": "shiftproof.models.segmenters.load",
    "TEXT_LOADERS": "shiftproof.models.encoders.texts",
    "CallablePreprocess": "shiftproof.models.preprocess",
    "ClassMatch": "shiftproof.models.detectors.class_match",
    "Classifier": "shiftproof.models.classifiers.classifier",
    "ClassifierLike": "shiftproof.models.classifiers.classifier",
    "ClassifierLoader": "shiftproof.models.classifiers.load",
    "Convention": "shiftproof.models.detectors.detector",
    "Decoding": "shiftproof.models.detectors.decodings",
    "Detector": "shiftproof.models.detectors.detector",
    "DetectorLike": "shiftproof.models.detectors.detector",
    "DetectorLoader": "shiftproof.models.detectors.load",
    "Encoder": "shiftproof.models.encoders.encoder",
    "EncoderLike": "shiftproof.models.encoders.encoder",
    "EncoderLoader": "shiftproof.models.encoders.load",
    "Framing": "shiftproof.models.segmenters.windows",
    "Loaded": "shiftproof.models.classifiers.options",
    "LoadedDetector": "shiftproof.models.detectors.options",
    "LoadedSegmenter": "shiftproof.models.segmenters.options",
    "NormalizedSegmentation": "shiftproof.models.segmenters.normalized",
    "OnnxConvention": "shiftproof.models.detectors.onnx",
    "Preprocess": "shiftproof.models.preprocess",
    "Preprocessing": "shiftproof.models.preprocess",
    "Segmenter": "shiftproof.models.segmenters.segmenter",
    "SegmenterConvention": "shiftproof.models.segmenters.segmenter",
    "SegmenterLike": "shiftproof.models.segmenters.segmenter",
    "SegmenterLoader": "shiftproof.models.segmenters.load",
    "TextEncoder": "shiftproof.models.encoders.texts",
    "TextTower": "shiftproof.models.image_text.towers",
    "TorchvisionConvention": "shiftproof.models.detectors.torchvision",
    "TransformersConvention": "shiftproof.models.detectors.transformers",
    "TransformersSegmentation": "shiftproof.models.segmenters.transformers",
    "load_classifier": "shiftproof.models.classifiers.load",
    "load_detector": "shiftproof.models.detectors.load",
    "load_encoder": "shiftproof.models.encoders.load",
    "load_segmenter": "shiftproof.models.segmenters.load",
    "load_text_encoder": "shiftproof.models.encoders.texts",
    "match_classes": "shiftproof.models.detectors.class_match",
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
