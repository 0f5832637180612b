"""Writing a table of figures: for a spreadsheet, a paper, a page of Markdown, a terminal.

All of them show the same rows with the ends of their intervals: as they are stored, or as people read
them, shares in percent.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.wording import SHARES, NumberFormat


@dataclass(frozen=True)
class Column:
    """A model, or a difference between two, as a column: ``against`` is what is subtracted.

    ``title`` stands in place of the name where people read; files keep the name.
    """

    name: str
    against: str | None = None
    title: str = ""

    @property
    def label(self) -> str:
        """The heading for people."""
        if self.against is None:
            return self.title or self.name
        return f"{self.name} {wording.MINUS} {self.against}"


@dataclass(frozen=True)
class Row:
    """One line: what kind it is, its name and heading, and a figure or None for each column.

    ``measure`` is what its figures are and ``spelling`` how they are spelled; ``group`` is that of a
    corruption, or empty.
    """

    kind: str
    name: str
    title: str
    group: str
    measure: str
    figures: tuple[Interval | None, ...]
    number_format: NumberFormat = SHARES


@dataclass(frozen=True)
class Table:
    """A table before it is written; ``caption`` is for a paper, ``notes`` are for a terminal.

    ``spelling`` is that of most rows, whose unit the caption names; others carry theirs.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str
    notes: tuple[str, ...]
    number_format: NumberFormat = SHARES

    @property
    def number_formats(self) -> list[NumberFormat]:
        """How the rows are spelled, each way once."""
        return list(dict.fromkeys(row.number_format for row in self.rows)) or [self.number_format]


# ---------------------------------------------------------------- CSV


def to_csv(table: Table) -> str:
    """Return the table as CSV, figures in full precision, three columns for each figure."""
    head = ["row", "group", "measure"]
    for column in table.columns:
        name = column.name if column.against is None else f"{column.name}-{column.against}"
        head.extend([name, f"{name}_low", f"{name}_high"])
    lines: list[list[object]] = [list(head)]
    for row in table.rows:
        line: list[object] = [row.name, row.group, row.measure]
        for figure in row.figures:
            line.extend(ends(figure))
        lines.append(line)
    return write_csv(lines)


def ends(interval: Interval | None) -> list[object]:
    """Return a figure and its ends as cells; what is not there is empty."""
    if interval is None:
        return ["", "", ""]
    if interval.bare:
        return [interval.value, "", ""]
    return [interval.value, interval.lower, interval.upper]


def write_csv(lines: Sequence[Sequence[object]]) -> str:
    """Return lines of cells as CSV that no spreadsheet takes for formulas."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    for line in lines:
        writer.writerow(
            [_escape_formula(value) if isinstance(value, str) else value for value in line]
        )
    return target.getvalue()


def _escape_formula(text: str) -> str:
    """Keep a spreadsheet from running a name that begins like a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


# ---------------------------------------------------------------- LaTeX

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    wording.MINUS: r"$-$",
    wording.DASH: "--",
    "\N{NO-BREAK SPACE}": r"\,",
}


def escape_latex(text: str) -> str:
    """Return ``text`` as LaTeX prints it letter for letter."""
    return "".join(_LATEX.get(character, character) for character in text)


def to_latex(table: Table) -> str:
    r"""Return the table as a LaTeX ``table``, shares in percent; it needs ``\usepackage{booktabs}``."""
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escape_latex(table.caption)}}}",
        r"  \begin{tabular}{l" + "r" * len(table.columns) + "}",
        r"    \toprule",
        "    "
        + " & ".join(["", *(escape_latex(column.label) for column in table.columns)])
        + r" \\",
    ]
    section = ("", "")
    for row in table.rows:
        if (row.kind, row.group) != section:
            lines.append(r"    \midrule")
            section = (row.kind, row.group)
        figures = [
            _make_latex_figure(table, row, column, figure)
            for column, figure in zip(table.columns, row.figures, strict=True)
        ]
        lines.append("    " + " & ".join([escape_latex(row.title), *figures]) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _make_latex_figure(table: Table, row: Row, column: Column, interval: Interval | None) -> str:
    if interval is None:
        return "--"
    value, span = _spell(table, row, column, interval)
    if interval.bare:
        return escape_latex(value)
    return f"{escape_latex(value)} {{\\footnotesize ({escape_latex(span)})}}"


def _spell(table: Table, row: Row, column: Column, interval: Interval) -> tuple[str, str]:
    """Return a figure and its ends; with its unit where that is not the one of the caption."""
    number_format = row.number_format
    named = number_format != table.number_format
    if column.against is not None:
        unit = number_format.points if named else ""
        return f"{number_format.change(interval.value)}{unit}", number_format.change_span(interval)
    value = (
        number_format.with_sign(interval.value) if named else number_format.figure(interval.value)
    )
    return value, number_format.span(interval)


# ---------------------------------------------------------------- Markdown

_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~])")


def escape_markdown(text: str) -> str:
    """Return ``text`` as Markdown prints it letter for letter, on one line."""
    return " ".join(_MARKS.sub(r"\\\1", text).split())


