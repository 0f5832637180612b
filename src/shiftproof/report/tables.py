"""The scores as a table: for a spreadsheet, for a paper, for a terminal.

All three show the same rows: the clean images, each corruption over its severities, the mean over
the corruptions, and the mCE and its relatives where they are claimed. They are generated from
``scores.json``, never typed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from shiftproof.report import wording
from shiftproof.report.scores import Figures, Interval, Scored, Scores, parse_scores

Row = tuple[str, str, str]
"""Kind of row, name (of the corruption or the figure), group."""

_SUMMARY_TITLES = {
    "mean_error": "Mean over corruptions",
    "mce": "mCE",
    "relative_mce": "Relative mCE",
    "rpc": "rPC",
}


@dataclass(frozen=True)
class Column:
    """A model, or a difference between two, as a column of a table."""

    label: str
    scored: Scored

    @property
    def is_difference(self) -> bool:
        """Whether the figures are percentage points of change."""
        return self.scored.against is not None


def columns(scores: Scores) -> list[Column]:
    """Return the columns of one run: every model, then every paired difference."""
    return [
        *(Column(model.name, model) for model in scores.models),
        *(
            Column(f"{difference.name} {wording.MINUS} {difference.against}", difference)
            for difference in scores.differences
        ),
    ]


def rows(scores: Scores, shown: Sequence[Column]) -> list[Row]:
    """Return the rows that hold at least one figure."""
    found: list[Row] = [("clean", "clean", "")]
    for group, names in scores.groups().items():
        found.extend(("corruption", name, group) for name in names)
    found.extend(("summary", name, "") for name in _SUMMARY_TITLES)
    return [row for row in found if any(figure(column.scored, row) for column in shown)]


def figure(scored: Scored, row: Row) -> Interval | None:
    """Return what stands in ``row`` for a model or a difference."""
    kind, name, _ = row
    if kind == "clean":
        return scored.clean.error or scored.summary.clean_error
    if kind == "corruption":
        score = scored.corruption(name)
        return None if score is None else score.error
    found: Interval | None = getattr(scored.summary, name)
    return found


def row_title(row: Row) -> str:
    """Return a row's heading for people."""
    kind, name, _ = row
    if kind == "clean":
        return "Clean"
    return _SUMMARY_TITLES[name] if kind == "summary" else wording.corruption_title(name)


# ---------------------------------------------------------------- CSV


def table_csv(scores: Mapping[str, Any]) -> str:
    """Return the table of a ``scores.json`` as CSV, fractions in full precision.

    One line per row of the table; per model and per difference (named ``BN-source``) three
    columns: the figure and the low and high end of its interval. Figures that do not apply are
    empty.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    return summary_csv(parse_scores(scores))


def summary_csv(scores: Scores) -> str:
    """Return the table as CSV; see ``table_csv``."""
    shown = columns(scores)
    head = ["row", "group", "measure"]
    for column in shown:
        name = (
            f"{column.scored.name}-{column.scored.against}"
            if column.is_difference
            else column.scored.name
        )
        head.extend([name, f"{name}_low", f"{name}_high"])
    lines: list[list[object]] = [list(head)]
    for row in rows(scores, shown):
        kind, name, group = row
        line: list[object] = [name, group, name if kind == "summary" else scores.measure]
        for column in shown:
            line.extend(_ends(figure(column.scored, row)))
        lines.append(line)
    return _csv(lines)


def cells_csv(scores: Scores) -> str:
    """Return every cell of every model as CSV: one line per cell, fractions and nats."""
    fields = ("error", "top5_error", "calibration_error", "loss")
    head: list[object] = ["model", "against", "corruption", "severity", "images"]
    for name in fields:
        head.extend([name, f"{name}_low", f"{name}_high"])
    lines = [head]
    for scored in (*scores.models, *scores.differences):
        for corruption, severity, figures in every_cell(scores, scored):
            line: list[object] = [
                scored.name,
                scored.against or "",
                corruption,
                severity,
                "" if figures.images is None else figures.images,
            ]
            for name in fields:
                line.extend(_ends(getattr(figures, name)))
            lines.append(line)
    return _csv(lines)


def every_cell(scores: Scores, scored: Scored) -> list[tuple[str, int, Figures]]:
    """Return a model's figures, the clean cell first, in the order of the grid."""
    order = {name: position for position, name in enumerate(scores.corruptions)}
    cells = sorted(
        scored.cells.items(),
        key=lambda item: (order.get(item[0].corruption, len(order)), item[0]),
    )
    return [
        ("clean", 0, scored.clean),
        *((cell.corruption, cell.severity, figures) for cell, figures in cells),
    ]


def _ends(interval: Interval | None) -> list[object]:
    if interval is None:
        return ["", "", ""]
    return [interval.value, interval.low, interval.high]


def _csv(lines: Sequence[Sequence[object]]) -> str:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    for line in lines:
        writer.writerow([_safe(value) if isinstance(value, str) else value for value in line])
    return target.getvalue()


