"""The parts of the page that are specific to classifiers."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from shiftproof.report.classification import estimates, sections, trust
from shiftproof.report.classification.answers import answers_sections
from shiftproof.report.classification.corruption_errors import corruption_errors_section
from shiftproof.report.classification.wording import has_labels, headline, words_of
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import PageContent
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.grid.words import level
from shiftproof.report.sections import Section, name_runs, reading_section
from shiftproof.runs.scores.classification import Gallery

if TYPE_CHECKING:
    from shiftproof.bench.estimates import StreamEstimate


def _sections(shown: PageContent, pictures: Pictures) -> list[Section | None]:
    return [
        corruption_errors_section(shown),
        *answers_sections(shown),
        *trust.trust_sections(shown),
        estimates.estimators_section(shown),
        sections.gallery_section(shown, pictures),
        sections.worst_section(shown, pictures),
    ]


def _reading(shown: PageContent, pictures: Pictures) -> Section:
    scores = shown.first.scores
    return reading_section(
        "reading.html.j2",
        {
            "labeled": has_labels(scores),
            "level": level(scores),
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
            "no mCE and no calibration error, and a model that is wrong from the start can look "
            "steady here."
        )
    return found


CLASSIFICATION = TaskPage(
    gallery=Gallery,
    models="classifiers",
    words=words_of,
    headline=headline,
    sections=_sections,
    reading=_reading,
    warnings=warn,
    broken=(
        "A file that cannot be read is left out of the cells in which it could not, and of every "
        "model alike: each cell says over how many images its figures are."
    ),
)


def make_stream_page(stream: StreamEstimate) -> TaskPage:
    """Return the page parts for a run without labels whose errors are estimated."""
    return dataclasses.replace(
        CLASSIFICATION,
        warnings=functools.partial(warn, estimated=True),
        first=functools.partial(estimates.stream_section, stream),
        lead=functools.partial(estimates.stream_lead, stream),
    )
