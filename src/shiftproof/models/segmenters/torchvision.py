"""Segmentation networks of torchvision, with their published weights or your own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof.classes import Classes, name_classes
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io.locations import is_url
from shiftproof.models.checkpoints.torchvision_networks import fill_network, match_weights
from shiftproof.models.classifiers.torchvision import (
    download,
    import_torchvision_models,
    look_up_weights,
)
from shiftproof.models.segmenters.normalized import NormalizedSegmentation
from shiftproof.models.segmenters.options import LoadedSegmenter, SegmenterOptions
from shiftproof.models.targets import check_file

if TYPE_CHECKING:
    import torch


def load_torchvision_segmenter(target: str, options: SegmenterOptions) -> LoadedSegmenter:
    """Load ``NAME`` or ``NAME@WEIGHTS``; without ``WEIGHTS`` torchvision's default ones.

    ``weights`` is a file to load instead; then ``classes`` are the classes of its training, by
    default Pascal VOC's. The shorter side is resized to 520 pixels, as torchvision states for its
    weights, and the logits are brought back to the image's size.

    Raises:
        UnknownNameError: no such network or weights.
        BrokenFileError: the file is missing or damaged.
        ModelError: the weights cannot be downloaded, or do not fit.
        MissingExtraError: torchvision is not installed.
    """
    name, _, tag = target.partition("@")
    published = find_segmenter_weights(name, tag)
    preset = published.transforms()
    (resize,) = preset.resize_size
    framing = options.framing(resize)
    mean = tuple(options.mean or preset.mean)
    std = tuple(options.std or preset.std)
    classes = name_classes(published.meta["categories"])
    if options.weights is not None and options.pretrained is not None:
        raise InputError(f"{target}: weights are given, so pretrained has no effect; leave it out.")
    if options.weights is not None:
        classes = options.classes or classes
        network, stated = _load_file_weights(name, Path(options.weights), classes)
    elif options.pretrained is False:
        classes = options.classes or classes
        network, stated = build_torchvision_segmenter(name, len(classes)), "random weights"
    else:
        network, stated = _build_network(target, published), f"weights {published}"
    return LoadedSegmenter(
        network, classes, NormalizedSegmentation(mean, std), framing, (stated, framing.describe())
    )


def check_torchvision_segmenter(target: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown torchvision name, or a file of weights that cannot be opened.

    Raises:
        UnknownNameError, BrokenFileError, MissingExtraError: as for
            :func:`load_torchvision_segmenter`.
    """
    find_segmenter_weights(*target.partition("@")[::2])
    weights = options["weights"]
    if weights is not None and not is_url(weights):
        check_file(weights, options)


def build_torchvision_segmenter(name: str, classes: int) -> torch.nn.Module:
    """Return an untrained network for that many classes; its random weights are deterministic."""
    find_segmenter_weights(name, "")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: torch.nn.Module = import_torchvision_models().get_model(
            name, weights=None, weights_backbone=None, num_classes=classes
        )
    return module


def find_segmenter_weights(name: str, tag: str) -> Any:
    """Return the weights ``tag`` of the network ``name``; an empty tag selects the default.

    Raises:
        UnknownNameError: no such network or weights; says the nearest.
    """
    models = import_torchvision_models()
    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise UnknownNameError.of("torchvision segmentation network", name, known)
    return look_up_weights(name, tag)


def _build_network(target: str, weights: Any) -> torch.nn.Module:
    import torch

    # Building a network draws initial weights from the global generator: restore its state.
    with torch.random.fork_rng(devices=[]):
        network = download(target, weights)
    # The auxiliary head is used only in training.
    network.aux_classifier = None
    module: torch.nn.Module = network
    return module


def _load_file_weights(name: str, path: Path, classes: Classes) -> tuple[torch.nn.Module, str]:
    """Return a network with the weights of a file, and a note on them."""
    network = build_torchvision_segmenter(name, len(classes))
    match = match_weights(network, path)
    state = {} if match is None else match.state
    fill_network(network, state, target=path, name=name, classes=len(classes))
    return network, "; ".join((f"weights of {path.name}", *(match.notes if match else ())))
