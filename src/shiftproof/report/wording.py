"""Formatting of values, numbers and names: digits, units, counts, lists, titles.

A :class:`NumberFormat` formats the values of a unit (shares in percent, losses in nats, other numbers).
Differences have a sign. Shares have one decimal and nats two; other numbers have at least two
significant digits: 17.4, 1.74, 0.17, 0.017. The functions below format values that are always
shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shiftproof.counts import pluralize as pluralize
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Unit
from shiftproof.runs.scores.reading import clean_text
from shiftproof.types import Settings

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
NONE = "\N{EN DASH}"
NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class NumberFormat:
    """The number format of one unit; texts are empty if the unit has no name.

    Attributes:
        unit: unit of the values.
        write: formats the digits of a value.
        scale: factor of values on an axis.
        end: upper limit of all possible values; None without a limit.
        sign: suffix of a value: " %".
        points: suffix of a difference: " points".
        full_points: the same in full: " percentage points".
        phrase: suffix of a measure's name: " in percent".
        short_phrase: the same for a heading: " in %".
        before: prefix of a measure's name: "% ".
        stored: unit of the values in files: "fractions".
        printed: unit of the values in displayed tables: "percent".
    """

    unit: Unit
    write: Callable[[float], str]
    scale: float
    end: float | None
    sign: str
    points: str
    full_points: str
    phrase: str
    short_phrase: str
    before: str
    stored: str
    printed: str

    def figure(self, value: float | None) -> str:
        """Return ``57.9`` for the share 0.579: only the digits; the heading has the unit."""
        return NONE if value is None else _tidy(self.write(value))

    def change(self, value: float | None) -> str:
        """Return ``+3.1`` or ``−12.0``: the digits of a difference."""
        text = self.figure(value)
        if value is None or text.startswith(MINUS) or _is_zero(text):
            return text
        return f"+{text}"

    def with_sign(self, value: float | None) -> str:
        """Return ``57.9 %``, with a no-break space."""
        if value is None:
            return NONE
        return f"{self.figure(value)}{self.sign.replace(' ', NO_BREAK)}"

    def span(self, interval: Interval | None) -> str:
        """Return the bounds of an interval, ``46.0–68.0``; empty without bounds."""
        if interval is None or interval.bare:
            return ""
        # A minus sign next to a dash is hard to read; shares have none.
        dash = " to " if self.end is None and interval.lower < 0 else DASH
        return f"{self.figure(interval.lower)}{dash}{self.figure(interval.upper)}"

    def change_span(self, interval: Interval | None) -> str:
        """Return the ends of a difference's interval, ``−14.0 to −6.1``; empty without any."""
        if interval is None or interval.bare:
            return ""
        return f"{self.change(interval.lower)} to {self.change(interval.upper)}"

    def cell(self, interval: Interval | None) -> dict[str, str]:
        """Return a value and its bounds, for a table's cell on the page."""
        value = None if interval is None else interval.value
        return {"value": self.figure(value), "span": self.span(interval)}

    def change_cell(self, interval: Interval | None) -> dict[str, object]:
        """Return the cell of a difference; it is significant if the interval excludes 0."""
        value = None if interval is None else interval.value
        sure = interval is not None and not interval.spans_zero
        return {"value": self.change(value), "span": self.change_span(interval), "sure": sure}

    def with_span(self, interval: Interval) -> str:
        """Return ``57.9 % (46.0–68.0)``, without the brackets where there is no interval."""
        ends = "" if interval.bare else f" ({self.span(interval)})"
        return f"{self.with_sign(interval.value)}{ends}"

    def change_with_span(self, interval: Interval) -> str:
        """Return ``−10.2 points (−14.0 to −6.1)``, without the brackets where there is no interval."""
        ends = "" if interval.bare else f" ({self.change_span(interval)})"
        return f"{self.change(interval.value)}{self.points}{ends}"

    def tick(self, value: float, *, named: bool = False) -> str:
        """Return ``2.5``, the label of an axis, no longer than it must be; ``named`` adds the unit."""
        return f"{self.scale * value:g}".replace("-", MINUS) + (self.sign if named else "")

    def tick_change(self, value: float) -> str:
        """Return ``−20`` or ``+2.5``, a label on an axis of differences."""
        return f"{self.scale * value:+g}".replace("-", MINUS) if value else "0"


def _tidy(text: str) -> str:
    """Return the digits with a minus sign, and without one where −0.04 was rounded to 0."""
    return text.removeprefix("-") if _is_zero(text) else text.replace("-", MINUS)


def _is_zero(text: str) -> bool:
    return not text.strip("-0.")


