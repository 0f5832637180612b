"""Classifiers from a user's function: ``python:my_nets:make``."""

from __future__ import annotations

from shiftproof.classes import Classes, number_classes
from shiftproof.models.classifiers.class_names import read_classes
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.classifiers.options import Loaded, LoadOptions
from shiftproof.models.own_functions import OwnFunction, add_fingerprint, import_model
from shiftproof.models.preprocess import Preprocess

USUAL = Preprocess((224, 224), 256)
"""What most networks for ImageNet are trained with; a network does not say how it was."""

_EXPECTED = (
    "a torch.nn.Module, a function from float32 (N, C, H, W) to logits, or a shiftproof.Classifier"
)


def load_function_classifier(target: str, options: LoadOptions) -> Loaded:
    """Import ``MODULE:FUNCTION``, also from the working directory, and call it.

    The function takes no arguments and returns a ``torch.nn.Module`` or a function, as
    ``Classifier`` takes them, or a ``Classifier``, which keeps its own preprocessing. Its attribute
    ``classes``, where it has one, names what the outputs mean. A network or a ``Classifier`` may
    stand in the module in its place. Importing runs the module.

    Raises:
        InputError, UnknownNameError, ModelError: as
            :func:`~shiftproof.models.own_functions.import_model`.
    """
    own, made = import_model(target, (Classifier,), _EXPECTED)
    if isinstance(made, Classifier):
        return split_classifier(made, own)
    return Loaded(
        made,
        USUAL,
        None if own.classes is None else read_classes(own.classes),
        preprocess_from="the usual one for ImageNet",
        classes_from="the function's",
    )


def split_classifier(classifier: Classifier, own: OwnFunction) -> Loaded:
    """Return the parts of a classifier that a function returned."""
    return Loaded(
        add_fingerprint(classifier.module, own),
        classifier.preprocess,
        _look_up_classes(classifier),
        preprocess_from="the Classifier's",
        classes_from="the Classifier's",
        assumed=classifier.assumed,
        outputs=classifier.outputs,
        dtype=classifier.dtype,
        keeps_preprocess=True,
    )


def _look_up_classes(classifier: Classifier) -> Classes | None:
    numbered = classifier.classes == number_classes(len(classifier.classes))
    return None if numbered and classifier.outputs is None else classifier.classes