def _safe(text: str) -> str:
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


def latex_escape(text: str) -> str:
    """Return ``text`` as LaTeX prints it letter for letter."""
    return "".join(_LATEX.get(character, character) for character in text)


def table_latex(scores: Mapping[str, Any]) -> str:
    r"""Return the table of a ``scores.json`` as a LaTeX ``table``, in percent.

    It needs ``\usepackage{booktabs}`` and nothing else.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    return summary_latex(parse_scores(scores))


def summary_latex(scores: Scores) -> str:
    """Return the table as LaTeX; see ``table_latex``."""
    shown = columns(scores)
    measure = "Error" if scores.labelled else "Disagreement with the clean prediction"
    ends = f"{wording.level(scores)} intervals from a bootstrap over {scores.used} images"
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        "  \\caption{"
        + latex_escape(
            f"{measure} in %, {wording.severities_phrase(scores.severities)}; {ends}"
            + ("; differences in percentage points." if scores.differences else ".")
        )
        + "}",
        r"  \begin{tabular}{l" + "r" * len(shown) + "}",
        r"    \toprule",
        "    " + " & ".join(["", *(latex_escape(column.label) for column in shown)]) + r" \\",
    ]
    section = ("", "")
    for row in rows(scores, shown):
        kind, _, group = row
        if (kind, group) != section:
            lines.append(r"    \midrule")
            section = (kind, group)
        figures = [_latex_figure(column, figure(column.scored, row)) for column in shown]
        lines.append("    " + " & ".join([latex_escape(row_title(row)), *figures]) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_figure(column: Column, interval: Interval | None) -> str:
    if interval is None:
        return "--"
    if column.is_difference:
        value, ends = wording.points(interval.value), wording.points_span(interval)
    else:
        value, ends = wording.percent(interval.value), wording.span(interval)
    return f"{latex_escape(value)} {{\\footnotesize ({latex_escape(ends)})}}"


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


def print_table(scores: Mapping[str, Any], console: Console) -> None:
    """Print the table of a ``scores.json`` to a terminal of 80 columns or more.

    Raises:
        BrokenFileError: ``scores`` is not what a run writes.
    """
    console.print(terminal_table(parse_scores(scores)))


def terminal_table(scores: Scores) -> Group:
    """Return the table for a terminal: one block per adapted model, beside what it is held against.

    Interval ends are dim; a difference whose interval leaves out 0 is bold.
    """
    shown = columns(scores)
    models = {column.scored.name: column for column in shown if not column.is_difference}
    blocks: list[list[Column]] = []
    compared: set[str] = set()
    for column in shown:
        if column.scored.against is not None:
            pair = [models[column.scored.against], models[column.scored.name]]
            blocks.append([*pair, column])
            compared |= {column.scored.name, column.scored.against}
    alone = [column for name, column in models.items() if name not in compared]
    blocks = [[column] for column in alone] + blocks
    what = (
        "error in %"
        if scores.labelled
        else "disagreement with the clean prediction in %: the images have no labels"
    )
    notes = [
        f"{what}, {wording.plural(scores.used, 'image')}, "
        f"{wording.severities_phrase(scores.severities)}, {wording.level(scores)} intervals"
    ]
    if scores.mce_reason and scores.labelled:
        notes.append(f"no mCE: {scores.mce_reason}")
    if scores.broken:
        notes.append(
            f"{wording.plural(len(scores.broken), 'broken file')} left out, see the report"
        )
    if scores.used < wording.FEW_IMAGES:
        notes.append("few images: the intervals are wide, mind them")
    return Group(
        *(_terminal_block(scores, block) for block in blocks),
        *(Text(_terminal(note), style="dim") for note in notes),
    )


def _terminal_block(scores: Scores, block: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=22)
    for column in block:
        label = "difference" if column.is_difference else _terminal(column.label)
        table.add_column(Text(label), justify="right", no_wrap=True, overflow="ellipsis")
    section = ""
    for row in rows(scores, block):
        if section and row[0] != section:
            table.add_row()
        section = row[0]
        style = "bold" if row[0] == "summary" else ""
        table.add_row(
            Text(_terminal(row_title(row)), style=style),
            *(_terminal_figure(column, figure(column.scored, row)) for column in block),
        )
    return table


def _terminal_figure(column: Column, interval: Interval | None) -> Text:
    if interval is None:
        return Text("-", style="dim")
    if not column.is_difference:
        text = Text(_terminal(wording.percent(interval.value)))
        ends = f"{wording.percent(interval.low)}-{wording.percent(interval.high)}"
        return text.append(f" {_terminal(ends)}", style="dim")
    style = "" if interval.spans_zero else "bold"
    text = Text(_terminal(wording.points(interval.value)), style=style)
    return text.append(f" {_terminal(wording.points_span(interval))}", style="dim")


def _terminal(text: str) -> str:
    """Return ``text`` with plain signs and nothing that turns a terminal's writing direction."""
    return text.translate(_PLAIN)
