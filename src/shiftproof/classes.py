"""The classes of a model's outputs, and finding the output of a folder name or a label.

A dataset may have only some of a model's classes, or merge several of them: a :class:`LabelSet` maps classes
to outputs.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from shiftproof.counts import pluralize
from shiftproof.errors import InputError, LabelError, UnknownNameError


@dataclass(frozen=True)
class Classes:
    """The classes of a model, in the order of its outputs.

    ``names`` are for display. Only ImageNet has ``wordnet_ids`` (``n01440764``). ``synonyms`` maps
    further names to an index, or to several indices. A name of several classes is ambiguous and finds
    none of them; :meth:`ambiguity` describes what to write instead. ``title`` names the class space
    (``imagenet-1k``): numbers that are defined on one class space only ask for it.
    """

    names: tuple[str, ...]
    wordnet_ids: tuple[str, ...] | None = None
    synonyms: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict, repr=False)
    title: str = "custom"

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelError("A class list needs at least one class, got none.")
        if self.wordnet_ids is not None and len(self.wordnet_ids) != len(self.names):
            raise LabelError(
                f"Expected one WordNet id per class, got {pluralize(len(self.wordnet_ids), 'id')} "
                f"for {pluralize(len(self.names), 'class')}."
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_numbered(self) -> bool:
        """Whether the names are only the indices."""
        return all(name == str(index) for index, name in enumerate(self.names))

    @functools.cached_property
    def _indices_by_name(self) -> dict[str, tuple[int, ...]]:
        """Normalized name to its classes, usually one."""
        indices_by_name: dict[str, set[int]] = {}
        for index, name in enumerate(self.names):
            indices_by_name.setdefault(_normalize(name), set()).add(index)
        for name, spelled in self.synonyms.items():
            indices_by_name.setdefault(_normalize(name), set()).update(
                [spelled] if isinstance(spelled, int) else spelled
            )
        table = {spelling: tuple(sorted(indices)) for spelling, indices in indices_by_name.items()}
        # Ids are unique, while names and synonyms may be shared.
        return table | {key: (index,) for index, key in enumerate(self.wordnet_ids or ())}

    def find_all(self, label: str) -> tuple[int, ...]:
        """Return the indices of all classes that ``label`` spells: none, one, or several.

        Looked up in this order: WordNet id, name or synonym (upper case, spaces, hyphens and
        underscores make no difference), then a decimal index. A name that is a synonym of another
        class spells both: a folder "crane" may hold birds or machines.
        """
        indices = self._indices_by_name.get(_normalize(label), ())
        # Not longer than an index can be: Python refuses to read numbers of thousands of digits.
        digits = label.strip().lstrip("0") or label.strip()[-1:]
        if not indices and digits.isdecimal() and len(digits) <= len(str(len(self))):
            indices = (int(digits),) if int(digits) < len(self) else ()
        return indices

    def find(self, label: str) -> int | None:
        """Return the index of the one class that ``label`` spells (see ``find_all``), or None."""
        indices = self.find_all(label)
        return indices[0] if len(indices) == 1 else None

    def index(self, label: str) -> int:
        """Return the index of the one class that the label of a sample spells (see ``find_all``).

        An index may be written "3.0", if no class has that name.

        Raises:
            LabelError: none, with the nearest names; or several, with their names.
        """
        indices = self.find_all(label)
        if not indices:
            label = _drop_point(label)
            indices = self.find_all(label)
        if len(indices) == 1:
            return indices[0]
        if indices:
            raise LabelError(self.describe_ambiguity(label))
        if label.strip().isdecimal():
            shown = label.strip() if len(label) < 20 else f"{label.strip()[:20]}…"
            raise LabelError(
                f"Label {shown} is outside the model's classes: it has {len(self)}, "
                f"so expected 0 to {len(self) - 1}."
            )
        shown = ", ".join(self.names if len(self) <= 20 else (*self.names[:5], "…"))
        message = str(UnknownNameError.of("class", label, self.names)).partition(" Known:")[0]
        raise LabelError(
            f"{message} The model has {pluralize(len(self), 'class')} ({shown}); "
            "give a class map (folder or label to class) if yours are spelled differently."
        )

    def describe_ambiguity(self, label: str) -> str:
        """Return a sentence on which classes ``label`` names and how to name one of them."""
        indices = self.find_all(label)
        ids = self.wordnet_ids
        spelled = [
            f"{self.names[index]} ({index if ids is None else f'{index}, {ids[index]}'})"
            for index in indices
        ]
        exact = indices[0] if ids is None else ids[indices[0]]
        return (
            f"{label!r} spells {len(indices)} classes: {' and '.join(spelled)}. Say the index"
            f"{'' if ids is None else ' or the WordNet id'}, in the label itself or by a class map "
            f"({label},{exact})."
        )


def _drop_point(label: str) -> str:
    """Return "3" for "3.0", other labels unchanged.

    Many programs write a column of indices with missing values as floats.
    """
    whole, _, fraction = label.strip().partition(".")
    return whole if whole.isdecimal() and fraction and not fraction.strip("0") else label


def normalize_unicode(name: str) -> str:
    """Return a name in Unicode's NFC; some file systems store a letter and its accent separately."""
    return unicodedata.normalize("NFC", name)


