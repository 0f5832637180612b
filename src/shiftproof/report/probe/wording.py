"""What a probe found, in words that claim no more than the intervals do."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.runs.scores.probe import Factor, FactorReadouts, ProbedModel, ProbeScores

MAX_NAMED = 6
"""Factors that a sentence lists."""


def name_factor(factor: Factor) -> str:
    """Return a factor as it stands in a sentence: ``hue``, ``JPEG compression``."""
    word = factor.title.partition(" ")[0]
    keep = word.isupper() or word == "Gaussian"
    return factor.title if keep else factor.title[:1].lower() + factor.title[1:]


def rank(scores: ProbeScores, model: ProbedModel, group: str | None = None) -> list[Factor]:
    """Return the factors, of one group or all, with what is kept most first."""
    factors = [factor for factor in scores.factors if group in (None, factor.group)]
    return sorted(factors, key=lambda factor: -_value(model.factors[factor.name].beside))


def find_by_verdict(scores: ProbeScores, model: ProbedModel, verdict: str) -> list[Factor]:
    """Return the factors of which this is said, with what is kept most first."""
    return [
        factor for factor in rank(scores, model) if model.factors[factor.name].verdict == verdict
    ]


def write_findings(scores: ProbeScores, model: ProbedModel, label: str) -> list[str]:
    """Describe the factors that an encoder keeps, hides and collapses, and undecided ones."""
    kept, hidden, collapsed, unread, undecided = (
        find_by_verdict(scores, model, verdict)
        for verdict in ("kept", "hidden", "collapsed", "unread", "undecided")
    )
    found = []
    if kept:
        shares = [
            f"{wording.share(_value(model.factors[factor.name].beside))} of {name_factor(factor)}"
            for factor in kept[:MAX_NAMED]
        ]
        if len(kept) > MAX_NAMED:
            less = wording.pluralize(len(kept) - MAX_NAMED, "other factor")
            shares.append(f"less of {less}")
        found.append(f"{label} keeps {wording.join_list(shares)}.")
    else:
        found.append(f"{label} keeps nothing that a linear probe predicts above chance.")
    if hidden:
        found.append(f"Only a network predicts {_names(hidden)}.")
    if collapsed:
        found.append(
            f"It has collapsed {_names(collapsed)}. {_describe_controls(scores, model, collapsed)}".rstrip()
        )
    if undecided:
        found.append(
            f"Whether it keeps {_names(undecided, 'or')} is unclear from "
            f"{wording.pluralize(scores.used, 'image')}."
        )
    if unread:
        found.append(
            f"Neither the encoder nor the controls predict {_names(unread, 'or')}, so these images say "
            "nothing about the encoder there."
        )
    return found


def compare(scores: ProbeScores, difference: ProbedModel, label: str, against: str) -> str:
    """Say which factors one encoder keeps more of than another, significantly."""
    more: list[tuple[Factor, Interval]] = []
    less: list[tuple[Factor, Interval]] = []
    for factor in scores.factors:
        interval = difference.factors[factor.name].beside
        if interval is not None and not interval.spans_zero:
            (more if interval.value > 0 else less).append((factor, interval))
    if not more and not less:
        return (
            f"On {wording.pluralize(scores.used, 'image')}, {label} does not differ significantly from "
            f"{against} in any factor."
        )
    parts = [
        f"{word} of {_list_moves(moved)}"
        for word, moved in (("more", more), ("less", less))
        if moved
    ]
    return f"{label} keeps {wording.join_list(parts)} than {against}, in percentage points."


def describe_verdict(kept: FactorReadouts) -> str:
    """Return a verdict in a word or two, for a table."""
    return {
        "kept": "kept",
        "hidden": "only by a network",
        "collapsed": "collapsed",
        "unread": "read by nothing",
        "undecided": "undecided",
        None: "",
    }[kept.verdict]


def describe_value(factor: Factor, value: float) -> str:
    """Return a factor's value under a picture."""
    if factor.binary:
        return "yes" if value else "no"
    return f"{value:.3g}".replace("-", wording.MINUS)


def warn_few(scores: ProbeScores) -> str | None:
    """Say that the images are few, where they are."""
    if scores.used >= wording.FEW_IMAGES:
        return None
    return (
        f"Only {wording.pluralize(scores.used, 'image')}, and each probe is fitted on four fifths of "
        "them: what is kept is a lower bound, the intervals are wide, and other photographs may give "
        "another order. Use a hundred images or more."
    )


def _list_moves(moved: Sequence[tuple[Factor, Interval]]) -> str:
    strongest = sorted(moved, key=lambda item: -abs(item[1].value))
    names = [
        f"{name_factor(factor)} ({wording.points(interval.value)})"
        for factor, interval in strongest[:MAX_NAMED]
    ]
    if len(strongest) > MAX_NAMED:
        names.append(wording.pluralize(len(strongest) - MAX_NAMED, "other factor"))
    return wording.join_list(names)


_CONTROLS = {"pixels": "the pixels", "random": "an untrained network"}


def _describe_controls(scores: ProbeScores, model: ProbedModel, factors: Sequence[Factor]) -> str:
    """Describe how much of the collapsed factors a control retains, and by which probe."""
    shares = []
    for factor in factors[:MAX_NAMED]:
        if (best := _find_best_control(scores, model, factor)) is not None:
            value, control, probe = best
            source = _CONTROLS.get(control, control)
            shares.append(f"{wording.share(value)} of {name_factor(factor)} ({source}, by {probe})")
    return f"Controls keep {wording.join_list(shares)}." if shares else ""


def _find_best_control(
    scores: ProbeScores, model: ProbedModel, factor: Factor
) -> tuple[float, str, str] | None:
    """Return the most that is read above chance from a control, from which, and by which probe."""
    found = [
        (interval.value, other.control, probe)
        for other in scores.models
        if other.control is not None and other.of in (None, model.name)
        for interval, probe in (
            (other.factors[factor.name].beside, "a linear probe"),
            (other.factors[factor.name].network, "a network"),
        )
        if interval is not None and interval.lower > 0
    ]
    return max(found, key=lambda one: one[0], default=None)


def _names(factors: Sequence[Factor], last: str = "and") -> str:
    names = [name_factor(factor) for factor in factors]
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _value(interval: Interval | None) -> float:
    return 0.0 if interval is None else interval.value
