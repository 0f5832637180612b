"""Sections on recording conditions: bars and tables like those of the corruptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid import figures
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.sections import Section, name_runs
from shiftproof.report.svg import charts
from shiftproof.report.table_writing import (
    LABEL_WIDTH,
    Column,
    Row,
    Table,
    begin_table,
    describe_figure,
    to_csv,
    to_latex,
    to_plain_text,
)
from shiftproof.report.wording import NumberFormat, find_number_format
from shiftproof.runs.run import Run
from shiftproof.runs.scores.conditions import Condition, ConditionScores
from shiftproof.runs.scores.grid import Headline
from shiftproof.runs.scores.reading import read_form

MAX_CONDITIONS = 60
"""Maximum number of bars, to limit the page size; the run's files have all."""


def list_conditions(run: Run) -> list[ConditionScores]:
    """Return all figures by condition that lie in a run's folder.

    Raises:
        BrokenFileError: one of them cannot be read.
    """
    return [read_form(path, ConditionScores) for path in run.folder.conditions_files]


def build_conditions_sections(shown: PageContent, *, spell: Callable[[str], str]) -> list[Section]:
    """Build a section for each column of metadata that a run was scored by."""
    names = name_runs(shown.runs)
    listed = [
        (run, name, scores)
        for run, name in zip(shown.runs, names, strict=True)
        for scores in list_conditions(run)
    ]
    found = []
    for number, (run, name, scores) in enumerate(listed):
        own = {entry.scored.name: entry for entry in shown.of_run(run)}
        kept = [own[model] for model in scores.models if model in own]
        if kept:
            of_run = f", {name}" if len(names) > 1 else ""
            found.append(_section(scores, kept, number, spell, of_run))
    return found


@dataclass(frozen=True)
class _Change:
    """The heading of a column of differences."""

    label: str


def _section(
    scores: ConditionScores,
    entries: Sequence[Entry],
    number: int,
    spell: Callable[[str], str],
    of_run: str,
) -> Section:
    number_format = find_number_format(scores.measure.unit)
    rows = _list_rows(scores, entries)
    low, top = charts.choose_axis_range((one for row in rows for one in row.figures), number_format)
    highest = max((one.upper for row in rows for one in row.figures if one is not None), default=0)
    ends = (low, max(top, highest))
    title = title_column(scores.by)
    table = summarize(scores)
    return Section(
        f"conditions-by-{number}",
        f"By {title}{of_run}",
        f"{wording.capitalize(title)}{of_run}",
        "conditions.html.j2",
        {
            "words": describe_conditions(scores),
            "notes": _make_notes(scores),
            "legend": figures.make_legend(entries, spell=spell),
            "entries": entries,
            "changes": [_Change(f"{entry.label} against {scores.against}") for entry in entries],
            "first": wording.capitalize(title),
            "caption": f"{wording.capitalize(scores.measure.name)} of every model by {title}",
            "axis": charts.draw_axis(ends[1], ends[0], number_format),
            "groups": [
                {
                    "title": headline.title,
                    "rows": [
                        _draw(row, entries, ends, number_format)
                        for row in rows
                        if row.headline is headline
                    ],
                }
                for headline in list_charted(scores)
            ],
            "blocks": [
                {"id": f"by-{number}-csv", "title": "CSV", "text": to_csv(table)},
                {"id": f"by-{number}-latex", "title": "LaTeX (booktabs)", "text": to_latex(table)},
            ],
        },
    )


@dataclass(frozen=True)
class _Row:
    """One condition in one headline: of each model the figure, and its difference to the reference."""

    headline: Headline
    condition: Condition
    figures: Sequence[Interval | None]
    differences: Sequence[Interval | None]


def _list_rows(scores: ConditionScores, entries: Sequence[Entry]) -> list[_Row]:
    found = []
    for headline in list_charted(scores):
        for condition in scores.conditions[:MAX_CONDITIONS]:
            models = {one.name: one for one in condition.models}
            own = [models[entry.scored.name] for entry in entries]
            found.append(
                _Row(
                    headline,
                    condition,
                    [one.summary.get(headline.name) for one in own],
                    [one.difference.get(headline.name) for one in own],
                )
            )
    return found


def list_charted(scores: ConditionScores) -> list[Headline]:
    """Return the headlines that share the measure's axis: clean, and the mean under corruption."""
    return [
        one
        for one in scores.headlines
        if one.name in ("clean", "mean") and one.unit == scores.measure.unit
    ]


def _draw(
    row: _Row, entries: Sequence[Entry], ends: tuple[float, float], number_format: NumberFormat
) -> dict[str, object]:
    low, top = ends
    title = f"{row.condition.name} ({wording.pluralize(row.condition.images, 'image')})"
    looks = [entry.series for entry in entries]
    return {
        "title": title,
        "total": False,
        "bars": charts.draw_bars(
            list(zip(looks, row.figures, strict=True)),
            title=f"{title}, {row.headline.title}",
            top=top,
            low=low,
            number_format=number_format,
        ),
        "figures": [number_format.cell(one) for one in row.figures],
        "deltas": [number_format.change_cell(one) for one in row.differences],
    }