def _normalize(name: str) -> str:
    name = normalize_unicode(name)
    return " ".join(name.strip().lower().replace("_", " ").replace("-", " ").split())


def number_classes(count: int) -> Classes:
    """Return ``count`` classes that are named by their index."""
    return Classes(tuple(str(index) for index in range(count)), title=f"{count} numbered classes")


def name_classes(names: Iterable[str]) -> Classes:
    """Return the classes of a list of names, in the order of the model's outputs."""
    return Classes(tuple(names))


def to_classes(classes: Classes | Iterable[str] | None) -> Classes | None:
    """Return classes that are given as such or as a list of names; None stays None.

    Raises:
        InputError: anything else.
    """
    if classes is None or isinstance(classes, Classes):
        return classes
    names = None if isinstance(classes, str | bytes) else tuple(classes)
    if names is None or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"classes: expected a list of names in the order of the outputs, got {classes!r:.80}."
        )
    return name_classes(names)


@functools.lru_cache(maxsize=1)
def imagenet() -> Classes:
    """Return the 1,000 classes of ILSVRC 2012 in the order that all published models use."""
    rows = _read_table("imagenet")
    synonyms: dict[str, tuple[int, ...]] = {}
    for index, row in enumerate(rows):
        for lemma in row["lemmas"].split("|"):
            synonyms[lemma] = (*synonyms.get(lemma, ()), index)
    return Classes(
        names=tuple(row["name"] for row in rows),
        wordnet_ids=tuple(row["wordnet_id"] for row in rows),
        synonyms=synonyms,
        title="imagenet-1k",
    )


