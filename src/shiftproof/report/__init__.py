"""A run, shown: one self-contained HTML page, and its table for terminal, spreadsheet and paper."""

from shiftproof.report.page import write_report
from shiftproof.report.parts import describe_differences, print_ranking
from shiftproof.report.sheet import write_sheet
from shiftproof.report.svg.figures import draw_bars, draw_curves
from shiftproof.report.tables import (
    conditions_csv,
    conditions_latex,
    describe_subset,
    describe_trust,
    print_conditions,
    print_table,
    table_csv,
    table_latex,
    table_markdown,
    write_ranking,
)
from shiftproof.report.wording import corruption_title

__all__ = [
    "conditions_csv",
    "conditions_latex",
    "corruption_title",
    "describe_differences",
    "describe_subset",
    "describe_trust",
    "draw_bars",
    "draw_curves",
    "print_conditions",
    "print_ranking",
    "print_table",
    "table_csv",
    "table_latex",
    "table_markdown",
    "write_ranking",
    "write_report",
    "write_sheet",
]
