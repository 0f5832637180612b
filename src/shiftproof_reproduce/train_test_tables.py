"""Tables and findings of train-test similarity, from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.metrics.identifiability import interval_over_seeds
from shiftproof.metrics.intervals import (
    Interval,
    bootstrap_mean,
    percentile_interval,
    resample_weights,
)
from shiftproof.report import wording
from shiftproof.rng import generator
from shiftproof.similarity import accuracy_by_similarity, cumulative
from shiftproof_reproduce.claims import GUARDED, above, below
from shiftproof_reproduce.published_similarity import PAPER, ROWS, published
from shiftproof_reproduce.rendering import spelt
from shiftproof_reproduce.result import Finding, Table, Value, point, rounded
from shiftproof_reproduce.shifted_fashion import CLEAN
from shiftproof_reproduce.train_test_plan import (
    ALL,
    ALONE,
    COMBINED,
    FAR,
    GAP_MATCHED,
    NEAR,
    RANDOM,
    Measured,
    Plan,
    pruned_for,
)

INTERVALS = (
    "“yes” and “no” where the whole 95 % interval is to that side of the line, “undecided” where it "
    "is on both. Intervals of accuracies are over trainings, each with other first weights and "
    "another order of the images, by Student's t, paired by their seeds where two are compared; those "
    "of similarities, and of how much oftener close images are right, are bootstraps over test images, "
    "and that of the correlation is one over test sets. The former do not hold what other images would "
    "change, the latter what other trainings would."
)

FEW_SETS = 3
"""With fewer shifted test sets a correlation over them says nothing."""

RESAMPLES = 300
"""Of the test sets, for the correlation over them."""

LEVELS = tuple(round(0.5 + 0.05 * step, 2) for step in range(11))
"""Where the curves are read off."""


def tables(measured: Measured, plan: Plan) -> list[Table]:
    """Return the tables, the first of them ours beside the published one."""
    return [
        accuracies(measured, plan),
        removed(measured, plan),
        shared(measured, plan),
        curves(measured, plan),
        by_test_set(measured, plan),
    ]


def accuracies(measured: Measured, plan: Plan) -> Table:
    """Return the accuracy on each pruned test set, by what was trained on."""
    columns = {
        "all": ALL,
        "gap-matched": GAP_MATCHED,
        "as many, random": RANDOM,
        "as many, near": NEAR,
        "as many, far": FAR,
        "gap-matched for all": pruned_for(COMBINED, GAP_MATCHED),
        "as many, any": pruned_for(COMBINED, RANDOM),
        "reference alone": ALONE,
    }
    values: list[list[Value]] = []
    for test in plan.pruned:
        names = [
            pruned_for(test, rule) if rule in (GAP_MATCHED, RANDOM, NEAR, FAR) else rule
            for rule in columns.values()
        ]
        values.append([over(measured.accuracies(name, test)) for name in names])
    rows = [title(test) for test in plan.pruned]
    for each in published().values():
        if each.all is None:
            continue
        known = {
            "all": each.all,
            "gap-matched": each.pruned,
            "gap-matched for all": each.combined,
            "reference alone": each.reference,
        }
        rows.append(f"{each.title}, published")
        values.append([_point(known.get(column)) for column in columns])
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


def removed(measured: Measured, plan: Plan) -> Table:
    """Return the share of the large set that gap-matched pruning leaves out, ours and published."""
    pruning = measured.found.pruning
    rows = [title(name) for name in plan.pruned] + ["all of them"]
    shares = [float(pruning.removed[name].mean()) for name in plan.pruned]
    shares.append(1 - float(pruning.keep().mean()))
    for each in published().values():
        rows.append(f"{each.title}, published")
        shares.append(each.removed / ROWS)
    return Table(
        "removed",
        "What gap-matched pruning leaves out",
        "test set",
        ["of the large set, in %"],
        rows,
        [[point(share)] for share in shares],
        note=f"Of {plan.large:,} images here, of {ROWS // 1_000_000} million there. "
        + _proven(measured),
    )


def _proven(measured: Measured) -> str:
    broken = sum(proof.violations for proof in measured.found.proofs.values())
    looked = sum(len(proof.similarity) for proof in measured.found.proofs.values())
    return (
        f"Searched once more in float32: {broken} of {looked:,} test images are closer to what is left "
        "than to the reference."
    )


def shared(measured: Measured, plan: Plan) -> Table:
    """Return what pruning for one test set leaves out of what another's does."""
    names = [title(name) for name in plan.pruned]
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


