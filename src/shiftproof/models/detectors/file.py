"""Detectors from checkpoints on disk; only weights are read, no code is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.counts import pluralize
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.models.checkpoints.torchvision_networks import fill_network, match_weights
from shiftproof.models.checkpoints.weights import Match, is_unrelated
from shiftproof.models.detectors.options import DetectorOptions, LoadedDetector
from shiftproof.models.detectors.torchvision import (
    TorchvisionConvention,
    build_torchvision_detector,
    compact_classes,
    find_detector_weights,
    freeze_norms,
    has_no_eps,
    set_thresholds,
)
from shiftproof.models.structure import require_torch
from shiftproof.models.targets import check_file

if TYPE_CHECKING:
    import torch


def load_detector_checkpoint(target: str, options: DetectorOptions) -> LoadedDetector:
    """Load the weights in a file into a detector of torchvision.

    Without ``classes`` the network has torchvision's 91 labels; with K classes it has K + 1, label
    0 being the background, as in torchvision's training scripts.

    Of the options ``arch`` is needed, ``torchvision:NAME``; ``weights`` selects one of several
    sets, as for classifiers.

    Raises:
        InputError: no architecture is given.
        UnknownNameError: no such library or detector, or weights that are not in the file.
        BrokenFileError: the file is missing, empty or damaged.
        ModelError: it holds a pickled object (which is not executed), or does not fit.
    """
    name = _read_arch(target, options.arch)
    require_torch()
    weights = find_detector_weights(name, "")
    classes, labels = compact_classes(weights.meta["categories"])
    if options.classes is not None:
        classes = options.classes
        labels = (None, *range(len(classes)))
    network = build_torchvision_detector(name, len(labels))
    match = match_weights(network, Path(target), options.weights)
    state = {} if match is None else _restore_names(match)
    notes = () if match is None else match.notes
    if not any(key.endswith("num_batches_tracked") for key in state):
        # torchvision freezes the batch-norm statistics of networks with trained weights.
        frozen = freeze_norms(network, 0.0 if has_no_eps(weights) else None)
        notes = (*notes, "batch norms frozen, as in the file") if frozen else notes
    fill_network(network, state, target=target, name=name, classes=len(classes))
    set_thresholds(network, options)
    return LoadedDetector(
        network,
        classes,
        TorchvisionConvention(labels),
        (
            f"{pluralize(len(classes), 'class')}, {'as asked for' if options.classes else 'COCO'}",
            *notes,
        ),
    )


def check_detector_checkpoint(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a checkpoint with no or an unknown architecture, or without a readable file.

    Raises:
        InputError, UnknownNameError, BrokenFileError, MissingExtraError: as for
            :func:`load_detector_checkpoint`.
    """
    find_detector_weights(_read_arch(target, options["arch"]), "")
    check_file(target, options)


def _read_arch(target: str, arch: str | None) -> str:
    """Return the NAME of ``torchvision:NAME``; raise an InputError for anything else."""
    if arch is None:
        raise InputError(
            "A checkpoint needs its architecture: "
            f"file:{target}?arch=torchvision:fasterrcnn_resnet50_fpn. A network class of your own is "
            "built and filled by a function of yours: python:MODULE:FUNCTION."
        )
    library, _, name = arch.partition(":")
    if library != "torchvision":
        raise UnknownNameError.of("library of detectors", library, ["torchvision"])
    return name


def _restore_names(match: Match) -> dict[str, torch.Tensor]:
    """Return all weights of a network, including those that torchvision renames on loading."""
    others = {
        place.removeprefix(match.prefix): tensor
        for place, tensor in match.rest.items()
        if place.startswith(match.prefix) and not is_unrelated(place, tensor)
    }
    return {**others, **match.state}
