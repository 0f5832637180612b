"""Batches of images that a processor brings to one size: none is padded for the sake of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shiftproof.types import Detections, Image


def detect_by_size(
    processor: Any,
    images: Sequence[Image],
    detect: Callable[[Mapping[str, Any], Sequence[Image]], Sequence[Detections]],
) -> list[Detections]:
    """Take images through a processor of transformers one by one, and those of one size together.

    The processors of DETR and its kin pad all images of a call to the largest. The padding reaches the
    features at its border, and some networks look into it, so that what is found in an image would
    depend on its neighbors in the batch. The library's own pipeline shows images one by one.

    ``detect`` takes the inputs of some images of one size, and those images. Returns what is found
    in each image, in their order.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    prepared = [_prepare(processor, image) for image in images]
    for place, inputs in enumerate(prepared):
        shapes = tuple((name, tuple(value.shape)) for name, value in sorted(inputs.items()))
        groups.setdefault(shapes, []).append(place)
    found: dict[int, Detections] = {}
    for places in groups.values():
        inputs = _join([prepared[place] for place in places])
        answers = detect(inputs, [images[place] for place in places])
        found |= dict(zip(places, answers, strict=True))
    return [found[place] for place in range(len(images))]


def run_detector(
    network: Callable[..., Any],
    inputs: Mapping[str, Any],
    read: Callable[..., Sequence[Mapping[str, Any]]],
    images: Sequence[Image],
    device: str,
    score: float,
) -> Sequence[Mapping[str, Any]]:
    """Run a network on images of one size, and ``read`` its boxes, a ``post_process`` of transformers."""
    outputs = network(**{name: value.to(device) for name, value in inputs.items()})
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    return read(outputs, threshold=score, target_sizes=sizes)


def read_strongest(result: Mapping[str, Any], limit: int | None) -> Detections:
    """Return the strongest boxes of an image, the first of equal ones first; None keeps all."""
    scores = result["scores"].float().cpu().numpy()
    order = (-scores).argsort(kind="stable")[:limit]
    boxes, labels = (result[name].cpu().numpy()[order] for name in ("boxes", "labels"))
    return Detections(boxes, scores[order], labels)


def _prepare(processor: Any, image: Image) -> dict[str, Any]:
    return dict(
        processor(
            # A copy: torch warns of arrays that it could write to but must not.
            images=[image.copy()],
            return_tensors="pt",
            # Said, since a narrow image looks as if its channels came first.
            input_data_format="channels_last",
        )
    )


def _join(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    import torch

    return {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
