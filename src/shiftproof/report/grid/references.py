"""The models of a page among published ones, by the benchmark's own figure."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.bench.tasks.published import PUBLISHED_MPC, Reference
from shiftproof.metrics.intervals import Interval
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.listing import Item, Listing, build_section, write_figure
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.report.wording import SHARES


def place_among(
    title: str,
    head: str,
    found: Sequence[tuple[Entry, Interval]],
    references: Sequence[Reference],
    *,
    lower_is_better: bool,
    note: str,
) -> Listing:
    """Return the models and the published ones as one table, the best first."""
    sign = 1 if lower_is_better else -1
    rows = [
        (
            sign * figure.value,
            [
                Item(entry.label, drawn=charts.draw_dot(entry.series)),
                write_figure(SHARES, figure),
                Item("this page"),
            ],
        )
        for entry, figure in found
    ]
    rows += [
        (
            sign * one.value,
            [Item(one.title), write_figure(SHARES, Interval(one.value)), Item(one.source)],
        )
        for one in references
    ]
    rows.sort(key=lambda row: row[0])
    return Listing(
        title,
        [("Model", False), (head, True), ("From", False)],
        [row for _, row in rows],
        aside=frozenset(one.title for one in references),
        note=note,
    )


def build_reference_mpc_section(shown: PageContent) -> Section | None:
    """Build the mPC of detectors among published ones; None where it is not claimed, or is no AP."""
    headline = shown.first.scores.headline
    if headline is None or headline.title != "mPC" or shown.measure != "AP":
        return None
    found = [
        (entry, figure)
        for entry in shown.entries
        if (figure := entry.scored.summary.get(headline.name)) is not None
    ]
    return build_section(
        "published",
        "Among published detectors",
        "Published",
        words=["mPC of published detectors on COCO-C. On other data it differs."],
        tables=[
            place_among(
                "",
                "mPC, %",
                found,
                PUBLISHED_MPC,
                lower_is_better=False,
                note="Published figures are over all 5,000 validation images of COCO 2017. Higher is "
                "better.",
            )
        ],
    )
