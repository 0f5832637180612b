"""Detectors of Hugging Face transformers: the DETR family, and whatever else its classes load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from shiftproof.errors import InputError, ModelError
from shiftproof.models.detectors.by_size import detect_by_size, run_detector
from shiftproof.models.detectors.open_vocabulary import load_open_vocabulary
from shiftproof.models.detectors.options import SCORE, DetectorOptions, LoadedDetector
from shiftproof.models.detectors.torchvision import compact_classes, translate_labels
from shiftproof.models.image_text.pretrained import open_pretrained, open_transformers
from shiftproof.types import Detections, Image, Settings


@final
@dataclass(frozen=True, eq=False)
class TransformersConvention:
    """How the detectors of transformers take images, and what their outputs mean.

    Args:
        processor: the image processor of the network; it resizes, normalizes and pads, and brings
            the boxes back to the images' sizes.
        labels: for each label of the network the index of its class, or None where it has none.
        score: the score above which a box is kept.
        limit: the most boxes of an image that are kept, the strongest; None keeps all.
    """

    processor: Any
    labels: tuple[int | None, ...]
    score: float = SCORE
    limit: int | None = None

    def detect(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> list[Detections]:
        """Take a batch of images through the network, those of one size together."""

        def detect(inputs: Mapping[str, Any], some: Sequence[Image]) -> list[Detections]:
            read = self.processor.post_process_object_detection
            found = run_detector(network, inputs, read, some, device, self.score)
            return [self._read(result) for result in found]

        return detect_by_size(self.processor, images, detect)

    def settings(self, network: Callable[..., Any]) -> Settings:
        """Return what reproduces the reading; the processor by its own account."""
        return {
            "library": "transformers",
            "labels": list(self.labels),
            "score": self.score,
            "limit": self.limit,
            "processor": self.processor.to_json_string(),
        }

    def _read(self, result: Mapping[str, Any]) -> Detections:
        kept, classes = translate_labels(result["labels"].cpu().numpy(), self.labels)
        scores = result["scores"].float().cpu().numpy()[kept]
        boxes = result["boxes"].float().cpu().numpy()[kept]
        order = (-scores).argsort(kind="stable")[: self.limit]
        return Detections(boxes[order], scores[order], classes[order])


def load_transformers_detector(target: str, options: DetectorOptions) -> LoadedDetector:
    """Load a model by its name on the Hugging Face hub, or from a folder that has been saved.

    The classes are those of its configuration, without the gaps that COCO's ids have; of a model
    that takes words they are the names that it is asked for. Code that comes with a model is never
    run.

    Raises:
        InputError: an open-vocabulary model without class names.
        ModelError: there is no such model, it cannot be downloaded, or it is not a detector.
        MissingExtraError: transformers is not installed.
    """
    transformers = open_transformers()
    what = "an object detector"
    config = open_pretrained(transformers.AutoConfig, target, what)
    if type(config) in transformers.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING:
        return load_open_vocabulary(target, config, options)
    if options.template is not None:
        raise InputError(f"transformers:{target} takes no words; leave out the template.")
    processor = open_pretrained(transformers.AutoImageProcessor, target, what)
    network = open_pretrained(transformers.AutoModelForObjectDetection, target, what)
    if not hasattr(processor, "post_process_object_detection"):
        raise ModelError(
            f"transformers:{target}: its {type(processor).__name__} cannot read boxes; expected a "
            "model for object detection."
        )
    names = network.config.id2label
    classes, labels = compact_classes(
        [str(names.get(index, "N/A")) for index in range(max(names) + 1)]
    )
    score = SCORE if options.score is None else options.score
    return LoadedDetector(
        network, classes, TransformersConvention(processor, labels, score, options.limit)
    )