def _read_table(name: str) -> list[dict[str, str]]:
    text = (resources.files("shiftproof") / "labels" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


# ---------------------------------------------------------------- label sets


@dataclass(frozen=True, repr=False)
class LabelSet:
    """The classes of a dataset, each with its outputs of a model.

    ``restrict`` limits a model to these classes; the data are opened with the label set in place of
    the classes. The score of a class is the maximum of its outputs.

    ``classes`` are matched with the dataset's folder names. ``outputs`` has for each class indices into
    ``model_classes``, each at most once. Images in the folders ``left_out`` have no class and are skipped.
    ``border`` is the width in pixels of a frame around each image that is cropped.

    Raises:
        LabelError: not one group of outputs per class, an empty group, an output that is not in
            ``model_classes`` or occurs twice, or a folder that has a class and is left out.
    """

    title: str
    classes: Classes
    outputs: tuple[tuple[int, ...], ...]
    model_classes: Classes
    left_out: tuple[str, ...] = ()
    border: int = 0

    def __post_init__(self) -> None:
        if len(self.outputs) != len(self.classes):
            raise LabelError(
                f"{self.title}: expected outputs for each of "
                f"{pluralize(len(self.classes), 'class')}, got "
                f"{len(self.outputs)}."
            )
        check_outputs(self.outputs, len(self.model_classes), self.title)
        for folder in self.left_out:
            if self.classes.find_all(folder):
                raise LabelError(
                    f"{self.title}: the folder {folder!r} has a class and is left out."
                )

    def __repr__(self) -> str:
        return (
            f"LabelSet({self.title!r}, {pluralize(len(self.classes), 'class')}, outputs of "
            f"{self.model_classes.title})"
        )

    def leaves_out(self, folder: str) -> bool:
        """Whether ``folder`` is a folder without a class."""
        return _normalize(folder) in self._left_out

    @functools.cached_property
    def _left_out(self) -> frozenset[str]:
        return frozenset(_normalize(folder) for folder in self.left_out)

    def with_rest(self) -> LabelSet:
        """Return a label set with a further class, "none of these", for all other outputs.

        A prediction of another class than the dataset's then counts as wrong, as if the prediction were
        made over all of the model's outputs.
        """
        used = {output for group in self.outputs for output in group}
        rest = tuple(output for output in range(len(self.model_classes)) if output not in used)
        if not rest:
            raise LabelError(f"{self.title}: every output has a class, so there is no rest.")
        ids = {key: index for index, key in enumerate(self.classes.wordnet_ids or ())}
        classes = Classes(
            (*self.classes.names, "none of these"),
            synonyms={**self.classes.synonyms, **ids},
            title=self.classes.title,
        )
        return dataclasses.replace(self, classes=classes, outputs=(*self.outputs, rest))


def check_outputs(outputs: Sequence[Sequence[int]], count: int | None, name: str) -> None:
    """Raise a LabelError unless each group has outputs of 0 to ``count``, and each output one group."""
    seen: set[int] = set()
    for index, group in enumerate(outputs):
        if not group:
            raise LabelError(f"{name}: expected at least one output for class {index}, got none.")
        for output in group:
            if output < 0 or (count is not None and output >= count):
                limit = "0 or more" if count is None else f"0 to {count - 1}"
                raise LabelError(f"{name}: expected outputs of {limit}, got {output}.")
            if output in seen:
                raise LabelError(f"{name}: the output {output} stands for two classes or twice.")
            seen.add(output)


def _make_imagenet_subset(title: str) -> LabelSet:
    """Return the label set of a list of WordNet ids, in the order of ImageNet's outputs."""
    model_classes = imagenet()
    indices = tuple(sorted(model_classes.index(row["wordnet_id"]) for row in _read_table(title)))
    positions = {index: position for position, index in enumerate(indices)}
    assert model_classes.wordnet_ids is not None
    synonyms: dict[str, tuple[int, ...]] = {}
    for name, spelled in model_classes.synonyms.items():
        group = (spelled,) if isinstance(spelled, int) else spelled
        in_subset = tuple(positions[index] for index in group if index in positions)
        if in_subset:
            synonyms[name] = in_subset
    classes = Classes(
        tuple(model_classes.names[index] for index in indices),
        wordnet_ids=tuple(model_classes.wordnet_ids[index] for index in indices),
        synonyms=synonyms,
        title=title,
    )
    return LabelSet(title, classes, tuple((index,) for index in indices), model_classes)


def _make_folder_label_set(title: str, border: int = 0) -> LabelSet:
    """Return the label set of a table with columns folder, class, outputs; classes are sorted by name.

    A folder without a class is left out.
    """
    rows = _read_table(title)
    mapped = sorted((row for row in rows if row["class"]), key=lambda row: row["class"])
    groups = {
        row["class"]: tuple(int(output) for output in row["outputs"].split("|")) for row in mapped
    }
    positions = {name: position for position, name in enumerate(groups)}
    classes = Classes(
        tuple(name.replace("_", " ") for name in groups),
        synonyms={row["folder"]: positions[row["class"]] for row in mapped},
        title=title,
    )
    left_out = tuple(row["folder"] for row in rows if not row["class"])
    return LabelSet(title, classes, tuple(groups.values()), imagenet(), left_out, border)


LABEL_SETS: dict[str, Callable[[], LabelSet]] = {
    "imagenet-a": lambda: _make_imagenet_subset("imagenet-a"),
    "imagenet-r": lambda: _make_imagenet_subset("imagenet-r"),
    # As published, the best of all 1,000 outputs counts, so other classes are wrong predictions.
    "imagenet-d": lambda: _make_folder_label_set("imagenet-d").with_rest(),
    "objectnet": lambda: _make_folder_label_set("objectnet", border=2),
}
"""Label sets by name; labels/README.md has their sources. ImageNet-V2, -Sketch and -C have all of
ImageNet's classes and need none."""


@functools.cache
def label_set(name: str) -> LabelSet:
    """Return a label set of ``LABEL_SETS``.

    Raises:
        UnknownNameError: no such label set; suggests the nearest.

    >>> label_set("imagenet-r")
    LabelSet('imagenet-r', 200 classes, outputs of imagenet-1k)
    """
    if name not in LABEL_SETS:
        raise UnknownNameError.of("label set", name, LABEL_SETS)
    return LABEL_SETS[name]()
