"""Tables and findings of the train-test similarity experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.metrics import (
    bootstrap_mean,
    interval_over_seeds,
    percentile_interval,
    resample_weights,
)
from shiftproof.report import corruption_title
from shiftproof.rng import generator
from shiftproof.similarity import accuracy_by_similarity, cumulative
from shiftproof_reproduce.formatting import format_figure
from shiftproof_reproduce.published import ROWS, read_test_sets
from shiftproof_reproduce.result import Finding, Table, Value, point
from shiftproof_reproduce.shifted_fashion import CLEAN
from shiftproof_reproduce.train_test_plan import (
    ALL,
    ALONE,
    COMBINED,
    FAR,
    GAP_MATCHED,
    NEAR,
    PAPER,
    RANDOM,
    Measured,
    Plan,
    name_training,
)
from shiftproof_reproduce.verdicts import MAX_GUARDED_RISE, above, below, judge

INTERVALS = (
    "“yes” and “no” where the whole 95 % interval is to that side of the line, “undecided” where it "
    "is on both. Intervals of accuracies are over trainings, each with other first weights and "
    "another order of the images, by Student's t, paired by their seeds where two are compared; those "
    "of similarities, and of how much oftener close images are right, are bootstraps over test images, "
    "and that of the correlation is one over test sets. The former do not hold what other images would "
    "change, the latter what other trainings would."
)

MIN_SETS = 3
"""Minimum number of shifted test sets for a correlation over them."""

RESAMPLES = 300
"""Number of bootstrap resamples of the test sets for their correlation."""

LEVELS = tuple(round(0.5 + 0.05 * step, 2) for step in range(11))
"""Similarities at which the curves are evaluated."""

RULES = (GAP_MATCHED, RANDOM, NEAR, FAR)


def make_tables(measured: Measured, plan: Plan) -> list[Table]:
    """Return all tables; the first compares with the published accuracies."""
    return [
        compare_accuracies(measured, plan),
        count_removed(measured, plan),
        compare_prunings(measured, plan),
        draw_gaps(measured, plan),
        compare_test_sets(measured, plan),
    ]


def compare_accuracies(measured: Measured, plan: Plan) -> Table:
    """Return the accuracy on each pruned test set, by training set."""
    columns = {
        "all": ALL,
        "gap-matched": GAP_MATCHED,
        "as many, random": RANDOM,
        "as many, near": NEAR,
        "as many, far": FAR,
        "gap-matched for all": name_training(COMBINED, GAP_MATCHED),
        "as many, any": name_training(COMBINED, RANDOM),
        "reference alone": ALONE,
    }
    values: list[list[Value]] = []
    for test in plan.pruned:
        names = [name_training(test, rule) if rule in RULES else rule for rule in columns.values()]
        values.append([interval_over_seeds(measured.accuracies(name, test)) for name in names])
    rows = [corruption_title(test) for test in plan.pruned]
    for each in read_test_sets().values():
        if each.all is None:
            continue
        known = {
            "all": each.all,
            "gap-matched": each.pruned,
            "gap-matched for all": each.combined,
            "reference alone": each.reference,
        }
        rows.append(f"{each.title}, published")
        values.append([point(known.get(column)) for column in columns])
    return Table(
        "accuracies",
        "What pruning costs",
        "accuracy in %",
        list(columns),
        rows,
        values,
        note="Trained on the reference and what is left of the large set. Gap-matched pruning leaves "
        "out what is closer to some image of this test set than the reference is, and for all: of any "
        f"of the {len(plan.pruned)} (published: six) test sets; beside it are as many images left by "
        "the other rules. Published: CLIP on LAION.",
    )


def count_removed(measured: Measured, plan: Plan) -> Table:
    """Return the share of the large set that gap-matched pruning removes, measured and
    published.
    """
    pruning, proofs = measured.found.pruning, measured.found.proofs.values()
    shares = {corruption_title(name): float(pruning.removed[name].mean()) for name in plan.pruned}
    shares["all of them"] = 1 - float(pruning.keep().mean())
    for each in read_test_sets().values():
        shares[f"{each.title}, published"] = each.removed / ROWS
    broken = sum(proof.violations for proof in proofs)
    images = sum(len(proof.similarity) for proof in proofs)
    return Table(
        "removed",
        "What gap-matched pruning leaves out",
        "test set",
        ["of the large set, in %"],
        list(shares),
        [[point(share)] for share in shares.values()],
        note=f"Of {plan.large:,} images here, of {ROWS // 1_000_000} million there. "
        f"Searched once more in float32: {broken} of {images:,} test images are closer to what is left "
        "than to the reference.",
    )


def compare_prunings(measured: Measured, plan: Plan) -> Table:
    """Return the overlaps of the rows that pruning for different test sets removes."""
    names = [corruption_title(name) for name in plan.pruned]
    values: list[list[Value]] = [
        [None if np.isnan(share) else point(float(share)) for share in row]
        for row in measured.found.pruning.shared
    ]
    return Table(
        "shared",
        "What pruning for one test set leaves out of another's",
        "in %",
        [f"of {name}" for name in names],
        [f"pruned for {name}" for name in names],
        values,
        note="Of the images that pruning for the column's test set leaves out, those that pruning for "
        "the row's leaves out, too.",
    )


def draw_gaps(measured: Measured, plan: Plan) -> Table:
    """Return the cumulative distribution of the test images' similarity to the nearest training
    image.
    """
    nearest = {
        f"{corruption_title(name)}: {kind}": similarity
        for name in (CLEAN, *plan.pruned)
        for kind, similarity in zip(("large", "reference"), measured.nearest(name), strict=True)
    }
    return Table(
        "curves",
        "Gap curves",
        "similarity of the nearest training image",
        [f"{level:g}" for level in LEVELS],
        list(nearest),
        [[point(float(share)) for share in cumulative(each, LEVELS)] for each in nearest.values()],
        note="The share in % of the test images whose nearest image in the large set, or in the "
        "reference, is at most so similar.",
        drawing="curves",
    )


def compare_test_sets(measured: Measured, plan: Plan) -> Table:
    """Return similarity and accuracy of every test set."""
    columns = [
        "similarity, large",
        "reference",
        "gap",
        "share closer",
        "accuracy, reference",
        "all",
        "right where close",
    ]
    values: list[list[Value]] = []
    for name in plan.tests:
        large, reference = measured.nearest(name)
        advantages = measure_advantages(measured, name)
        known = np.isfinite(advantages).all()
        values.append(
            [
                bootstrap_mean(large),
                bootstrap_mean(reference),
                bootstrap_mean(large - reference),
                bootstrap_mean((large > reference).astype(np.float64)),
                interval_over_seeds(measured.accuracies(ALONE, name)),
                interval_over_seeds(measured.accuracies(ALL, name)),
                interval_over_seeds(advantages) if known else None,
            ]
        )
    return Table(
        "similarity",
        "Similarity and accuracy",
        "test set",
        columns,
        [corruption_title(name) for name in plan.tests],
        values,
        unit="score",
        note="The mean similarity to the nearest image of the large set and of the reference; the gap "
        "between them; the share of test images that the large set comes closer to; accuracies; and "
        "how often an image that is right, after training on both, is closer to a training image than "
        "one that is wrong (0.5 is chance; over trainings). Speckle noise, Gaussian blur, spatter and "
        "saturate, which changes no grey image, are in no training set.",
    )


# ---------------------------------------------------------------- findings


def make_findings(measured: Measured, plan: Plan) -> list[Finding]:
    """Judge the paper's claims by the results."""
    found: list[Finding] = []
    for test in plan.pruned:
        found += _judge_test_set(measured, test)
    shifted = [name for name in plan.tests if name != CLEAN]
    if len(shifted) >= MIN_SETS:
        found.append(_judge_gaps(measured, shifted))
    return [*found, _judge_advantage(measured, plan)]


