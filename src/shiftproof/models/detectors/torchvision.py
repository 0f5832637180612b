"""Detectors of torchvision, with their published weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from shiftproof.classes import Classes, name_classes
from shiftproof.counts import pluralize
from shiftproof.errors import ModelError, UnknownNameError
from shiftproof.models.classifiers.torchvision import (
    download,
    import_torchvision_models,
    look_up_weights,
)
from shiftproof.models.detectors.boxes import encode_mask
from shiftproof.models.detectors.options import DetectorOptions, LoadedDetector
from shiftproof.types import Detections, Image, Settings

if TYPE_CHECKING:
    import torch

_THRESHOLDS = {"score": "score_thresh", "overlap": "nms_thresh", "limit": "detections_per_img"}
"""Our names of the thresholds, and torchvision's attributes of the network or its ``roi_heads``."""


@final
@dataclass(frozen=True)
class TorchvisionConvention:
    """The inputs and outputs of torchvision's detectors.

    The input is a list of ``(3, H, W)`` floats in 0..1; the network resizes and normalizes it. The
    output is a dict for each image with ``boxes``, ``scores``, ``labels`` and optionally ``masks``.

    Args:
        labels: for each label of the network the index of its class, or None for those without,
            such as 0, the background. None only removes the background: label 1 is class 0.
    """

    labels: tuple[int | None, ...] | None = None

    def detect(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> list[Detections]:
        """Run the network on a batch of images."""
        import torch

        batch: Any = [
            torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")).to(device).float() / 255
            for image in images
        ]
        if len({image.shape for image in images}) == 1:
            # torchvision iterates over the first axis; adapters need a tensor.
            batch = torch.stack(batch)
        outputs = network(batch)
        if not isinstance(outputs, (list, tuple)) or not all(
            isinstance(output, dict) and {"boxes", "scores", "labels"} <= output.keys()
            for output in outputs
        ):
            raise ModelError(
                "expected a dict with boxes, scores and labels for each image, got "
                f"{type(outputs).__name__}. The network does not follow torchvision's convention."
            )
        return [self._read(output) for output in outputs]

    def settings(self, network: Callable[..., Any]) -> Settings:
        """Return the settings of the decoding, including the network's own thresholds."""
        return {
            "library": "torchvision",
            "labels": None if self.labels is None else list(self.labels),
            **{name: _threshold(network, theirs) for name, theirs in _THRESHOLDS.items()},
        }

    def _read(self, output: dict[str, Any]) -> Detections:
        labels = output["labels"].detach().cpu().numpy()
        kept, classes = translate_labels(labels, self.labels)
        masks = None
        if "masks" in output:
            # The threshold of mask probabilities in torchvision's own evaluation.
            chosen = (output["masks"][:, 0] >= 0.5).detach().cpu().numpy()[kept]
            masks = [encode_mask(mask) for mask in chosen]
        boxes = output["boxes"].detach().float().cpu().numpy()[kept]
        scores = output["scores"].detach().float().cpu().numpy()[kept]
        return Detections(boxes, scores, classes, masks)


def load_torchvision_detector(target: str, options: DetectorOptions) -> LoadedDetector:
    """Load ``NAME`` or ``NAME@WEIGHTS``; without ``WEIGHTS`` torchvision's default ones.

    COCO's 91 ids become its 80 classes. The thresholds are torchvision's unless others are given.

    Raises:
        UnknownNameError: no such detector or weights.
        ModelError: the weights cannot be downloaded.
        MissingExtraError: torchvision is not installed.
    """
    name, _, tag = target.partition("@")
    weights = find_detector_weights(name, tag)
    classes, labels = compact_classes(weights.meta["categories"])
    if options.pretrained is False:
        network = build_torchvision_detector(name, len(labels))
    else:
        import torch

        # Building a network draws initial weights from the global generator: restore its state.
        with torch.random.fork_rng(devices=[]):
            network = download(target, weights)
    set_thresholds(network, options)
    stated = "random weights" if options.pretrained is False else f"weights {weights}"
    return LoadedDetector(
        network,
        classes,
        TorchvisionConvention(labels),
        (stated, f"{pluralize(len(classes), 'class')}, COCO"),
    )


def check_torchvision_detector(target: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown torchvision name.

    Raises:
        UnknownNameError, MissingExtraError: as for :func:`load_torchvision_detector`.
    """
    find_detector_weights(*target.partition("@")[::2])


def build_torchvision_detector(name: str, num_labels: int) -> torch.nn.Module:
    """Return an untrained detector with ``num_labels`` labels, including the background."""
    find_detector_weights(name, "")
    import torch

    with torch.random.fork_rng(devices=[]):
        module: torch.nn.Module = import_torchvision_models().get_model(
            name, weights=None, weights_backbone=None, num_classes=num_labels
        )
    return module


_NO_EPS = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
"""Detectors for whose first COCO weights torchvision sets the epsilon of the norms to 0."""


def has_no_eps(weights: Any) -> bool:
    """Whether torchvision sets the epsilon of the batch norms to 0 for these weights."""
    return weights.name == "COCO_V1" and any(
        type(weights) is type(look_up_weights(name, "COCO_V1")) for name in _NO_EPS
    )


def freeze_norms(network: torch.nn.Module, eps: float | None) -> int:
    """Replace the batch norms of our own network by frozen ones; return their number.

    ``eps`` None keeps that of each.
    """
    import torch
    from torchvision.ops import FrozenBatchNorm2d

    found = [
        (name, part)
        for name, part in network.named_modules()
        if isinstance(part, torch.nn.BatchNorm2d)
    ]
    for name, part in found:
        parent, _, child = name.rpartition(".")
        frozen = FrozenBatchNorm2d(part.num_features, part.eps if eps is None else eps)
        setattr(network.get_submodule(parent), child, frozen)
    return len(found)


def find_detector_weights(name: str, tag: str) -> Any:
    """Return the weights ``tag`` of the detector ``name``; an empty tag is the default.

    Raises:
        UnknownNameError: no such detector or weights; says the nearest.
    """
    models = import_torchvision_models()
    # Keypoint detectors only find boxes of persons.
    known = [
        found
        for found in models.list_models(module=models.detection)
        if not found.startswith("keypoint")
    ]
    if name not in known:
        raise UnknownNameError.of("torchvision detector", name, known)
    return look_up_weights(name, tag)


def set_thresholds(network: Any, options: DetectorOptions) -> None:
    """Set the given thresholds of our own network."""
    for name, theirs in _THRESHOLDS.items():
        value = getattr(options, name)
        if value is not None:
            setattr(getattr(network, "roi_heads", network), theirs, value)


def compact_classes(categories: Sequence[str]) -> tuple[Classes, tuple[int | None, ...]]:
    """Return the classes in a list with a background and gaps, and the class of each entry.

    COCO's 80 classes have ids up to 90; lists by these ids have "N/A" in the gaps.

    >>> compact_classes(["__background__", "person", "N/A", "car"])[1]
    (None, 0, None, 1)
    """
    names: list[str] = []
    labels: list[int | None] = []
    for category in categories:
        real = category not in ("__background__", "N/A")
        labels.append(len(names) if real else None)
        if real:
            names.append(category)
    return name_classes(names), tuple(labels)


def translate_labels(labels: Any, table: Sequence[int | None] | None) -> tuple[Any, Any]:
    """Translate a network's labels to classes.

    Args:
        labels: ``(N,)`` integers, the network's.
        table: for each label the index of its class or None; None removes the background, 0, and
            subtracts 1.

    Returns:
        ``(N,)`` bool, whether a label has a class, and the classes of those that have.

    Raises:
        ModelError: a label beyond the table.
    """
    if table is None:
        return labels > 0, labels[labels > 0] - 1
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(table):
        raise ModelError(
            f"the network gives the label {labels.max()}, but {pluralize(len(table), 'label')} are "
            "named. Give "
            "the classes that it was trained on."
        )
    classes = np.array([-1 if index is None else index for index in table], np.int64)[labels]
    return classes >= 0, classes[classes >= 0]


def _threshold(network: Any, name: str) -> float | None:
    value = getattr(getattr(network, "roi_heads", network), name, None)
    return value if isinstance(value, (int, float)) else None
