"""Batch-norm adaptation (Schneider et al. 2020, arXiv 2006.16971) at small scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.bench import SOURCE
from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.metrics.intervals import Interval, bootstrap_mean
from shiftproof.types import CLEAN
from shiftproof_reproduce.claims import GUARDED, above, at_most, below, every_corruption, named
from shiftproof_reproduce.measured import Measured
from shiftproof_reproduce.rendering import spelt
from shiftproof_reproduce.result import Finding, Result, Table, rounded
from shiftproof_reproduce.small import GOOD_ENOUGH, Bench, prepare, small_result
from shiftproof_reproduce.tables import estimates_table, methods_table, per_corruption
from shiftproof_reproduce.training import Training

PAPER = "Schneider et al. 2020"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured. The defaults are the small scale; tests take less.

    ``priors`` are the N and ``sizes`` the n of the table of N against n, which is measured at
    ``severity`` alone: with ``few_images`` where n is below ``few``, else with ``size_images`` or n,
    whichever is more. A stream sorted by label comes in batches of ``sorted_size``.
    """

    training: Training = dataclasses.field(default_factory=Training)
    good_enough: float = GOOD_ENOUGH
    corruptions: tuple[str, ...] = COMMON
    holdout: tuple[str, ...] = HOLDOUT
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    images: int = 1024
    batch_size: int = 128
    set_passes: int = 2
    holdout_images: int = 512
    holdout_sizes: tuple[int, ...] = (8, 128)
    priors: tuple[str, ...] = ("0", "16", "64", "256", "512", "auto")
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    severity: int = 3
    few: int = 8
    few_images: int = 128
    size_images: int = 512
    sorted_size: int = 32

    def images_for(self, size: int) -> int:
        """Return how many images are shown in batches of ``size``."""
        return self.few_images if size < self.few else max(size, self.size_images)


@dataclass(frozen=True, eq=False)
class Runs:
    """All that was measured: over the grid, on the hold-out by n, at one severity by n, the traps."""

    grid: Measured
    whole: Measured
    holdout: Mapping[int, Measured]
    sizes: Mapping[int, Measured]
    single: Measured
    ordered: Measured


GRID = {
    SOURCE: "source",
    "bn-0": "N = 0",
    "bn-16": "N = 16",
    "bn-auto": "N measured",
    "stream": "N = 16, all images so far",
    "mean": "N = 0, mean alone",
    "variance": "N = 0, variance alone",
    "first": "N = 0, first four layers",
    "last": "N = 0, last three layers",
}
"""The models of the grid, and what the tables call them."""

_VARIANTS = {
    "bn-0": "batchnorm:prior=0",
    "bn-16": "batchnorm:prior=16",
    "bn-auto": "batchnorm:prior=auto",
    "stream": "batchnorm:prior=16,over=stream",
    "mean": "batchnorm:prior=0,parts=mean",
    "variance": "batchnorm:prior=0,parts=variance",
    "first": "batchnorm:prior=0,layers=first-4",
    "last": "batchnorm:prior=0,layers=last-3",
}

TRAPPED = {
    SOURCE: "source",
    "bn-0": "N = 0",
    "guard": "N = 0, guarded",
    "bn-16": "N = 16",
    "bn-auto": "N measured",
}
"""The models that are shown what goes wrong."""