def _write_number(value: float) -> str:
    if value == 0:
        return "0.0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    decimals = 1 if abs(value) >= 10 else 2
    return f"{value:.{max(decimals, 1 - math.floor(math.log10(abs(value))))}f}"


SHARES = NumberFormat(
    unit="share",
    write=lambda value: f"{100 * value:.1f}",
    scale=100.0,
    end=1.0,
    sign=" %",
    points=" points",
    full_points=" percentage points",
    phrase=" in percent",
    short_phrase=" in %",
    before="% ",
    stored="fractions",
    printed="percent",
)
NATS = NumberFormat(
    unit="nats",
    write=lambda value: f"{value:.2f}",
    scale=1.0,
    end=None,
    sign=" nats",
    points=" nats",
    full_points=" nats",
    phrase=" in nats",
    short_phrase=" in nats",
    before="nats of ",
    stored="nats",
    printed="nats",
)
NUMBERS = NumberFormat(
    unit="number",
    write=_write_number,
    scale=1.0,
    end=None,
    sign="",
    points="",
    full_points="",
    phrase="",
    short_phrase="",
    before="",
    stored="the measure's own unit",
    printed="the measure's own unit",
)

_BY_UNIT: dict[Unit, NumberFormat] = {one.unit: one for one in (SHARES, NATS, NUMBERS)}


def find_number_format(unit: Unit) -> NumberFormat:
    """Return the number format of a unit."""
    return _BY_UNIT[unit]


# ---------------------------------------------------------------- words

PERCENT = f"{NO_BREAK}%"

FEW_IMAGES = 100
"""Below this many images one photograph moves an error by more than a percentage point."""

_SPELLINGS = {"jpeg": "JPEG", "gaussian": "Gaussian"}


def percent(fraction: float | None) -> str:
    """Return ``57.9`` for 0.579: the number alone, the unit stands in the heading."""
    return SHARES.figure(fraction)


def share(fraction: float | None) -> str:
    """Return ``57.9 %``, with a no-break space."""
    return SHARES.with_sign(fraction)


def points(fraction: float | None) -> str:
    """Return ``+3.1`` or ``−12.0``: a difference in percentage points."""
    return SHARES.change(fraction)


def count(number: int | None) -> str:
    """Return ``1,000``."""
    return NONE if number is None else f"{number:,}"


def get_value(interval: Interval | None) -> float | None:
    """Return the value without its interval."""
    return None if interval is None else interval.value


def span(interval: Interval | None) -> str:
    """Return the ends of an interval, ``46.0–68.0``."""
    return SHARES.span(interval)


def capitalize(text: str) -> str:
    """Return ``text`` with its first letter large, and all others as they are; ``mIoU`` stays so."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def corruption_title(name: str) -> str:
    """Return ``Gaussian noise`` for ``gaussian_noise``."""
    words = [_SPELLINGS.get(word, word) for word in name.replace("_", " ").split()]
    text = " ".join(words) or name
    return text[:1].upper() + text[1:]


def title_cell(cell: str) -> str:
    """Return ``Fog, severity 3`` for ``fog-3`` and ``Clean`` for ``clean``."""
    name, dash, severity = cell.rpartition("-")
    if dash and severity.isdecimal():
        return f"{corruption_title(name)}, severity {severity}"
    return corruption_title(cell)


def join_list(items: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def level(share: float) -> str:
    """Return ``95 %``, the level of intervals."""
    return f"{100 * share:g}{PERCENT}"


def format_tick(fraction: float) -> str:
    """Return ``−20`` or ``2.5``: a tick of an axis, no longer than it must be."""
    return SHARES.tick_change(fraction)


def describe_severities(severities: Sequence[int]) -> str:
    """Return ``severity 3`` or ``severities 1, 3 and 5``."""
    word = "severity" if len(severities) == 1 else "severities"
    if len(severities) > 2 and list(severities) == list(range(severities[0], severities[-1] + 1)):
        return f"{word} {severities[0]} to {severities[-1]}"
    return f"{word} {join_list([str(severity) for severity in severities])}"


_HIDDEN_SETTINGS = {"name", "title", "format", "adapted", "untracked", "learnt", "values"}
"""Settings of an adapter that are not chosen by the user."""


def describe_adapter(adapter: Settings | None) -> str:
    """Return an adapter's settings as ``prior 16, batch size 64``; empty for the plain model.

    Counts (adapted layers, learned values) are only in the list of all settings.
    """
    if not adapter:
        return ""
    return ", ".join(
        f"{clean_text(str(key)).replace('_', ' ')} {clean_text(str(value))}"
        for key, value in adapter.items()
        if isinstance(value, str | int | float) and key not in _HIDDEN_SETTINGS
    )
