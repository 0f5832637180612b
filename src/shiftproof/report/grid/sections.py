"""The sections over the corruption grid: bars, curves, heat maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shiftproof.report import wording
from shiftproof.report.grid import figures
from shiftproof.report.grid.entries import Shown
from shiftproof.report.grid.figures import Column
from shiftproof.report.sections import Section
from shiftproof.report.spelling import Spelling


@dataclass(frozen=True)
class Grid:
    """What a page shows over the grid, and in which words.

    ``columns`` are those of the models, ``differences`` those of the changes. ``clean`` says whether
    the clean images have figures, ``level`` what share the intervals hold (empty: there are none),
    ``spelling`` how a figure is spelt, and ``spell`` the title of a model.
    """

    shown: Shown
    columns: Sequence[Column]
    differences: Sequence[Column]
    measure: str
    level: str
    clean: bool
    lower_is_better: bool
    spelling: Spelling
    spell: Callable[[str], str] = str


def bars_section(grid: Grid) -> Section:
    """Build the bars: each corruption over its severities, the groups and the mean."""
    return Section(
        "corruptions",
        "Corruption by corruption",
        "Corruptions",
        "corruptions.html.j2",
        {
            **figures.bars(
                [entry.look for entry in grid.shown.entries],
                grid.columns,
                grid.differences,
                clean=grid.clean,
                spelling=grid.spelling,
            ),
            "legend": figures.legend(grid.shown.entries, spell=grid.spell),
            "entries": grid.shown.entries,
            "changes": grid.shown.changes,
            "measure": grid.measure,
            "unit": grid.spelling.phrase.strip(),
            "title": wording.capital(grid.measure),
            "better": "Shorter" if grid.lower_is_better else "Longer",
            "severities": figures.severities_phrase(grid.shown.runs),
            "level": grid.level,
        },
    )


def curves_section(grid: Grid, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Section:
    """Build the curves over the severities, and below them ``rows`` of every cell, folded away."""
    return Section(
        "curves",
        "How fast it breaks",
        "Curves",
        "curves.html.j2",
        {
            "groups": figures.curve_groups(
                grid.shown.runs,
                [entry.look for entry in grid.shown.entries],
                grid.columns,
                clean=grid.clean,
                spelling=grid.spelling,
            ),
            "legend": figures.legend(grid.shown.entries, spell=grid.spell),
            "level": grid.level,
            "measure": grid.measure,
            "title": wording.capital(grid.measure),
            "better": "Lower" if grid.lower_is_better else "Higher",
            "clean": grid.clean,
            "columns": [
                {"title": title, "number": place > 1, "ends": title == "Interval"}
                for place, title in enumerate(titles)
            ],
            "rows": rows,
        },
    )


def heat_section(
    maps: Sequence[dict[str, object]],
    words: Sequence[str],
    scales: Sequence[tuple[Sequence[tuple[str, str]], str]],
) -> Section:
    """Build the heat maps; ``words`` say how to read them, each of ``scales`` is steps and words."""
    return Section(
        "heat",
        "Corruption × severity",
        "Heat map",
        "heat.html.j2",
        {"maps": maps, "words": words, "scales": scales},
    )
