"""Numbers and findings in words: the one place that decides how a figure is spelt.

Percentages have one decimal. A difference is in percentage points and carries its sign. A sentence
claims an effect only where the paired interval leaves out 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.report.reading import Interval, clean_text
from shiftproof.report.run_folder import Measured
from shiftproof.report.scores import Estimator, Scored, Scores
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


def value_of(interval: Interval | None) -> float | None:
    """Return the figure without its interval."""
    return None if interval is None else interval.value


def span(interval: Interval | None) -> str:
    """Return the ends of an interval, ``46.0–68.0``."""
    if interval is None or interval.bare:
        return ""
    return f"{percent(interval.low)}{DASH}{percent(interval.high)}"


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
    return f"{points(interval.low)} to {points(interval.high)}"


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


def level(scores: Measured) -> str:
    """Return ``95 %``."""
    return f"{100 * scores.level:g}{PERCENT}"


def axis_number(fraction: float) -> str:
    """Return ``−20`` or ``2.5``: a tick of an axis, no longer than it must be."""
    return f"{100 * fraction:+g}".replace("-", MINUS) if fraction else "0"


def measure_name(scores: Scores) -> str:
    """Return what the percentages of this run count, as a noun."""
    return "error" if scores.labelled else "disagreement"


def severities_phrase(severities: Sequence[int]) -> str:
    """Return ``severity 3`` or ``severities 1, 3 and 5``."""
    word = "severity" if len(severities) == 1 else "severities"
    if len(severities) > 2 and list(severities) == list(range(severities[0], severities[-1] + 1)):
        return f"{word} {severities[0]} to {severities[-1]}"
    return f"{word} {listing([str(severity) for severity in severities])}"


def headline(scores: Scores, model: Scored, label: str) -> str:
    """Say in one or two sentences how a model fares."""
    over = (
        f"over {plural(len(scores.corruptions), 'corruption')} "
        f"at {severities_phrase(scores.severities)}"
    )
    mean = model.summary.mean_error
    if mean is None:
        return f"{label}: no figure under corruption could be computed."
    if not scores.labelled:
        return (
            f"Under corruption, {label} changes its mind about {share(mean.value)} of the "
            f"images: its prediction is not the one it gives for the clean image ({over})."
        )
    clean = model.summary.clean_error
    if clean is None:
        return f"{label} gets {share(mean.value)} of the corrupted images wrong ({over})."
    return (
        f"{label} gets {share(clean.value)} of the images wrong as they are, and "
        f"{share(mean.value)} once they are corrupted ({over})."
    )


def verdict(scores: Scores, difference: Scored, label: str, against: str) -> str:
    """Say what a change does under corruption, and claim no more than its paired interval."""
    measure = f"{measure_name(scores)} under corruption"
    return _change(
        scores,
        difference.summary.mean_error,
        subject=label,
        measure=measure,
        compared=f"against {against}",
    )


def finding(scores: Scores, difference: Scored, label: str) -> str:
    """Say the verdict in a few words, for under the title."""
    interval = difference.summary.mean_error
    if interval is None:
        return ""
    if interval.is_zero:
        return f"{label} changes nothing about that."
    if interval.spans_zero:
        return f"Whether {label} {_helps(scores)} cannot be told from {_images(scores)}."
    if interval.value < 0:
        return f"{label} takes {percent(-interval.value)} points off that."
    return f"{label} makes it worse, by {percent(interval.value)} points."


def clean_verdict(scores: Scores, difference: Scored) -> str:
    """Say what a change does to the clean images: the price of a repair."""
    if not scores.labelled:
        return ""
    interval = difference.summary.clean_error or difference.clean.error
    if interval is None:
        return ""
    if interval.is_zero:
        return "On clean images the error does not change."
    ends = f"{level(scores)} interval {points_span(interval)}"
    if interval.spans_zero:
        return (
            f"On clean images the error changes by {points(interval.value)} points "
            f"({ends}): not distinguishable from no change."
        )
    if interval.value > 0:
        rise = percent(interval.value)
        return f"The price: on clean images the error rises by {rise} points ({ends})."
    return f"On clean images the error falls by {percent(-interval.value)} points ({ends})."


def _helps(scores: Scores) -> str:
    # Without labels a prediction that stays is not therefore a right one.
    return "helps" if scores.labelled else "steadies the predictions"


def _images(scores: Scores) -> str:
    return plural(scores.used, "image").replace(" ", "\N{NO-BREAK SPACE}")


def _change(
    scores: Scores, interval: Interval | None, *, subject: str, measure: str, compared: str
) -> str:
    if interval is None:
        return f"No difference in {measure} could be computed for {subject} {compared}."
    if interval.is_zero:
        return f"{subject} changes no prediction that counts: the {measure} is the same {compared}."
    ends = f"{level(scores)} interval {points_span(interval)}"
    if interval.spans_zero:
        return (
            f"Whether {subject} {_helps(scores)} cannot be told from {_images(scores)}: {compared} "
            f"the {measure} changes by {points(interval.value)} percentage points, and the "
            f"interval holds both gains and losses ({ends})."
        )
    if interval.value < 0:
        return (
            f"{subject} lowers the {measure} by {percent(-interval.value)} percentage points "
            f"{compared} ({ends})."
        )
    harm = "does harm here" if scores.labelled else "unsettles the predictions"
    return (
        f"{subject} {harm}: it raises the {measure} by {percent(interval.value)} "
        f"percentage points {compared} ({ends})."
    )


def tally(difference: Scored) -> str:
    """Count the corruptions that a change helps and hurts, and how many of them for sure."""
    intervals = [score.error for score in difference.corruptions if score.error is not None]
    return tally_of(intervals, lower_is_better=True)


def tally_of(intervals: Sequence[Interval], *, lower_is_better: bool) -> str:
    """Count differences, one per corruption: which get better and worse, and how many for sure."""
    if not intervals:
        return ""
    lower = [interval for interval in intervals if interval.value < 0]
    higher = [interval for interval in intervals if interval.value > 0]
    better, worse = (lower, higher) if lower_is_better else (higher, lower)
    same = len(intervals) - len(better) - len(worse)

    def sure(found: list[Interval]) -> str:
        count = sum(not interval.spans_zero for interval in found)
        return f" ({count} beyond chance)" if found and not found[0].bare else ""

    parts = [
        f"{count} {one if count == 1 else many}{sure(found)}"
        for count, found, one, many in (
            (len(better), better, "gets better", "get better"),
            (len(worse), worse, "gets worse", "get worse"),
            (same, [], "stays the same", "stay the same"),
        )
        if count
    ]
    return f"Of {plural(len(intervals), 'corruption')}, {listing(parts)}."


# ---------------------------------------------------------------- errors without labels


def rough(fraction: float) -> str:
    """Return ``71`` for 0.713, and ``0.4`` for 0.004: no more digits than a guess has."""
    text = f"{100 * fraction:.0f}"
    return f"{100 * fraction:.1f}".replace("0.0", "0") if text == "0" else text


def give_or_take(interval: Interval) -> str:
    """Return ``71 ± 12 %``; the larger half where the ends are not equally far."""
    half = max(interval.value - interval.low, interval.high - interval.value)
    space = "\N{NO-BREAK SPACE}"
    return f"{rough(interval.value)}{space}±{space}{rough(half)}{PERCENT}"


def complement(interval: Interval) -> Interval:
    """Return the share that is right with its interval, from the share that is wrong."""
    return Interval(1 - interval.value, 1 - interval.high, 1 - interval.low)


TOO_WIDE = 0.2
"""A belief that may be off by this much to a side is of no use as a number."""


def is_too_wide(interval: Interval) -> bool:
    """Whether an interval reaches ``TOO_WIDE`` or more to a side, so that its value says little."""
    return max(interval.value - interval.low, interval.high - interval.value) >= TOO_WIDE


def rough_span(interval: Interval) -> str:
    """Return ``2–60 %``."""
    return f"{rough(interval.low)}{DASH}{rough(interval.high)}{PERCENT}"


def belief(label: str, interval: Interval) -> str:
    """Say how often a model is believed to be right, or that it cannot be told."""
    if is_too_wide(interval):
        return (
            f"How often {label} is right on your images cannot be told without labels: believable is "
            f"anything within {rough_span(interval)}."
        )
    return (
        f"We believe that {label} is right on {give_or_take(interval)} of your images as they are."
    )


def leaning(bias: float) -> str:
    """Say to which side a guess of the error is off on average; half a point is neither."""
    if abs(bias) < 0.005:
        return "it leans to neither side"
    return f"on the whole it is too {'hopeful' if bias < 0 else 'gloomy'}"


def off_by(estimator: Estimator) -> str:
    """Say how far a guess is off, on average and at worst."""
    return (
        f"off by {percent(estimator.mean_absolute_error)} points on average over "
        f"{plural(estimator.cells, 'cell')}, and by "
        f"{percent(abs(estimator.worst_estimate - estimator.worst_error))} at worst "
        f"({cell_title(str(estimator.worst))}: {share(estimator.worst_estimate)} where "
        f"{share(estimator.worst_error)} were wrong)"
    )


def adapter_words(adapter: Settings | None) -> str:
    """Return an adapter's settings as ``prior 16, batch size 64``; empty for the plain model."""
    if not adapter:
        return ""
    return ", ".join(
        f"{clean_text(str(key)).replace('_', ' ')} {clean_text(str(value))}"
        for key, value in adapter.items()
        if isinstance(value, str | int | float) and key not in ("name", "title", "format")
    )
