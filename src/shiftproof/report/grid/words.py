"""Findings over the grid as sentences, which claim an effect only if the interval excludes 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.sections import look_up
from shiftproof.report.wording import NumberFormat, find_number_format
from shiftproof.runs.budget import NOTE, has_ended_early
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import GridScores, Headline, ModelScores
from shiftproof.runs.scores.reading import clean_text


@dataclass(frozen=True)
class Words:
    """A task's wording of changes.

    Attributes:
        helps: verb for an improvement: "helps".
        harms: verb for a deterioration: "does harm here".
        same: sentence for no change in any resample, with the placeholders subject, measure and
            compared.
    """

    helps: str = "helps"
    harms: str = "does harm here"
    same: str = "The {measure} of {subject} is the same {compared}."


def describe_level(scores: GridScores) -> str:
    """Return ``95 %``; empty if no score has an interval."""
    return wording.level(scores.interval.level) if scores.resampled else ""


def number_format(scores: GridScores) -> NumberFormat:
    """Return the number format of the grid's main measure."""
    return find_number_format(scores.measure.unit)


def describe_grid(scores: GridScores) -> str:
    """Return ``over 15 corruptions at severities 1 to 5``."""
    return (
        f"over {wording.pluralize(len(scores.corruptions), 'corruption')} "
        f"at {wording.describe_severities(scores.severities)}"
    )


def headline(scores: GridScores, model: ModelScores, label: str) -> str:
    """Summarize a model in one sentence, for any measure."""
    clean, mean = model.summary.get("clean"), model.summary.get("mean")
    name = scores.measure.title
    if mean is None:
        return f"{label}: no figure under corruption could be computed."
    form = number_format(scores)
    under = f"{form.with_sign(mean.value)} under corruption ({describe_grid(scores)})"
    if clean is None:
        return f"{label}: {name} {under}."
    return f"{label}: {name} {form.with_sign(clean.value)} on clean images and {under}."


def summarize_change(scores: GridScores, difference: ModelScores, label: str, words: Words) -> str:
    """Return the verdict in a short sentence for the subtitle."""
    figure = difference.summary.get("mean")
    if figure is None:
        return ""
    lower = scores.measure.lower_is_better
    if _is_nothing(figure):
        return (
            f"{label} does not change this."
            if lower
            else f"{label} is just as good under corruption."
        )
    if figure.spans_zero and not figure.bare:
        better = words.helps if lower else "is better under corruption"
        return f"Whether {label} {better} is unclear from {count_images(scores)}."
    form = number_format(scores)
    amount = f"{form.figure(abs(figure.value))}{form.points}"
    if not lower:
        said = f"{label} is {amount} {'higher' if figure.value > 0 else 'lower'} under corruption"
    elif figure.value < 0:
        said = f"{label} lowers this by {amount}"
    else:
        said = f"{label} raises this by {amount}"
    return f"{said}, without an interval." if figure.bare else f"{said}."


def describe_change(
    scores: GridScores, difference: ModelScores, label: str, against: str, words: Words
) -> str:
    """Describe the effect of a change under corruption, as supported by its paired interval."""
    measure = f"{scores.measure.name} under corruption"
    figure = difference.summary.get("mean")
    compared = f"against {against}"
    if figure is None:
        return f"No difference in {measure} could be computed for {label} {compared}."
    if _is_nothing(figure):
        return words.same.format(subject=label, measure=measure, compared=compared)
    rises = figure.value > 0
    form = number_format(scores)
    amount = form.figure(abs(figure.value))
    if figure.bare:
        return (
            f"The {measure} of {label} is {amount}{form.points} "
            f"{'higher' if rises else 'lower'} than that of {against}. Its significance is unknown: "
            "without images to resample there is no interval."
        )
    ends = f"{describe_level(scores)} interval {form.change_span(figure)}"
    if figure.spans_zero:
        within = "both gains and losses" if figure.lower < 0 < figure.upper else "0"
        return (
            f"Whether {label} {words.helps} is unclear from {count_images(scores)}: {compared} the "
            f"{measure} changes by {form.change(figure.value)}{form.full_points}, and the "
            f"interval contains {within} ({ends})."
        )
    does = (
        f"{'raises' if rises else 'lowers'} the {measure} by "
        f"{amount}{form.full_points} {compared} ({ends})."
    )
    return f"{label} {does}" if _is_better(scores, figure) else f"{label} {words.harms}: it {does}"


def describe_clean_change(scores: GridScores, difference: ModelScores) -> str:
    """Describe the effect of a change on clean images: the cost of an adapter."""
    measure = scores.measure.name
    figure = difference.summary.get("clean")
    if figure is None:
        return ""
    if _is_nothing(figure):
        return f"On clean images the {measure} does not change."
    rises = figure.value > 0
    form = number_format(scores)
    amount = f"{form.figure(abs(figure.value))}{form.points}"
    if figure.bare:
        return f"On clean images it is {amount} {'higher' if rises else 'lower'}."
    ends = f"{describe_level(scores)} interval {form.change_span(figure)}"
    if figure.spans_zero:
        return (
            f"On clean images the {measure} changes by {form.change(figure.value)}{form.points} "
            f"({ends}), which is not significant."
        )
    does = f"the {measure} {'rises' if rises else 'falls'} by {amount} ({ends})."
    if _is_better(scores, figure):
        return f"On clean images {does}"
    return f"The cost: on clean images {does}"


