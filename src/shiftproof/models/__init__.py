"""Networks as classifiers, detectors and encoders, whichever library they come from."""

from __future__ import annotations

from shiftproof.models.class_match import ClassMatch, match_classes
from shiftproof.models.classifier import Classifier, ClassifierLike
from shiftproof.models.decodings import DECODINGS, Decoding
from shiftproof.models.detector import Convention, Detector, DetectorLike
from shiftproof.models.detectors_onnx import OnnxConvention
from shiftproof.models.detectors_torchvision import TorchvisionConvention
from shiftproof.models.detectors_transformers import TransformersConvention
from shiftproof.models.encoder import Encoder, EncoderLike
from shiftproof.models.load import LOADERS, Loader, load_classifier
from shiftproof.models.load_detectors import DETECTOR_LOADERS, DetectorLoader, load_detector
from shiftproof.models.load_encoders import ENCODER_LOADERS, EncoderLoader, load_encoder
from shiftproof.models.loaded import Loaded
from shiftproof.models.loaded_detector import LoadedDetector
from shiftproof.models.preprocess import CallablePreprocess, Preprocess, Preprocessing

__all__ = [
    "DECODINGS",
    "DETECTOR_LOADERS",
    "ENCODER_LOADERS",
    "LOADERS",
    "CallablePreprocess",
    "ClassMatch",
    "Classifier",
    "ClassifierLike",
    "Convention",
    "Decoding",
    "Detector",
    "DetectorLike",
    "DetectorLoader",
    "Encoder",
    "EncoderLike",
    "EncoderLoader",
    "Loaded",
    "LoadedDetector",
    "Loader",
    "OnnxConvention",
    "Preprocess",
    "Preprocessing",
    "TorchvisionConvention",
    "TransformersConvention",
    "load_classifier",
    "load_detector",
    "load_encoder",
    "match_classes",
]
