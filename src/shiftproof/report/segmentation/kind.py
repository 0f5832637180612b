"""The parts of the page that are specific to segmenters."""

from __future__ import annotations

from shiftproof.report.detection.wording import short_title
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import PageContent
from shiftproof.report.grid.missing_classes import warn_of_missing_classes
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.grid.words import describe_level
from shiftproof.report.sections import Section, build_reading_section
from shiftproof.report.segmentation.pictures import (
    PICTURE_SIZES,
    build_examples_section,
    build_gallery_section,
)
from shiftproof.report.segmentation.sections import (
    build_classes_section,
    build_conditions_section,
    build_takers_section,
)
from shiftproof.report.segmentation.wording import describe_missing, headline
from shiftproof.runs.scores.segmentation import Detail, Gallery


def _make_sections(shown: PageContent, pictures: Pictures) -> list[Section | None]:
    return [
        build_gallery_section(shown, pictures),
        build_examples_section(shown, pictures),
        build_classes_section(shown),
        build_takers_section(shown),
        build_conditions_section(shown),
    ]


def _make_reading(shown: PageContent, pictures: Pictures) -> Section:
    scores = shown.first.scores
    return build_reading_section(
        "segmentation_reading.html.j2",
        {
            "level": describe_level(scores),
            "interval": scores.interval,
            "pictures": bool(pictures.uris),
        },
    )


SEGMENTATION = TaskPage(
    gallery=Gallery,
    picture_sizes=PICTURE_SIZES,
    list_files=lambda gallery: [file for one in gallery.examples for file in one.list_files()],
    models="segmenters",
    headline=headline,
    sections=_make_sections,
    reading=_make_reading,
    warnings=lambda shown: warn_of_missing_classes(shown, Detail, describe_missing),
    spell=short_title,
    broken=(
        "If an image cannot be read in one cell, it is left out of all cells for every model. So all "
        "cells have the same images."
    ),
)