def curves(measured: Measured, plan: Plan) -> Table:
    """Return the share of test images whose nearest training image is at most so similar."""
    rows: list[str] = []
    values: list[list[Value]] = []
    for name in (CLEAN, *plan.pruned):
        gap = measured.found.gaps[name]
        assert gap.reference is not None
        for kind, nearest in (("large", gap.similarity), ("reference", gap.reference)):
            rows.append(f"{title(name)}: {kind}")
            values.append([point(float(share)) for share in cumulative(nearest, LEVELS)])
    return Table(
        "curves",
        "Gap curves",
        "similarity of the nearest training image",
        [f"{level:g}" for level in LEVELS],
        rows,
        values,
        note="The share in % of the test images whose nearest image in the large set, or in the "
        "reference, is at most so similar.",
        drawing="curves",
    )


def by_test_set(measured: Measured, plan: Plan) -> Table:
    """Return similarity and accuracy of every test set."""
    values: list[list[Value]] = []
    for name in plan.tests:
        gap = measured.found.gaps[name]
        assert gap.reference is not None
        values.append(
            [
                rounded(bootstrap_mean(gap.similarity)),
                rounded(bootstrap_mean(gap.reference)),
                rounded(bootstrap_mean(gap.similarity - gap.reference)),
                rounded(bootstrap_mean((gap.similarity > gap.reference).astype(np.float64))),
                over(measured.accuracies(ALONE, name)),
                over(measured.accuracies(ALL, name)),
                _known(advantages(measured, name)),
            ]
        )
    return Table(
        "similarity",
        "Similarity and accuracy",
        "test set",
        [
            "similarity, large",
            "reference",
            "gap",
            "share closer",
            "accuracy, reference",
            "all",
            "right where close",
        ],
        [title(name) for name in plan.tests],
        values,
        unit="score",
        note="The mean similarity to the nearest image of the large set and of the reference; the gap "
        "between them; the share of test images that the large set comes closer to; accuracies; and "
        "how often an image that is right, after training on both, is closer to a training image than "
        "one that is wrong (0.5 is chance; over trainings). Speckle noise, Gaussian blur, spatter and "
        "saturate, which changes no grey image, are in no training set.",
    )


# ---------------------------------------------------------------- findings


def findings(measured: Measured, plan: Plan) -> list[Finding]:
    """Hold the paper's claims against what was measured."""
    found: list[Finding] = []
    for test in plan.pruned:
        found += _of_one(measured, test)
    shifted = [name for name in plan.tests if name != CLEAN]
    if len(shifted) >= FEW_SETS:
        found.append(_across(measured, shifted))
    return [*found, _within(measured, plan)]


def _of_one(measured: Measured, test: str) -> list[Finding]:
    name = title(test)
    every, alone = measured.accuracies(ALL, test), measured.accuracies(ALONE, test)
    rules = {
        rule: measured.accuracies(pruned_for(test, rule), test)
        for rule in (GAP_MATCHED, RANDOM, NEAR, FAR)
    }
    costs = over(_differences(rules[GAP_MATCHED], rules[RANDOM]))
    near = over(_differences(rules[NEAR], rules[RANDOM]))
    far = over(_differences(rules[FAR], rules[RANDOM]))
    return [
        _stays(test, rules[GAP_MATCHED], every, alone),
        Finding(
            f"count-{test}",
            f"These images count for more than as many others: {name}",
            "shiftproof",
            f"accuracy {spelt(costs, 'change')} points beside random pruning",
            below(costs),
            costs,
        ),
        Finding(
            f"near-{test}",
            f"Leaving out the most similar costs more than as many others: {name}",
            PAPER,
            f"accuracy {spelt(near, 'change')} points beside random pruning",
            below(near),
            near,
        ),
        Finding(
            f"far-{test}",
            "Leaving out the least similar costs no more than a point beyond as many others: "
            + name,
            PAPER,
            f"accuracy {spelt(far, 'change')} points beside random pruning",
            above(far, -GUARDED),
            far,
        ),
    ]


def _stays(
    test: str, pruned: Sequence[float], every: Sequence[float], alone: Sequence[float]
) -> Finding:
    """Hold what stays of the gain against half of it."""
    gain = over(_differences(every, alone))
    sketch = published()["sketch"].kept_of_the_gain
    assert sketch is not None
    stays = None
    if gain.lower > 0:
        # Of the mean gain: one near 0 in a single repetition would swamp the others.
        stays = over([each / gain.value for each in _differences(pruned, alone)])
    words = f"{spelt(stays, 'error')} % of {spelt(gain, 'change')} points stay"
    return Finding(
        f"stays-{test}",
        "Most of what the large set gains over the reference stays without the images that are closer "
        f"than the reference: {title(test)}",
        f"{PAPER}: {100 * sketch:.0f} % on ImageNet-Sketch",
        f"no gain for sure, {spelt(gain, 'change')} points" if stays is None else words,
        "undecided" if stays is None else above(stays, 0.5),
        stays,
        "error",
    )


