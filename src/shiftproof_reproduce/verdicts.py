"""Verdicts on claims from measured figures."""

from __future__ import annotations

from collections.abc import Callable

from shiftproof.metrics import Interval
from shiftproof_reproduce.formatting import format_figure
from shiftproof_reproduce.result import Finding, Unit, Value, Verdict, round_off

Test = Callable[[Interval, float], Verdict]
"""From a figure and its limit to a verdict."""

MAX_GUARDED_RISE = 0.01
"""Maximum increase of the error over the source of a guarded model: a point."""


def below(interval: Interval, limit: float = 0.0) -> Verdict:
    """Return whether a figure is below ``limit``: yes or no if its whole interval is on one
    side.
    """
    if interval.upper < limit:
        return "yes"
    return "no" if interval.lower > limit else "undecided"


def above(interval: Interval, limit: float = 0.0) -> Verdict:
    """Return whether a figure is above ``limit``, likewise."""
    if interval.lower > limit:
        return "yes"
    return "no" if interval.upper < limit else "undecided"


def at_most(interval: Interval, limit: float = 0.0) -> Verdict:
    """Return whether a figure is at most ``limit``: no if its whole interval is above, yes if the
    figure is not above.
    """
    if interval.value <= limit:
        return "yes"
    return "no" if interval.lower > limit else "undecided"


def judge(
    name: str,
    claim: str,
    source: str,
    figure: Value,
    words: str,
    *,
    holds: Test,
    limit: float = 0.0,
    unit: Unit = "change",
) -> Finding:
    """Return the finding on a claim.

    Args:
        name: name of the finding, unique in its experiment.
        claim: the claim.
        source: the source of the claim.
        figure: the measured figure; None leaves the claim undecided.
        words: description of the figure, with ``{}`` in its place.
        holds: ``below``, ``above`` or ``at_most``.
        limit: limit for the figure.
        unit: unit of the figure.
    """
    figure = round_off(figure)
    verdict: Verdict = "undecided" if figure is None else holds(figure, limit)
    return Finding(
        name, claim, source, words.format(format_figure(figure, unit)), verdict, figure, unit
    )
