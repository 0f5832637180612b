"""Numbers and names in words: shares in percent, counts, lists, titles.

What is a share by its nature is spelt here; a figure of a measure has its unit, and is spelt by its
:class:`~shiftproof.report.spelling.Spelling`.
"""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import spelling
from shiftproof.report.spelling import SHARES
from shiftproof.runs.scores.reading import clean_text
from shiftproof.types import Settings

MINUS = spelling.MINUS
DASH = spelling.DASH
NONE = spelling.NONE
PERCENT = f"{spelling.NO_BREAK}%"

FEW_IMAGES = 100
"""Below this many images one photograph moves an error by more than a percentage point."""

_SPELT = {"jpeg": "JPEG", "gaussian": "Gaussian"}


def percent(fraction: float | None) -> str:
    """Return ``57.9`` for 0.579: the number alone, the unit stands in the heading."""
    return SHARES.figure(fraction)


def share(fraction: float | None) -> str:
    """Return ``57.9 %``, with a space at which no line breaks."""
    return SHARES.with_sign(fraction)


def points(fraction: float | None) -> str:
    """Return ``+3.1`` or ``−12.0``: a difference in percentage points."""
    return SHARES.change(fraction)


def count(number: int | None) -> str:
    """Return ``1,000``."""
    return NONE if number is None else f"{number:,}"


def value_of(interval: Interval | None) -> float | None:
    """Return the figure without its interval."""
    return None if interval is None else interval.value


def span(interval: Interval | None) -> str:
    """Return the ends of an interval, ``46.0–68.0``."""
    return SHARES.span(interval)


def capital(text: str) -> str:
    """Return ``text`` with its first letter large, and all others as they are; ``mIoU`` stays so."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


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
    return SHARES.signed_tick(fraction)


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
