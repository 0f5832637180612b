"""Segmentation networks of Hugging Face transformers: SegFormer, UperNet, BEiT and their kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from shiftproof.classes import name_classes
from shiftproof.errors import ModelError
from shiftproof.io.border import describe_error
from shiftproof.lazy import import_extra
from shiftproof.models.segmenters.normalized import find_logits, group_by_size
from shiftproof.models.segmenters.options import LoadedSegmenter, SegmenterOptions
from shiftproof.models.structure import download_error, require_torch
from shiftproof.types import Image, Settings


@final
@dataclass(frozen=True, eq=False)
class TransformersSegmentation:
    """How the segmentation networks of transformers take images, and what their outputs mean.

    Args:
        processor: the image processor of the network.
        resizes: whether it resizes images, as it is set up to; False where that was done before.
    """

    processor: Any
    resizes: bool = True

    def score(self, network: Callable[..., Any], images: Sequence[Image], device: str) -> list[Any]:
        """Take images through the network."""
        found: list[Any] = []
        for batch in group_by_size(images):
            inputs = self.processor(
                # Copies: torch warns of arrays that it could write to but must not.
                images=[image.copy() for image in batch],
                return_tensors="pt",
                # Said, since a narrow image looks as if its channels came first.
                input_data_format="channels_last",
                **({} if self.resizes else {"do_resize": False}),
            )
            outputs = network(pixel_values=inputs["pixel_values"].to(device))
            found += list(find_logits(outputs, len(batch)))
        return found

    def settings(self) -> Settings:
        """Return what reproduces the reading; the processor by its own account."""
        return {
            "library": "transformers",
            "processor": self.processor.to_json_string(),
            "processor resizes": self.resizes,
        }


def load_transformers_segmenter(target: str, options: SegmenterOptions) -> LoadedSegmenter:
    """Load a network by its name on the Hugging Face hub, or from a folder that has been saved.

    Its image processor prepares the images; the logits are brought to the image's size as by its
    ``post_process_semantic_segmentation``. With ``resize`` or ``window`` images are resized here in
    the place of the processor, or shown at their size. Code that comes with a network is never run.

    Raises:
        ModelError: there is no such network, it cannot be downloaded, or it is for another task.
        MissingExtraError: transformers is not installed.
    """
    require_torch()
    library = import_extra("transformers", "hf")
    import torch

    folder = Path(target).expanduser()
    place = str(folder) if folder.is_dir() else target
    # Building a network draws its first weights from the global generator: put that back.
    with torch.random.fork_rng(devices=[]):
        try:
            processor = library.AutoImageProcessor.from_pretrained(place)
            network = library.AutoModelForSemanticSegmentation.from_pretrained(place)
        except (OSError, ValueError) as error:
            known = download_error(f"transformers:{target}", "torchvision:NAME", error)
            reason = describe_error(error)
            raise ModelError(
                f"transformers:{target} cannot be loaded for semantic segmentation ({reason}). "
                "Without a network, save it elsewhere by save_pretrained and name the folder: "
                "transformers:FOLDER."
            ) from known
    names = network.config.id2label
    classes = name_classes(str(names.get(index, index)).strip() for index in range(max(names) + 1))
    framing = options.framing(None)
    own = options.resize is None and options.window is None
    stated = f"images prepared by its {type(processor).__name__}"
    return LoadedSegmenter(
        network,
        classes,
        TransformersSegmentation(processor, resizes=own),
        framing,
        (stated if own else f"{stated}, which does not resize; {framing.describe()}",),
    )
