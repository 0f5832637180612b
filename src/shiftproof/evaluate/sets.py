"""The test sets of an evaluation: names, classes and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.classes import LABEL_SETS, Classes, LabelSet, imagenet, label_set
from shiftproof.data import CorruptedData, ImageData, check_labels, open_data
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.models import ClassifierLike

SETS = ("val", "sketch", "r", "a", "v2", "objectnet")
"""The six test sets of Mayilvahanan et al. 2024 (arXiv 2310.09562), by their short names."""

ALL = "all"
"""Value for a test set with all of the models' classes."""


@dataclass(frozen=True, eq=False)
class OpenSet:
    """A test set with its images and labels.

    Attributes:
        name: name in the run.
        data: the images.
        labels: its subset of the models' classes; None for all.
    """

    name: str
    data: ImageData
    labels: LabelSet | None


def find_labels(name: str) -> str | None:
    """Return the label set of a test set by its name; None if it has all classes.

    >>> find_labels("imagenet-r"), find_labels("R"), find_labels("sketch")
    ('imagenet-r', 'imagenet-r', None)
    """
    short_name = shorten_name(name)
    return next((known for known in LABEL_SETS if shorten_name(known) == short_name), None)


def shorten_name(name: str) -> str:
    """Return the short name of a test set: "ImageNet_R" is "r"."""
    return name.lower().replace("_", "-").removeprefix("imagenet-").removeprefix("in-")


def open_sets(
    sources: Mapping[str, ImageData | str | Path],
    labels: Mapping[str, str],
    models: Mapping[str, ClassifierLike],
    class_map: Mapping[str, str] | None,
) -> list[OpenSet]:
    """Open test sets for models of the same classes.

    ``labels`` are from the name of a set to a label set, or to "all", overriding
    :func:`find_labels`; the classes are those of the first model. ``class_map`` is from class
    folder to class.

    Raises:
        InputError: no test sets, a name that is not a valid file name, or data without labels.
        LabelError: folders that are not classes.
    """
    if not sources:
        raise InputError("Expected at least one test set, got none.")
    for name in labels:
        if name not in sources:
            raise UnknownNameError.of("test set", name, sources)
    classes = next(iter(models.values())).classes
    return [
        _open_set(name, data, labels.get(name), classes, class_map)
        for name, data in sources.items()
    ]


def check_name(name: str) -> None:
    """Check that a test set's name can be a file name."""
    if name == "clean" or not files.can_name_files(name):
        raise InputError(
            f"A test set cannot be called {name!r}: it names files, so letters, digits, '_', '.', "
            "'+' and '-' only, no '.' in front, and not 'clean'."
        )


def _open_set(
    name: str,
    data: ImageData | str | Path,
    requested: str | None,
    classes: Classes,
    class_map: Mapping[str, str] | None,
) -> OpenSet:
    check_name(name)
    chosen = _choose_labels(name, requested, classes)
    opened = open_data(data, classes=chosen or classes, class_map=class_map)
    if isinstance(opened, CorruptedData):
        raise make_copies_error(name, opened.name)
    check_labels(opened, chosen.classes if chosen else classes)
    if not opened.is_labeled:
        raise InputError(
            f"{name}: {opened.name} has no labels, so no accuracy; expected one folder per class, or "
            "a CSV of path,label."
        )
    return OpenSet(name, opened, chosen)


def make_copies_error(name: str, copies: str) -> InputError:
    """Return the error for corrupted copies given as a test set."""
    return InputError(f"{name}: {copies} holds corrupted copies; use `shiftproof bench` for these.")


def _choose_labels(name: str, requested: str | None, classes: Classes) -> LabelSet | None:
    if requested == ALL:
        return None
    if requested is not None:
        return label_set(requested)
    # The published lists are subsets of ImageNet's classes only.
    found = find_labels(name) if classes == imagenet() else None
    return None if found is None else label_set(found)


def restrict(model: Any, labels: LabelSet | None) -> Any:
    """Return a classifier restricted to the classes of a test set.

    Raises:
        InputError: the model has other classes, or cannot be restricted.
    """
    if labels is None:
        return model
    restrict_to = getattr(model, "restrict", None)
    if restrict_to is None:
        raise InputError(
            f"{labels.title} is a subset of {labels.model_classes.title}'s classes, and {model.name} cannot "
            "be restricted to it; restrict the classifier before it is adapted."
        )
    return restrict_to(labels)
