"""Networks as classifiers, detectors and encoders, whichever library they come from."""

from __future__ import annotations

from shiftproof.models.classifiers.classifier import Classifier, ClassifierLike
from shiftproof.models.classifiers.load import CLASSIFIER_LOADERS, ClassifierLoader, load_classifier
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
