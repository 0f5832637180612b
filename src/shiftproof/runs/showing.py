"""Notebook display of a run: for a grid each model's headlines, then the mean by corruption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftproof.display import write_table
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.plots import draw_heatmap
from shiftproof.runs.scores.grid import GridScores, Unit
from shiftproof.runs.scores.tidy import MAX_BARS, TidyScores, draw_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show_scores(scores: TidyScores) -> str:
    """Return scores as HTML: for a grid a table by corruption, for other kinds all values."""
    return _show_grid(scores) if isinstance(scores, GridScores) else scores._repr_html_()


def draw_scores(scores: TidyScores) -> Figure:
    """Return scores as a figure: for a grid a heat map of the first model, for other kinds bars.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if isinstance(scores, GridScores):
        return draw_heatmap(scores, scores.models[0], scores.measure)
    return draw_bars(list(scores.rows())[:MAX_BARS])


def _show_grid(scores: GridScores) -> str:
    """Return HTML: the headlines, and the first measure under every corruption."""
    names = [model.name for model in scores.models]
    headlines = [
        [
            headline.title,
            *(
                _format_figure(model.summary.get(headline.name), headline.unit)
                for model in scores.models
            ),
        ]
        for headline in scores.headlines
    ]
    measure = scores.measure
    tables = [model.of_corruptions(measure.name) for model in scores.models]
    corruptions = [
        [
            name.replace("_", " "),
            *(_format_figure(table.get(name), measure.unit) for table in tables),
        ]
        for name in scores.corruptions
    ]
    note = "Brackets: " + (
        f"{100 * scores.interval.level:g} % intervals." if scores.resampled else "none."
    )
    return write_table("Headlines", ["", *names], headlines, note) + write_table(
        f"{measure.title} under corruption", ["", *names], corruptions
    )


def _format_figure(figure: Interval | None, unit: Unit) -> str:
    if figure is None:
        return "–"
    scale, sign = (100, " %") if unit == "share" else (1, "")
    digits = ".1f" if unit == "share" else ".4g"
    ends = (
        "" if figure.bare else f" ({scale * figure.lower:{digits}}–{scale * figure.upper:{digits}})"
    )
    return f"{scale * figure.value:{digits}}{sign}{ends}"
