"""Networks as classifiers: images in, logits out, whichever library they come from."""

from __future__ import annotations

from shiftproof.models.classifier import Classifier, ClassifierLike
from shiftproof.models.load import LOADERS, Loader, load_classifier
from shiftproof.models.loaded import Loaded
from shiftproof.models.preprocess import CallablePreprocess, Preprocess, Preprocessing

__all__ = [
    "LOADERS",
    "CallablePreprocess",
    "Classifier",
    "ClassifierLike",
    "Loaded",
    "Loader",
    "Preprocess",
    "Preprocessing",
    "load_classifier",
]
