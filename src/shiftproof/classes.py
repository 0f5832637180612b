"""What a model's outputs mean, and how a folder name or a label in a file finds its output."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from shiftproof.errors import LabelError, UnknownNameError


@dataclass(frozen=True)
class Classes:
    """The classes of a model, in the order of its outputs.

    ``names`` are for people. ``wordnet_ids`` (``n01440764``) are there for ImageNet only.
    ``synonyms`` maps further spellings to an index. ``title`` names the class space
    (``imagenet-1k``): numbers that are defined on one class space only ask for it.
    """

    names: tuple[str, ...]
    wordnet_ids: tuple[str, ...] | None = None
    synonyms: Mapping[str, int] = field(default_factory=dict, repr=False)
    title: str = "custom"

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelError("A class list needs at least one class, got none.")
        if self.wordnet_ids is not None and len(self.wordnet_ids) != len(self.names):
            raise LabelError(
                f"Expected one WordNet id per class, got {len(self.wordnet_ids)} ids "
                f"for {len(self.names)} classes."
            )

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def _exact(self) -> dict[str, int]:
        """Spelling to index. A spelling that stands for two classes stands for none."""
        table: dict[str, int] = {}
        ambiguous: set[str] = set()
        spellings = [(_fold(name), index) for index, name in enumerate(self.names)]
        for spelling, index in spellings:
            if table.setdefault(spelling, index) != index:
                ambiguous.add(spelling)
        for spelling in ambiguous:
            del table[spelling]
        for index, wordnet_id in enumerate(self.wordnet_ids or ()):
            table[wordnet_id] = index
        for name, index in self.synonyms.items():
            if (spelling := _fold(name)) not in ambiguous:
                table.setdefault(spelling, index)
        return table

    def find(self, label: str) -> int | None:
        """Return the index of the class that ``label`` spells, or None.

        Looked up in this order: WordNet id or name (upper case, spaces, hyphens and underscores
        make no difference), then a decimal index.
        """
        found = self._exact.get(_fold(label))
        if found is None and label.strip().isdecimal() and int(label) < len(self):
            found = int(label)
        return found

    def index(self, label: str) -> int:
        """Return the index of the class that ``label`` spells, or raise a LabelError saying what is near."""
        found = self.find(label)
        if found is not None:
            return found
        if label.strip().isdecimal():
            raise LabelError(
                f"Label {label} is outside the model's classes: it has {len(self)}, "
                f"so expected 0 to {len(self) - 1}."
            )
        shown = self.names if len(self) <= 20 else (*self.names[:5], "…")
        message = str(UnknownNameError.of("class", label, self.names)).partition(" Known:")[0]
        raise LabelError(
            f"{message} The model has {len(self)} classes ({', '.join(shown)}); "
            "give a class map (folder or label to class) if yours are spelt differently."
        )


def _fold(name: str) -> str:
    return " ".join(name.strip().lower().replace("_", " ").replace("-", " ").split())


def numbered(count: int) -> Classes:
    """Return ``count`` classes that are named by their index."""
    return Classes(tuple(str(index) for index in range(count)), title=f"{count} numbered classes")


def named(names: Iterable[str]) -> Classes:
    """Return the classes of a list of names, in the order of the model's outputs."""
    return Classes(tuple(names))


@functools.lru_cache(maxsize=1)
def imagenet() -> Classes:
    """Return the 1,000 classes of ILSVRC 2012 in the order that all published models use."""
    table = resources.files("shiftproof") / "labels" / "imagenet.csv"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    synonyms: dict[str, int] = {}
    ambiguous: set[str] = set()
    for index, row in enumerate(rows):
        for lemma in row["lemmas"].split("|"):
            if synonyms.setdefault(lemma, index) != index:
                ambiguous.add(lemma)
    for lemma in ambiguous:
        del synonyms[lemma]
    return Classes(
        names=tuple(row["name"] for row in rows),
        wordnet_ids=tuple(row["wordnet_id"] for row in rows),
        synonyms=synonyms,
        title="imagenet-1k",
    )
