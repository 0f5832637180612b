"""The page of an anytime run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from shiftproof.errors import InputError
from shiftproof.report import wording
from shiftproof.report.anytime import tables
from shiftproof.report.anytime.sections import (
    build_draws_section,
    build_overview_section,
    reading_of,
)
from shiftproof.report.anytime.wording import describe_end
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
from shiftproof.report.table_writing import Table
from shiftproof.runs.run import AnytimeRun
from shiftproof.runs.scores.anytime import AnytimeScores

BROKEN = "An image that cannot be read is left out of the number, in all cells."


@final
class AnytimePage(PageKind[AnytimeRun, AnytimeScores]):
    """One number over the grid, and how it narrowed."""

    form = AnytimeScores

    def build(self, runs: Sequence[AnytimeRun], pictures: Pictures) -> Document:
        """Return the page of one run.

        Raises:
            InputError: several; models that are to be compared belong into one.
        """
        if len(runs) > 1:
            raise InputError(
                f"Expected one anytime run, got {len(runs)}: their draws differ, so that their numbers "
                "cannot be paired. Name the models in one run, with --compare."
            )
        [run] = runs
        scores = run.scores
        frost = describe_generated_frost(run)
        sections = [
            build_overview_section(scores),
            build_draws_section(scores),
            list_broken_files(runs, BROKEN),
            build_numbers_section(runs, tables.summarize, tables.write_figures, unit="fractions"),
            build_settings_section(runs),
            reading_of(scores),
        ]
        names = [one.title or one.name for one in scores.models]
        counts = [
            wording.pluralize(scores.used or 0, "image"),
            wording.pluralize(len(scores.cells), "cell"),
        ]
        return Document(
            title=f"{scores.headline.title} of {wording.join_list(names)}",
            kicker="Anytime run",
            short="One number, anytime",
            byline=[make_byline(run, name_runs(runs)[0], counts)],
            lead=[describe_end(scores)],
            sections=[section for section in sections if section is not None],
            warnings=[] if frost is None else [frost],
        )

    def load_pictures(
        self, runs: Sequence[AnytimeRun], budget: int, images: Sequence[Path]
    ) -> Pictures:
        """Return none: an anytime run keeps no pictures."""
        return Pictures()

    def summarize(self, scores: AnytimeScores) -> Table:
        """Return the number of every model and difference."""
        return tables.summarize(scores)
