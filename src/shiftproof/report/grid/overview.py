"""What the head of a page is made of: sentences, cards of the models and of the changes, reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid.entries import Change, Entry, Shown
from shiftproof.report.sections import run_names
from shiftproof.report.spelling import Spelling, spelling_of
from shiftproof.report.svg import charts as figures
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import Headline

MOST_IN_LEAD = 4
"""How many models have a sentence under the title; the cards show them all."""


def lead(
    shown: Shown, headline: Callable[[Entry], str], finding: Callable[[Change], str]
) -> list[str]:
    """Return the sentences under the title: of each of the first models, and of what changes it.

    ``headline`` says how a model fares that is held against no other, ``finding`` what a change does.
    """
    return [
        " ".join(
            [
                headline(entry),
                *(finding(change) for change in shown.changes if change.against is entry),
            ]
        ).strip()
        for entry in shown.alone[:MOST_IN_LEAD]
    ]


def card(shown: Shown, headline: Headline) -> dict[str, object] | None:
    """Return one figure of all models on strips; None where no model has it."""
    found = [
        (entry, figure)
        for entry in shown.entries
        if (figure := entry.scored.summary.get(headline.name)) is not None
    ]
    if not found:
        return None
    spelling = spelling_of(headline.unit)
    low, top = figures.nice_ends((figure for _, figure in found), spelling)
    highest = max(figure.upper for _, figure in found)
    # A ratio to another model's errors may lie above 1.
    if spelling.end is not None and highest > spelling.end:
        top = highest
    return {
        "title": headline.title,
        "note": headline.note,
        "lower": headline.lower_is_better,
        "rows": [
            {
                "look": entry.look,
                "dot": figures.dot(entry.look),
                "value": spelling.figure(figure.value),
                "unit": spelling.sign,
                "span": spelling.span(figure),
                "strip": figures.strip(entry.look, figure, top=top, low=low),
            }
            for entry, figure in found
        ],
    }


def reach_of(differences: Iterable[Interval | None], spelling: Spelling) -> float:
    """Return the reach of the axis that the cards of all changes share."""
    ends = [
        abs(end)
        for interval in differences
        if interval is not None
        for end in (interval.lower, interval.upper)
    ]
    return figures.nice_reach(max(ends, default=0.0), spelling)


def change_card(
    change: Change,
    interval: Interval | None,
    hurt: Sequence[tuple[str, Interval]],
    *,
    reach: float,
    lower_is_better: bool,
    spelling: Spelling,
    verdict: str,
    clean: str,
    tally: str,
) -> dict[str, object]:
    """Return what a change does: ``interval`` under corruption, and in three sentences.

    ``hurt`` are the corruptions that get worse, the worst first.
    """
    state = "flat"
    if interval is not None and not interval.spans_zero:
        gain = -interval.value if lower_is_better else interval.value
        state = "better" if gain > 0 else "worse"
    return {
        "label": change.entry.label,
        "against": change.against.label,
        "title": f"What {change.entry.label} changes",
        "value": spelling.change(wording.value_of(interval)),
        "unit": spelling.points,
        "span": spelling.change_span(interval),
        "state": state,
        "settings": wording.adapter_words(change.entry.adapter),
        "axis": None
        if interval is None
        else figures.difference_axis(
            interval,
            reach=reach,
            title=verdict,
            lower_is_better=lower_is_better,
            spelling=spelling,
        ),
        "verdict": verdict,
        "clean": clean,
        "tally": tally,
        "hurt": [
            {"name": wording.corruption_title(name), **spelling.change_cell(found)}
            for name, found in hurt
        ],
    }


def reasons(runs: Sequence[Run]) -> list[str]:
    """Say why there is no headline of the benchmark, once for each reason."""
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, run_names(runs), strict=True):
        if run.scores.grid.reason is not None:
            found.setdefault(run.scores.grid.reason, []).append(name)
    if len(runs) == 1:
        return list(found)
    return [f"for {wording.listing(names)}, {words}" for words, names in found.items()]
