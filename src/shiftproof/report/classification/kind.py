"""The parts of the page that are specific to classifiers."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from shiftproof.report.classification import estimates, sections, trust
from shiftproof.report.classification.answers import build_answers_sections
from shiftproof.report.classification.corruption_errors import build_corruption_errors_section
from shiftproof.report.classification.wording import choose_words, has_labels, write_headline
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import PageContent
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.grid.words import describe_level
from shiftproof.report.sections import Section, build_reading_section, name_runs
from shiftproof.runs.scores.classification import Gallery

if TYPE_CHECKING:
    from shiftproof.bench.estimates.error_estimates import StreamEstimate


def _make_sections(shown: PageContent, pictures: Pictures) -> list[Section | None]:
    return [
        build_corruption_errors_section(shown),
        *build_answers_sections(shown),
        *trust.build_trust_sections(shown),
        estimates.build_estimators_section(shown),
        sections.build_gallery_section(shown, pictures),
        sections.build_worst_section(shown, pictures),
    ]


def _make_reading(shown: PageContent, pictures: Pictures) -> Section:
    scores = shown.first.scores
    return build_reading_section(
        "reading.html.j2",
        {
            "labeled": has_labels(scores),
            "level": describe_level(scores),
            "interval": scores.interval,
        },
    )


def warn(shown: PageContent, *, estimated: bool = False) -> list[str]:
    """Warn of lost coverage of prediction sets, and of the limits of a run without labels.

    ``estimated``: whether its errors are estimated.
    """
    found = trust.warn_of_lost_sets(shown)
    for run, name in zip(shown.runs, name_runs(shown.runs), strict=True):
        where = "" if len(shown.runs) == 1 else f"{name}: "
        if has_labels(run.scores):
            continue
        every = f"Outside “{estimates.TITLE}” every percentage" if estimated else "Every percentage"
        found.append(
            f"{where}These images have no labels. {every} is the share of images whose prediction "
            "differs from the same model's prediction for the clean image. There is no clean error, "
            "no mCE and no calibration error. A model that is wrong on clean images can look stable "
            "here."
        )
    return found


CLASSIFICATION = TaskPage(
    gallery=Gallery,
    models="classifiers",
    words=choose_words,
    headline=write_headline,
    sections=_make_sections,
    reading=_make_reading,
    warnings=warn,
    broken=(
        "If a file cannot be read in a cell, it is left out of this cell for every model. Each cell "
        "has the number of its images."
    ),
)


def make_stream_page(stream: StreamEstimate) -> TaskPage:
    """Return the page parts for a run without labels whose errors are estimated."""
    return dataclasses.replace(
        CLASSIFICATION,
        warnings=functools.partial(warn, estimated=True),
        first=functools.partial(estimates.build_stream_section, stream),
        lead=functools.partial(estimates.stream_lead, stream),
    )
