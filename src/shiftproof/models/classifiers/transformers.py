"""Classifiers of transformers: with a classification head, or zero-shot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

from shiftproof.classes import Classes, imagenet, name_classes, number_classes
from shiftproof.errors import InputError, ModelError
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.encoders.features import drop_last_layer
from shiftproof.models.image_text.image_processor import convert_processor
from shiftproof.models.image_text.pretrained import open_pretrained, open_transformers
from shiftproof.models.image_text.transformers import (
    has_both_towers,
    make_image_tower,
    open_image_text,
)
from shiftproof.models.image_text.zero_shot import load_zero_shot

if TYPE_CHECKING:
    import torch

_HEAD = "ForImageClassification"
"""The end of the class names of models with a classification head."""


def load_transformers(target: str, options: LoadOptions) -> Loaded:
    """Load a classifier by its name on the Hugging Face hub, or from a folder.

    A model that was saved with a head keeps its classes (``id2label``); CLIP, SigLIP and similar
    models become zero-shot classifiers. A model's own code is never run.

    Raises:
        BrokenFileError: a path that is not a folder.
        ModelError: there is no such model, it cannot be downloaded, it is not a classifier, or its
            image processor cannot be converted.
        LabelError, InputError: invalid prompts, or prompts for a model with its own classes.
        MissingExtraError: transformers is not installed.
    """
    transformers = open_transformers()
    config = open_pretrained(transformers.AutoConfig, target, "an image classifier")
    if _is_headed(config):
        if options.templates is not None:
            raise InputError(
                f"transformers:{target} has classes of its own and takes no sentences; leave out "
                "the templates."
            )
        return load_headed(target)
    if not _is_image_text(transformers, config):
        raise ModelError(
            f"transformers:{target} is no classifier: {_describe_architecture(config)} has neither a "
            "head for classes nor a text tower. As an encoder it works as it is: `shiftproof embed` and "
            "`shiftproof probe`, or load_encoder."
        )
    return load_zero_shot(lambda: open_image_text(target, device=options.device), options)


def load_transformers_encoder(target: str, options: LoadOptions) -> Loaded:
    """Load an encoder: an image tower, a classifier's features, or a backbone's pooled output.

    If the file of a backbone has no weights of the pooling layer, which would be random, the first
    token is used.

    Raises:
        BrokenFileError, ModelError, MissingExtraError: as for :func:`load_transformers`.
    """
    transformers = open_transformers()
    what = "an encoder of images"
    config = open_pretrained(transformers.AutoConfig, target, what)
    if _is_headed(config):
        headed = load_headed(target)
        features = drop_last_layer(cast("torch.nn.Module", headed.module), target)
        note = ("the features before the last layer", *headed.assumed)
        return headed._replace(module=features, classes=None, assumed=note)
    model, found = open_pretrained(transformers.AutoModel, target, what, output_loading_info=True)
    processor = open_pretrained(transformers.AutoImageProcessor, target, what)
    module, note = _make_encoder(model.float().eval(), target, found.get("missing_keys", ()))
    return Loaded(
        module,
        convert_processor(processor, f"transformers:{target}"),
        None,
        preprocess_from=f"its {type(processor).__name__}",
        assumed=note,
    )


def _make_encoder(
    model: Any, target: str, missing: Collection[str]
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Return the module that returns vectors, and a note about it."""
    is_pooled = not any(name.startswith("pooler.") for name in missing)
    others = sorted(name for name in missing if not name.startswith("pooler."))
    if others:
        raise _make_missing_weights_error(target, others)
    if has_both_towers(model):
        return make_image_tower(model), ("the image tower's output",)
    words = (
        "the pooled output" if is_pooled else "the first token, as the file has no pooling layer"
    )
    return _wrap_vectors(model, target, pooled=is_pooled), (words,)


def load_headed(target: str) -> Loaded:
    """Load a model that was saved with a classification head.

    Raises:
        ModelError: its file has no trained head, or its image processor cannot be converted.
    """
    transformers = open_transformers()
    what = "an image classifier"
    processor = open_pretrained(transformers.AutoImageProcessor, target, what)
    model, found = open_pretrained(
        transformers.AutoModelForImageClassification, target, what, output_loading_info=True
    )
    missing = sorted(found.get("missing_keys", ()))
    if missing:
        raise _make_missing_weights_error(target, missing)
    return Loaded(
        _wrap_logits(model.float().eval()),
        convert_processor(processor, f"transformers:{target}"),
        _read_classes(model.config),
        preprocess_from=f"its {type(processor).__name__}",
        classes_from="its id2label",
    )


def _make_missing_weights_error(target: str, missing: Sequence[str]) -> ModelError:
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return ModelError(
        f"transformers:{target} has no weights for {missing[0]}{more}, so its outputs would be "
        "random. Name a checkpoint that was trained for this."
    )


def _wrap_logits(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(pixel_values=inputs).logits
            return logits

    return Logits()


def _wrap_vectors(model: torch.nn.Module, target: str, *, pooled: bool) -> torch.nn.Module:
    """Return a module with outputs ``(N, width)``: a backbone's pooled output, or its first
    token.
    """
    import torch

    class Vectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            output: Any = self.model(pixel_values=inputs)
            found = getattr(output, "pooler_output" if pooled else "last_hidden_state", None)
            if found is None:
                raise ModelError(
                    f"transformers:{target}: {type(self.model).__name__} has no pooled output. Build "
                    "what gives vectors yourself and wrap it: Encoder(module, preprocess)."
                )
            # Convolutional backbones keep the two spatial axes, of length 1.
            vectors: torch.Tensor = found.flatten(1) if pooled else found[:, 0]
            return vectors

    return Vectors()


def _read_classes(config: Any) -> Classes:
    """Return the classes of a configuration; ImageNet's if they have its names."""
    names = [str(config.id2label.get(index, index)) for index in range(max(config.id2label) + 1)]
    if names == [f"LABEL_{index}" for index in range(len(names))]:
        return number_classes(len(names))
    return imagenet() if _is_imagenet(names) else name_classes(names)


def _is_imagenet(names: list[str]) -> bool:
    """Whether labels are the lemmas of ImageNet's classes, in order: "tench, Tinca tinca"."""
    known = imagenet()
    return len(names) == len(known) and all(
        index in known.find_all(name.partition(",")[0]) for index, name in enumerate(names)
    )


def _is_headed(config: Any) -> bool:
    return any(name.endswith(_HEAD) for name in config.architectures or ())


def _is_image_text(transformers: Any, config: Any) -> bool:
    mapping = transformers.MODEL_MAPPING
    return type(config) in mapping and has_both_towers(mapping[type(config)])


def _describe_architecture(config: Any) -> str:
    return ", ".join(config.architectures or ()) or type(config).__name__