# ---------------------------------------------------------------- words


def title_column(by: str) -> str:
    """Return ``time of day`` for ``time_of_day``, and ``folder 2`` for ``part:2``."""
    name, colon, number = by.partition(":")
    if name == "part" and colon and number.isdecimal():
        return f"folder {number}"
    return by.replace("_", " ")


def describe_conditions(scores: ConditionScores) -> str:
    """Describe the table and its intervals."""
    number_format = find_number_format(scores.measure.unit)
    level = wording.level(scores.interval.level)
    return (
        f"{wording.capitalize(scores.measure.title)}{number_format.phrase} over the images of each "
        f"condition, clean and under corruption, with {level} intervals over its own images. Differences are "
        f"to {scores.against}; conditions have different images, so the intervals are those of "
        "independent samples. A difference in bold has an interval that excludes 0. Conditions may "
        "also differ in other respects: places, hours, objects."
    )


def _make_notes(scores: ConditionScores) -> list[str]:
    found = []
    if scores.unmatched:
        found.append(
            f"Of {wording.pluralize(scores.images, 'image')}, {scores.unmatched:,} are left out, "
            "since they are not in the metadata."
        )
    single = [one.name for one in scores.conditions if one.images == 1]
    if single:
        found.append(
            f"{wording.join_list(single)}: one image, so there is no interval, and the significance of "
            "differences is unknown."
        )
    few = [one for one in scores.conditions if 1 < one.images < wording.FEW_IMAGES]
    if few:
        named = [f"{one.name} ({one.images:,})" for one in few]
        found.append(
            f"Few images in {wording.join_list(named)}: the intervals are wide, and large "
            "differences may be chance."
        )
    left = len(scores.conditions) - MAX_CONDITIONS
    if left > 0:
        found.append(
            f"{wording.pluralize(left, 'more condition is', 'more conditions are')} in the run's files."
        )
    return found


# ---------------------------------------------------------------- tables


def summarize(scores: ConditionScores) -> Table:
    """Return a row for each condition in each headline; columns are models, then their differences."""
    columns = [
        *(Column(name) for name in scores.models),
        *(Column(name, scores.against) for name in scores.models),
    ]
    rows = [
        _make_row(headline, condition)
        for headline in scores.headlines
        for condition in scores.conditions
    ]
    number_format = find_number_format(scores.measure.unit)
    return Table(
        columns=tuple(columns),
        rows=tuple(row for row in rows if any(row.figures)),
        caption=(
            f"{wording.capitalize(scores.measure.title)}{number_format.short_phrase} by "
            f"{title_column(scores.by)}; differences to {scores.against}, not paired."
        ),
        notes=tuple(_make_notes(scores)),
        number_format=number_format,
    )


def _make_row(headline: Headline, condition: Condition) -> Row:
    return Row(
        kind=headline.name,
        name=condition.name,
        title=f"{condition.name}, {headline.title}",
        group="",
        measure=headline.name,
        figures=(
            *(one.summary.get(headline.name) for one in condition.models),
            *(one.difference.get(headline.name) for one in condition.models),
        ),
        number_format=find_number_format(headline.unit),
    )


def format_conditions(scores: ConditionScores) -> Group:
    """Return a block for each model and headline: the figure of each condition, and differences."""
    return Group(
        *(
            _make_terminal_block(scores, headline, name)
            for name in scores.models
            for headline in list_charted(scores)
        ),
        *(
            Text(to_plain_text(note), style="dim")
            for note in [_make_terminal_rule(scores), *_make_notes(scores)]
        ),
    )


def _make_terminal_rule(scores: ConditionScores) -> str:
    return (
        f"{scores.measure.name}{find_number_format(scores.measure.unit).short_phrase}; differences to "
        f"{scores.against}, bold if the {wording.level(scores.interval.level)} interval excludes 0"
    )


def _make_terminal_block(scores: ConditionScores, headline: Headline, model: str) -> RichTable:
    number_format = find_number_format(headline.unit)
    table = begin_table()
    table.add_column(Text(to_plain_text(model)), overflow="fold", max_width=LABEL_WIDTH)
    for title in ("images", headline.title, "difference"):
        table.add_column(title, justify="right", no_wrap=True)
    for condition in scores.conditions:
        found = next(one for one in condition.models if one.name == model)
        difference = found.difference.get(headline.name)
        table.add_row(
            Text(to_plain_text(condition.name)),
            f"{condition.images:,}",
            describe_figure(found.summary.get(headline.name), number_format),
            describe_figure(difference, number_format, is_difference=True),
        )
    table.add_row()
    return table