def list_losses(scores: GridScores, difference: ModelScores) -> list[tuple[Headline, Interval]]:
    """Return the headlines that a change makes significantly worse, except the mean.

    The benchmark's own figure is left out as well: it follows the mean.
    """
    told = {"mean", scores.headline.name} if scores.headline else {"mean"}
    return [
        (one, figure)
        for one in scores.headlines
        if one.card and one.name not in told
        if (figure := difference.summary.get(one.name)) is not None and not figure.spans_zero
        if (figure.value > 0) == one.lower_is_better
    ]


def describe_costs(scores: GridScores, difference: ModelScores) -> list[str]:
    """Return a sentence for each headline that a change makes worse, except on clean images."""
    return [
        f"The cost: the {lower_first(one.title)} {'rises' if figure.value > 0 else 'falls'} by "
        f"{_make_amount(one, figure)} ({describe_level(scores)} interval "
        f"{find_number_format(one.unit).change_span(figure)})."
        for one, figure in list_losses(scores, difference)
        if one.name != "clean"
    ]


def summarize_costs(scores: GridScores, difference: ModelScores, label: str) -> str:
    """Summarize in one sentence what a change makes worse, for the subtitle; empty if nothing."""
    found = [
        f"the {lower_first(one.title)} {'rises' if figure.value > 0 else 'falls'} by "
        f"{_make_amount(one, figure)}"
        for one, figure in list_losses(scores, difference)
    ]
    return f"The cost of {label}: {wording.join_list(found)}." if found else ""


def _make_amount(headline: Headline, figure: Interval) -> str:
    form = find_number_format(headline.unit)
    return f"{form.figure(abs(figure.value))}{form.points}"


def lower_first(title: str) -> str:
    """Return a title in lower case for a sentence; ``mCE`` and ``AP`` are unchanged."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def describe_subset(run: Run) -> str | None:
    """Describe the subset of images, its rule, and the headline's precision.

    Returns:
        None for a run of all images.
    """
    subset = look_up(run.settings, "data", "subset")
    if not isinstance(subset, Mapping):
        return None
    scores = run.scores
    total, rule = subset.get("images of all"), subset.get("rule")
    count = scores.images.total
    of = f" of {total:,}" if isinstance(total, int) else ""
    how = f", {clean_text(rule)}" if isinstance(rule, str) else ""
    said = f"{wording.count(count)}{of} images{how}"
    near = _make_nearness(scores)
    whole = f"{said}; {near}." if near else f"{said}."
    if has_ended_early(run.folder.info()):
        return f"{whole} {NOTE[0].upper()}{NOTE[1:]}."
    return whole


def _make_nearness(scores: GridScores) -> str:
    """Return ``mCE ±0.8 points``, half of the interval, from the narrowest to the widest model."""
    headline = scores.headline
    figures = [one.summary.get(headline.name) for one in scores.models] if headline else []
    halves = sorted(
        (figure.upper - figure.lower) / 2
        for figure in figures
        if figure is not None and not figure.bare
    )
    if headline is None or not halves:
        return ""
    form = find_number_format(headline.unit)
    spelled = list(dict.fromkeys(form.figure(one) for one in (halves[0], halves[-1])))
    return f"{lower_first(headline.title)} {' to '.join(f'±{one}' for one in spelled)}{form.points}"


def count_changes(differences: Sequence[Interval], *, lower_is_better: bool) -> str:
    """Count better and worse differences, one per corruption, and the significant ones."""
    if not differences:
        return ""
    lower = [one for one in differences if one.value < 0]
    higher = [one for one in differences if one.value > 0]
    better, worse = (lower, higher) if lower_is_better else (higher, lower)
    same = len(differences) - len(better) - len(worse)

    def sure(found: list[Interval]) -> str:
        count = sum(not one.spans_zero for one in found)
        return f" ({count} significantly)" if found and not found[0].bare else ""

    parts = [
        f"{count} {one if count == 1 else many}{sure(found)}"
        for count, found, one, many in (
            (len(better), better, "gets better", "get better"),
            (len(worse), worse, "gets worse", "get worse"),
            (same, [], "stays the same", "stay the same"),
        )
        if count
    ]
    return f"Of {wording.pluralize(len(differences), 'corruption')}, {wording.join_list(parts)}."


def count_images(scores: GridScores) -> str:
    """Return ``20 images``, at whose space no line breaks."""
    if scores.used is None:
        return "this table"
    return wording.pluralize(scores.used, "image").replace(" ", "\N{NO-BREAK SPACE}")


def _is_nothing(figure: Interval) -> bool:
    return figure.value == 0 and (figure.bare or figure.is_zero)


def _is_better(scores: GridScores, figure: Interval) -> bool:
    return (figure.value < 0) == scores.measure.lower_is_better
