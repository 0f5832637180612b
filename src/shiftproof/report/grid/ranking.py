"""Models ranked by the headline, and every two of them: for the page and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from shiftproof.counts import plural
from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, Shown
from shiftproof.report.grid.words import inside
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.report.table_writing import (
    Column,
    Row,
    Table,
    begin_table,
    describe_figure,
    plain_text,
)
from shiftproof.report.wording import Spelling, spelling_of
from shiftproof.runs.scores.grid import GridScores, Headline
from shiftproof.runs.scores.ranking import Pair, Place, Ranking

MOST_SPANS = 6
"""With more models the cells of the matrix hold the difference alone; a title has its interval."""

MOST_MODELS = 40
"""A larger matrix would make a page that no browser likes; the run's files have the rest."""


def ranking_section(shown: Shown, ranking: Ranking | None) -> Section | None:
    """Build the places of the models and the matrix of their differences; None without a ranking."""
    scores = shown.first.scores
    headline = _headline(scores, ranking)
    if ranking is None or headline is None:
        return None
    entries = {entry.label: entry for entry in shown.entries}
    places = [place for place in ranking.places[:MOST_MODELS] if place.name in entries]
    spelling = spelling_of(headline.unit)
    return Section(
        "ranking",
        f"Ranking by {inside(headline.title)}",
        "Ranking",
        "ranking.html.j2",
        {
            "title": headline.title,
            "unit": spelling.phrase.strip(),
            "better": "Lower" if headline.lower_is_better else "Higher",
            "level": wording.level(scores.interval.level) if _has_places(ranking) else "",
            "rows": _rows(places, entries, spelling),
            "left_out": len(ranking.places) - len(places),
            "columns": [_head(place, entries) for place in places[1:]],
            "matrix": _matrix(places, ranking, entries, headline, level=scores.interval.level),
            "rule": tell_rule(scores, ranking),
            "pairs": len(ranking.pairs),
        },
    )


def _headline(scores: GridScores, ranking: Ranking | None) -> Headline | None:
    if ranking is None:
        return None
    return next((one for one in scores.headlines if one.name == ranking.headline), None)


def _has_places(ranking: Ranking) -> bool:
    return any(place.first is not None for place in ranking.places)


def _head(place: Place, entries: Mapping[str, Entry]) -> dict[str, object]:
    return {"label": place.name, "dot": charts.dot(entries[place.name].look)}


def _rows(
    places: Sequence[Place], entries: Mapping[str, Entry], spelling: Spelling
) -> list[dict[str, object]]:
    low, top = charts.nice_ends((place.figure for place in places), spelling)
    top = max(top, *(place.figure.upper for place in places))  # a ratio may lie above 1
    return [
        {
            **_head(place, entries),
            **spelling.cell(place.figure),
            "rank": place.rank,
            "places": tell_places(place),
            "strip": charts.strip(entries[place.name].look, place.figure, top=top, low=low),
        }
        for place in places
    ]


def tell_places(place: Place) -> str:
    """Return ``1–3``, the places that a model has in the resamples; empty without any."""
    if place.first is None or place.last is None:
        return ""
    if place.first == place.last:
        return str(place.first)
    return f"{place.first}{wording.DASH}{place.last}"


def _matrix(
    places: Sequence[Place],
    ranking: Ranking,
    entries: Mapping[str, Entry],
    headline: Headline,
    *,
    level: float,
) -> list[dict[str, object]]:
    """Return a row for each model but the last, with a cell for each that is ranked below any."""
    found = {(pair.name, pair.against): pair for pair in ranking.pairs}
    with_spans = len(places) <= MOST_SPANS
    rows = []
    for at, place in enumerate(places[:-1]):
        cells: list[dict[str, object] | None] = [None] * at
        for other in places[at + 1 :]:
            pair = found.get((place.name, other.name))
            cells.append(
                None if pair is None else _cell(pair, headline, with_span=with_spans, level=level)
            )
        rows.append({**_head(place, entries), "cells": cells})
    return rows


def _cell(pair: Pair, headline: Headline, *, with_span: bool, level: float) -> dict[str, object]:
    spelling = spelling_of(headline.unit)
    told = f"{pair.name} {wording.MINUS} {pair.against}: {headline.title} "
    told += spelling.change_with_span(pair.difference)
    if pair.adjusted is not None:
        told += f", p after Holm {tell_p(pair.adjusted)}"
    return {
        "value": spelling.change(pair.difference.value),
        "span": spelling.change_span(pair.difference) if with_span else "",
        "sure": not pair.difference.spans_zero,
        "mark": holds_after_holm(pair, level=level),
        "title": told,
    }