def _across(measured: Measured, shifted: Sequence[str]) -> Finding:
    gaps = [measured.found.gaps[name].gap for name in shifted]
    gains = [
        float(
            np.mean(_differences(measured.accuracies(ALL, name), measured.accuracies(ALONE, name)))
        )
        for name in shifted
    ]
    follows = correlation(gaps, gains)
    return Finding(
        "across",
        "The closer the large set comes to a shifted test set than the reference, the more it gains",
        "shiftproof",
        f"correlation {spelt(follows, 'score')} over {len(shifted)} test sets",
        above(follows),
        follows,
        "score",
    )


def _within(measured: Measured, plan: Plan) -> Finding:
    often = _closer_when_right(measured, plan)
    return Finding(
        "within",
        "Within a test set, images closer to the training set are right more often",
        "shiftproof",
        f"an image that is right is closer than one that is wrong in {spelt(often, 'score')} of pairs, "
        f"the mean over {len(plan.tests)} test sets",
        "undecided" if often is None else above(often, 0.5),
        often,
        "score",
    )


def _closer_when_right(measured: Measured, plan: Plan) -> Value:
    """Return the mean advantage over test sets and trainings, resampled over the images.

    All test sets show the same images, so that they are drawn alike in all of them.
    """
    pairs = [
        (nearest(measured, name), answered.right[name])
        for name in plan.tests
        for answered in measured.answers[ALL]
    ]
    images = len(pairs[0][0])
    drawn = np.concatenate([np.ones((1, images)), *resample_weights(images)])
    replicates = np.stack([_advantages(near, right, drawn) for near, right in pairs])
    known = np.isfinite(replicates)
    # Where all is right, or all wrong, there is nothing to compare.
    with np.errstate(invalid="ignore"):
        means = np.where(known, replicates, 0).sum(0) / known.sum(0)
    found = percentile_interval(means)
    return None if found is None else rounded(found)


def _advantages(
    near: NDArray[np.float64], right: NDArray[np.bool_], drawn: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return how often what is right is closer, for each of ``(R, M)`` how often images are drawn."""
    order = np.argsort(near, kind="stable")
    wins, losses = drawn[:, order] * right[order], drawn[:, order] * ~right[order]
    farther = np.cumsum(losses, axis=1, dtype=np.float64) - losses
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = (wins * farther).sum(1) / (wins.sum(1) * losses.sum(1))
    return shares


# ---------------------------------------------------------------- figures


def advantages(measured: Measured, test: str) -> list[float]:
    """Return for each repetition how often what is right is closer than what is wrong."""
    near = nearest(measured, test)
    return [
        accuracy_by_similarity(near, answered.right[test], bins=1).advantage
        for answered in measured.answers[ALL]
    ]


def nearest(measured: Measured, test: str) -> NDArray[np.float64]:
    """Return ``(M,)`` the similarity of each test image to the nearest of all training images."""
    gap = measured.found.gaps[test]
    assert gap.reference is not None
    return np.asarray(np.maximum(gap.similarity, gap.reference))


def correlation(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return Pearson's correlation with its interval, a bootstrap over the pairs."""
    pairs = np.array([first, second], dtype=np.float64)
    count = pairs.shape[1]
    draws = generator(0, "correlation").integers(0, count, (RESAMPLES, count))
    drawn = pairs[:, np.concatenate([np.arange(count)[None], draws])]
    centred = drawn - drawn.mean(2, keepdims=True)
    # A resample of one pair alone has no correlation, and is left out.
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = (centred[0] * centred[1]).sum(1) / np.sqrt((centred**2).sum(2).prod(0))
    found = percentile_interval(replicates)
    assert found is not None
    return rounded(found)


def over(values: Sequence[float]) -> Interval:
    """Return the mean over repetitions with its interval."""
    return rounded(interval_over_seeds(values))


def title(name: str) -> str:
    """Return a test set's name as tables show it."""
    return wording.corruption_title(name)


def _differences(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(these, those, strict=True)]


def _known(values: Sequence[float]) -> Value:
    return over(values) if np.isfinite(values).all() else None


def _point(value: float | None) -> Value:
    return None if value is None else point(value)
