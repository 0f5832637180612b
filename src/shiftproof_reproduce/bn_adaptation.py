"""Batch-norm adaptation (Schneider et al. 2020, arXiv 2006.16971) at small scale."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.bench import SOURCE
from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.metrics import Interval, bootstrap_mean
from shiftproof.types import CLEAN
from shiftproof_reproduce.formatting import format_figure, list_corruptions
from shiftproof_reproduce.measured import (
    Measured,
    compare_corruptions,
    compare_estimates,
    compare_methods,
    find_gains,
)
from shiftproof_reproduce.result import Drawing, Finding, Result, Table, Value
from shiftproof_reproduce.small import GOOD_ENOUGH, Bench, make_result, prepare
from shiftproof_reproduce.training import Training
from shiftproof_reproduce.verdicts import MAX_GUARDED_RISE, above, at_most, below, judge

PAPER = "Schneider et al. 2020"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of the experiment. The defaults are the small scale; tests use smaller ones.

    ``priors`` are the N and ``sizes`` the n of the table of N against n, which is measured at
    ``severity`` only: with ``few_images`` if n is below ``few``, else with the larger of
    ``size_images`` and n. A stream sorted by label has batches of ``sorted_size``.
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

    def count_images(self, size: int) -> int:
        """Return the number of images for batches of ``size``."""
        return self.few_images if size < self.few else max(size, self.size_images)


@dataclass(frozen=True, eq=False)
class Runs:
    """All runs: the grid, the hold-out by n, one severity by n, and the traps."""

    grid: Measured
    whole: Measured
    holdout: Mapping[int, Measured]
    sizes: Mapping[int, Measured]
    single: Measured
    ordered: Measured


VARIANTS = {
    "bn-0": ("N = 0", "batchnorm:prior=0"),
    "bn-16": ("N = 16", "batchnorm:prior=16"),
    "bn-auto": ("N measured", "batchnorm:prior=layerwise"),
    "stream": ("N = 16, all images so far", "batchnorm:prior=16,over=stream"),
    "mean": ("N = 0, mean alone", "batchnorm:prior=0,parts=mean"),
    "variance": ("N = 0, variance alone", "batchnorm:prior=0,parts=variance"),
    "first": ("N = 0, first four layers", "batchnorm:prior=0,layers=first-4"),
    "last": ("N = 0, last three layers", "batchnorm:prior=0,layers=last-3"),
}
"""The models of the grid: titles in tables, and adapters."""

TRAP_MODELS = {
    "bn-0": ("N = 0", "batchnorm:prior=0"),
    "guard": ("N = 0, guarded", "guard+batchnorm:prior=0"),
    "bn-16": ("N = 16", "batchnorm:prior=16"),
    "bn-auto": ("N measured", "batchnorm:prior=layerwise"),
}
"""The models that are measured in the traps."""


def list_titles(models: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return the titles of the source and the models."""
    return {SOURCE: "source", **{name: title for name, (title, _) in models.items()}}


