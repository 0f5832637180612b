"""OmDet-Turbo of transformers: names and a task in words, and boxes with a score for each name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from shiftproof.io import files
from shiftproof.models.detectors.by_size import detect_by_size, read_strongest, run_detector
from shiftproof.models.detectors.options import SCORE
from shiftproof.types import Detections, Image, Settings

if TYPE_CHECKING:
    import torch

LENGTH = 77
"""Tokens that its own processor pads names and the task to."""

_TOKENS = ("input_ids", "attention_mask")


@final
@dataclass(frozen=True, eq=False)
class OmDetConvention:
    """How OmDet-Turbo takes images, and what its outputs mean (Zhao et al. 2024, arXiv 2403.06892).

    The network gives each box a score for each name. Of all pairs of box and name as many as there
    are boxes are kept, the highest, and of those that overlap within a class the weaker are
    dropped: this is ``post_process_grounded_object_detection`` of transformers with its own
    overlap, 0.5.

    Args:
        processor: the image processor of the network.
        reader: the library's processor of images and texts, which reads the outputs.
        words: names and task in numbers, by the name under which the network takes them; those of
            the classes ``(K, 77)``, those of the task ``(1, 77)``.
        score: score threshold of a box.
        limit: maximum number of boxes per image, by score; None keeps all.
    """

    processor: Any
    reader: Any
    words: Mapping[str, torch.Tensor]
    score: float = SCORE
    limit: int | None = None

    def detect(
        self, network: Callable[..., Any], images: Sequence[Image], device: str
    ) -> list[Detections]:
        """Run the network on a batch of images, grouped by size."""
        import torch

        classes = len(self.words["classes_input_ids"])

        def detect(inputs: Mapping[str, Any], some: Sequence[Image]) -> list[Detections]:
            words = {name: value.repeat(len(some), 1) for name, value in self.words.items()}
            shown = {
                **words,
                "classes_structure": torch.tensor([classes] * len(some)),
                "pixel_values": inputs["pixel_values"],
            }
            read = self.reader.post_process_grounded_object_detection
            found = run_detector(network, shown, read, some, device, self.score)
            return [read_strongest(result, self.limit) for result in found]

        return detect_by_size(self.processor, images, detect)

    def settings(self, network: Callable[..., Any]) -> Settings:
        """Return the settings of the decoding, including the processor's own."""
        return {
            "library": "transformers",
            "words": files.fingerprint(value.numpy().tobytes() for value in self.words.values()),
            "score": self.score,
            "limit": self.limit,
            "processor": self.processor.to_json_string(),
        }


def make_omdet_words(tokenizer: Any, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return names, and the task "Detect cat, dog.", in numbers; what is too long is cut."""
    found: dict[str, torch.Tensor] = {}
    for kind, texts in (("classes", list(names)), ("tasks", [f"Detect {', '.join(names)}."])):
        tokens = tokenizer(
            texts, return_tensors="pt", padding="max_length", truncation=True, max_length=LENGTH
        )
        found |= {f"{kind}_{name}": tokens[name] for name in _TOKENS}
    return found
