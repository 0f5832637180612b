"""Detectors from checkpoints on disk: weights only, never code."""

from __future__ import annotations

from pathlib import Path

from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models.checkpoint import read_state, without_prefixes
from shiftproof.models.detectors_torchvision import (
    TorchvisionConvention,
    build_torchvision_detector,
    compact_classes,
    find_detector_weights,
    set_thresholds,
)
from shiftproof.models.loaded_detector import DetectorOptions, LoadedDetector
from shiftproof.models.structure import require_torch


def load_detector_checkpoint(target: str, options: DetectorOptions) -> LoadedDetector:
    """Load the weights in a file into a detector of torchvision.

    Without ``classes`` the network has the 91 labels of torchvision's own; with K of them it has
    K + 1, and label 0 is the background, as in torchvision's training scripts.

    Args:
        target: the path; ``.safetensors`` is read as that, all else by ``torch.load``.
        options: ``arch`` is needed: ``torchvision:NAME``.

    Raises:
        InputError: no architecture is given.
        UnknownNameError: no such library or detector.
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object (nothing of it is run), or does not fit.
    """
    if options.arch is None:
        raise InputError(
            "A checkpoint needs its architecture: "
            f"file:{target}?arch=torchvision:fasterrcnn_resnet50_fpn."
        )
    library, _, name = options.arch.partition(":")
    if library != "torchvision":
        raise UnknownNameError.of("library of detectors", library, ["torchvision"])
    require_torch()
    weights = find_detector_weights(name, "")
    classes, labels = compact_classes(weights.meta["categories"])
    if options.classes is not None:
        classes = options.classes
        labels = (None, *range(len(classes)))
    network = build_torchvision_detector(name, len(labels))
    state = without_prefixes(read_state(Path(target)), network.state_dict())
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        faults = [line.strip() for line in str(error).splitlines()[1:]]
        raise ModelError(
            f"The weights in {target} do not fit {name} with {len(classes)} classes "
            f"({' '.join(faults)[:300]}). Check the architecture, and name the classes that it was "
            "trained on: classes=NAMES.txt."
        ) from error
    set_thresholds(network, options)
    return LoadedDetector(network, classes, TorchvisionConvention(labels))
