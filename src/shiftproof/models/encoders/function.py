"""Encoders from a user's function: ``python:my_nets:make``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from shiftproof.errors import ModelError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.classifiers.function import USUAL, split_classifier
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.encoders.encoder import Encoder
from shiftproof.models.encoders.features import drop_last_layer
from shiftproof.models.own_functions import OwnFunction, add_fingerprint, import_model
from shiftproof.models.structure import copy_structure, is_torch_module

if TYPE_CHECKING:
    import torch

_EXPECTED = (
    "a torch.nn.Module or a function from float32 (N, C, H, W) to vectors, a shiftproof.Encoder, or "
    "a shiftproof.Classifier of a torch.nn.Module"
)


def load_function_encoder(target: str, options: LoadOptions) -> Loaded:
    """Import ``MODULE:FUNCTION``, also from the working directory, and call it.

    The outputs of a network or a function that it returns are the vectors. An ``Encoder`` and a
    ``Classifier`` keep their own preprocessing; of a classifier the features before its last layer
    are the vectors. All else is as for classifiers.

    Raises:
        InputError, UnknownNameError, ModelError: as
            :func:`~shiftproof.models.own_functions.import_model`.
    """
    own, made = import_model(target, (Encoder, Classifier), _EXPECTED)
    if isinstance(made, Classifier):
        return _take_features(made, own)
    if isinstance(made, Encoder):
        return Loaded(
            add_fingerprint(made.module, own),
            made.preprocess,
            None,
            preprocess_from="the Encoder's",
            assumed=made.assumed,
            keeps_preprocess=True,
        )
    return Loaded(
        made,
        USUAL,
        None,
        preprocess_from="the usual one for ImageNet",
        assumed=("its outputs are the vectors",),
    )


def _take_features(classifier: Classifier, own: OwnFunction) -> Loaded:
    parts = split_classifier(classifier, own)
    if not is_torch_module(classifier.module):
        raise ModelError(
            f"python:{own.target} returned a Classifier of a function, which has no last layer to "
            f"take off; expected {_EXPECTED}."
        )
    # A copy, as the classifier may be measured itself.
    network = copy_structure(cast("torch.nn.Module", classifier.module), share="tensors")
    return parts._replace(
        module=drop_last_layer(network, f"python:{own.target}"),
        classes=None,
        assumed=("the features before the last layer", *parts.assumed),
    )