def _judge_test_set(measured: Measured, test: str) -> list[Finding]:
    name = corruption_title(test)
    rules = {rule: measured.accuracies(name_training(test, rule), test) for rule in RULES}
    beside_random = "accuracy {} points beside random pruning"
    costs = {
        rule: interval_over_seeds(_subtract(rules[rule], rules[RANDOM]))
        for rule in (GAP_MATCHED, NEAR, FAR)
    }
    return [
        _judge_remaining_gain(measured, test, rules[GAP_MATCHED]),
        judge(
            f"count-{test}",
            f"These images count for more than as many others: {name}",
            "shiftproof",
            costs[GAP_MATCHED],
            beside_random,
            holds=below,
        ),
        judge(
            f"near-{test}",
            f"Leaving out the most similar costs more than as many others: {name}",
            PAPER,
            costs[NEAR],
            beside_random,
            holds=below,
        ),
        judge(
            f"far-{test}",
            f"Leaving out the least similar costs no more than a point beyond as many others: {name}",
            PAPER,
            costs[FAR],
            beside_random,
            holds=above,
            limit=-MAX_GUARDED_RISE,
        ),
    ]


def _judge_remaining_gain(measured: Measured, test: str, pruned: Sequence[float]) -> Finding:
    """Judge whether more than half of the gain remains."""
    alone = measured.accuracies(ALONE, test)
    gain = interval_over_seeds(_subtract(measured.accuracies(ALL, test), alone))
    sketch = read_test_sets()["sketch"].kept_gain
    assert sketch is not None
    stays, words = None, f"no gain for sure, {format_figure(gain, 'change')} points"
    if gain.lower > 0:
        # Relative to the mean gain, because a gain near 0 in one repetition would dominate.
        stays = interval_over_seeds([each / gain.value for each in _subtract(pruned, alone)])
        words = f"{{}} % of {format_figure(gain, 'change')} points stay"
    return judge(
        f"stays-{test}",
        "Most of what the large set gains over the reference stays without the images that are closer "
        f"than the reference: {corruption_title(test)}",
        f"{PAPER}: {100 * sketch:.0f} % on ImageNet-Sketch",
        stays,
        words,
        holds=above,
        limit=0.5,
        unit="error",
    )


