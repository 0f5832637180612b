"""The number of images for a wanted precision, planned from a pilot run."""

from __future__ import annotations

import math
from pathlib import Path

from shiftproof.errors import InputError
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import GridScores

PILOT_IMAGES = 400
"""The images of the pilot: its own interval's width is then known to about 5 %."""

MARGIN = 1.1
"""More images than the pilot says, since its width is an estimate."""


def locate_pilot(out: Path) -> Path:
    """Return the folder of the pilot run that belongs to a run: beside it."""
    return out.with_name(f"{out.name}-pilot")


def check_precision(precision: float) -> None:
    """Raise an InputError unless ``precision`` is a number of points above 0 and below 100."""
    if isinstance(precision, bool) or not 0 < precision < 100:
        raise InputError(
            f"Expected a precision above 0 and below 100, the half-width of an interval in points, "
            f"got {precision!r}."
        )


def plan_images(pilot: Run, precision: float) -> int:
    """Return how many images bring the interval of the run's headline to a half-width.

    The headline is the benchmark's own (mCE, mPC) where the grid has it, else the mean over the
    grid; of several models the widest interval decides. Half-widths fall with the square root of
    the number of images.

    Args:
        pilot: a run of some images.
        precision: the half-width that is wanted, in points (hundredths of a share).

    Raises:
        InputError: the pilot's headline has no interval.
    """
    scores = pilot.scores
    widths = _list_half_widths(scores)
    if not widths or not scores.used:
        raise InputError(
            "The pilot's headline has no interval to plan from; give the number of images instead."
        )
    return max(1, math.ceil(scores.used * MARGIN * (100 * max(widths) / precision) ** 2))


def _list_half_widths(scores: GridScores) -> list[float]:
    """Return half the width of each model's interval of the headline that is planned for."""
    headline = scores.headline
    figures = [model.summary.get(headline.name) for model in scores.models] if headline else []
    return [
        (figure.upper - figure.lower) / 2
        for figure in figures
        if figure is not None and not figure.bare
    ]
