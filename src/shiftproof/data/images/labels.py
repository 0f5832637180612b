"""Looking up labels from files, by index or name, in a model's classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shiftproof.classes import Classes, normalize_unicode
from shiftproof.counts import plural
from shiftproof.data.disk import shorten
from shiftproof.errors import LabelError


class StatedLabels:
    """Reader of the labels that files state for images.

    Args:
        classes: the model's classes, or None.
        class_map: from label to class, for labels that the model does not have.
        labeled: None reads labels if there are any; False ignores them; True requires them.
        key: the column or field of the label, if several are possible.

    Raises:
        LabelError: labels are required, but no classes given.
    """

    def __init__(
        self,
        classes: Classes | None = None,
        *,
        class_map: Mapping[str, str] | None = None,
        labeled: bool | None = None,
        key: str | None = None,
    ) -> None:
        if labeled and classes is None:
            raise LabelError("Labels need classes; none were given.")
        self.classes = classes
        self.labeled = labeled
        self.key = key
        self._class_map = {
            normalize_unicode(name): meant for name, meant in (class_map or {}).items()
        }

    @property
    def are_read(self) -> bool:
        """Whether labels are read."""
        return self.labeled is not False and self.classes is not None

    def index(self, value: object, place: str) -> int:
        """Return the class index of a number or a name; see ``Classes.find``.

        Raises:
            LabelError: not a number or name of a class; the message begins with ``place``.
        """
        assert self.classes is not None
        text = check_label(value, place)
        try:
            return self.classes.index(self._class_map.get(normalize_unicode(text), text))
        except LabelError as error:
            raise LabelError(f"{place}: {error}") from error

    def translate(self, names: Sequence[str], used: Iterable[int], where: str) -> dict[int, int]:
        """Map each used label number to the model's class, by the dataset's class names.

        A name with commas, such as ImageNet's "tench, Tinca tinca", matches by any part. A name
        that several classes share means the class of the same number, if there are as many names as
        classes.

        Raises:
            LabelError: names that the model does not know.
        """
        assert self.classes is not None
        numbers = sorted(set(used))
        found = {number: self._meaning(names, number, where) for number in numbers}
        known = {number: label for number, label in found.items() if label is not None}
        unknown = [names[number] for number in numbers if number not in known]
        if unknown:
            shown = (
                self.classes.names if len(self.classes) <= 20 else (*self.classes.names[:5], "…")
            )
            raise LabelError(
                f"{where}: the model knows {len(known) or 'none'} of the {plural(len(numbers), 'class')} "
                f"that the images are of. Unknown: {shorten(unknown)}. Expected names of its "
                f"{plural(len(self.classes), 'class')} ({', '.join(shown)}). Give a class map (--class-map "
                "FILE, rows of folder,class), or measure without labels (--unlabeled, "
                "labeled=False)."
            )
        return known

    def _meaning(self, names: Sequence[str], number: int, where: str) -> int | None:
        assert self.classes is not None
        name = names[number]
        mapped = self._class_map.get(normalize_unicode(name), self._class_map.get(str(number)))
        if mapped is not None:
            return self.index(mapped, f"{where}, class {name!r}")
        as_many = len(names) == len(self.classes)
        if as_many and self.classes.is_numbered:
            return number
        meant = set(self.classes.find_all(name))
        if not meant:
            parts = [set(self.classes.find_all(part)) for part in name.split(",")]
            told = [part for part in parts if part]
            meant = set.intersection(*told) if told else set()
        if as_many and number in meant:
            return number
        return meant.pop() if len(meant) == 1 else None


def check_label(value: object, place: str) -> str:
    """Return a label as a string.

    Raises:
        LabelError: neither a number nor a name.
    """
    is_one = isinstance(value, int | str) and not isinstance(value, bool)
    text = str(value).strip() if is_one else ""
    if not text or len(text) > 1000:
        raise LabelError(
            f"{place}: expected a label, the name or the index of a class, got {value!r:.60}."
        )
    return text


def choose_key(there: Iterable[str], candidates: Sequence[str], where: str) -> str | None:
    """Return the only candidate that is present, or None.

    Raises:
        LabelError: there are several.
    """
    found = [name for name in candidates if name in set(there)]
    if len(found) > 1:
        raise LabelError(
            f"{where}: {' and '.join(found)} could each be the label; say which (--label-key "
            f"{found[0]})."
        )
    return found[0] if found else None
