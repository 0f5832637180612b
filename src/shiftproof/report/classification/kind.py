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
from shiftproof.report.grid.entries import Shown
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.grid.words import level
from shiftproof.report.sections import Section, reading_section, run_names
from shiftproof.runs.scores.classification import Gallery

if TYPE_CHECKING:
    from shiftproof.bench.estimates import StreamEstimate


def _sections(shown: Shown, pictures: Pictures) -> list[Section | None]:
    return [
        corruption_errors_section(shown),
        *answers_sections(shown),
        *trust.trust_sections(shown),
        estimates.estimators_section(shown),
        sections.gallery_section(shown, pictures),
        sections.worst_section(shown, pictures),
    ]


def _reading(shown: Shown, pictures: Pictures) -> Section:
    scores = shown.first.scores
    return reading_section(
        "reading.html.j2",
        {
            "labeled": has_labels(scores),
            "level": level(scores),
            "interval": scores.interval,
        },
    )


def warn(shown: Shown, *, believed: bool = False) -> list[str]:
    """Warn of lost coverage of prediction sets, and of the limits of a run without labels.

    ``believed``: whether its errors are estimated.
    """
    found = trust.warn_of_lost_sets(shown)
    for run, name in zip(shown.runs, run_names(shown.runs), strict=True):
        where = "" if len(shown.runs) == 1 else f"{name}: "
        if has_labels(run.scores):
            continue
        every = f"Outside “{estimates.BELIEF}” every percentage" if believed else "Every percentage"
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


def believe(stream: StreamEstimate) -> TaskPage:
    """Return the page parts for a run without labels whose errors are estimated."""
    return dataclasses.replace(
        CLASSIFICATION,
        warnings=functools.partial(warn, believed=True),
        first=functools.partial(estimates.belief_section, stream),
        lead=functools.partial(estimates.belief_lead, stream),
    )
