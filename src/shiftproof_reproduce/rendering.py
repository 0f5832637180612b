"""From a result to what people read: Markdown, CSV and figures, the same bytes each time."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from shiftproof.io import files
from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof_reproduce.drawing import draw
from shiftproof_reproduce.result import Result, Table, Unit, Value, read_result

RESULT = "result.json"
"""The file that all others of a result's folder are made from."""

_VERDICTS = {"yes": "yes", "no": "**no**", "undecided": "undecided"}


def render(result: Result) -> dict[str, str]:
    """Return the text of every file of a result's folder but ``result.json``, by name."""
    texts = {"README.md": page(result), "findings.json": _findings(result)}
    for table in result.tables:
        texts[f"{table.name}.csv"] = table_csv(table)
        if table.drawing != "none":
            texts[f"{table.name}.svg"] = draw(table)
    return texts


def publish(result_file: Path, folder: Path) -> list[Path]:
    """Write the small files of a result into ``folder``: the result, its page, tables and figures.

    The records of the runs stay where they are.

    Raises:
        BrokenFileError: ``result_file`` is no result.
    """
    result = read_result(result_file)
    files.make_folder(folder)
    written = [folder / RESULT]
    files.write_bytes(written[0], result_file.read_bytes())
    for name, text in render(result).items():
        files.write_bytes(folder / name, text.encode("utf-8"))
        written.append(folder / name)
    return written


def page(result: Result) -> str:
    """Return the page of a result, as Markdown."""
    parts = [
        f"# {result.title}",
        "<!-- made by shiftproof from result.json; not to be edited -->",
        result.about,
        "## Findings",
        _findings_table(result),
        result.intervals,
    ]
    for table in result.tables:
        parts += [f"## {table.title}", table_markdown(table)]
        if table.note:
            parts.append(table.note)
        if table.drawing != "none":
            parts.append(f"![{table.title}]({table.name}.svg)")
    parts += ["## How it was made", _made(result)]
    return "\n\n".join(parts) + "\n"


_PLACE = re.compile(r"<!-- ([\w-]+):([\w-]+) -->\n.*?<!-- end -->", flags=re.DOTALL)


def fill(text: str, results: Mapping[str, Result]) -> str:
    """Return a page of ours with the tables of results in their places.

    A place begins with ``<!-- RECIPE:TABLE -->`` and ends with ``<!-- end -->``, each on a line of
    its own; whatever stood between is replaced.

    Args:
        text: the page, as Markdown.
        results: by recipe.
    """

    def table(place: re.Match[str]) -> str:
        found = results[place[1]]
        shown = (
            _findings_table(found)
            if place[2] == "findings"
            else table_markdown(found.table(place[2]))
        )
        return f"<!-- {place[1]}:{place[2]} -->\n\n{shown}\n\n<!-- end -->"

    return _PLACE.sub(table, text)


def table_markdown(table: Table) -> str:
    """Return a table as Markdown, each figure with its interval."""
    head = [table.corner, *table.columns]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * len(table.columns)]
    for name, values in zip(table.rows, table.values, strict=True):
        lines.append(
            "| " + " | ".join([name, *(spelt(value, table.unit) for value in values)]) + " |"
        )
    return "\n".join(lines)


def table_csv(table: Table) -> str:
    """Return a table as CSV: one line per figure, fractions."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([table.corner or "row", "column", "value", "low", "high"])
    for name, values in zip(table.rows, table.values, strict=True):
        for column, value in zip(table.columns, values, strict=True):
            writer.writerow([name, column, *_cells(value)])
    return target.getvalue()


def _cells(value: Value) -> tuple[object, object, object]:
    return ("", "", "") if value is None else (value.value, value.lower, value.upper)


def spelt(value: Value, unit: Unit) -> str:
    """Return a figure with its interval: ``17.4 (16.9–18.0)`` in percent, changes with their sign.

    >>> from shiftproof.metrics.intervals import Interval
    >>> spelt(Interval(0.174, 0.169, 0.18), "error")
    '17.4 (16.9–18.0)'
    """
    if value is None:
        return wording.NONE
    if unit == "number":
        return f"{value.value:g}"
    if unit == "score":
        if value.lower == value.value == value.upper:
            return _digits(value.value)
        return f"{_digits(value.value)} ({ends(value, unit)})"
    number = wording.points if unit == "change" else wording.percent
    if value.lower == value.value == value.upper:
        return number(value.value)
    return f"{number(value.value)} ({ends(value, unit)})"


def ends(value: Interval, unit: Unit) -> str:
    """Return the ends of an interval alone."""
    if unit == "score":
        between = " to " if value.lower < 0 else wording.DASH
        return f"{_digits(value.lower)}{between}{_digits(value.upper)}"
    if unit == "change":
        return f"{wording.points(value.lower)} to {wording.points(value.upper)}"
    return f"{wording.percent(value.lower)}{wording.DASH}{wording.percent(value.upper)}"


def _digits(value: float) -> str:
    """Return three digits: ``0.997``, ``23.1``, ``1020``."""
    if abs(value) >= 1000:
        return f"{value:.0f}".replace("-", wording.MINUS)
    return f"{value:#.3g}".rstrip(".").replace("-", wording.MINUS)


def _findings_table(result: Result) -> str:
    lines = ["| what is claimed | measured here | holds |", "|---|---|---|"]
    for finding in result.findings:
        lines.append(
            f"| {finding.claim} ({finding.source}) | {finding.ours} | {_VERDICTS[finding.holds]} |"
        )
    return "\n".join(lines)


def _findings(result: Result) -> str:
    entries = [
        {
            "name": finding.name,
            "claim": finding.claim,
            "source": finding.source,
            "measured": finding.ours,
            "figure": None if finding.figure is None else asdict(finding.figure),
            "unit": finding.unit,
            "holds": finding.holds,
        }
        for finding in result.findings
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def _made(result: Result) -> str:
    provenance = result.provenance
    libraries = ", ".join(
        f"{name} {version}" for name, version in provenance.get("libraries", {}).items()
    )
    minutes = sum(result.seconds.values()) / 60
    of_cpu = "" if result.scale == "paper" else " of CPU"
    lines = [
        f"`{_command(result)}`, shiftproof "
        f"{provenance.get('shiftproof')}, Python {provenance.get('python')}, {libraries}; "
        f"{provenance.get('processor')}, {provenance.get('cores')} cores; "
        f"started {provenance.get('started')}; {minutes:.0f} minutes{of_cpu}."
    ]
    lines += ["", "| part | seconds |", "|---|---:|"]
    lines += [f"| {name} | {seconds:.0f} |" for name, seconds in result.seconds.items()]
    lines += ["", f"All settings are in [{RESULT}]({RESULT})."]
    return "\n".join(lines)


def _command(result: Result) -> str:
    """Return the command that made a result, whatever its folder was called."""
    words = str(result.provenance.get("command", "")).split()
    if words[:2] != ["shiftproof", "reproduce"]:
        return f"shiftproof reproduce {result.recipe} --scale {result.scale}"
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if before not in ("--out", "-o")
    ]
    return " ".join(word for word in kept if word not in ("--out", "-o"))
