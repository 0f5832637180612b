"""Labels that files state for images, looked up in a model's classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shiftproof.classes import Classes, normalize_unicode, to_classes
from shiftproof.counts import pluralize
from shiftproof.data.disk import shorten
from shiftproof.errors import LabelError


class LabelReader:
    """Reader of the labels that files state for images.

    Args:
        classes: the model's classes or a list of their names, or None.
        class_map: from label to class, for labels that the model does not have.
        labeled: None reads labels if there are any; False ignores them; True requires them.
        key: the column or field of the label, if several are possible.

    Raises:
        LabelError: labels are required, but no classes given.
    """

    def __init__(
        self,
        classes: Classes | Iterable[str] | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
        key: str | None = None,
    ) -> None:
        if labeled and classes is None:
            raise LabelError("Labels need classes; none were given.")
        self.classes = to_classes(classes)
        self.labeled = labeled
        self.key = key
        self._class_map = {
            normalize_unicode(label): name for label, name in (class_map or {}).items()
        }

    @property
    def reads_labels(self) -> bool:
        """Whether labels are read."""
        return self.labeled is not False and self.classes is not None

    def find_class(self, label: object, where: str) -> int:
        """Return the class index of a number or a name; see ``Classes.find``.

        Raises:
            LabelError: not a number or name of a class; the message starts with ``where``.
        """
        assert self.classes is not None
        text = check_label(label, where)
        try:
            return self.classes.index(self._class_map.get(normalize_unicode(text), text))
        except LabelError as error:
            raise LabelError(f"{where}: {error}") from error

    def match_classes(
        self, names: Sequence[str], used: Iterable[int], where: str
    ) -> dict[int, int]:
        """Map each used label of a dataset to the model's class, by the dataset's class names.

        A name with commas, such as ImageNet's "tench, Tinca tinca", matches by any part. If several
        classes have the name, it is the class of the same index, provided that there are as many
        names as classes.

        Raises:
            LabelError: names that the model does not know.
        """
        assert self.classes is not None
        labels = sorted(set(used))
        matches = {label: self._match_class(names, label, where) for label in labels}
        known = {label: index for label, index in matches.items() if index is not None}
        unknown = [names[label] for label in labels if label not in known]
        if unknown:
            shown = (
                self.classes.names if len(self.classes) <= 20 else (*self.classes.names[:5], "…")
            )
            raise LabelError(
                f"{where}: the model knows {len(known) or 'none'} of the {pluralize(len(labels), 'class')} "
                f"that the images are of. Unknown: {shorten(unknown)}. Expected names of its "
                f"{pluralize(len(self.classes), 'class')} ({', '.join(shown)}). Give a class map "
                "(--class-map "
                "FILE, rows of folder,class), or measure without labels (--unlabeled, "
                "labeled=False)."
            )
        return known

    def _match_class(self, names: Sequence[str], label: int, where: str) -> int | None:
        assert self.classes is not None
        name = names[label]
        mapped = self._class_map.get(normalize_unicode(name), self._class_map.get(str(label)))
        if mapped is not None:
            return self.find_class(mapped, f"{where}, class {name!r}")
        has_same_count = len(names) == len(self.classes)
        if has_same_count and self.classes.is_numbered:
            return label
        candidates = set(self.classes.find_all(name))
        if not candidates:
            parts = (set(self.classes.find_all(part)) for part in name.split(","))
            known_parts = [part for part in parts if part]
            candidates = set.intersection(*known_parts) if known_parts else set()
        if has_same_count and label in candidates:
            return label
        return candidates.pop() if len(candidates) == 1 else None


def check_label(label: object, where: str) -> str:
    """Return a label as a string.

    Raises:
        LabelError: neither a number nor a name.
    """
    is_label = isinstance(label, int | str) and not isinstance(label, bool)
    text = str(label).strip() if is_label else ""
    if not text or len(text) > 1000:
        raise LabelError(
            f"{where}: expected a label, the name or the index of a class, got {label!r:.60}."
        )
    return text


def choose_key(keys: Iterable[str], candidates: Sequence[str], where: str) -> str | None:
    """Return the only candidate that is present, or None.

    Raises:
        LabelError: there are several.
    """
    existing = set(keys)
    found = [name for name in candidates if name in existing]
    if len(found) > 1:
        raise LabelError(
            f"{where}: {' and '.join(found)} could each be the label; say which (--label-key "
            f"{found[0]})."
        )
    return found[0] if found else None
