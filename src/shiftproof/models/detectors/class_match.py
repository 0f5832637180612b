"""Which class of a data set a detector's class is, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.classes import Classes, compose, name_classes
from shiftproof.errors import LabelError, UnknownNameError
from shiftproof.types import Detections, Settings

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("aeroplane", "airplane"),
    ("motorbike", "motorcycle"),
    ("sofa", "couch"),
    ("tvmonitor", "tv"),
)
"""Names of one class, of which Pascal VOC has the first and COCO the second.

From the class lists of the VOC development kit (Everingham et al. 2010) and of COCO's annotations
(Lin et al. 2014, as in torchvision's weights). The lists of the darknet YOLO networks (coco.names)
mix both. Spaces make no difference, so "diningtable" and "pottedplant" need no row. Cityscapes
(Cordts et al. 2016) spells its eight as COCO does; its "rider" is no class of COCO, whose persons on
a bicycle are persons, so it has no synonym.
"""


@dataclass(frozen=True)
class ClassMatch:
    """Which class of a data set each class of a detector is.

    Attributes:
        data_class: for each class of the detector the index of the data set's, or None.
        missing: names of the data set's classes that the detector has not: it can never find them.
        unused: names of the detector's classes that the data set has not.
    """

    data_class: tuple[int | None, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def translate(self, detections: Detections) -> Detections:
        """Return the detections of classes that the data set has, labeled by its classes.

        >>> match = match_classes(["person", "kite", "tv"], ["tvmonitor", "person"])
        >>> match.translate(Detections(np.zeros((3, 4)), [0.9, 0.8, 0.7], [0, 1, 2])).labels
        array([1, 0])
        """
        table = [-1 if index is None else index for index in self.data_class]
        labels = np.array(table, np.int64)[detections.labels]
        kept = np.flatnonzero(labels >= 0)
        masks = None if detections.masks is None else [detections.masks[index] for index in kept]
        return Detections(detections.boxes[kept], detections.scores[kept], labels[kept], masks)

    def settings(self) -> Settings:
        """Return what was matched and what was not, as JSON takes it."""
        return {
            "data_class": list(self.data_class),
            "missing": list(self.missing),
            "unused": list(self.unused),
        }


def match_classes(
    detector_classes: Classes | Iterable[str],
    data_classes: Classes | Iterable[str],
    *,
    mapping: Mapping[str, str] | None = None,
    synonyms: Sequence[Sequence[str]] = SYNONYMS,
    called: str = "detector",
) -> ClassMatch:
    """Match a detector's classes to a data set's by name.

    In this order: ``mapping``, the same name, a synonym. Upper case, spaces, hyphens and underscores
    make no difference. Several of the detector's classes may be one of the data set's.

    Args:
        detector_classes: the detector's, in the order of its labels.
        data_classes: the data set's.
        mapping: from a class of the detector to one of the data set, where the names do not say.
        synonyms: groups of names, each of one class.
        called: what errors call the model.

    Raises:
        UnknownNameError: ``mapping`` names a class that is not there; says the nearest.
        LabelError: two classes of the data set have the same name, or no class is matched.

    >>> match_classes(["person", "couch", "kite"], ["sofa", "person", "rider"])
    ClassMatch(data_class=(1, 0, None), missing=('rider',), unused=('kite',))
    """
    detector, data = _classes(detector_classes), _classes(data_classes)
    places: dict[str, int] = {}
    for index, name in enumerate(data.names):
        if _fold(name) in places:
            first = data.names[places[_fold(name)]]
            raise LabelError(
                f"Two classes of the data set have one name: {first!r} and {name!r}. Merge them."
            )
        places[_fold(name)] = index
    groups = [{_fold(name) for name in group} for group in synonyms]
    chosen = _map_names(mapping or {}, detector, data, places, called)
    found: list[int | None] = []
    for name in map(_fold, detector.names):
        others = [
            places[other] for group in groups if name in group for other in group & places.keys()
        ]
        found.append(chosen.get(name, places.get(name, min(others, default=None))))
    if all(index is None for index in found):
        raise LabelError(
            f"The {called} ({', '.join(detector.names[:5])}, …) and the data set "
            f"({', '.join(data.names[:5])}, …) have no class in common. Give mapping=, from the "
            f"{called}'s names to the data set's."
        )
    return ClassMatch(
        tuple(found),
        missing=tuple(name for index, name in enumerate(data.names) if index not in set(found)),
        unused=tuple(
            name for name, index in zip(detector.names, found, strict=True) if index is None
        ),
    )


def _map_names(
    mapping: Mapping[str, str],
    detector: Classes,
    data: Classes,
    places: Mapping[str, int],
    called: str,
) -> dict[str, int]:
    own = {_fold(name) for name in detector.names}
    for theirs, meant in mapping.items():
        if _fold(theirs) not in own:
            raise UnknownNameError.of(f"class of the {called}", theirs, detector.names)
        if _fold(meant) not in places:
            raise UnknownNameError.of("class of the data set", meant, data.names)
    return {_fold(theirs): places[_fold(meant)] for theirs, meant in mapping.items()}


def _classes(given: Classes | Iterable[str]) -> Classes:
    return given if isinstance(given, Classes) else name_classes(given)


def _fold(name: str) -> str:
    return "".join(compose(name).lower().replace("_", " ").replace("-", " ").split())
