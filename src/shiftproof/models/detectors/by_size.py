"""Batches of images of one size, so that none is padded because of another."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from shiftproof.types import Detections, Image


def detect_by_size(
    processor: Any,
    images: Sequence[Image],
    detect: Callable[[Mapping[str, Any], Sequence[Image]], Sequence[Detections]],
) -> list[Detections]:
    """Process images one by one by a processor of transformers, and detect in batches of one size.

    Processors such as DETR's pad all images of a call to the largest. The padding affects the
    features at its border, and some networks attend to it, so the detections in an image would
    depend on its neighbors in the batch. The library's own pipeline runs on images one by one.

    ``detect`` takes the inputs of some images of one size, and these images. Returns the detections
    in each image, in their order.
    """
    prepared = [_prepare(processor, image) for image in images]
    shapes = [
        tuple((name, tuple(value.shape)) for name, value in sorted(inputs.items()))
        for inputs in prepared
    ]
    return map_groups(
        shapes,
        lambda places: detect(
            _join([prepared[place] for place in places]), [images[place] for place in places]
        ),
    )


def map_groups(
    keys: Sequence[Hashable], detect: Callable[[list[int]], Sequence[Detections]]
) -> list[Detections]:
    """Return the detections of ``detect``, called with the indices of each group of equal keys."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    found: dict[int, Detections] = {}
    for places in groups.values():
        found |= dict(zip(places, detect(places), strict=True))
    return [found[place] for place in range(len(keys))]


def run_detector(
    network: Callable[..., Any],
    inputs: Mapping[str, Any],
    read: Callable[..., Sequence[Mapping[str, Any]]],
    images: Sequence[Image],
    device: str,
    score: float,
) -> Sequence[Mapping[str, Any]]:
    """Run a network on images of one size, and decode its boxes by ``read``, a ``post_process`` of
    transformers.
    """
    outputs = network(**{name: value.to(device) for name, value in inputs.items()})
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    return read(outputs, threshold=score, target_sizes=sizes)


def read_strongest(result: Mapping[str, Any], limit: int | None) -> Detections:
    """Return the ``limit`` highest-scoring boxes of an image, in stable order; None keeps all."""
    scores = result["scores"].float().cpu().numpy()
    order = (-scores).argsort(kind="stable")[:limit]
    boxes, labels = (result[name].cpu().numpy()[order] for name in ("boxes", "labels"))
    return Detections(boxes, scores[order], labels)


def _prepare(processor: Any, image: Image) -> dict[str, Any]:
    return dict(
        processor(
            # A copy: torch warns about read-only arrays.
            images=[image.copy()],
            return_tensors="pt",
            # Explicit, since the channels of a narrow image would be inferred to come first.
            input_data_format="channels_last",
        )
    )


def _join(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    import torch

    return {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
