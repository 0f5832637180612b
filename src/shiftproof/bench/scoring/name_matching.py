"""Matching the image and class names of result files with the ground truth."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from shiftproof.errors import InputError
from shiftproof.metrics.coco_records import Ids


class NameIndex:
    """The images and classes of a dataset by all names that result files may use.

    An image has its id, where the dataset has ids, and beside it its path, its file name, its file
    name without suffix, and that as a number, as several frameworks write it. A class has its id and
    its name.

    Args:
        annotations: COCO annotations whose images have file names.
        has_ids: whether the ids of the images are the dataset's own. Ids that we have numbered
            ourselves are no names.
    """

    def __init__(self, annotations: Mapping[str, Any], *, has_ids: bool) -> None:
        images = annotations["images"]
        self._ids = Ids(record["id"] for record in images) if has_ids else Ids(())
        self._aliases = find_aliases(images)
        self._classes = _keep_unambiguous(
            (record["name"], record["id"]) for record in annotations["categories"]
        )
        self.may_clash = any(
            self._id(name) not in (None, identity) for name, identity in self._aliases.items()
        )
        """Whether a name is also another image's id, so that all files have to be considered."""

    def uses_file_names(self, where: str, values: Iterable[Any]) -> bool:
        """Return whether image ids are file names instead of ids.

        Raises:
            InputError: some can only be ids, others only names, and others again are both.
        """
        clash: Any = None
        only_id: Any = None
        only_name: Any = None
        for value in values:
            identity, named = self._id(value), self._name(value)
            if identity is not None and named is None:
                only_id = value
            elif named is not None and identity is None:
                only_name = value
            elif identity != named:
                clash = value
        if None not in (clash, only_id, only_name):
            raise InputError(
                f"{where}: the image_id {clash!r} is the id of one image and the file name of another; "
                f"{only_id!r} is an id only, and {only_name!r} a file name only. Write the ids of the "
                "annotations throughout."
            )
        return only_name is not None

    def translate(self, records: Sequence[Any], *, by_name: bool) -> list[Any]:
        """Return records of results with the ids of the ground truth; unknown ones are
        unchanged.
        """
        return [
            self._translate(one, by_name=by_name) if isinstance(one, Mapping) else one
            for one in records
        ]

    def _translate(self, record: Mapping[str, Any], *, by_name: bool) -> Mapping[str, Any]:
        changed: dict[str, Any] = {}
        if "image_id" in record:
            image = record["image_id"]
            found = self._name(image) if by_name else self._id(image)
            if found is None:
                found = self._id(image) if by_name else self._name(image)
            # Ids stay as written, so that the reader can report ids given as text.
            if found is not None and self._id(image) != found:
                changed["image_id"] = found
        category = record.get("category_id")
        if isinstance(category, str) and category in self._classes:
            changed["category_id"] = self._classes[category]
        return {**record, **changed} if changed else record

    def _id(self, value: Any) -> Any:
        return self._ids.find(value)[0]

    def _name(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, Hashable):
            return None
        return self._aliases.get(value)


def find_aliases(images: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
    """Return the unique names of images beside their ids."""
    return _keep_unambiguous(
        (name, record["id"]) for record in images for name in _list_names(record["file_name"])
    )


def _list_names(file_name: str) -> list[Any]:
    path = PurePosixPath(file_name.replace("\\", "/"))
    names: list[Any] = [file_name, str(path), path.name, str(path.with_suffix("")), path.stem]
    names += [int(path.stem)] if re.fullmatch(r"[0-9]{1,18}", path.stem) else []
    return list(dict.fromkeys(names))


def _keep_unambiguous(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    ambiguous = set()
    for name, identity in pairs:
        if name in found and found[name] != identity:
            ambiguous.add(name)
        found[name] = identity
    return {name: identity for name, identity in found.items() if name not in ambiguous}
