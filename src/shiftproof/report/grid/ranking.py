"""Models ranked by the headline, and every two of them: for the page and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from shiftproof.counts import pluralize
from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.grid.words import lower_first
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.report.table_writing import (
    LABEL_WIDTH,
    Column,
    Row,
    Table,
    begin_table,
    describe_figure,
    to_plain_text,
)
from shiftproof.report.wording import NumberFormat, find_number_format
from shiftproof.runs.scores.grid import GridScores, Headline
from shiftproof.runs.scores.ranking import Pair, Place, Ranking

MAX_SPANS = 6
"""Maximum number of models for intervals in the matrix; with more, tooltips have the intervals."""

MAX_MODELS = 40
"""Maximum number of models in the matrix, to limit the page size; the run's files have all."""


def build_ranking_section(shown: PageContent, ranking: Ranking | None) -> Section | None:
    """Build the ranks of the models and the matrix of their differences; None without a ranking."""
    scores = shown.first.scores
    headline = _headline(scores, ranking)
    if ranking is None or headline is None:
        return None
    entries = {entry.label: entry for entry in shown.entries}
    places = [place for place in ranking.places[:MAX_MODELS] if place.name in entries]
    number_format = find_number_format(headline.unit)
    return Section(
        "ranking",
        f"Ranking by {lower_first(headline.title)}",
        "Ranking",
        "ranking.html.j2",
        {
            "title": headline.title,
            "unit": number_format.phrase.strip(),
            "better": "Lower" if headline.lower_is_better else "Higher",
            "level": wording.level(scores.interval.level) if _has_places(ranking) else "",
            "rows": _make_rows(places, entries, number_format),
            "left_out": len(ranking.places) - len(places),
            "columns": [_make_head(place, entries) for place in places[1:]],
            "matrix": _make_matrix(places, ranking, entries, headline, level=scores.interval.level),
            "rule": describe_rule(scores, ranking),
            "pairs": len(ranking.pairs),
        },
    )


def _headline(scores: GridScores, ranking: Ranking | None) -> Headline | None:
    if ranking is None:
        return None
    return next((one for one in scores.headlines if one.name == ranking.headline), None)


def _has_places(ranking: Ranking) -> bool:
    return any(place.first is not None for place in ranking.places)


def _make_head(place: Place, entries: Mapping[str, Entry]) -> dict[str, object]:
    return {"label": place.name, "dot": charts.draw_dot(entries[place.name].series)}


def _make_rows(
    places: Sequence[Place], entries: Mapping[str, Entry], number_format: NumberFormat
) -> list[dict[str, object]]:
    low, top = charts.choose_axis_range((place.figure for place in places), number_format)
    top = max(top, *(place.figure.upper for place in places))  # a ratio may lie above 1
    return [
        {
            **_make_head(place, entries),
            **number_format.cell(place.figure),
            "rank": place.rank,
            "ranks": describe_ranks(place),
            "strip": charts.draw_interval(
                entries[place.name].series, place.figure, top=top, low=low
            ),
        }
        for place in places
    ]


def describe_ranks(place: Place) -> str:
    """Return ``1–3``, the range of a model's ranks over the resamples; empty without any."""
    if place.first is None or place.last is None:
        return ""
    if place.first == place.last:
        return str(place.first)
    return f"{place.first}{wording.DASH}{place.last}"


def _make_matrix(
    places: Sequence[Place],
    ranking: Ranking,
    entries: Mapping[str, Entry],
    headline: Headline,
    *,
    level: float,
) -> list[dict[str, object]]:
    """Return the upper triangle of the matrix: a row per model, a cell per lower-ranked model."""
    found = {(pair.name, pair.against): pair for pair in ranking.pairs}
    with_spans = len(places) <= MAX_SPANS
    rows = []
    for at, place in enumerate(places[:-1]):
        cells: list[dict[str, object] | None] = [None] * at
        for other in places[at + 1 :]:
            pair = found.get((place.name, other.name))
            cells.append(
                None
                if pair is None
                else _make_cell(pair, headline, with_span=with_spans, level=level)
            )
        rows.append({**_make_head(place, entries), "cells": cells})
    return rows


def _make_cell(
    pair: Pair, headline: Headline, *, with_span: bool, level: float
) -> dict[str, object]:
    number_format = find_number_format(headline.unit)
    told = f"{pair.name} {wording.MINUS} {pair.against}: {headline.title} "
    told += number_format.change_with_span(pair.difference)
    if pair.adjusted is not None:
        told += f", p after Holm {describe_p(pair.adjusted)}"
    return {
        "value": number_format.change(pair.difference.value),
        "span": number_format.change_span(pair.difference) if with_span else "",
        "sure": not pair.difference.spans_zero,
        "mark": is_significant_after_holm(pair, level=level),
        "title": told,
    }


