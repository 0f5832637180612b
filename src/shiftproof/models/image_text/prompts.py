"""Prompts of zero-shot classes: their names in templates, as in CLIP."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from shiftproof.classes import Classes, imagenet
from shiftproof.errors import InputError, LabelError
from shiftproof.io import files
from shiftproof.io.text import read_lines
from shiftproof.types import Settings

PLACE = "{}"
"""Placeholder for the name of a class in a template."""

PUBLISHED = {"openai": "clip-templates.txt", "simple": "clip-templates-simple.txt"}
"""Published sets of templates by name: the 80 for ImageNet (Radford et al. 2021, arXiv 2103.00020)
and seven with nearly the same accuracy; labels/README.md has the source.
"""


@dataclass(frozen=True)
class Prompts:
    """The prompts of classes.

    Attributes:
        names: class names in the prompts, in the order of the outputs.
        templates: sentences with ``{}`` for the name.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...]

    def sentences(self, name: str) -> list[str]:
        """Return a name in every template.

        >>> Prompts(("cat",), ("a photo of a {}.", "a drawing of a {}.")).sentences("cat")
        ['a photo of a cat.', 'a drawing of a cat.']
        """
        return [template.replace(PLACE, name) for template in self.templates]

    @property
    def fingerprint(self) -> str:
        """32 hex digits that change with any of the sentences."""
        words = (*self.names, "", *self.templates)
        return files.fingerprint(word.encode() + b"\0" for word in words)

    def settings(self) -> Settings:
        """Return the settings that identify these sentences, for JSON."""
        return {
            "classes": len(self.names),
            "templates": len(self.templates),
            "first": self.sentences(self.names[0])[0],
            "fingerprint": self.fingerprint,
        }


def make_prompts(
    classes: Classes | None, templates: Iterable[str] | str | Path | None = None
) -> Prompts:
    """Return the sentences for classes.

    ImageNet's classes are called as OpenAI calls them for CLIP (``labels/imagenet-clip.csv``), all
    others by their own names.

    Args:
        classes: what the outputs are to mean; None are ImageNet's.
        templates: what :func:`read_templates` takes.

    Raises:
        LabelError: a class without a name, or two classes with the same sentences.
        InputError: no template, or one without ``{}``.
        BrokenFileError: the file of templates cannot be read.
    """
    return Prompts(make_class_names(classes), read_templates(templates))


def make_class_names(classes: Classes | None) -> tuple[str, ...]:
    """Return the names of classes as sentences say them.

    Raises:
        LabelError: a class without a name, or two with the same.
    """
    if classes is None or classes == imagenet():
        return _read_names()
    return _check_names(classes.names)


def read_templates(given: Iterable[str] | str | Path | None) -> tuple[str, ...]:
    """Return templates: published ones by their word, one sentence, a file of them, or a list.

    Args:
        given: ``"openai"`` (80, the default for None) or ``"simple"`` (7); a sentence with ``{}``;
            the path of a text file with one a line; or a list of sentences.

    Raises:
        InputError: there is none, or one has no ``{}``.
        BrokenFileError: the file cannot be read.

    >>> read_templates("a photo of a {}.")
    ('a photo of a {}.',)
    """
    given = "openai" if given is None else given
    if isinstance(given, str) and given in PUBLISHED:
        return _read_templates(given)
    if isinstance(given, str) and PLACE in given:
        return (given,)
    if isinstance(given, str) and not Path(given).is_file() and not _is_path(given):
        raise InputError(
            f"Expected templates: {', '.join(PUBLISHED)}, a sentence with {PLACE} where the name of the "
            f"class stands, or a file of such sentences; got {given!r:.80}."
        )
    if isinstance(given, (str, Path)):
        return _check_templates(read_lines(Path(given)), str(given), ", line")
    return _check_templates(list(enumerate(given, 1)), "Template", "")


def _is_path(given: str) -> bool:
    """Return whether a text that is not an existing file looks like a file name."""
    return bool(Path(given).suffix) and " " not in given


def _check_templates(lines: Sequence[tuple[int, object]], where: str, noun: str) -> tuple[str, ...]:
    """Return templates; a message names ``where``, ``noun`` and the number of one."""
    if not lines:
        raise InputError(f"{where}: expected a template, got none.")
    templates = []
    for number, line in lines:
        if not isinstance(line, str) or PLACE not in line:
            raise InputError(
                f"{where}{noun} {number}: expected a sentence with {PLACE} where the name of the class "
                f"stands, such as 'a photo of a {PLACE}.', got {line!r:.80}."
            )
        templates.append(line.strip())
    return tuple(templates)


def _check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        # Tokenizers fold upper case and spaces.
        folded = " ".join(name.lower().split())
        if not folded:
            raise LabelError(
                f"Class {place} has no name to put into a sentence, got {name!r}; name every class."
            )
        if folded in places:
            raise LabelError(
                f"The classes {places[folded]} and {place} are both called {name!r}, so their "
                "sentences would be the same; give each a name of its own."
            )
        places[folded] = place
    return names


@functools.cache
def _read_names() -> tuple[str, ...]:
    rows = csv.DictReader(_read("imagenet-clip.csv").splitlines())
    return tuple(row["name"] for row in rows)


@functools.cache
def _read_templates(word: str) -> tuple[str, ...]:
    return tuple(_read(PUBLISHED[word]).splitlines())


def _read(name: str) -> str:
    return (resources.files("shiftproof") / "labels" / name).read_text(encoding="utf-8")