_TRAPPED = {
    "bn-0": "batchnorm:prior=0",
    "guard": "guard+batchnorm:prior=0",
    "bn-16": "batchnorm:prior=16",
    "bn-auto": "batchnorm:prior=auto",
}


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train a network on Fashion-MNIST, adapt its batch norm, and return what comes of it.

    Args:
        out: the folder of weights and runs; what is there is gone on with.
        data: the folder of Fashion-MNIST; None looks where Debian puts it.
        plan: how much is measured.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: there is no Fashion-MNIST, or ``out`` is of a run with other settings.
        RunError: the network is not good enough.
    """
    plan = plan or Plan()
    bench = prepare(
        out, data, plan.training, good_enough=plan.good_enough, show_progress=show_progress
    )
    runs = measure(bench, plan)
    estimates = estimates_table(runs.grid, GRID)
    return small_result(
        bench,
        plan,
        recipe="bn-adaptation",
        title="Batch-norm adaptation at small scale",
        about=(
            "Nothing but the statistics of its batch-norm layers adapts. N is the strength of the "
            "source statistics in images, n the images in a batch."
        ),
        tables=[*tables(runs, plan), *([] if estimates is None else [estimates])],
        findings=findings(runs, plan),
    )


def measure(bench: Bench, plan: Plan) -> Runs:
    """Do all runs, or read those that are done."""
    priors = {f"bn-{prior}": f"batchnorm:prior={prior}" for prior in plan.priors}
    grid = bench.run(
        "grid",
        _VARIANTS,
        images=plan.images,
        corruptions=plan.corruptions,
        severities=plan.severities,
        batch_size=plan.batch_size,
    )
    whole = bench.run(
        "whole-set",
        {"set": "batchnorm:prior=0,over=set"},
        images=plan.images,
        corruptions=plan.corruptions,
        severities=plan.severities,
        batch_size=plan.batch_size,
        protocol=f"offline:epochs={plan.set_passes}",
    )
    holdout = {
        size: bench.run(
            f"holdout-{size:04}",
            priors,
            images=plan.holdout_images,
            corruptions=plan.holdout,
            severities=plan.severities,
            batch_size=size,
        )
        for size in plan.holdout_sizes
    }
    sizes = {
        size: bench.run(
            f"size-{size:04}",
            priors,
            images=plan.images_for(size),
            corruptions=plan.corruptions,
            severities=[plan.severity],
            batch_size=size,
        )
        for size in plan.sizes
    }
    single = bench.run(
        "trap-single",
        _TRAPPED,
        images=plan.few_images,
        corruptions=plan.corruptions,
        severities=[plan.severity],
        batch_size=1,
    )
    ordered = bench.run(
        "trap-sorted",
        _TRAPPED,
        images=plan.images,
        corruptions=plan.corruptions,
        severities=[plan.severity],
        batch_size=plan.sorted_size,
        protocol="online:order=sorted",
    )
    return Runs(grid, whole, holdout, sizes, single, ordered)


# ---------------------------------------------------------------- tables


def tables(runs: Runs, plan: Plan) -> list[Table]:
    """Return the tables of all that was measured."""
    at = f"severity {plan.severity}"
    return [
        methods_table(
            [(runs.grid, GRID), (runs.whole, {"set": "N = 0, the whole set"})],
            name="methods",
            title="Error by method",
            note=f"Batches of {plan.batch_size} images of one corruption and one severity, reset "
            f"before each cell; {plan.images:,} images a cell.",
        ),
        per_corruption(
            runs.grid,
            "bn-0",
            SOURCE,
            name="corruptions",
            title="What N = 0 changes, by corruption",
            note="In points, against the source; less is better.",
        ),
        prior_by_size(
            runs.sizes,
            plan.priors,
            name="sizes",
            title=f"N against n, {at}",
            note="Mean error over the corruptions. Columns of small n are measured on fewer images: "
            + ", ".join(f"{plan.images_for(size):,} for n = {size}" for size in plan.sizes)
            + ".",
        ),
        prior_by_size(
            runs.holdout,
            plan.priors,
            name="holdout",
            title="N chosen on the hold-out corruptions",
            note=f"The corruptions kept for choosing: {named(plan.holdout)}. "
            + " ".join(
                f"At n = {size} the best is {_prior_title(best_prior(run, plan.priors))}."
                for size, run in runs.holdout.items()
            ),
            drawn=False,
        ),
        traps_table(runs, plan),
    ]


def prior_by_size(
    runs: Mapping[int, Measured],
    priors: Sequence[str],
    *,
    name: str,
    title: str,
    note: str,
    drawn: bool = True,
) -> Table:
    """Return the mean error by N and n, the source in the first row."""
    models = {SOURCE: "source", **{f"bn-{prior}": _prior_title(prior) for prior in priors}}
    return Table(
        name,
        title,
        "n",
        [str(size) for size in runs],
        list(models.values()),
        [[rounded(run.error(model)) for run in runs.values()] for model in models],
        note=note,
        drawing="curves" if drawn else "none",
    )


def traps_table(runs: Runs, plan: Plan) -> Table:
    """Return the errors where batch statistics mislead."""
    shown = [
        ("n = 1, clean", runs.single, [CLEAN]),
        ("n = 1, corrupted", runs.single, None),
        ("sorted by label, clean", runs.ordered, [CLEAN]),
        ("sorted by label, corrupted", runs.ordered, None),
    ]
    return Table(
        "traps",
        "Where batch statistics mislead",
        "error in %",
        [title for title, _, _ in shown],
        list(TRAPPED.values()),
        [
            [rounded(measured.error(model, cells)) for _, measured, cells in shown]
            for model in TRAPPED
        ],
        note=f"Single images: {plan.few_images} of each cell. Sorted by label: batches of "
        f"{plan.sorted_size}, {plan.images:,} images of each cell. Severity {plan.severity}.",
    )


def best_prior(run: Measured, priors: Sequence[str]) -> str:
    """Return the N of the lowest mean error; the first of several."""
    return min(priors, key=lambda prior: run.error(f"bn-{prior}").value)


def _prior_title(prior: str) -> str:
    return "N measured" if prior == "auto" else f"N = {prior}"


# ---------------------------------------------------------------- findings


def findings(runs: Runs, plan: Plan) -> list[Finding]:
    """Hold the paper's claims, and the faults that are known, against what was measured."""
    found = [
        _gain(runs),
        every_corruption(
            runs.grid, "bn-0", SOURCE, claim="Every corruption gains", source=f"{PAPER}, ResNet-50"
        ),
        *_trade_off(runs),
    ]
    smallest = runs.sizes[min(runs.sizes)]
    one = rounded(smallest.change("bn-16")) if "bn-16" in smallest.models else None
    if one is not None:
        found.append(
            Finding(
                "smallest-batch",
                f"With N = 16 a batch of {min(runs.sizes)} is enough for a gain",
                f"{PAPER}; by a third party ResNet-50 76.7 to 71.4 at n = 1",
                f"{spelt(one, 'change')} points against the source at severity {plan.severity}",
                below(one),
                one,
            )
        )
    whole = rounded(_paired(runs.whole, "set", runs.grid, "bn-0"))
    found.append(
        Finding(
            "whole-set",
            "Statistics of the whole target set are at least as good as those of a batch",
            PAPER,
            f"{spelt(whole, 'change')} points against batches of {plan.batch_size}",
            at_most(whole, 0.0),
            whole,
        )
    )
    for part in ("mean", "variance"):
        half = rounded(runs.grid.change(part, "bn-0"))
        found.append(
            Finding(
                f"{part}-alone",
                f"Both moments count: the {part} alone is worse than both",
                PAPER,
                f"{spelt(half, 'change')} points against both",
                above(half),
                half,
            )
        )
    measured = rounded(_over_sizes(runs.sizes, "bn-auto", "bn-16"))
    found.append(
        Finding(
            "measured-prior",
            "An N that follows the measured shift is better than a constant N = 16, over all n",
            "shiftproof",
            f"{spelt(measured, 'change')} points",
            below(measured),
            measured,
        )
    )
    return [*found, *_traps(runs)]