def _judge_gaps(measured: Measured, shifted: Sequence[str]) -> Finding:
    gains = [
        float(np.mean(_subtract(measured.accuracies(ALL, name), measured.accuracies(ALONE, name))))
        for name in shifted
    ]
    return judge(
        "across",
        "The closer the large set comes to a shifted test set than the reference, the more it gains",
        "shiftproof",
        correlate([measured.found.gaps[name].gap for name in shifted], gains),
        f"correlation {{}} over {len(shifted)} test sets",
        holds=above,
        unit="score",
    )


def _judge_advantage(measured: Measured, plan: Plan) -> Finding:
    return judge(
        "within",
        "Within a test set, images closer to the training set are right more often",
        "shiftproof",
        _average_advantage(measured, plan),
        "an image that is right is closer than one that is wrong in {} of pairs, "
        f"the mean over {len(plan.tests)} test sets",
        holds=above,
        limit=0.5,
        unit="score",
    )


# ---------------------------------------------------------------- figures


def measure_advantages(measured: Measured, test: str) -> list[float]:
    """Return for each repetition the AUC of similarity as a predictor of correct answers."""
    near = np.maximum(*measured.nearest(test))
    return [
        accuracy_by_similarity(near, answers.right[test], bins=1).advantage
        for answers in measured.answers[ALL]
    ]


def _average_advantage(measured: Measured, plan: Plan) -> Value:
    """Return the mean advantage over test sets and trainings, with a bootstrap over the images.

    All test sets have the same images, so they share the resamples.
    """
    pairs = [
        (np.maximum(*measured.nearest(name)), answers.right[name])
        for name in plan.tests
        for answers in measured.answers[ALL]
    ]
    images = len(pairs[0][0])
    draws = np.concatenate([np.ones((1, images)), *resample_weights(images)])
    replicates = np.stack([_resample_advantage(near, right, draws) for near, right in pairs])
    known = np.isfinite(replicates)
    # NaN if all answers are right, or all wrong.
    with np.errstate(invalid="ignore"):
        means = np.where(known, replicates, 0).sum(0) / known.sum(0)
    return percentile_interval(means)


def _resample_advantage(
    near: NDArray[np.float64], right: NDArray[np.bool_], draws: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return the AUC for each resample, given by the counts of images ``(R, M)``."""
    order = np.argsort(near, kind="stable")
    wins, losses = draws[:, order] * right[order], draws[:, order] * ~right[order]
    farther = np.cumsum(losses, axis=1, dtype=np.float64) - losses
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = (wins * farther).sum(1) / (wins.sum(1) * losses.sum(1))
    return shares


def correlate(first: Sequence[float], second: Sequence[float]) -> Value:
    """Return Pearson's correlation with a bootstrap interval over the pairs."""
    pairs = np.array([first, second], dtype=np.float64)
    count = pairs.shape[1]
    draws = generator(0, "correlation").integers(0, count, (RESAMPLES, count))
    chosen = pairs[:, np.concatenate([np.arange(count)[None], draws])]
    apart = chosen - chosen.mean(2, keepdims=True)
    # A resample with only one distinct pair has no correlation, and is ignored.
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = (apart[0] * apart[1]).sum(1) / np.sqrt((apart**2).sum(2).prod(0))
    return percentile_interval(replicates)


def _subtract(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(these, those, strict=True)]
