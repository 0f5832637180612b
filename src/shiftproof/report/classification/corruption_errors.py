"""CE of each corruption, and the runs' mCE among published ones."""

from __future__ import annotations

from shiftproof.bench.tasks.published import PUBLISHED_MCE
from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.grid.references import place_among
from shiftproof.report.listing import Item, Listing, build_section, write_figure
from shiftproof.report.sections import Section
from shiftproof.report.wording import SHARES


def build_corruption_errors_section(shown: PageContent) -> Section | None:
    """Build CE per corruption, and the runs' mCE among published ones; None if mCE is not
    claimed.
    """
    claimed = [entry for entry in shown.entries if entry.scored.summary.get("mce") is not None]
    if not claimed:
        return None
    found = {entry.label: entry.scored.of_corruptions("ce") for entry in claimed}
    names = list(dict.fromkeys(name for table in found.values() for name in table))
    heads = [("Corruption", False), *((entry.label, True) for entry in claimed)]
    rows = [
        [
            Item(wording.corruption_title(name)),
            *(write_figure(SHARES, found[entry.label].get(name)) for entry in claimed),
        ]
        for name in names
    ]
    for title, summary in (("mCE", "mce"), ("Relative mCE", "relative_mce")):
        figures = [entry.scored.summary.get(summary) for entry in claimed]
        rows.append([Item(title), *(write_figure(SHARES, figure) for figure in figures)])
    return build_section(
        "corruption-errors",
        "Corruption errors, and published ones",
        "CE",
        words=[
            "CE is the error over the five severities, divided by AlexNet’s, in %. Below 100 a model is "
            "better than AlexNet. mCE is the mean over the 15 (Hendrycks & Dietterich 2019).",
            *(sentence for entry in claimed if (sentence := _describe_worst(entry))),
        ],
        tables=[
            Listing("", heads, rows, totals=frozenset({"mCE", "Relative mCE"})),
            place_among(
                "Among published models",
                "mCE, %",
                [(entry, figure) for entry in claimed if (figure := _make_mce(entry))],
                PUBLISHED_MCE,
                lower_is_better=True,
                note="Published figures are over all 50,000 validation images of ImageNet, corrupted "
                "and then saved as JPEG. With other images, or without JPEG, mCE differs.",
            ),
        ],
    )


def _make_mce(entry: Entry) -> Interval | None:
    return entry.scored.summary.get("mce")


def _describe_worst(entry: Entry) -> str:
    beyond = [
        wording.corruption_title(name).lower()
        for name, figure in entry.scored.of_corruptions("ce").items()
        if figure.value > 1
    ]
    return (
        f"{entry.label} is worse than AlexNet under {wording.join_list(beyond)}." if beyond else ""
    )
