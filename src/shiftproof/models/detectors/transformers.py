"""Detectors of Hugging Face transformers: the DETR family, and whatever else its classes load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from shiftproof.errors import MissingExtraError, ModelError
from shiftproof.models.detectors.options import DetectorOptions, LoadedDetector
from shiftproof.models.detectors.torchvision import class_of, compact_classes
from shiftproof.models.structure import download_error, require_torch
from shiftproof.types import Detections, Image, Settings

SCORE = 0.001
"""The lowest score that is kept: average precision wants the weak ones too."""


@final
@dataclass(frozen=True, eq=False)
class TransformersConvention:
    """How the detectors of transformers take images, and what their outputs mean.

    Args:
        processor: the image processor of the network; it resizes, normalises and pads, and brings
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
        """Take a batch of images through the network."""
        inputs = self.processor(
            # Copies: torch warns of arrays that it could write to but must not.
            images=[image.copy() for image in images],
            return_tensors="pt",
            # Said, since a narrow image looks as if its channels came first.
            input_data_format="channels_last",
        )
        outputs = network(**{name: value.to(device) for name, value in inputs.items()})
        results = self.processor.post_process_object_detection(
            outputs,
            threshold=self.score,
            target_sizes=[(image.shape[0], image.shape[1]) for image in images],
        )
        return [self._read(result) for result in results]

    def settings(self, network: Callable[..., Any]) -> Settings:
        """Return what reproduces the reading; the processor by its own account."""
        return {
            "library": "transformers",
            "labels": list(self.labels),
            "score": self.score,
            "limit": self.limit,
            "processor": self.processor.to_json_string(),
        }

    def _read(self, result: dict[str, Any]) -> Detections:
        kept, classes = class_of(result["labels"].cpu().numpy(), self.labels)
        scores = result["scores"].float().cpu().numpy()[kept]
        boxes = result["boxes"].float().cpu().numpy()[kept]
        order = (-scores).argsort(kind="stable")[: self.limit]
        return Detections(boxes[order], scores[order], classes[order])


def load_transformers_detector(target: str, options: DetectorOptions) -> LoadedDetector:
    """Load a model by its name on the Hugging Face hub, or from a folder that has been saved.

    The classes are those of its configuration, without the gaps that COCO's ids have. Code that
    comes with a model is never run.

    Raises:
        ModelError: there is no such model, it cannot be downloaded, or it detects nothing.
        MissingExtraError: transformers is not installed.
    """
    require_torch()
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError.of("transformers", "hf") from error
    import torch

    library: Any = transformers
    # Building a network draws its first weights from the global generator: put that back.
    with torch.random.fork_rng(devices=[]):
        try:
            processor = library.AutoImageProcessor.from_pretrained(target)
            network = library.AutoModelForObjectDetection.from_pretrained(target)
        except (OSError, ValueError) as error:
            known = download_error(f"transformers:{target}", "torchvision:NAME", error)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(
                f"transformers:{target} cannot be loaded as an object detector ({reason}). Without "
                "a network, save it elsewhere by save_pretrained and name the folder: "
                "transformers:FOLDER."
            ) from known
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
