"""A comparison as text: for a terminal, a pull request (Markdown), and a pipeline (JUnit XML)."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from rich.console import Console
from rich.text import Text

from shiftproof.comparison.figures import normalize_name
from shiftproof.comparison.result import Check, Comparison, Difference, Finding, Side
from shiftproof.report.table_writing import (
    LABEL_WIDTH,
    begin_table,
    break_heading,
    print_whole,
)
from shiftproof.report.wording import NumberFormat, find_number_format, level, pluralize

_WORDS: dict[Finding, str] = {
    "better": "better",
    "worse": "worse",
    "not shown": "not shown",
    "same": "the same",
}
_STYLES: dict[Finding, str] = {"better": "green", "worse": "bold red", "not shown": "", "same": ""}
_VERDICTS = {"fail": "fails", "unclear": "unclear", "pass": "passes"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print headlines, corruptions and conditions to a terminal."""
    table = begin_table()
    table.add_column("", overflow="fold", max_width=LABEL_WIDTH)
    for heading in (comparison.baseline.run, comparison.candidate.run, "difference", "interval"):
        table.add_column(break_heading(heading), justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in comparison.differences:
        if one.role != "cell":
            finding = Text(_WORDS[one.finding], style=_STYLES[one.finding])
            table.add_row(Text(one.title), *_format_figures(one), finding)
    console.print(Text(_describe_pair(comparison)))
    print_whole(console, table)
    for check in comparison.checks:
        style = "bold red" if check.failed else "yellow" if check.verdict == "unclear" else "green"
        console.print(Text(_describe_check(check), style=style))


def describe_outcome(comparison: Comparison) -> str:
    """Return a sentence on whether the gate passes; empty without conditions."""
    if not comparison.checks:
        return ""
    failed = sum(check.failed for check in comparison.checks)
    if failed:
        return f"The gate fails: {failed} of {pluralize(len(comparison.checks), 'check')}."
    unclear = sum(check.verdict == "unclear" for check in comparison.checks)
    note = (
        f" {pluralize(unclear, 'check is', 'checks are')} unclear; --strict would fail them."
        if unclear
        else ""
    )
    return f"The gate holds: {pluralize(len(comparison.checks), 'check')}.{note}"


def comparison_markdown(comparison: Comparison) -> str:
    """Return a summary for a pull request: the conditions first, then the differences."""
    lines = [f"### {_write_heading(comparison)}", "", _describe_pair(comparison), ""]
    for warning in comparison.warnings:
        lines += [f"> **Not comparable:** {_escape(warning)}", ""]
    for note in comparison.notes:
        lines += [f"> {_escape(note)}", ""]
    if comparison.checks:
        lines += ["| condition | measured | |", "|---|---|---|"]
        lines += [_check_row(check) for check in comparison.checks]
        lines += [""]
    lines += _write_differences(comparison, "headline")
    detail = "set" if comparison.kind == "evaluation" else "corruption"
    rows = _write_differences(comparison, detail)
    if rows:
        what = "test set" if detail == "set" else "corruption"
        lines += ["<details>", f"<summary>Each {what}</summary>", "", *rows, "</details>", ""]
    lines += [f"Intervals hold {level(comparison.level)} of the resamples of the images, paired."]
    return "\n".join(lines) + "\n"


def _write_heading(comparison: Comparison) -> str:
    if not comparison.checks:
        return "Robustness"
    return "Robustness: the gate fails" if comparison.failed else "Robustness: the gate holds"


def _check_row(check: Check) -> str:
    mark = "❌" if check.failed else "⚠️" if check.verdict == "unclear" else "✅"
    code = check.condition.replace("`", "'").replace(
        "|", "\\|"
    )  # what ends code, or a table's cell
    return f"| `{code}` | {_escape(_describe_figure(check))} | {mark} {_VERDICTS[check.verdict]} |"


def _write_differences(comparison: Comparison, role: str) -> list[str]:
    differences = [one for one in comparison.differences if one.role == role]
    if not differences:
        return []
    baseline, candidate = _escape(comparison.baseline.run), _escape(comparison.candidate.run)
    return [
        f"| | {baseline} | {candidate} | difference | interval | |",
        "|---|---:|---:|---:|---:|---|",
        *(
            f"| {_escape(one.title)} | {' | '.join(_format_figures(one))} | {_WORDS[one.finding]} |"
            for one in differences
        ),
        "",
    ]


_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "|`*_<>[]\\#"})


def _escape(text: str) -> str:
    """Escape the special characters of Markdown and HTML."""
    return text.translate(_MARKS)


def comparison_junit(comparison: Comparison) -> str:
    """Return the conditions as JUnit XML, a test case each, for a pipeline that shows tests."""
    suite = ElementTree.Element(
        "testsuite",
        name="shiftproof compare",
        tests=str(len(comparison.checks)),
        failures=str(sum(check.failed for check in comparison.checks)),
        errors="0",
        skipped="0",
    )
    for check in comparison.checks:
        _add_case(suite, check, _describe_pair(comparison))
    if comparison.warnings or comparison.notes:
        ElementTree.SubElement(suite, "system-err").text = _strip_invalid(
            "\n".join([*comparison.warnings, *comparison.notes])
        )
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_case(suite: ElementTree.Element, check: Check, pair: str) -> None:
    is_named = normalize_name(check.name) in normalize_name(check.condition)
    name = check.condition if is_named else f"{check.condition}: {check.name}"
    case = ElementTree.SubElement(
        suite, "testcase", classname="shiftproof.compare", name=_strip_invalid(name), time="0"
    )
    element = ElementTree.SubElement(case, "failure" if check.failed else "system-out")
    if check.failed:
        element.attrib.update(message=_strip_invalid(_describe_check(check)), type=check.verdict)
    element.text = _strip_invalid(f"{pair}\n{_describe_check(check)}")


def _strip_invalid(text: str) -> str:
    """Replace characters that XML 1.0 (section 2.2) does not allow by U+FFFD."""
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


# ---------------------------------------------------------------- shared by all formats


def _describe_pair(comparison: Comparison) -> str:
    """Describe the two models and the extent of the comparison."""
    baseline, candidate = comparison.baseline, comparison.candidate
    unit = "test set" if comparison.kind == "evaluation" else "cell"
    return (
        f"{candidate.run} ({_find_title(candidate)}) against {baseline.run} ({_find_title(baseline)}): "
        f"{pluralize(comparison.images, 'image')} in {pluralize(comparison.cells, unit)}, paired"
    )


def _find_title(side: Side) -> str:
    """Return the model's title, as its name may only be "source"."""
    return side.title or side.model


def _format_figures(one: Difference) -> tuple[str, str, str, str]:
    """Return both values, their difference (shares in percentage points), and its interval."""
    number_format = find_number_format(one.unit)
    return (
        number_format.with_sign(one.baseline.value),
        number_format.with_sign(one.candidate.value),
        number_format.change(one.difference.value),
        number_format.change_span(one.difference),
    )


def _describe_check(check: Check) -> str:
    return f"{_VERDICTS[check.verdict]}: {check.condition}  {_describe_figure(check)}"


def _describe_figure(check: Check) -> str:
    number_format = find_number_format(check.unit)
    what = f"{check.title} {'changed by' if check.change else 'is'} {_format_interval(check, number_format)}"
    return what if check.level == 0.95 else f"{what}, {level(round(check.level, 4))}"


def _format_interval(check: Check, number_format: NumberFormat) -> str:
    if check.change:
        return number_format.change_with_span(check.interval)
    return number_format.with_span(check.interval)