def describe_p(p: float) -> str:
    """Return ``0.03``, or ``below 0.001``."""
    return "below 0.001" if p < 0.001 else f"{p:.2g}"


def is_significant_after_holm(pair: Pair, *, level: float) -> bool:
    """Whether a difference is significant when all pairs are tested together."""
    return pair.adjusted is not None and pair.adjusted <= 1 - level + 1e-12


def describe_rule(scores: GridScores, ranking: Ranking) -> str:
    """Explain when a difference is significant, with and without correction for many pairs."""
    if not _has_places(ranking):
        return "Without images to resample, the significance of differences is unknown."
    level = wording.level(scores.interval.level)
    pairs = wording.pluralize(len(ranking.pairs), "pair")
    chance = f"{100 * (1 - scores.interval.level):.2g}{wording.PERCENT}"
    said = (
        f"A difference in bold is significant: its {level} interval, paired over the same resamples "
        "of the images, excludes 0."
    )
    if len(ranking.pairs) == 1:
        return said
    return (
        f"{said} {wording.capitalize(pairs)} are compared, and about {chance} of the pairs without a "
        "difference get such an interval by chance. A star marks differences that are significant after "
        f"the correction of Holm (1979), at {chance}, with p-values from the resamples."
    )


# ---------------------------------------------------------------- tables


def tabulate_ranking(scores: GridScores, ranking: Ranking | None) -> Table | None:
    """Return the models, best first, with the difference of each to every other; None for one model."""
    headline = _headline(scores, ranking)
    if ranking is None or headline is None:
        return None
    number_format = find_number_format(headline.unit)
    names = [place.name for place in ranking.places]
    pairs = {(pair.name, pair.against): pair.difference for pair in ranking.pairs}
    rows = tuple(
        Row(
            "rank",
            place.name,
            f"{place.rank} {place.name}",
            "",
            headline.name,
            (place.figure, *(pairs.get((place.name, other)) for other in names[1:])),
            number_format,
        )
        for place in ranking.places
    )
    return Table(
        columns=(Column(headline.title), *(Column("row", other) for other in names[1:])),
        rows=rows,
        caption=(
            f"Ranking by {lower_first(headline.title)}{number_format.short_phrase}; differences are row "
            "minus column, paired by image."
        ),
        notes=(_make_terminal_rule(scores, ranking),),
        number_format=number_format,
    )


# ---------------------------------------------------------------- terminal


def format_ranking(scores: GridScores, ranking: Ranking | None) -> Group | None:
    """Return the ranking for a terminal; None for one model."""
    headline = _headline(scores, ranking)
    if ranking is None or headline is None:
        return None
    number_format = find_number_format(headline.unit)
    better = "lower" if headline.lower_is_better else "higher"
    return Group(
        Text(""),
        Text(
            to_plain_text(
                f"Ranking by {lower_first(headline.title)}{number_format.short_phrase}, {better} is better"
            ),
            style="bold",
        ),
        _make_terminal_table(scores, ranking, number_format),
        Text(to_plain_text(_make_terminal_rule(scores, ranking)), style="dim"),
    )


def _make_terminal_table(
    scores: GridScores, ranking: Ranking, number_format: NumberFormat
) -> RichTable:
    table = begin_table()
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", max_width=LABEL_WIDTH)
    for title in ("figure", "ranks", "minus next", "significant"):
        table.add_column(title, justify="right", no_wrap=True)
    pairs = {(pair.name, pair.against): pair for pair in ranking.pairs}
    for at, place in enumerate(ranking.places):
        following = ranking.places[at + 1] if at + 1 < len(ranking.places) else None
        pair = None if following is None else pairs.get((place.name, following.name))
        table.add_row(
            str(place.rank),
            Text(to_plain_text(place.name)),
            describe_figure(place.figure, number_format),
            to_plain_text(describe_ranks(place)) or "-",
            Text("")
            if pair is None
            else describe_figure(pair.difference, number_format, is_difference=True),
            _count_significant(place.name, ranking, level=scores.interval.level),
        )
    return table


def _count_significant(name: str, ranking: Ranking, *, level: float) -> str:
    """Return ``3 of 4, 2*``: significant differences from other models, and those after correction."""
    own = [pair for pair in ranking.pairs if name in (pair.name, pair.against)]
    told = f"{sum(not pair.difference.spans_zero for pair in own)} of {len(own)}"
    if len(ranking.pairs) < 2:
        return told
    return f"{told}, {sum(is_significant_after_holm(pair, level=level) for pair in own)}*"


def _make_terminal_rule(scores: GridScores, ranking: Ranking) -> str:
    if not _has_places(ranking):
        return "no intervals: the significance of differences is unknown"
    level = wording.level(scores.interval.level)
    said = f"significant: the paired {level} interval excludes 0"
    if len(ranking.pairs) == 1:
        return said
    return f"{said}; *: after Holm's correction for {pluralize(len(ranking.pairs), 'pair')}"
