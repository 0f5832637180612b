"""Rendering a result as Markdown, CSV and figures, reproducibly to the byte."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from shiftproof.io import make_folder, write_bytes
from shiftproof.report import draw_bars, draw_curves
from shiftproof_reproduce.formatting import format_figure
from shiftproof_reproduce.result import Result, Table, Value, read_result

RESULT = "result.json"
"""The file from which all other files of a result's folder are rendered."""

_VERDICTS = {"yes": "yes", "no": "**no**", "undecided": "undecided"}


def render(result: Result) -> dict[str, str]:
    """Return the texts of all files of a result's folder by name, except ``result.json``."""
    texts = {"README.md": write_page(result), "findings.json": _write_findings(result)}
    for table in result.tables:
        texts[f"{table.name}.csv"] = write_csv(table)
        if table.drawing != "none":
            texts[f"{table.name}.svg"] = draw(table)
    return texts


def publish(result_file: Path, folder: Path) -> list[Path]:
    """Write the small files of a result into ``folder``: the result, its page, tables and figures.

    The records of the runs are not copied.

    Raises:
        BrokenFileError: ``result_file`` is not a result.
    """
    result = read_result(result_file)
    make_folder(folder)
    contents = {RESULT: result_file.read_bytes()}
    contents |= {name: text.encode("utf-8") for name, text in render(result).items()}
    for name, content in contents.items():
        write_bytes(folder / name, content)
    return [folder / name for name in contents]


def write_page(result: Result) -> str:
    """Return the page of a result, as Markdown."""
    parts = [
        f"# {result.title}",
        "<!-- made by shiftproof from result.json; not to be edited -->",
        result.about,
        "## Findings",
        _show_findings(result),
        result.intervals,
    ]
    for table in result.tables:
        parts += [f"## {table.title}", write_markdown(table)]
        if table.note:
            parts.append(table.note)
        if table.drawing != "none":
            parts.append(f"![{table.title}]({table.name}.svg)")
    parts += ["## How it was made", _describe_provenance(result)]
    return "\n\n".join(parts) + "\n"


_PLACE = re.compile(r"<!-- ([\w-]+):([\w-]+) -->\n.*?<!-- end -->", flags=re.DOTALL)


def fill(text: str, results: Mapping[str, Result]) -> str:
    """Return a page with its placeholders filled with tables of results.

    A placeholder begins with ``<!-- RECIPE:TABLE -->`` and ends with ``<!-- end -->``, each on its
    own line; the text between them is replaced. Results are by recipe.
    """

    def write_table(place: re.Match[str]) -> str:
        found, name = results[place[1]], place[2]
        whole = name == "findings"
        shown = _show_findings(found) if whole else write_markdown(found.table(name))
        return f"<!-- {place[1]}:{name} -->\n\n{shown}\n\n<!-- end -->"

    return _PLACE.sub(write_table, text)


# ---------------------------------------------------------------- tables and findings


def write_markdown(table: Table) -> str:
    """Return a table as Markdown, each figure with its interval."""
    lines = [_write_row([table.corner, *table.columns]), "|---|" + "---:|" * len(table.columns)]
    for name, values in zip(table.rows, table.values, strict=True):
        lines.append(_write_row([name, *(format_figure(value, table.unit) for value in values)]))
    return "\n".join(lines)


def write_csv(table: Table) -> str:
    """Return a table as CSV: one line per figure, fractions."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([table.corner or "row", "column", "value", "low", "high"])
    for name, values in zip(table.rows, table.values, strict=True):
        for column, value in zip(table.columns, values, strict=True):
            writer.writerow([name, column, *_list_ends(value)])
    return target.getvalue()


def draw(table: Table) -> str:
    """Return the figure of a table as the text of an SVG file."""
    if table.drawing == "curves":
        rows = dict(zip(table.rows, table.values, strict=True))
        return draw_curves(table.columns, rows, title=table.title, axis=table.corner)
    first = {name: values[0] for name, values in zip(table.rows, table.values, strict=True)}
    return draw_bars(first, title=table.title, signed=table.unit == "change")


def _list_ends(value: Value) -> tuple[object, object, object]:
    return ("", "", "") if value is None else (value.value, value.lower, value.upper)


def _write_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _show_findings(result: Result) -> str:
    lines = ["| what is claimed | measured here | holds |", "|---|---|---|"]
    for one in result.findings:
        lines.append(_write_row([f"{one.claim} ({one.source})", one.ours, _VERDICTS[one.holds]]))
    return "\n".join(lines)


def _write_findings(result: Result) -> str:
    entries = [
        {
            "name": finding.name,
            "claim": finding.claim,
            "source": finding.source,
            "measured": finding.ours,
            "figure": msgspec.to_builtins(finding.figure),
            "unit": finding.unit,
            "holds": finding.holds,
        }
        for finding in result.findings
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


# ---------------------------------------------------------------- provenance


def _describe_provenance(result: Result) -> str:
    made = result.provenance
    libraries = ", ".join(
        f"{name} {version}" for name, version in made.get("libraries", {}).items()
    )
    minutes = sum(result.seconds.values()) / 60
    of_cpu = "" if result.scale == "paper" else " of CPU"
    lines = [
        f"`{_name_command(result)}`, shiftproof "
        f"{made.get('shiftproof')}, Python {made.get('python')}, {libraries}; "
        f"{made.get('processor')}, {made.get('cores')} cores; "
        f"started {made.get('started')}; {minutes:.0f} minutes{of_cpu}."
    ]
    lines += ["", "| part | seconds |", "|---|---:|"]
    lines += [f"| {name} | {seconds:.0f} |" for name, seconds in result.seconds.items()]
    lines += ["", f"All settings are in [{RESULT}]({RESULT})."]
    return "\n".join(lines)


def _name_command(result: Result) -> str:
    """Return the command that made a result, without its output folder."""
    words = str(result.provenance.get("command", "")).split()
    if words[:2] != ["shiftproof", "reproduce"]:
        return f"shiftproof reproduce {result.recipe} --scale {result.scale}"
    options = ("--out", "-o")
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if before not in options and word not in options
    ]
    return " ".join(kept)
