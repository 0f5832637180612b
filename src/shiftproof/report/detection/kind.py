"""What the page of detectors has of its own."""

from __future__ import annotations

from shiftproof.report import wording
from shiftproof.report.detection import pictures as drawn
from shiftproof.report.detection.sections import classes_section, sizes_section
from shiftproof.report.detection.wording import headline, short_title, tell_missing
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import Entry, Shown
from shiftproof.report.grid.references import reference_mpc_section
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.grid.words import level
from shiftproof.report.sections import Section, look_up, reading_section
from shiftproof.runs.scores.detection import Detail, Gallery
from shiftproof.runs.scores.reading import clean_text


def _sections(shown: Shown, pictures: Pictures) -> list[Section | None]:
    return [
        reference_mpc_section(shown),
        sizes_section(shown),
        classes_section(shown),
        drawn.gallery_section(shown, pictures),
        drawn.worst_section(shown, pictures),
    ]


def _reading(shown: Shown, pictures: Pictures) -> Section:
    scores = shown.first.scores
    return reading_section(
        "detection_reading.html.j2",
        {
            "measure": scores.measure.name,
            "measure_title": scores.measure.title,
            "level": level(scores),
            "interval": scores.interval,
            "sizes": any(entry.detail(Detail).sizes for entry in shown.entries),
            "pictures": bool(pictures.uris),
        },
    )


def warn(shown: Shown) -> list[str]:
    """Say which classes detectors have not, once for all that lack the same."""
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


DETECTION = TaskPage(
    gallery=Gallery,
    picture_sizes=drawn.PICTURE_SIZES,
    models="detectors",
    headline=headline,
    sections=_sections,
    reading=_reading,
    warnings=warn,
    spell=short_title,
    differing={"measure": lambda run: run.settings.get("measure")},
    broken=(
        "An image that cannot be read in one cell is left out of all of them, and of every model "
        "alike, so that all cells are over the same images."
    ),
)
