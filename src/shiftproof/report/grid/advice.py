"""Suggested next steps that follow from the results of a run over the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shiftproof.corruptions.table import COMMON
from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.grid import words
from shiftproof.report.grid.entries import Change, Entry, PageContent
from shiftproof.report.listing import Step
from shiftproof.report.wording import SHARES
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.ranking import Ranking

MAX_IMAGES = 1_000_000
"""Maximum number of images to suggest."""

WIDE = 0.02
"""Half-width of an interval above which more images are suggested."""

NEAR_CHANCE = 0.9
"""Share of the errors that guessing makes; a model above it has mostly been loaded wrongly."""


def list_steps(shown: PageContent, ranking: Ranking | None, alarms: Sequence[str]) -> list[Step]:
    """Return suggested next steps; those that question the figures come first."""
    run = shown.first
    found = [
        _suggest_same_data(alarms),
        *(_check_loading(entry) for entry in shown.entries),
        _complete_grid(run.scores),
        _suggest_more_images(run.scores, ranking) or _suggest_precision(run.scores),
        *(_recommend_change(change) for change in shown.changes),
        _try_adapters(run),
        _look_at_worst(shown),
    ]
    return [one for one in found if one is not None]


def _suggest_same_data(alarms: Sequence[str]) -> Step | None:
    if not alarms:
        return None
    return Step(
        "Measure all models on the same images, corruptions and seed; only then can they be compared.",
        "shiftproof bench --model A --model B --data DATA --out RUN",
    )


def _check_loading(entry: Entry) -> Step | None:
    """Suggest to check how a model was loaded, if its clean error is near that of guessing."""
    classes = entry.run.info.classes.get("count")
    clean = entry.scored.of_clean("error")
    if not isinstance(classes, int) or classes < 2 or clean is None or entry.adapter is not None:
        return None
    if clean.value < NEAR_CHANCE * (1 - 1 / classes):
        return None
    return Step(
        f"{entry.label} is hardly better than guessing on clean images ({wording.share(clean.value)} "
        f"wrong of {classes:,} classes). Usually the size, mean and std, or the order of the classes does "
        "not fit the model.",
        "shiftproof models",
    )


def _complete_grid(scores: GridScores) -> Step | None:
    if scores.grid.claim is None or scores.grid.complete:
        return None
    whole = set(COMMON) <= set(scores.corruptions)
    lacking = "five severities" if whole else "15 corruptions at five severities"
    return Step(
        f"Run the whole benchmark, {lacking}: only then can a figure be compared with published ones.",
        "--corruptions common --severities 1-5",
    )


def _suggest_more_images(scores: GridScores, ranking: Ranking | None) -> Step | None:
    """Suggest the number of images needed to separate the best two models, if their difference is real."""
    if ranking is None or len(ranking.places) < 2 or not scores.used:
        return None
    first, second = (place.name for place in ranking.places[:2])
    pair = next((one for one in ranking.pairs if (one.name, one.against) == (first, second)), None)
    if pair is None or pair.difference.bare or not pair.difference.spans_zero:
        return None
    needed = _images_for(scores.used, pair.difference, abs(pair.difference.value))
    said = f"{first} and {second} do not differ significantly on {words.count_images(scores)}"
    if needed is None:
        return Step(f"{said}, and hardly differ: choose by size, speed or other criteria.")
    return Step(f"{said}. If the difference is real, about {needed:,} images would show it.")


def _images_for(used: int, interval: Interval, half: float) -> int | None:
    """Return how many images bring an interval down to a half width: it falls with their root."""
    width = (interval.upper - interval.lower) / 2
    if half <= 0 or width <= 0:
        return None
    needed = used * (width / half) ** 2
    digits = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    rounded = math.ceil(needed / digits) * digits
    return rounded if rounded <= MAX_IMAGES else None


def _suggest_precision(scores: GridScores) -> Step | None:
    headline = scores.headline
    figure = scores.models[0].summary.get(headline.name) if headline else None
    if headline is None or figure is None or figure.bare or not scores.used:
        return None
    half = (figure.upper - figure.lower) / 2
    needed = _images_for(scores.used, figure, WIDE / 2)
    if headline.unit != "share" or half < WIDE or needed is None:
        return None
    return Step(
        f"The interval of the {words.lower_first(headline.title)} is ±{SHARES.figure(half)} points wide. "
        f"About {needed:,} images would reduce this to ±1 point.",
        "--precision 1",
    )


def _recommend_change(change: Change) -> Step | None:
    """Recommend or discourage a change, with its costs."""
    scores = change.run.scores
    figure = change.scored.summary.get("mean")
    if figure is None or figure.bare or figure.spans_zero or change.entry.adapter is None:
        return None
    label = change.entry.label
    number_format = words.number_format(scores)
    amount = f"{number_format.figure(abs(figure.value))}{number_format.points}"
    if (figure.value < 0) != scores.measure.lower_is_better:
        return Step(
            f"Do not use {label} here: it makes the {scores.measure.name} worse by {amount}. The reason "
            "may be a small batch, or images sorted by class."
        )
    cost = [one.title for one, _ in words.list_losses(scores, change.scored)]
    cost_sentence = (
        f" Its cost is the {wording.join_list([words.lower_first(one) for one in cost])}: recalibrate, or "
        "adapt only while the images are corrupted."
        if cost
        else ""
    )
    return Step(
        f"{label} is recommended for image streams like that of this run: it makes the "
        f"{scores.measure.name} better by {amount}.{cost_sentence}"
    )


def _try_adapters(run: Run) -> Step | None:
    if run.kind != "classification" or run.adapts or not run.settings.get("models"):
        return None
    if any("answers" in str(run.settings.get(key)) for key in ("images", "source")):
        return None  # there is no model to adapt
    return Step(
        "Measure how much label-free adaptation recovers, on the same images.",
        "--adapt 'batchnorm ent'",
    )


def _look_at_worst(shown: PageContent) -> Step | None:
    """Name the corruptions under which the first model loses most."""
    entry = shown.entries[0]
    found = entry.scored.of_corruptions(shown.measure)
    if len(found) < 3:
        return None
    lower = entry.run.scores.measure.lower_is_better
    worst = sorted(found, key=lambda name: found[name].value, reverse=lower)[:3]
    names = wording.join_list([wording.corruption_title(name).lower() for name in worst])
    return Step(
        f"{entry.label} is worst under {names}. If your images can look like this, train with these "
        "corruptions, and evaluate on the others.",
        f"shiftproof corrupt DATA COPIES --corruptions {','.join(worst)}",
    )
