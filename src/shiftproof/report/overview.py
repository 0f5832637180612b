"""What the head of a page is made of: sentences, cards of the models and of the changes, reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shiftproof.report import figures, wording
from shiftproof.report.reading import Interval
from shiftproof.report.sections import (
    AnyChange,
    AnyEntry,
    Change,
    Entry,
    Model_co,
    Run_co,
    run_names,
)

MOST_IN_LEAD = 4
"""How many models have a sentence under the title; the cards show them all."""


def lead(
    plain: Sequence[Entry[Run_co, Model_co]],
    changes: Sequence[Change[Run_co, Model_co]],
    headline: Callable[[Entry[Run_co, Model_co]], str],
    finding: Callable[[Change[Run_co, Model_co]], str],
) -> list[str]:
    """Return the sentences under the title: of each of the first models, and of what changes it.

    ``plain`` are the models that are no change of another; ``headline`` says how one fares,
    ``finding`` what a change does.
    """
    return [
        " ".join(
            [headline(entry), *(finding(change) for change in changes if change.against is entry)]
        )
        for entry in plain[:MOST_IN_LEAD]
    ]


def card(
    found: Sequence[tuple[AnyEntry, Interval]], title: str, note: str, *, lower: bool, top: float
) -> dict[str, object]:
    """Return one figure of all models, on strips that reach to ``top``; ``lower`` is better, or not."""
    return {
        "title": title,
        "note": note,
        "lower": lower,
        "rows": [
            {
                "look": entry.look,
                "dot": figures.dot(entry.look),
                "value": wording.percent(interval.value),
                "span": wording.span(interval),
                "strip": figures.strip(entry.look, interval, top=top),
            }
            for entry, interval in found
        ],
    }


def reach_of(differences: Iterable[Interval | None]) -> float:
    """Return the reach of the axis that the cards of all changes share."""
    ends = [
        abs(end)
        for interval in differences
        if interval is not None
        for end in (interval.low, interval.high)
    ]
    return figures.nice_reach(max(ends, default=0.0))


def change_card(
    change: AnyChange,
    interval: Interval | None,
    hurt: Sequence[tuple[str, Interval]],
    *,
    reach: float,
    lower_is_better: bool,
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
        "value": wording.points(wording.value_of(interval)),
        "span": wording.points_span(interval),
        "state": state,
        "settings": wording.adapter_words(change.entry.adapter),
        "axis": None
        if interval is None
        else figures.difference_axis(
            interval, reach=reach, title=verdict, lower_is_better=lower_is_better
        ),
        "verdict": verdict,
        "clean": clean,
        "tally": tally,
        "hurt": [
            {
                "name": wording.corruption_title(name),
                "value": wording.points(found.value),
                "span": wording.points_span(found),
                "sure": not found.spans_zero,
            }
            for name, found in hurt
        ],
    }


def reasons(runs: Sequence[Run_co], reason: Callable[[Run_co], str | None]) -> list[str]:
    """Say why there is no headline figure, once for each reason; ``reason`` is that of a run."""
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, run_names(runs), strict=True):
        if (words := reason(run)) is not None:
            found.setdefault(words, []).append(name)
    if len(runs) == 1:
        return list(found)
    return [f"for {wording.listing(names)}, {words}" for words, names in found.items()]
