"""Sentences of an audit: what the similarity of training and test set can and cannot explain.

A sentence claims that the training set comes closer only where the paired interval excludes 0, and
no sentence says that a score is owed to it: that, only training without those rows can say.
"""

from __future__ import annotations

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.runs.scores.audit import AuditScores, PruningCosts, TestSet

MANY_DUPLICATES = 0.01
"""The share of near-duplicates from which a score is said to need a second one without them."""


def format_cosine(value: float | None) -> str:
    """Return ``0.843``: three digits, as a difference between encoders is finer than any threshold."""
    return wording.NONE if value is None else f"{value:.3f}".replace("-", wording.MINUS)


def format_cosine_change(value: float | None) -> str:
    """Return ``+0.031``."""
    if value is None:
        return wording.NONE
    return f"{value:+.3f}".replace("-", wording.MINUS)


def span(interval: Interval | None, *, signed: bool = False) -> str:
    """Return the ends of an interval of similarities."""
    if interval is None or interval.bare:
        return ""
    if signed:
        return f"{format_cosine_change(interval.lower)} to {format_cosine_change(interval.upper)}"
    return f"{format_cosine(interval.lower)}{wording.DASH}{format_cosine(interval.upper)}"


def describe_verdict(tested: TestSet, scores: AuditScores) -> str:
    """Describe whether the training set is closer than the reference, and the consequences."""
    if tested.gap is None or tested.share_closer is None:
        return (
            f"Whether the training set is close to {tested.name} is unknown without a reference training "
            "set (--reference)."
        )
    gap = f"{format_cosine_change(tested.gap.value)} on average, {span(tested.gap, signed=True)}"
    if tested.gap.spans_zero:
        return (
            f"Whether the training set is closer to {tested.name} than the reference is unclear from "
            f"{wording.pluralize(tested.rows, 'test row')} ({gap}). A better score may or may not be due to "
            "similar images."
        )
    if tested.gap.value < 0:
        return (
            f"The training set is less close to {tested.name} than the reference is ({gap}). With this "
            "encoder, similar images do not explain a score that is better than that of a model trained "
            "on the reference."
        )
    return (
        f"The training set is closer to {tested.name} than the reference is ({gap}), for "
        f"{wording.share(tested.share_closer.value)} of the test rows. A better score may or may not be "
        f"due to this.{_without(tested, scores)}"
    )


def _without(tested: TestSet, scores: AuditScores) -> str:
    if tested.pruned is None or not tested.pruned.rows:
        return ""
    rows = wording.pluralize(tested.pruned.rows, "row that is", "rows that are")
    return (
        f" Only training without the {rows} closer ({wording.share(tested.pruned.share)} of "
        f"{scores.train.rows:,}) can show it: prune writes the list of rows to keep."
    )


def describe_duplicates(tested: TestSet, scores: AuditScores) -> str:
    """Describe how many test rows may be memorized; empty without any."""
    share = tested.near_duplicates
    if share.value == 0:
        return ""
    here = (
        f"{wording.share(share.value)} of {tested.name} "
        f"({wording.span(share)}) have a training row at a similarity of {scores.duplicates:g} or "
        "more. For such near-duplicates a model does not have to generalize."
    )
    if share.value < MANY_DUPLICATES:
        return here
    return f"{here} Score this test set again without them."


def write_lead(scores: AuditScores) -> list[str]:
    """Return the sentences under the title."""
    if scores.reference is None:
        found = [
            "Without a reference training set, this page says how close the training rows are, but not "
            "whether this is closer than usual."
        ]
    else:
        closer = [each.name for each in scores.sets if each.gap and each.gap.lower > 0]
        farther = [each.name for each in scores.sets if each.gap and each.gap.upper < 0]
        open_ = [each.name for each in scores.sets if each.name not in (*closer, *farther)]
        found = [
            sentence
            for names, sentence in (
                (closer, "The training set is closer to {} than the reference."),
                (farther, "It is less close to {}."),
                (open_, "For {} the difference is not significant."),
            )
            if names
            for sentence in [sentence.format(wording.join_list(names))]
        ]
        found = [" ".join(found)]
    if scores.pruning is not None:
        found.append(_describe_pruned(scores.pruning))
    return found


def _describe_pruned(pruning: PruningCosts) -> str:
    """Say what is left without the rows that come too close, if there are any."""
    if not pruning.combined:
        return "No training row is closer to a test row than the reference, so there is nothing to remove."
    rows = wording.pluralize(pruning.combined, "row that is", "rows that are")
    return (
        f"If the {rows} too close to any test set ({wording.share(pruning.share)} of the training "
        "set) are removed, no test row is closer to the remaining rows than to the reference. Train on "
        "the remaining rows to see how much of the score is left. This page cannot answer that."
    )


def list_warnings(scores: AuditScores) -> list[str]:
    """Return warnings to be read before any figure."""
    found = []
    small = [each.name for each in scores.sets if each.rows < wording.FEW_IMAGES]
    if small:
        found.append(
            f"Fewer than {wording.FEW_IMAGES} rows in {wording.join_list(small)}: read the intervals, "
            "not the figures."
        )
    for name, source in (("training set", scores.train), ("reference", scores.reference)):
        if source is not None and source.skipped:
            found.append(
                f"{wording.pluralize(source.skipped, 'row')} of the {name} could not be used and "
                f"{'is' if source.skipped == 1 else 'are'} in no figure."
            )
    many = [each.name for each in scores.sets if each.near_duplicates.value >= MANY_DUPLICATES]
    if many:
        found.append(
            f"{wording.join_list(many)} {'has' if len(many) == 1 else 'have'} near-duplicates in the "
            "training set. Look at them below before you trust a score."
        )
    return found
