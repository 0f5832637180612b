"""Checks of an evaluation's arguments before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shiftproof.classes import label_set
from shiftproof.data.images.opening import check_data, find_copies
from shiftproof.errors import UnknownNameError
from shiftproof.evaluate.audited import read_audit
from shiftproof.evaluate.sets import ALL, check_name, make_copies_error


def check_request(
    sets: Mapping[str, str],
    labels: Mapping[str, str],
    audit: Path | None,
    class_map: Mapping[str, str] | None,
) -> None:
    """Check the test sets, their names, the label sets and the audit.

    ``labels`` maps the name of a test set to a label set, or to "all".

    Raises:
        UnknownNameError: no such test set or label set; suggests the nearest.
        InputError: a name that is not a valid file name, no images, corrupted copies, or a folder
            that is not an audit of these test sets.
    """
    for name, source in sets.items():
        check_name(name)
        if find_copies(source) is not None:
            raise make_copies_error(name, Path(source).resolve().name)
        check_data(source, class_map=class_map)
    for name, labels_of in labels.items():
        if name not in sets:
            raise UnknownNameError.of("test set", name, sets)
        if labels_of != ALL:
            label_set(labels_of)
    if audit is not None:
        read_audit(audit, list(sets))
