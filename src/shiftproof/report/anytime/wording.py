"""Sentences on the page of an anytime run."""

from __future__ import annotations

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.runs.scores.anytime import AnytimeEstimate, AnytimeScores

_ENDINGS = {
    "precision": "It ended when the interval was as narrow as was asked",
    "budget": "It ended when the budget of time was used up",
    "decided": "It ended when every difference was told from 0",
    "exhausted": "It ended when every image had been asked in every cell",
    "unfinished": "It is still under way; load this page again for what is known by then",
}


def half_width(figure: Interval) -> str:
    """Return half of an interval's width in points."""
    return f"±{50 * (figure.upper - figure.lower):.2f} points"


def describe_model(scores: AnytimeScores, one: AnytimeEstimate) -> str:
    """Describe the number of a model and its interval."""
    return (
        f"{scores.headline.title} of {one.title or one.name} is {wording.share(one.figure.value)} "
        f"({wording.span(one.figure)}, {half_width(one.figure)})."
    )


def describe_difference(scores: AnytimeScores, one: AnytimeEstimate) -> str:
    """Say which of two models is better, as far as it is decided."""
    title = scores.headline.title
    span = f"{wording.points(one.figure.lower)} to {wording.points(one.figure.upper)} points"
    if not one.is_decided:
        return f"Whether {one.name} or {one.against} has the lower {title} is not decided ({span})."
    word = "lower" if one.figure.value < 0 else "higher"
    return f"{title} of {one.name} is {word} than that of {one.against} ({span})."


def describe_end(scores: AnytimeScores) -> str:
    """Say why the run ended, and what it took."""
    share = scores.asked / scores.pairs
    return (
        f"{_ENDINGS[scores.ended]}: {scores.asked:,} of {scores.pairs:,} pairs of an image and a cell "
        f"were asked, {share:.2%} of the grid."
    )
