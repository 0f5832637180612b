"""Matching a detector's classes to a dataset's by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from shiftproof.classes import Classes, name_classes, normalize_unicode
from shiftproof.errors import LabelError, UnknownNameError
from shiftproof.types import Detections, Settings

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("aeroplane", "airplane"),
    ("motorbike", "motorcycle"),
    ("sofa", "couch"),
    ("tvmonitor", "tv"),
)
"""Groups of names of one class; the first is Pascal VOC's and the second COCO's.

From the class lists of the VOC development kit (Everingham et al. 2010) and of COCO's annotations
(Lin et al. 2014, as in torchvision's weights). The lists of the darknet YOLO networks (coco.names)
mix both. Spaces are ignored, so "diningtable" and "pottedplant" need no row. Cityscapes (Cordts et
al. 2016) spells its eight as COCO does; its "rider" has no synonym, since COCO labels people on
bicycles as persons.
"""


@dataclass(frozen=True)
class ClassMatch:
    """The dataset class of each detector class.

    Attributes:
        data_class: for each class of the detector the index of the dataset's class, or None.
        missing: names of the dataset's classes that the detector lacks and so cannot detect.
        unused: names of the detector's classes that the dataset lacks.
    """

    data_class: tuple[int | None, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def translate(self, detections: Detections) -> Detections:
        """Return the detections of the dataset's classes, with the dataset's labels.

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
        """Return matched and unmatched classes, for JSON."""
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
    called: str = "detector",
) -> ClassMatch:
    """Match a detector's classes to a dataset's by name.

    In this order: ``mapping``, the same name, a synonym. Case, spaces, hyphens and underscores are
    ignored. Several of the detector's classes may match one of the dataset's.

    Args:
        detector_classes: the detector's classes, in the order of its labels.
        data_classes: the dataset's classes.
        mapping: from a class of the detector to one of the dataset, where the names do not match.
        called: word for the model in errors.

    Raises:
        UnknownNameError: ``mapping`` has an unknown class; the error suggests the nearest name.
        LabelError: two classes of the dataset have the same name, or no class is matched.

    >>> match_classes(["person", "couch", "kite"], ["sofa", "person", "rider"])
    ClassMatch(data_class=(1, 0, None), missing=('rider',), unused=('kite',))
    """
    detector, data = _read_classes(detector_classes), _read_classes(data_classes)
    places: dict[str, int] = {}
    for index, name in enumerate(data.names):
        if _fold(name) in places:
            first = data.names[places[_fold(name)]]
            raise LabelError(
                f"Two classes of the dataset have one name: {first!r} and {name!r}. Merge them."
            )
        places[_fold(name)] = index
    groups = [{_fold(name) for name in group} for group in SYNONYMS]
    chosen = _map_names(mapping or {}, detector, data, places, called)
    found: list[int | None] = []
    for name in map(_fold, detector.names):
        others = [
            places[other] for group in groups if name in group for other in group & places.keys()
        ]
        found.append(chosen.get(name, places.get(name, min(others, default=None))))
    if all(index is None for index in found):
        raise LabelError(
            f"The {called} ({_list_first(detector)}) and the dataset "
            f"({_list_first(data)}) have no class in common. Give a class map, from the {called}'s "
            "names to the dataset's (--class-map, mapping=)."
        )
    return ClassMatch(
        tuple(found),
        missing=tuple(name for index, name in enumerate(data.names) if index not in set(found)),
        unused=tuple(
            name for name, index in zip(detector.names, found, strict=True) if index is None
        ),
    )


def _list_first(classes: Classes) -> str:
    return ", ".join([*classes.names[:5], *(["…"] if len(classes.names) > 5 else [])])


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
            raise UnknownNameError.of("class of the dataset", meant, data.names)
    return {_fold(theirs): places[_fold(meant)] for theirs, meant in mapping.items()}


def _read_classes(given: Classes | Iterable[str]) -> Classes:
    return given if isinstance(given, Classes) else name_classes(given)


def _fold(name: str) -> str:
    return "".join(normalize_unicode(name).lower().replace("_", " ").replace("-", " ").split())
