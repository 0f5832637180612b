"""The head of a page: sentences, cards of the models and of the changes, reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid import words
from shiftproof.report.grid.entries import Change, Entry, PageContent
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.sections import Section, list_protocols, name_runs
from shiftproof.report.svg import charts
from shiftproof.report.wording import NumberFormat, find_number_format
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import Headline

MAX_IN_LEAD = 4
"""Number of models, and of changes per model, in the subtitle; the cards show all."""


def write_lead(shown: PageContent, task: TaskPage) -> list[str]:
    """Return the sentences under the title: on the first models and their changes."""
    return [
        " ".join(
            [
                _headline(entry, shown, task),
                *_summarize_changes(
                    [change for change in shown.changes if change.against is entry], task
                ),
            ]
        ).strip()
        for entry in shown.alone[:MAX_IN_LEAD]
    ] + _make_subsets(shown.runs)


def _make_subsets(runs: Sequence[Run]) -> list[str]:
    """Describe the subset of images of each run that has one."""
    told = zip(name_runs(runs), map(words.describe_subset, runs), strict=True)
    return [
        said if len(runs) == 1 else f"{name}: {said}" for name, said in told if said is not None
    ]


def _headline(entry: Entry, shown: PageContent, task: TaskPage) -> str:
    plain = [one for one in shown.entries if one.adapter is None]
    single = len(shown.runs) == 1 and len(plain) <= 1
    label = task.spell(entry.scored.title or entry.label) if single else entry.label
    return task.headline(entry.run.scores, entry.scored, label)


def _summarize_changes(changes: Sequence[Change], task: TaskPage) -> list[str]:
    told = [_summarize_change(change, task) for change in changes[:MAX_IN_LEAD]]
    more = len(changes) - len(told)
    return [*told, f"{more} more are below."] if more > 0 else told


def _summarize_change(change: Change, task: TaskPage) -> str:
    scores = change.run.scores
    label = change.entry.label
    found = words.summarize_change(scores, change.scored, label, task.words(scores))
    return f"{found} {words.summarize_costs(scores, change.scored, label)}".strip()


def build_overview_section(
    shown: PageContent, task: TaskPage, *, alike: bool, paired: bool = False, why: str | None = None
) -> Section:
    """Build the cards of the models and of the changes.

    Args:
        shown: what the page shows.
        task: of the runs.
        alike: whether several runs may be compared.
        paired: whether they are, image by image.
        why: the reason why they are not, in a sentence.
    """
    scores = shown.first.scores
    reach = _reach_of(
        (change.scored.summary.get("mean") for change in shown.changes), words.number_format(scores)
    )
    adapts = any(run.adapts for run in shown.runs)
    cards = [_make_card(shown, one) for one in scores.headlines if one.card]
    return Section(
        "overview",
        "At a glance",
        "Overview",
        "overview.html.j2",
        {
            "cards": [card for card in cards if card is not None],
            "changes": [_change_card(change, reach, task) for change in shown.changes],
            "reasons": _make_reasons(shown.runs) if scores.measure.name != "disagreement" else [],
            "claim": scores.grid.claim,
            "lower": scores.measure.lower_is_better,
            "alike": alike,
            "paired": paired,
            "why": why,
            "protocols": list_protocols(shown.runs) if adapts else [],
            "level": words.describe_level(scores),
            "several": len(shown.runs) > 1,
            "measure": shown.measure,
        },
    )


def _make_card(shown: PageContent, headline: Headline) -> dict[str, object] | None:
    """Return one figure of all models on strips; None where no model has it."""
    found = [
        (entry, figure)
        for entry in shown.entries
        if (figure := entry.scored.summary.get(headline.name)) is not None
    ]
    if not found:
        return None
    number_format = find_number_format(headline.unit)
    low, top = charts.choose_axis_range((figure for _, figure in found), number_format)
    highest = max(figure.upper for _, figure in found)
    # A ratio to another model's errors may lie above 1.
    if number_format.end is not None and highest > number_format.end:
        top = highest
    return {
        "title": headline.title,
        "note": headline.note,
        "lower": headline.lower_is_better,
        "rows": [
            {
                "series": entry.series,
                "dot": charts.draw_dot(entry.series),
                "value": number_format.figure(figure.value),
                "unit": number_format.sign,
                "span": number_format.span(figure),
                "strip": charts.draw_interval(entry.series, figure, top=top, low=low),
            }
            for entry, figure in found
        ],
    }


def _reach_of(differences: Iterable[Interval | None], number_format: NumberFormat) -> float:
    """Return the reach of the axis that the cards of all changes share."""
    ends = [
        abs(end)
        for interval in differences
        if interval is not None
        for end in (interval.lower, interval.upper)
    ]
    return charts.choose_reach(max(ends, default=0.0), number_format)


def _change_card(change: Change, reach: float, task: TaskPage) -> dict[str, object]:
    """Return what a change does under corruption, in figures and in three sentences."""
    scores, scored = change.run.scores, change.scored
    lower, number_format = scores.measure.lower_is_better, words.number_format(scores)
    interval = scored.summary.get("mean")
    moved = scored.of_corruptions(scores.measure.name)
    sentence = words.describe_change(
        scores, scored, change.entry.label, change.against.label, task.words(scores)
    )
    return {
        "label": change.entry.label,
        "against": change.against.label,
        "title": f"What {change.entry.label} changes",
        "value": number_format.change(wording.get_value(interval)),
        "unit": number_format.points,
        "span": number_format.change_span(interval),
        "state": _make_state(interval, lower_is_better=lower),
        "settings": wording.describe_adapter(change.entry.adapter),
        "axis": None
        if interval is None
        else charts.draw_difference_axis(
            interval,
            reach=reach,
            title=sentence,
            lower_is_better=lower,
            number_format=number_format,
        ),
        "verdict": sentence,
        "clean": words.describe_clean_change(scores, scored),
        "price": words.describe_costs(scores, scored),
        "tally": words.count_changes(list(moved.values()), lower_is_better=lower),
        "hurt": [
            {"name": wording.corruption_title(name), **number_format.change_cell(found)}
            for name, found in _worst_first(moved, lower_is_better=lower)
        ],
    }


def _make_state(interval: Interval | None, *, lower_is_better: bool) -> str:
    if interval is None or interval.spans_zero:
        return "flat"
    return "better" if (interval.value < 0) == lower_is_better else "worse"


def _worst_first(
    moved: Mapping[str, Interval], *, lower_is_better: bool
) -> list[tuple[str, Interval]]:
    """Return the corruptions that get worse."""
    worse = [one for one in moved.items() if one[1].value and (one[1].value > 0) == lower_is_better]
    return sorted(worse, key=lambda one: -abs(one[1].value))


def _make_reasons(runs: Sequence[Run]) -> list[str]:
    """Say why there is no headline of the benchmark, once for each reason."""
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, name_runs(runs), strict=True):
        if run.scores.grid.reason is not None:
            found.setdefault(run.scores.grid.reason, []).append(name)
    if len(runs) == 1:
        return list(found)
    return [f"for {wording.join_list(names)}, {words}" for words, names in found.items()]
