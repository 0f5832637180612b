"""The network of a zero-shot classifier: an image tower with the class vectors as last layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from shiftproof.classes import Classes, imagenet
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.image_text.class_vectors import ClassVectors, make_class_vectors
from shiftproof.models.image_text.prompts import make_prompts
from shiftproof.models.image_text.towers import ImageText
from shiftproof.unit_rows import normalize_tensor

if TYPE_CHECKING:
    import torch


def load_zero_shot(open_model: Callable[[], ImageText], options: LoadOptions) -> Loaded:
    """Return the parts of a classifier with classes given by prompts.

    It uses the options ``classes`` (None: ImageNet's), ``templates`` and ``run_folder``. The prompts are
    checked before ``open_model`` is called, which may take minutes.

    Raises:
        LabelError, InputError, BrokenFileError: as for :func:`make_prompts`.
        ModelError: the text tower returns no vectors.
    """
    classes: Classes = options.classes or imagenet()
    prompts = make_prompts(options.classes, options.templates)
    model = open_model()
    vectors = make_class_vectors(model.texts, prompts, run_folder=options.run_folder)
    templates = len(vectors.prompts.templates)
    return Loaded(
        build_zero_shot(model, vectors),
        model.preprocess,
        classes,
        preprocess_from=model.preprocess_from,
        classes_from="zero-shot",
        assumed=(
            f"{templates} {'template' if templates == 1 else 'templates'}, "
            f"such as {vectors.prompts.sentences(vectors.prompts.names[0])[0]!r}",
            *vectors.warn_of_shared(),
            *model.assumed,
        ),
    )


def build_zero_shot(model: ImageText, vectors: ClassVectors) -> torch.nn.Module:
    """Return a network from prepared images to ``(N, K)`` logits: ``scale * cosine + bias``.

    The last layer is a linear layer of class vectors, which adapters treat like any head. The text
    tower is no submodule: it is the attribute ``texts``, beside the cosine's ``scale`` and
    ``shift``, for adapters that learn prompts.
    """
    import torch

    width = vectors.values.shape[1]
    with torch.random.fork_rng(devices=[]):
        head = torch.nn.Linear(width, len(vectors.values), bias=model.bias != 0)
    with torch.no_grad():
        head.weight.copy_(_scale(vectors, model.scale))
        if model.bias:
            head.bias.fill_(model.bias)

    class ZeroShot(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = model.image
            self.head = head
            self.class_vectors = vectors
            self.texts, self.scale, self.shift = model.texts, model.scale, model.bias

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            unit = normalize_tensor(self.image(inputs))
            logits: torch.Tensor = self.head(unit.to(self.head.weight.dtype))
            return logits

        def describe_computed(self) -> dict[str, str]:
            """Return what the head was computed from, unless it has been trained."""
            weight = self.head.weight.detach()
            same = torch.equal(weight.cpu(), _scale(vectors, model.scale).to(weight.dtype))
            identity = f"{vectors.fingerprint} times {model.scale!r}"
            return {"head.weight": identity} if same else {}

    place = next(model.image.parameters()).device
    return ZeroShot().to(place)


def _scale(vectors: ClassVectors, scale: float) -> torch.Tensor:
    import torch

    return torch.from_numpy(vectors.values) * scale