def _gain(runs: Runs) -> Finding:
    gain = rounded(runs.grid.change("bn-0"))
    before, after = rounded(runs.grid.error(SOURCE)), rounded(runs.grid.error("bn-0"))
    return Finding(
        "gain",
        "Batch statistics lower the error under corruption",
        f"{PAPER}, Table 1: ResNet-50 mCE 76.7 to 62.2",
        f"{spelt(before, 'error')} % to {spelt(after, 'error')} %: {spelt(gain, 'change')} points",
        below(gain),
        gain,
    )


def _trade_off(runs: Runs) -> list[Finding]:
    """The source's statistics help small batches and harm large ones; where it turns."""
    if not {"bn-0", "bn-16"} <= set(runs.sizes[min(runs.sizes)].models):
        return []
    changes = {size: rounded(run.change("bn-0", "bn-16")) for size, run in runs.sizes.items()}
    first, last = min(changes), max(changes)
    turn = crossover(changes)
    turned = "at no n" if turn is None else f"from n = {turn} on"
    return [
        Finding(
            "small-batches",
            "Small batches need the source statistics: N = 0 is worse than N = 16",
            PAPER,
            f"at n = {first}: {spelt(changes[first], 'change')} points",
            above(changes[first]),
            changes[first],
        ),
        Finding(
            "large-batches",
            "Large batches do without: N = 0 is at least as good as N = 16",
            PAPER,
            f"at n = {last}: {spelt(changes[last], 'change')} points; N = 0 is the better {turned}",
            at_most(changes[last], 0.0),
            changes[last],
        ),
    ]


def crossover(changes: Mapping[int, Interval]) -> int | None:
    """Return the smallest n from which on the change is below 0 at every n, or None."""
    turn = None
    for size in sorted(changes, reverse=True):
        if changes[size].value >= 0:
            break
        turn = size
    return turn


def _traps(runs: Runs) -> list[Finding]:
    found = []
    for name, what, run in (
        ("single", "one image at a time", runs.single),
        ("sorted", "images sorted by label", runs.ordered),
    ):
        fall = rounded(run.change("bn-0", SOURCE, [CLEAN]))
        found.append(
            Finding(
                f"trap-{name}",
                f"Batch statistics fail on {what}, on clean images too",
                "a known fault of N = 0",
                f"{spelt(rounded(run.error(SOURCE, [CLEAN])), 'error')} % to "
                f"{spelt(rounded(run.error('bn-0', [CLEAN])), 'error')} % on clean images",
                above(fall),
                fall,
            )
        )
        for where, cells in (("clean", [CLEAN]), ("corrupted", None)):
            held = rounded(run.change("guard", SOURCE, cells))
            found.append(
                Finding(
                    f"guard-{name}-{where}",
                    f"With the guard it ends at most a point above the source: {what}, {where}",
                    "shiftproof",
                    f"{spelt(held, 'change')} points against the source",
                    at_most(held, GUARDED),
                    held,
                )
            )
    return found


def _paired(these: Measured, model: str, those: Measured, other: str) -> Interval:
    """Return the change between models of two runs of the same images and cells."""
    return bootstrap_mean(these.wrong(model) - those.wrong(other))


def _over_sizes(runs: Mapping[int, Measured], model: str, against: str) -> Interval:
    """Return the mean change over all n, on the images that all of them have."""
    count = min(len(run.wrong(SOURCE)) for run in runs.values())
    changes = [(run.wrong(model) - run.wrong(against))[:count] for run in runs.values()]
    return bootstrap_mean(np.mean(changes, axis=0))
