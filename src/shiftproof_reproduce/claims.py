"""From figures to verdicts: whether what was measured bears a claim out."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof_reproduce.measured import Measured
from shiftproof_reproduce.result import Finding, Verdict

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


def at_most(interval: Interval, limit: float) -> Verdict:
    """Whether a figure is at most ``limit``: yes where it is, no where its whole interval is above."""
    if interval.value <= limit:
        return "yes"
    return "no" if interval.lower > limit else "undecided"


def every_corruption(
    measured: Measured, model: str, against: str, *, claim: str, source: str
) -> Finding:
    """Return the finding on which corruptions gain by ``model`` and which do not."""
    names = list(dict.fromkeys(cell.corruption for cell in measured.cells))
    changes = {name: measured.change(model, against, measured.of(name)) for name in names}
    worse = [name for name in names if changes[name].lower > 0]
    same = [name for name in names if changes[name].lower <= 0 <= changes[name].upper]
    parts = [
        f"{len(names) - len(worse) - len(same)} of {len(names)} gain",
        *([f"{named(same)} cannot be told from no change"] if same else []),
        *([f"{named(worse)} {'loses' if len(worse) == 1 else 'lose'}"] if worse else []),
    ]
    holds: Verdict = "no" if worse else "undecided" if same else "yes"
    return Finding("every-corruption", claim, source, "; ".join(parts), holds)


def named(corruptions: Sequence[str]) -> str:
    """Return corruptions in words, as they stand in a sentence."""
    titles = [wording.corruption_title(name) for name in corruptions]
    # JPEG and Gaussian keep their capitals.
    return wording.listing(
        [t if t[:2].isupper() or t.startswith("Gauss") else t.lower() for t in titles]
    )