def to_markdown(table: Table) -> str:
    """Return the table as GitHub's Markdown, shares in percent; significant differences are bold."""
    head = ["", *(escape_markdown(column.label) for column in table.columns)]
    lines = [
        escape_markdown(table.caption),
        "",
        f"| {' | '.join(head)} |",
        f"| :-- |{' --: |' * len(table.columns)}",
    ]
    for row in table.rows:
        figures = [
            _make_markdown_figure(table, row, column, figure)
            for column, figure in zip(table.columns, row.figures, strict=True)
        ]
        lines.append(f"| {' | '.join([escape_markdown(row.title), *figures])} |")
    return "\n".join(lines) + "\n"


def _make_markdown_figure(table: Table, row: Row, column: Column, interval: Interval | None) -> str:
    if interval is None:
        return wording.DASH
    value, span = _spell(table, row, column, interval)
    sure = column.against is not None and not interval.bare and not interval.spans_zero
    written = f"**{value}**" if sure else value
    return written if interval.bare else f"{written} ({span})"


# ---------------------------------------------------------------- terminal

_PLAIN = {
    ord(wording.MINUS): "-",
    ord(wording.DASH): "-",
    ord("\N{NO-BREAK SPACE}"): " ",
    # What turns the direction of writing: a file name must not rearrange the line it stands in.
    **dict.fromkeys(
        [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
    ),
}


LABEL_WIDTH = 32
"""Columns of a terminal beyond which a row's title is broken: the longest corruption's has 31."""

_NARROW_LABEL = 12
"""The least width of a row's title, on a terminal where the figures need the rest."""


_HEADING_WIDTH = 24
"""Columns of a terminal beyond which a model's or a run's name is broken."""


def print_whole(console: Console, content: RenderableType) -> None:
    """Print tables with all their figures, if need be beyond the edge of a narrow terminal.

    A figure that is cut or broken reads as another one, so only the first column gives way. The
    parts of a group are printed one by one, texts as wide as the terminal.
    """
    if isinstance(content, Group):
        for part in content.renderables:
            print_whole(console, part)
    elif isinstance(content, RichTable):
        edge = console.width
        console.width = max(edge, _measure_least(console, content))
        console.print(content)
        console.width = edge
    else:
        console.print(content)


def break_heading(name: str) -> Text:
    """Return a name as the heading of a column of figures, in lines that are hardly wider."""
    return Text("\n".join(textwrap.wrap(name, _HEADING_WIDTH)))


def _measure_least(console: Console, table: RichTable) -> int:
    """Return the width of a table whose titles of rows are narrow."""
    label = next((one for one in table.columns if not one.no_wrap), None)
    if label is None:
        return 0
    before, label.max_width = label.max_width, _NARROW_LABEL
    width = console.measure(table, options=console.options.update(max_width=1000)).maximum
    label.max_width = before
    return width


def to_terminal(table: Table) -> Group:
    """Return the table for a terminal: one block per pair of models, beside their difference.

    Interval ends are dim; a difference whose interval excludes 0 is bold.
    """
    place = {column.name: at for at, column in enumerate(table.columns) if column.against is None}
    pairs: list[list[int]] = []
    compared: set[str] = set()
    for at, column in enumerate(table.columns):
        if column.against is not None:
            pairs.append([place[column.against], place[column.name], at])
            compared |= {column.name, column.against}
    alone = [[at] for name, at in place.items() if name not in compared]
    return Group(
        *(_make_terminal_block(table, block) for block in alone + pairs),
        *(Text(to_plain_text(note), style="dim") for note in table.notes),
    )


def _make_terminal_block(table: Table, block: Sequence[int]) -> RichTable:
    written = begin_table(1)
    written.add_column("", overflow="fold", max_width=LABEL_WIDTH)
    for at in block:
        column = table.columns[at]
        label = to_plain_text(column.label) if column.against is None else "difference"
        written.add_column(break_heading(label), justify="right", no_wrap=True)
    section = ""
    for row in table.rows:
        if not any(row.figures[at] for at in block):
            continue
        if section and row.kind != section:
            written.add_row()
        section = row.kind
        style = "bold" if row.kind == "summary" else ""
        written.add_row(
            Text(to_plain_text(row.title), style=style),
            *(_make_terminal_figure(table, row, at) for at in block),
        )
    return written


def _make_terminal_figure(table: Table, row: Row, at: int) -> Text:
    column, interval = table.columns[at], row.figures[at]
    if interval is None:
        return Text("-", style="dim")
    value, span = _spell(table, row, column, interval)
    sure = column.against is not None and not interval.spans_zero
    text = Text(to_plain_text(value), style="bold" if sure else "")
    if interval.bare:
        return text
    return text.append(f" {to_plain_text(span)}", style="dim")


def begin_table(gap: int = 2) -> RichTable:
    """Return an empty table for a terminal, with so many spaces between its columns."""
    return RichTable(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")


def describe_figure(
    interval: Interval | None, number_format: NumberFormat, *, is_difference: bool = False
) -> Text:
    """Return a figure for a terminal, its ends dim; a difference whose interval excludes 0 is bold."""
    if interval is None:
        return Text("-", style="dim")
    value, span = (
        (number_format.change(interval.value), number_format.change_span(interval))
        if is_difference
        else (number_format.figure(interval.value), number_format.span(interval))
    )
    text = Text(
        to_plain_text(value), style="bold" if is_difference and not interval.spans_zero else ""
    )
    return text.append(f" {to_plain_text(span)}", style="dim not bold") if span else text


def to_plain_text(text: str) -> str:
    """Return ``text`` with plain signs and nothing that turns a terminal's writing direction."""
    return text.translate(_PLAIN)
