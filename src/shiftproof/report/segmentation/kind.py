"""What the page of segmenters has of its own."""

from __future__ import annotations

from shiftproof.report import wording
from shiftproof.report.detection.wording import short_title
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import Entry, Shown
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.grid.words import level
from shiftproof.report.sections import Section, look_up, reading_section
from shiftproof.report.segmentation.pictures import PICTURE_SIZES, examples_section, gallery_section
from shiftproof.report.segmentation.sections import (
    classes_section,
    conditions_section,
    takers_section,
)
from shiftproof.report.segmentation.wording import headline, tell_missing
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.scores.segmentation import Detail, Gallery


def _sections(shown: Shown, pictures: Pictures) -> list[Section | None]:
    return [
        gallery_section(shown, pictures),
        examples_section(shown, pictures),
        classes_section(shown),
        takers_section(shown),
        conditions_section(shown),
    ]


def _reading(shown: Shown, pictures: Pictures) -> Section:
    scores = shown.first.scores
    return reading_section(
        "segmentation_reading.html.j2",
        {
            "level": level(scores),
            "interval": scores.interval,
            "pictures": bool(pictures.uris),
        },
    )


def warn(shown: Shown) -> list[str]:
    """Say which classes segmenters have not, once for all that lack the same."""
    by_gap: dict[tuple[str, ...], list[Entry]] = {}
    for entry in shown.entries:
        missing = look_up(entry.run.settings, "classes", entry.scored.name, "missing")
        if isinstance(missing, list) and missing:
            by_gap.setdefault(tuple(clean_text(str(name)) for name in missing), []).append(entry)
    return [
        tell_missing(
            wording.listing([entry.label for entry in lacking]),
            gap,
            lacking[0].detail(Detail),
            lacking[0].run.scores,
        )
        for gap, lacking in by_gap.items()
    ]


SEGMENTATION = TaskPage(
    gallery=Gallery,
    picture_sizes=PICTURE_SIZES,
    list_files=lambda gallery: [file for one in gallery.examples for file in one.list_files()],
    models="segmenters",
    headline=headline,
    sections=_sections,
    reading=_reading,
    warnings=warn,
    spell=short_title,
    broken=(
        "An image that cannot be read in one cell is left out of all of them, and of every model "
        "alike, so that all cells are over the same images."
    ),
)
