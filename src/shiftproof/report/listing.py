"""Sections of one form: sentences, a legend, charts, tables, and steps to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report.sections import Section
from shiftproof.report.svg.markup import Html
from shiftproof.report.wording import NumberFormat


@dataclass(frozen=True)
class Item:
    """A cell of a table: a text with its interval, or a drawing; ``style`` are classes to add."""

    text: str
    span: str = ""
    style: str = ""
    title: str = ""
    drawn: Html | None = None


@dataclass(frozen=True)
class Listing:
    """A table: headings with whether their columns hold numbers, and rows whose first cell names them.

    ``totals`` are names of rows that stand apart as sums, ``aside`` those that are no model of the runs.
    """

    title: str
    heads: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Item]]
    totals: frozenset[str] = frozenset()
    aside: frozenset[str] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing with the words below it."""

    drawn: Html
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Step:
    """Something to do next, and the command or option that does it; empty where there is none."""

    text: str
    command: str = ""


def write_figure(number_format: NumberFormat, figure: Interval | None) -> Item:
    """Return the cell of a figure with its interval."""
    cell = number_format.cell(figure)
    return Item(cell["value"], cell["span"])


def write_change(number_format: NumberFormat, change: Interval | None) -> Item:
    """Return the cell of a difference; it is bold where its interval excludes 0."""
    value = None if change is None else change.value
    sure = change is not None and not change.bare and not change.spans_zero
    return Item(
        number_format.change(value), number_format.change_span(change), "sure" if sure else ""
    )


def build_section(
    anchor: str,
    title: str,
    short: str,
    *,
    words: Sequence[str] = (),
    legend: Sequence[Mapping[str, object]] = (),
    charts: Sequence[Chart] = (),
    tables: Sequence[Listing] = (),
    folded: Sequence[Listing] = (),
    notes: Sequence[str] = (),
) -> Section:
    """Build a section of sentences, charts and tables, in this order.

    ``folded`` are tables of every cell, which are unfolded by a click.
    """
    context = {
        "words": words, "legend": legend, "charts": charts, "tables": tables, "folded": folded,
        "notes": notes,
    }  # fmt: skip
    return Section(anchor, title, short, "listing.html.j2", context)


def build_steps_section(steps: Sequence[Step]) -> Section | None:
    """Build what to do next; None where nothing follows from the numbers."""
    if not steps:
        return None
    return Section("next", "What to do now", "Next", "steps.html.j2", {"steps": steps})
