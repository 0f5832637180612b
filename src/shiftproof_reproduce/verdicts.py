"""From figures to verdicts: whether what was measured bears a claim out."""

from __future__ import annotations

from collections.abc import Callable

from shiftproof.metrics import Interval
from shiftproof_reproduce.result import Finding, Unit, Value, Verdict, round_off
from shiftproof_reproduce.spelling import spell

Test = Callable[[Interval, float], Verdict]
"""From a figure and its limit to a verdict."""

GUARDED = 0.01
"""How far above the source a guarded model may end: a point."""


def below(interval: Interval, limit: float = 0.0) -> Verdict:
    """Whether a figure is below ``limit``: yes or no where its whole interval is to one side."""
    if interval.upper < limit:
        return "yes"
    return "no" if interval.lower > limit else "undecided"


def above(interval: Interval, limit: float = 0.0) -> Verdict:
    """Whether a figure is above ``limit``, likewise."""
    if interval.lower > limit:
        return "yes"
    return "no" if interval.upper < limit else "undecided"


def at_most(interval: Interval, limit: float = 0.0) -> Verdict:
    """Whether a figure is at most ``limit``: yes where it is, no where its whole interval is above."""
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
        name: of the finding, which no other of its experiment has.
        claim: what is held to be true.
        source: who says so.
        figure: what was measured; where that is None, the claim is undecided.
        words: what was measured, in a sentence with the figure in the place of ``{}``.
        holds: ``below``, ``above`` or ``at_most``.
        limit: of the figure.
        unit: of the figure.
    """
    figure = round_off(figure)
    verdict: Verdict = "undecided" if figure is None else holds(figure, limit)
    return Finding(name, claim, source, words.format(spell(figure, unit)), verdict, figure, unit)
