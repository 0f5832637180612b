"""Which class of a dataset each class of a segmenter is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shiftproof.classes import Classes
from shiftproof.counts import pluralize
from shiftproof.errors import LabelError
from shiftproof.models.detectors.class_match import ClassMatch, match_classes
from shiftproof.types import LabelMap


def match_pixel_classes(
    model_classes: Classes, data_classes: Classes, *, mapping: Mapping[str, str] | None = None
) -> ClassMatch:
    """Match a segmenter's classes to a dataset's by name, as a detector's are.

    If the names of either are numbers, classes are matched by index, and their numbers must be
    equal.

    Raises:
        LabelError: no class in common, or numbers of another count.
        UnknownNameError: ``mapping`` names an unknown class; says the nearest.
    """
    numbers = model_classes.is_numbered or data_classes.title == "numbered"
    if not numbers or mapping:
        return match_classes(model_classes, data_classes, mapping=mapping, called="model")
    if len(model_classes) != len(data_classes):
        raise LabelError(
            f"The model has {pluralize(len(model_classes), 'class')} and the dataset "
            f"{len(data_classes)}, and "
            "they have no names to match them by. Name those of the data (--classes) and of the "
            "model (?classes=NAMES.txt)."
        )
    return ClassMatch(tuple(range(len(model_classes))), (), ())


def translate_labels(match: ClassMatch, labels: LabelMap) -> LabelMap:
    """Return a label map in the dataset's classes, -1 where it is none of them.

    >>> match = match_pixel_classes(Classes(("car", "kite")), Classes(("road", "car")))
    >>> translate_labels(match, np.array([[0, 1, -1]], np.int16))
    array([[ 1, -1, -1]], dtype=int16)
    """
    of = [-1 if index is None else index for index in match.data_class]
    # The last entry is what -1 finds.
    return np.array([*of, -1], np.int16)[labels]
