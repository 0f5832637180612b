"""Detectors from a user's function: ``python:my_nets:make``."""

from __future__ import annotations

from shiftproof.models.classifiers.class_names import read_classes
from shiftproof.models.detectors.detector import Detector
from shiftproof.models.detectors.options import DetectorOptions, LoadedDetector
from shiftproof.models.detectors.torchvision import TorchvisionConvention
from shiftproof.models.own_functions import add_fingerprint, import_model
from shiftproof.models.structure import is_torch_module

_EXPECTED = (
    "a torch.nn.Module with torchvision's inputs and outputs, a function from a list of uint8 images "
    "to Detections, or a shiftproof.Detector"
)


def load_function_detector(target: str, options: DetectorOptions) -> LoadedDetector:
    """Import ``MODULE:FUNCTION``, also from the working directory, and call it.

    The function takes no arguments. A ``torch.nn.Module`` that it returns is run by
    ``TorchvisionConvention``; a function, from a list of uint8 RGB images ``(H, W, 3)`` to
    ``Detections``, and a ``Detector`` are taken as they are. Its attribute ``classes``, where it
    has one, names the classes of the labels. A network or a ``Detector`` may stand in the module in
    its place. Importing runs the module.

    Raises:
        InputError, UnknownNameError, ModelError: as
            :func:`~shiftproof.models.own_functions.import_model`.
    """
    own, made = import_model(target, (Detector,), _EXPECTED)
    if isinstance(made, Detector):
        return LoadedDetector(
            add_fingerprint(made.module, own), made.classes, made.convention, made.assumed
        )
    classes = None if own.classes is None else read_classes(own.classes)
    if not is_torch_module(made):
        return LoadedDetector(made, classes, None)
    return LoadedDetector(
        made, classes, TorchvisionConvention(), ("torchvision's convention, label 0 is background",)
    )
