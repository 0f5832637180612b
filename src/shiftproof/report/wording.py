"""Numbers and findings in words: the one place that decides how a figure is spelt.

Percentages have one decimal. A difference is in percentage points and carries its sign. A sentence
claims an effect only where the paired interval leaves out 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Unit
from shiftproof.runs.scores.reading import clean_text
from shiftproof.types import Settings

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
NONE = "\N{EN DASH}"
PERCENT = "\N{NO-BREAK SPACE}%"

FEW_IMAGES = 100
"""Below this many images one photograph moves an error by more than a percentage point."""

_SPELT = {"jpeg": "JPEG", "gaussian": "Gaussian"}


def percent(fraction: float | None) -> str:
    """Return ``57.9`` for 0.579: the number alone, the unit stands in the heading."""
    return NONE if fraction is None else _fixed(100 * fraction)


def share(fraction: float | None) -> str:
    """Return ``57.9 %``, with a space at which no line breaks."""
    return NONE if fraction is None else f"{percent(fraction)}{PERCENT}"


def points(fraction: float | None) -> str:
    """Return ``+3.1`` or ``−12.0``: a difference in percentage points."""
    if fraction is None:
        return NONE
    text = _fixed(100 * fraction)
    return text if text.startswith(MINUS) or text == "0.0" else f"+{text}"


def loss(value: float | None) -> str:
    """Return a loss in nats with two decimals."""
    return NONE if value is None else f"{value:.2f}".replace("-", MINUS)


def value(number: float, unit: Unit) -> str:
    """Return a figure with its unit: ``57.9 %``, ``0.61 nats``, ``12.3``."""
    if unit == "share":
        return share(number)
    return f"{loss(number)}{' nats' if unit == 'nats' else ''}"


def bare_value(number: float | None, unit: Unit, *, signed: bool = False) -> str:
    """Return a figure without its unit, as a column holds it; a difference of shares with its sign."""
    if unit == "share":
        return points(number) if signed else percent(number)
    return loss(number)


def count(number: int | None) -> str:
    """Return ``1,000``."""
    return NONE if number is None else f"{number:,}"


def value_of(interval: Interval | None) -> float | None:
    """Return the figure without its interval."""
    return None if interval is None else interval.value


def span(interval: Interval | None) -> str:
    """Return the ends of an interval, ``46.0–68.0``."""
    if interval is None or interval.bare:
        return ""
    return f"{percent(interval.lower)}{DASH}{percent(interval.upper)}"


def share_span(interval: Interval) -> str:
    """Return ``57.9 % (46.0–68.0)``, without the brackets where there is no interval."""
    return share(interval.value) + ("" if interval.bare else f" ({span(interval)})")


def points_with_span(interval: Interval) -> str:
    """Return ``−10.2 points (−14.0 to −6.1)``, without the brackets where there is no interval."""
    ends = "" if interval.bare else f" ({points_span(interval)})"
    return f"{points(interval.value)} points{ends}"


def points_span(interval: Interval | None) -> str:
    """Return the ends of a difference's interval, ``−14.0 to −6.1``."""
    if interval is None or interval.bare:
        return ""
    return f"{points(interval.lower)} to {points(interval.upper)}"


def _fixed(value: float) -> str:
    text = f"{value:.1f}"
    # A rounded −0.04 is no longer negative.
    return "0.0" if text == "-0.0" else text.replace("-", MINUS)


def capital(text: str) -> str:
    """Return ``text`` with its first letter large, and all others as they are."""
    return text[:1].upper() + text[1:]


def corruption_title(name: str) -> str:
    """Return ``Gaussian noise`` for ``gaussian_noise``."""
    words = [_SPELT.get(word, word) for word in name.replace("_", " ").split()]
    text = " ".join(words) or name
    return text[:1].upper() + text[1:]


def group_title(group: str) -> str:
    """Return the heading of a corruption group."""
    return corruption_title(group)


def cell_title(cell: str) -> str:
    """Return ``Fog, severity 3`` for ``fog-3`` and ``Clean`` for ``clean``."""
    name, dash, severity = cell.rpartition("-")
    if dash and severity.isdecimal():
        return f"{corruption_title(name)}, severity {severity}"
    return corruption_title(cell)


def listing(items: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 image`` or ``20 images``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def level(share: float) -> str:
    """Return ``95 %``, the level of intervals."""
    return f"{100 * share:g}{PERCENT}"


def axis_number(fraction: float) -> str:
    """Return ``−20`` or ``2.5``: a tick of an axis, no longer than it must be."""
    return f"{100 * fraction:+g}".replace("-", MINUS) if fraction else "0"


def severities_phrase(severities: Sequence[int]) -> str:
    """Return ``severity 3`` or ``severities 1, 3 and 5``."""
    word = "severity" if len(severities) == 1 else "severities"
    if len(severities) > 2 and list(severities) == list(range(severities[0], severities[-1] + 1)):
        return f"{word} {severities[0]} to {severities[-1]}"
    return f"{word} {listing([str(severity) for severity in severities])}"


def adapter_words(adapter: Settings | None) -> str:
    """Return an adapter's settings as ``prior 16, batch size 64``; empty for the plain model."""
    if not adapter:
        return ""
    return ", ".join(
        f"{clean_text(str(key)).replace('_', ' ')} {clean_text(str(value))}"
        for key, value in adapter.items()
        if isinstance(value, str | int | float) and key not in ("name", "title", "format")
    )