def list_adapters(models: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return the adapters of some models."""
    return {name: adapter for name, (_, adapter) in models.items()}


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train a network on Fashion-MNIST, adapt its batch norm, and return the results.

    Arguments as for ``shiftproof_reproduce.reproduce``, and ``plan``: the size of the experiment.

    Raises:
        InputError: Fashion-MNIST is missing, or ``out`` belongs to a run with other settings.
        RunError: the network's clean error is too high.
    """
    plan = plan or Plan()
    bench = prepare(out, data, plan, show_progress=show_progress)
    runs = measure(bench, plan)
    return make_result(
        bench,
        plan,
        recipe="bn-adaptation",
        title="Batch-norm adaptation at small scale",
        about=(
            "Nothing but the statistics of its batch-norm layers adapts. N is the strength of the "
            "source statistics in images, n the images in a batch."
        ),
        tables=[*make_tables(runs, plan), *compare_estimates(runs.grid, list_titles(VARIANTS))],
        findings=make_findings(runs, plan),
    )


def measure(bench: Bench, plan: Plan) -> Runs:
    """Measure all runs, or read finished ones."""
    priors = {f"bn-{prior}": _make_spec(prior) for prior in plan.priors}
    grid = functools.partial(
        bench.run,
        images=plan.images,
        corruptions=plan.corruptions,
        severities=plan.severities,
        batch_size=plan.batch_size,
    )
    one_severity = functools.partial(
        bench.run, corruptions=plan.corruptions, severities=[plan.severity]
    )
    trapped = list_adapters(TRAP_MODELS)
    return Runs(
        grid=grid("grid", list_adapters(VARIANTS)),
        whole=grid(
            "whole-set",
            {"set": "batchnorm:prior=0,over=set"},
            protocol=f"offline:epochs={plan.set_passes}",
        ),
        holdout={
            size: bench.run(
                f"holdout-{size:04}",
                priors,
                images=plan.holdout_images,
                corruptions=plan.holdout,
                severities=plan.severities,
                batch_size=size,
            )
            for size in plan.holdout_sizes
        },
        sizes={
            size: one_severity(
                f"size-{size:04}", priors, images=plan.count_images(size), batch_size=size
            )
            for size in plan.sizes
        },
        single=one_severity("trap-single", trapped, images=plan.few_images, batch_size=1),
        ordered=one_severity(
            "trap-sorted",
            trapped,
            images=plan.images,
            batch_size=plan.sorted_size,
            protocol="online:order=sorted",
        ),
    )


# ---------------------------------------------------------------- tables


def make_tables(runs: Runs, plan: Plan) -> list[Table]:
    """Return all tables."""
    best = {size: find_best_prior(run, plan.priors) for size, run in runs.holdout.items()}
    return [
        compare_methods(
            [(runs.grid, list_titles(VARIANTS)), (runs.whole, {"set": "N = 0, the whole set"})],
            note=f"Batches of {plan.batch_size} images of one corruption and one severity, reset "
            f"before each cell; {plan.images:,} images a cell.",
        ),
        compare_corruptions(
            runs.grid,
            "bn-0",
            SOURCE,
            title="What N = 0 changes, by corruption",
            note="In points, against the source; less is better.",
        ),
        compare_priors(
            runs.sizes,
            plan.priors,
            name="sizes",
            title=f"N against n, severity {plan.severity}",
            note="Mean error over the corruptions. Columns of small n are measured on fewer images: "
            + ", ".join(f"{plan.count_images(size):,} for n = {size}" for size in plan.sizes)
            + ".",
            drawing="curves",
        ),
        compare_priors(
            runs.holdout,
            plan.priors,
            name="holdout",
            title="N chosen on the hold-out corruptions",
            note=f"The corruptions kept for choosing: {list_corruptions(plan.holdout)}. "
            + " ".join(
                f"At n = {size} the best is {_make_title(prior)}." for size, prior in best.items()
            ),
        ),
        compare_traps(runs, plan),
    ]


def compare_priors(
    runs: Mapping[int, Measured],
    priors: Sequence[str],
    *,
    name: str,
    title: str,
    note: str,
    drawing: Drawing = "none",
) -> Table:
    """Return the mean error by N and n, the source in the first row."""
    models = {SOURCE: "source", **{f"bn-{prior}": _make_title(prior) for prior in priors}}
    values: list[list[Value]] = [[run.error(model) for run in runs.values()] for model in models]
    columns, rows = [str(size) for size in runs], list(models.values())
    return Table(name, title, "n", columns, rows, values, note=note, drawing=drawing)


def compare_traps(runs: Runs, plan: Plan) -> Table:
    """Return the errors where batch statistics mislead."""
    columns = {
        "n = 1, clean": (runs.single, [CLEAN]),
        "n = 1, corrupted": (runs.single, None),
        "sorted by label, clean": (runs.ordered, [CLEAN]),
        "sorted by label, corrupted": (runs.ordered, None),
    }
    titles = list_titles(TRAP_MODELS)
    return Table(
        "traps",
        "Where batch statistics mislead",
        "error in %",
        list(columns),
        list(titles.values()),
        [[run.error(model, cells) for run, cells in columns.values()] for model in titles],
        note=f"Single images: {plan.few_images} of each cell. Sorted by label: batches of "
        f"{plan.sorted_size}, {plan.images:,} images of each cell. Severity {plan.severity}.",
    )


def find_best_prior(run: Measured, priors: Sequence[str]) -> str:
    """Return the N with the lowest mean error, ties to the first."""
    return min(priors, key=lambda prior: run.error(f"bn-{prior}").value)


def _make_spec(prior: str) -> str:
    """Return the adapter's spec for a prior; ``auto`` measures it in each layer."""
    return f"batchnorm:prior={'layerwise' if prior == 'auto' else prior}"


def _make_title(prior: str) -> str:
    return "N measured" if prior == "auto" else f"N = {prior}"


# ---------------------------------------------------------------- findings


def make_findings(runs: Runs, plan: Plan) -> list[Finding]:
    """Judge the paper's claims and the known failure modes by the results."""
    before, after = (format_figure(runs.grid.error(model), "error") for model in (SOURCE, "bn-0"))
    found = [
        judge(
            "gain",
            "Batch statistics lower the error under corruption",
            f"{PAPER}, Table 1: ResNet-50 mCE 76.7 to 62.2",
            runs.grid.change("bn-0"),
            f"{before} % to {after} %: {{}} points",
            holds=below,
        ),
        find_gains(
            runs.grid, "bn-0", SOURCE, claim="Every corruption gains", source=f"{PAPER}, ResNet-50"
        ),
        *_judge_sizes(runs, plan),
        judge(
            "whole-set",
            "Statistics of the whole target set are at least as good as those of a batch",
            PAPER,
            # Both runs have the same images and cells.
            bootstrap_mean(runs.whole.wrong("set") - runs.grid.wrong("bn-0")),
            f"{{}} points against batches of {plan.batch_size}",
            holds=at_most,
        ),
    ]
    for part in ("mean", "variance"):
        found.append(
            judge(
                f"{part}-alone",
                f"Both moments count: the {part} alone is worse than both",
                PAPER,
                runs.grid.change(part, "bn-0"),
                "{} points against both",
                holds=above,
            )
        )
    found.append(
        judge(
            "measured-prior",
            "An N that follows the measured shift is better than a constant N = 16, over all n",
            "shiftproof",
            _average_sizes(runs.sizes, "bn-auto", "bn-16"),
            "{} points",
            holds=below,
        )
    )
    return [*found, *_judge_traps(runs)]


def _judge_sizes(runs: Runs, plan: Plan) -> list[Finding]:
    """Judge that the source's statistics help small batches and harm large ones."""
    first, last = min(runs.sizes), max(runs.sizes)
    models = set(runs.sizes[first].models)
    if "bn-16" not in models:
        return []
    smallest = judge(
        "smallest-batch",
        f"With N = 16 a batch of {first} is enough for a gain",
        f"{PAPER}; by a third party ResNet-50 76.7 to 71.4 at n = 1",
        runs.sizes[first].change("bn-16"),
        f"{{}} points against the source at severity {plan.severity}",
        holds=below,
    )
    if "bn-0" not in models:
        return [smallest]
    changes = {size: run.change("bn-0", "bn-16") for size, run in runs.sizes.items()}
    turn = find_crossover(changes)
    where = "at no n" if turn is None else f"from n = {turn} on"
    return [
        judge(
            "small-batches",
            "Small batches need the source statistics: N = 0 is worse than N = 16",
            PAPER,
            changes[first],
            f"at n = {first}: {{}} points",
            holds=above,
        ),
        judge(
            "large-batches",
            "Large batches do without: N = 0 is at least as good as N = 16",
            PAPER,
            changes[last],
            f"at n = {last}: {{}} points; N = 0 is the better {where}",
            holds=at_most,
        ),
        smallest,
    ]


def find_crossover(changes: Mapping[int, Interval]) -> int | None:
    """Return the smallest n from which the change is negative at all larger n, or None."""
    turn = None
    for size in sorted(changes, reverse=True):
        if changes[size].value >= 0:
            break
        turn = size
    return turn


def _judge_traps(runs: Runs) -> list[Finding]:
    found = []
    for name, what, run in (
        ("single", "one image at a time", runs.single),
        ("sorted", "images sorted by label", runs.ordered),
    ):
        before, after = (
            format_figure(run.clean_error(model), "error") for model in (SOURCE, "bn-0")
        )
        found.append(
            judge(
                f"trap-{name}",
                f"Batch statistics fail on {what}, on clean images too",
                "a known fault of N = 0",
                run.change("bn-0", SOURCE, [CLEAN]),
                f"{before} % to {after} % on clean images",
                holds=above,
            )
        )
        for where, cells in (("clean", [CLEAN]), ("corrupted", None)):
            found.append(
                judge(
                    f"guard-{name}-{where}",
                    f"With the guard it ends at most a point above the source: {what}, {where}",
                    "shiftproof",
                    run.change("guard", SOURCE, cells),
                    "{} points against the source",
                    holds=at_most,
                    limit=MAX_GUARDED_RISE,
                )
            )
    return found


def _average_sizes(runs: Mapping[int, Measured], model: str, against: str) -> Interval:
    """Return the mean change over all n, on the images common to all runs."""
    count = min(len(run.wrong(SOURCE)) for run in runs.values())
    changes = [(run.wrong(model) - run.wrong(against))[:count] for run in runs.values()]
    return bootstrap_mean(np.mean(changes, axis=0))
