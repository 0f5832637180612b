"""The page of breaking points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from shiftproof.errors import InputError
from shiftproof.report import gallery, wording
from shiftproof.report.breaking import tables
from shiftproof.report.breaking.sections import (
    build_curves_section,
    build_gallery_section,
    build_overview_section,
    describe_models,
    reading_of,
)
from shiftproof.report.gallery import Pictures
from shiftproof.report.kind import PageKind
from shiftproof.report.sections import (
    Document,
    build_numbers_section,
    build_settings_section,
    describe_generated_frost,
    list_broken_files,
    make_byline,
    name_runs,
)
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.table_writing import Table
from shiftproof.runs.run import BreakingRun
from shiftproof.runs.scores.breaking import BreakingGallery, BreakingScores

BROKEN = "An image that cannot be read is left out, under all corruptions."


@final
class BreakingPage(PageKind[BreakingRun, BreakingScores]):
    """Where answers break, in figures, curves and pictures."""

    form = BreakingScores

    def build(self, runs: Sequence[BreakingRun], pictures: Pictures) -> Document:
        """Return the page of one run.

        Raises:
            InputError: several; models that are to be compared belong into one.
        """
        if len(runs) > 1:
            raise InputError(
                f"Expected one run of breaking points, got {len(runs)}: name all models in one, so that "
                "their differences have paired intervals. Write a report for each."
            )
        [run] = runs
        scores = run.scores
        looks = [
            SeriesStyle(
                model.title if len(scores.models) == 1 and model.title else model.name, place
            )
            for place, model in enumerate(scores.models)
        ]
        frost = describe_generated_frost(run)
        sections = [
            build_overview_section(scores, looks),
            build_curves_section(scores, looks),
            build_gallery_section(run, pictures),
            list_broken_files(runs, BROKEN),
            build_numbers_section(runs, tables.summarize, tables.write_figures, unit="fractions"),
            build_settings_section(runs),
            reading_of(scores),
        ]
        counts = [
            wording.pluralize(scores.used or 0, "image"),
            wording.pluralize(len(scores.corruptions), "corruption"),
        ]
        return Document(
            title=f"Where {wording.join_list([series.label for series in looks])} "
            + ("breaks" if len(looks) == 1 else "break"),
            kicker="Breaking points",
            short="Breaking points",
            byline=[make_byline(run, name_runs(runs)[0], counts)],
            lead=describe_models(scores)[:1],
            sections=[section for section in sections if section is not None],
            warnings=[] if frost is None else [frost],
        )

    def load_pictures(
        self, runs: Sequence[BreakingRun], budget: int, images: Sequence[Path]
    ) -> Pictures:
        """Read the images at their breaking points."""
        sheets = runs[0].gallery(BreakingGallery).sheets
        files = [[sheet.clean, *(one.file for one in sheet.pictures)] for sheet in sheets]
        return gallery.load(runs[0].path, files, budget=budget)

    def summarize(self, scores: BreakingScores) -> Table:
        """Return the mean breaking severities, and the errors that they mean."""
        return tables.summarize(scores)
