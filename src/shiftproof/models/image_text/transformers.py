"""CLIP, SigLIP and similar models of transformers: both towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shiftproof.errors import ModelError
from shiftproof.models.image_text.image_processor import convert_processor
from shiftproof.models.image_text.pretrained import open_pretrained, open_transformers
from shiftproof.models.image_text.towers import ImageText, TextTower, TokenTower
from shiftproof.models.outputs import VECTORS, describe_output, find_tensor
from shiftproof.models.structure import find_device, fingerprint_weights

if TYPE_CHECKING:
    import torch

_SIGLIP_LENGTH = 64
"""Number of tokens to which SigLIP's sentences are padded, as in its training (Zhai et al.
2023).
"""


def open_image_text(target: str, *, device: str = "cpu") -> ImageText:
    """Open a model with an image tower and a text tower, on a device.

    Raises:
        BrokenFileError: a path that is no folder.
        ModelError: it cannot be loaded, has no text tower or no logit scale, or its preprocessing
            is not supported.
        MissingExtraError: transformers is not installed.
    """
    transformers = open_transformers()
    what = "a model of images and texts"
    model = open_pretrained(transformers.AutoModel, target, what)
    model = model.float().eval().to(find_device(device))
    scale, bias = (getattr(model, name, None) for name in ("logit_scale", "logit_bias"))
    if scale is None:
        raise ModelError(
            f"transformers:{target}: {type(model).__name__} has no logit scale, so its cosines are "
            "not logits. Expected CLIP, SigLIP or a model that is built like them."
        )
    processor = open_pretrained(transformers.AutoImageProcessor, target, what)
    return ImageText(
        image=make_image_tower(model),
        texts=make_text_tower(model, target),
        scale=float(scale.detach().double().exp()),
        bias=0.0 if bias is None else float(bias.detach()),
        preprocess=convert_processor(processor, f"transformers:{target}"),
        preprocess_from=f"its {type(processor).__name__}",
    )


def has_both_towers(model: Any) -> bool:
    """Return whether a model of transformers, or a model class, has an image and a text tower."""
    return callable(getattr(model, "get_image_features", None)) and callable(
        getattr(model, "get_text_features", None)
    )


def make_image_tower(model: Any) -> torch.nn.Module:
    """Return a module that computes ``get_image_features``, without the text tower."""
    import torch

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = _without_texts(model)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            features: Any = self.model.get_image_features
            return _vectors(features(pixel_values=inputs))

    return ImageTower()


def _without_texts(model: Any) -> Any:
    """Return a shallow copy of a model without its text tower as a submodule."""
    import copy

    copied = copy.copy(model)
    parts = {name: part for name, part in model._modules.items() if not name.startswith("text_")}
    vars(copied)["_modules"] = parts
    return copied


def make_text_tower(model: Any, target: str) -> TextTower:
    """Return the text tower of a model.

    Sentences are padded as ``pipeline("zero-shot-image-classification")`` pads them.

    Raises:
        ModelError: it has none, or its tokenizer cannot be loaded.
    """
    if not has_both_towers(model):
        raise ModelError(
            f"transformers:{target}: {type(model).__name__} has no text tower, so it takes no "
            "sentences."
        )
    what = "a tokenizer"
    tokenizer = open_pretrained(open_transformers().AutoTokenizer, target, what)
    config = getattr(model.config, "text_config", model.config)
    longest = int(getattr(config, "max_position_embeddings", _SIGLIP_LENGTH))
    siglip = "siglip" in str(model.config.model_type)
    padding: dict[str, Any] = {"padding": True, "max_length": longest}
    if siglip:
        padding = {"padding": "max_length", "max_length": min(longest, _SIGLIP_LENGTH)}

    def split(texts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        device = next(model.parameters()).device
        tokens = tokenizer(list(texts), return_tensors="pt", truncation=True, **padding)
        return {
            name: tokens[name].to(device)
            for name in ("input_ids", "attention_mask")
            if name in tokens
        }

    def run(network: Any, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return _vectors(network.get_text_features(**tokens))

    def encode(texts: Sequence[str]) -> torch.Tensor:
        import torch

        with torch.no_grad():
            return run(model, split(texts))

    def fingerprint() -> str:
        return f"{fingerprint_weights(model)} {type(tokenizer).__name__} {padding}"

    return TextTower(encode, fingerprint, TokenTower(model, split, run))


def _vectors(output: Any) -> torch.Tensor:
    found: torch.Tensor | None = find_tensor(output, VECTORS)
    if found is None:
        raise ModelError(f"Expected vectors, got {describe_output(output)}.")
    return found
