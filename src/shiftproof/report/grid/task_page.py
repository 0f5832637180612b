"""Task-specific parts of the page of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shiftproof.report.gallery import SIZES, Encoding, Pictures
from shiftproof.report.grid.entries import PageContent
from shiftproof.report.grid.words import Words, headline
from shiftproof.report.sections import Section
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import GridScores, ModelScores


def _no_sections(shown: PageContent, pictures: Pictures) -> list[Section | None]:
    return []


def _no_words(shown: PageContent) -> list[str]:
    return []


def _no_reading(shown: PageContent, pictures: Pictures) -> Section | None:
    return None


@dataclass(frozen=True)
class TaskPage:
    """The parts of a page that belong to one task.

    Attributes:
        gallery: the type of its ``gallery.json``; None shows no pictures.
        picture_sizes: possible sizes of its pictures.
        list_files: returns further pictures of a gallery, placed before its sheets.
        models: plural noun for its models.
        words: wording of changes.
        headline: function that summarizes a model in a sentence.
        sections: sections after the curves.
        reading: section that explains the page.
        warnings: warnings at the top.
        spell: formats the title of a model.
        broken: sentence on the treatment of unreadable images.
        differing: further aspects in which compared runs must agree.
        first: a section before all others.
        lead: sentences before all others.
    """

    gallery: type[Any] | None = None
    picture_sizes: Sequence[Encoding] = SIZES
    list_files: Callable[[Any], list[str]] = lambda gallery: []
    models: str = "models"
    words: Callable[[GridScores], Words] = lambda scores: Words()
    headline: Callable[[GridScores, ModelScores, str], str] = headline
    sections: Callable[[PageContent, Pictures], list[Section | None]] = _no_sections
    reading: Callable[[PageContent, Pictures], Section | None] = _no_reading
    warnings: Callable[[PageContent], list[str]] = _no_words
    spell: Callable[[str], str] = str
    broken: str = (
        "A file that cannot be read is left out of the cells in which it could not, and of every "
        "model alike."
    )
    differing: dict[str, Callable[[Run], object]] = field(default_factory=dict)
    first: Callable[[PageContent], Section | None] = lambda shown: None
    lead: Callable[[PageContent], list[str]] = _no_words
