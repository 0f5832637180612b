"""Findings over the grid in words. A sentence claims an effect only where the interval leaves out 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.wording import Spelling, spelling_of
from shiftproof.runs.scores.grid import GridScores, Scored


@dataclass(frozen=True)
class Words:
    """How a task speaks of what changes.

    Attributes:
        helps: what a change does that is for the better: "helps".
        harms: for the worse: "does harm here".
        same: what is said where nothing changed in any resample, with the places subject, measure
            and compared.
    """

    helps: str = "helps"
    harms: str = "does harm here"
    same: str = "The {measure} of {subject} is the same {compared}."


def level(scores: GridScores) -> str:
    """Return ``95 %``; empty where no figure has an interval."""
    return wording.level(scores.interval.level) if scores.resampled else ""


def spelling(scores: GridScores) -> Spelling:
    """Return how the figures are spelt that the grid is drawn by."""
    return spelling_of(scores.measure.unit)


def over(scores: GridScores) -> str:
    """Return ``over 15 corruptions at severities 1 to 5``."""
    return (
        f"over {wording.plural(len(scores.corruptions), 'corruption')} "
        f"at {wording.severities_phrase(scores.severities)}"
    )


def headline(scores: GridScores, model: Scored, label: str) -> str:
    """Say in one sentence how a model fares, whatever is measured."""
    clean, mean = model.summary.get("clean"), model.summary.get("mean")
    name = scores.measure.title
    if mean is None:
        return f"{label}: no figure under corruption could be computed."
    spelt = spelling(scores)
    under = f"{spelt.with_sign(mean.value)} under corruption ({over(scores)})"
    if clean is None:
        return f"{label}: {name} {under}."
    return f"{label}: {name} {spelt.with_sign(clean.value)} on clean images and {under}."


def finding(scores: GridScores, difference: Scored, label: str, words: Words) -> str:
    """Say the verdict in a few words, for under the title."""
    figure = difference.summary.get("mean")
    if figure is None:
        return ""
    lower = scores.measure.lower_is_better
    if _is_nothing(figure):
        return (
            f"{label} changes nothing about that."
            if lower
            else f"{label} is just as good under corruption."
        )
    if figure.spans_zero and not figure.bare:
        better = words.helps if lower else "is better under corruption"
        return f"Whether {label} {better} cannot be told from {images(scores)}."
    spelt = spelling(scores)
    amount = f"{spelt.figure(abs(figure.value))}{spelt.points}"
    if not lower:
        said = f"{label} is {amount} {'higher' if figure.value > 0 else 'lower'} under corruption"
    elif figure.value < 0:
        said = f"{label} takes {amount} off that"
    else:
        said = f"{label} makes it worse, by {amount}"
    return f"{said}, without an interval." if figure.bare else f"{said}."


def verdict(scores: GridScores, difference: Scored, label: str, against: str, words: Words) -> str:
    """Say what a change does under corruption, and claim no more than its paired interval."""
    measure = f"{scores.measure.name} under corruption"
    figure = difference.summary.get("mean")
    compared = f"against {against}"
    if figure is None:
        return f"No difference in {measure} could be computed for {label} {compared}."
    if _is_nothing(figure):
        return words.same.format(subject=label, measure=measure, compared=compared)
    rises = figure.value > 0
    spelt = spelling(scores)
    amount = spelt.figure(abs(figure.value))
    if figure.bare:
        return (
            f"The {measure} of {label} is {amount}{spelt.points} "
            f"{'higher' if rises else 'lower'} than that of {against}. Whether that is more than "
            "chance cannot be told: there are no images to resample, so no interval."
        )
    ends = f"{level(scores)} interval {spelt.change_span(figure)}"
    if figure.spans_zero:
        return (
            f"Whether {label} {words.helps} cannot be told from {images(scores)}: {compared} the "
            f"{measure} changes by {spelt.change(figure.value)}{spelt.full_points}, and the "
            f"interval holds both gains and losses ({ends})."
        )
    does = (
        f"{'raises' if rises else 'lowers'} the {measure} by "
        f"{amount}{spelt.full_points} {compared} ({ends})."
    )
    return f"{label} {does}" if _is_better(scores, figure) else f"{label} {words.harms}: it {does}"


def clean_verdict(scores: GridScores, difference: Scored) -> str:
    """Say what a change does to the clean images: the price of a repair."""
    measure = scores.measure.name
    figure = difference.summary.get("clean")
    if figure is None:
        return ""
    if _is_nothing(figure):
        return f"On clean images the {measure} does not change."
    rises = figure.value > 0
    spelt = spelling(scores)
    amount = f"{spelt.figure(abs(figure.value))}{spelt.points}"
    if figure.bare:
        return f"On clean images it is {amount} {'higher' if rises else 'lower'}."
    ends = f"{level(scores)} interval {spelt.change_span(figure)}"
    if figure.spans_zero:
        return (
            f"On clean images the {measure} changes by {spelt.change(figure.value)}{spelt.points} "
            f"({ends}): not distinguishable from no change."
        )
    does = f"the {measure} {'rises' if rises else 'falls'} by {amount} ({ends})."
    if _is_better(scores, figure):
        return f"On clean images {does}"
    return f"The price: on clean images {does}"


def tally(differences: Sequence[Interval], *, lower_is_better: bool) -> str:
    """Count differences, one per corruption: which get better and worse, and how many for sure."""
    if not differences:
        return ""
    lower = [one for one in differences if one.value < 0]
    higher = [one for one in differences if one.value > 0]
    better, worse = (lower, higher) if lower_is_better else (higher, lower)
    same = len(differences) - len(better) - len(worse)

    def sure(found: list[Interval]) -> str:
        count = sum(not one.spans_zero for one in found)
        return f" ({count} beyond chance)" if found and not found[0].bare else ""

    parts = [
        f"{count} {one if count == 1 else many}{sure(found)}"
        for count, found, one, many in (
            (len(better), better, "gets better", "get better"),
            (len(worse), worse, "gets worse", "get worse"),
            (same, [], "stays the same", "stay the same"),
        )
        if count
    ]
    return f"Of {wording.plural(len(differences), 'corruption')}, {wording.listing(parts)}."


def images(scores: GridScores) -> str:
    """Return ``20 images``, at whose space no line breaks."""
    if scores.used is None:
        return "this table"
    return wording.plural(scores.used, "image").replace(" ", "\N{NO-BREAK SPACE}")


def _is_nothing(figure: Interval) -> bool:
    return figure.value == 0 and (figure.bare or figure.is_zero)


def _is_better(scores: GridScores, figure: Interval) -> bool:
    return (figure.value < 0) == scores.measure.lower_is_better
