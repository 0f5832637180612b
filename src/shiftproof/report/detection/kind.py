"""The parts of the page that are specific to detectors."""

from __future__ import annotations

from shiftproof.report.detection import pictures as drawn
from shiftproof.report.detection.sections import build_classes_section, build_sizes_section
from shiftproof.report.detection.wording import describe_missing, headline, short_title
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import PageContent
from shiftproof.report.grid.missing_classes import warn_of_missing_classes
from shiftproof.report.grid.references import build_reference_mpc_section
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.grid.words import describe_level
from shiftproof.report.sections import Section, build_reading_section
from shiftproof.runs.scores.detection import Detail, Gallery


def _make_sections(shown: PageContent, pictures: Pictures) -> list[Section | None]:
    return [
        build_reference_mpc_section(shown),
        build_sizes_section(shown),
        build_classes_section(shown),
        drawn.build_gallery_section(shown, pictures),
        drawn.build_worst_section(shown, pictures),
    ]


def _make_reading(shown: PageContent, pictures: Pictures) -> Section:
    scores = shown.first.scores
    return build_reading_section(
        "detection_reading.html.j2",
        {
            "measure": scores.measure.name,
            "measure_title": scores.measure.title,
            "level": describe_level(scores),
            "interval": scores.interval,
            "sizes": any(entry.detail(Detail).sizes for entry in shown.entries),
            "pictures": bool(pictures.uris),
        },
    )


DETECTION = TaskPage(
    gallery=Gallery,
    picture_sizes=drawn.PICTURE_SIZES,
    models="detectors",
    headline=headline,
    sections=_make_sections,
    reading=_make_reading,
    warnings=lambda shown: warn_of_missing_classes(shown, Detail, describe_missing),
    spell=short_title,
    differing={"measure": lambda run: run.settings.get("measure")},
    broken=(
        "If an image cannot be read in one cell, it is left out of all cells for every model. So all "
        "cells have the same images."
    ),
)