def tell_p(p: float) -> str:
    """Return ``0.03``, or ``below 0.001``."""
    return "below 0.001" if p < 0.001 else f"{p:.2g}"


def holds_after_holm(pair: Pair, *, level: float) -> bool:
    """Whether a difference is significant when all pairs are tested together."""
    return pair.adjusted is not None and pair.adjusted <= 1 - level + 1e-12


def tell_rule(scores: GridScores, ranking: Ranking) -> str:
    """Say when a difference counts, and what many comparisons do to that."""
    if not _has_places(ranking):
        return "There are no images to resample: whether a difference is chance cannot be told."
    level = wording.level(scores.interval.level)
    pairs = wording.plural(len(ranking.pairs), "pair")
    chance = f"{100 * (1 - scores.interval.level):.2g}{wording.PERCENT}"
    said = (
        f"A difference in bold is beyond chance: its {level} interval, paired over the same "
        "resamples of the images, leaves out 0."
    )
    if len(ranking.pairs) == 1:
        return said
    return (
        f"{said} {wording.capital(pairs)} are compared, and of pairs that do not differ "
        f"about {chance} get such an interval by chance. A star marks those that hold together: "
        f"p-values from the resamples, corrected by Holm (1979), at {chance}."
    )


# ---------------------------------------------------------------- tables


def tabulate_ranking(scores: GridScores, ranking: Ranking | None) -> Table | None:
    """Return the models, best first, with the difference of each to every other; None of one model."""
    headline = _headline(scores, ranking)
    if ranking is None or headline is None:
        return None
    spelling = spelling_of(headline.unit)
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
            spelling,
        )
        for place in ranking.places
    )
    return Table(
        columns=(Column(headline.title), *(Column("row", other) for other in names[1:])),
        rows=rows,
        caption=(
            f"Ranking by {inside(headline.title)}{spelling.short_phrase}; differences are of the row "
            "less the column, paired by image."
        ),
        notes=(_terminal_rule(scores, ranking),),
        spelling=spelling,
    )


# ---------------------------------------------------------------- terminal


def ranking_for_terminal(scores: GridScores, ranking: Ranking | None) -> Group | None:
    """Return the ranking for a terminal; None of one model."""
    headline = _headline(scores, ranking)
    if ranking is None or headline is None:
        return None
    spelling = spelling_of(headline.unit)
    better = "lower" if headline.lower_is_better else "higher"
    return Group(
        Text(""),
        Text(
            plain_text(
                f"Ranking by {inside(headline.title)}{spelling.short_phrase}, {better} is better"
            ),
            style="bold",
        ),
        _terminal_table(scores, ranking, spelling),
        Text(plain_text(_terminal_rule(scores, ranking)), style="dim"),
    )


def _terminal_table(scores: GridScores, ranking: Ranking, spelling: Spelling) -> RichTable:
    table = begin_table()
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=28)
    for title in ("figure", "places", "minus the next", "told apart"):
        table.add_column(title, justify="right", no_wrap=True)
    pairs = {(pair.name, pair.against): pair for pair in ranking.pairs}
    for at, place in enumerate(ranking.places):
        following = ranking.places[at + 1] if at + 1 < len(ranking.places) else None
        pair = None if following is None else pairs.get((place.name, following.name))
        table.add_row(
            str(place.rank),
            Text(plain_text(place.name)),
            describe_figure(place.figure, spelling),
            plain_text(tell_places(place)) or "-",
            Text("")
            if pair is None
            else describe_figure(pair.difference, spelling, is_difference=True),
            _count_told(place.name, ranking, level=scores.interval.level),
        )
    return table


def _count_told(name: str, ranking: Ranking, *, level: float) -> str:
    """Return ``3 of 4, 2*``: significant differences from other models, and those after correction."""
    own = [pair for pair in ranking.pairs if name in (pair.name, pair.against)]
    told = f"{sum(not pair.difference.spans_zero for pair in own)} of {len(own)}"
    if len(ranking.pairs) < 2:
        return told
    return f"{told}, {sum(holds_after_holm(pair, level=level) for pair in own)}*"


def _terminal_rule(scores: GridScores, ranking: Ranking) -> str:
    if not _has_places(ranking):
        return "no intervals: whether a difference is chance cannot be told"
    level = wording.level(scores.interval.level)
    said = f"told apart: the {level} interval of the paired difference leaves out 0"
    if len(ranking.pairs) == 1:
        return said
    return f"{said}; *: after Holm's correction for {plural(len(ranking.pairs), 'pair')}"
