"""Self-learning (Rusak et al. 2022, arXiv 2104.12928) at small scale."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.bench import SOURCE
from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.metrics import bootstrap_mean
from shiftproof.types import CLEAN
from shiftproof_reproduce.fashion import CLASSES
from shiftproof_reproduce.formatting import format_figure, format_number, list_corruptions
from shiftproof_reproduce.measured import (
    Measured,
    compare_corruptions,
    compare_estimates,
    compare_methods,
    find_gains,
)
from shiftproof_reproduce.result import Finding, Result, Table, Value, to_json
from shiftproof_reproduce.small import GOOD_ENOUGH, Bench, make_result, prepare
from shiftproof_reproduce.training import Training
from shiftproof_reproduce.verdicts import MAX_GUARDED_RISE, above, at_most, below, judge

PAPER = "Rusak et al. 2022"

TITLES = {
    "ent": "ENT",
    "hard": "hard pseudo-labels",
    "soft": "soft pseudo-labels",
    "rpl": "RPL",
}
"""The losses with their titles in tables."""

LAME, LAME_TITLE = "lame:links=symmetric,preset=paper", "LAME, symmetric links"
"""Symmetric links as described in the paper; those of its authors' code are directed."""


@dataclass(frozen=True)
class Setting:
    """A learning rate per batch, and the momentum of SGD."""

    rate: float
    momentum: float

    def __str__(self) -> str:
        return f"learning rate {self.rate:g}, momentum {self.momentum:g}"

    def spec(self, loss: str, *, times: float = 1) -> str:
        """Return the adapter's spec, with ``times`` the learning rate."""
        return f"{loss}:prior=0,lr={times * self.rate:g},momentum={self.momentum:g}"

    def name(self, loss: str) -> str:
        """Return the model's name in the run that compares settings."""
        return f"{loss}-{self.rate:g}-{self.momentum:g}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of the experiment. The defaults are the small scale; tests use smaller ones.

    ``online`` is the protocol of methods that learn while they predict: a cell has only a few
    steps, so the severities of a corruption follow each other without a reset. ``rates`` and
    ``momenta`` are tuned on the hold-out corruptions only; losses not in ``swept`` are tuned
    without momentum. Losses in ``repeated`` also learn offline, with rates of their own.
    ``rdumb_every`` is in batches. The traps use ``trap_images`` of each cell, of
    ``trap_corruptions`` at ``severity``.
    """

    training: Training = dataclasses.field(default_factory=Training)
    good_enough: float = GOOD_ENOUGH
    corruptions: tuple[str, ...] = COMMON
    holdout: tuple[str, ...] = HOLDOUT
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    images: int = 512
    batch_size: int = 64
    online: str = "online:reset=corruption"
    offline: str = "offline:reset=corruption"
    epochs: int = 2
    losses: tuple[str, ...] = ("ent", "hard", "soft", "rpl")
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)
    momenta: tuple[float, ...] = (0.0, 0.9)
    swept: tuple[str, ...] = ("ent", "rpl")
    repeated: tuple[str, ...] = ("ent", "hard", "rpl")
    rdumb_every: int = 20
    severity: int = 3
    trap_corruptions: tuple[str, ...] = ("gaussian_noise", "defocus_blur", "fog", "contrast")
    trap_images: int = 512
    single_images: int = 128
    only_class: int = 0
    too_high: float = 100.0

    def settings(self, loss: str) -> list[Setting]:
        """Return the settings tried on the hold-out for a loss."""
        momenta = self.momenta if loss in self.swept else self.momenta[:1]
        return [Setting(rate, momentum) for momentum in momenta for rate in self.rates]


@dataclass(frozen=True, eq=False)
class Runs:
    """All runs; ``traps`` by name of the trap.

    ``chosen`` are the best settings on the hold-out, ``plain`` the best without momentum, and
    ``chosen_offline`` the best without momentum after several passes.
    """

    holdout: Measured
    chosen: Mapping[str, Setting]
    plain: Mapping[str, Setting]
    chosen_offline: Mapping[str, Setting]
    online: Measured
    without_momentum: Measured
    offline: Measured
    traps: Mapping[str, Measured]


TRAPS = {
    "single": "one image at a time",
    "one-class": "images of one class alone",
    "rate": "a learning rate 100 times too high",
    "continual": "corruption after corruption, without a reset",
}
"""The failure modes, with their titles in tables."""

TRAP_MODELS = {
    SOURCE: "source",
    "bn": "BN",
    "ent": "ENT",
    "guard-ent": "ENT, guarded",
    "rpl": "RPL",
    "guard-rpl": "RPL, guarded",
}


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train a network on Fashion-MNIST, adapt it by self-learning, and return the results.

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
        recipe="self-learning",
        title="Self-learning at small scale",
        about=(
            "The affine parameters of its batch norm learn from its own answers, one "
            "step a batch, with the statistics of the batch. Learning rates and momentum were chosen "
            f"on the hold-out corruptions ({list_corruptions(plan.holdout)}): "
            + "; ".join(f"{TITLES[loss]} {setting}" for loss, setting in runs.chosen.items())
            + "."
        ),
        settings={"chosen": {loss: to_json(chosen) for loss, chosen in runs.chosen.items()}},
        tables=make_tables(runs, plan),
        findings=make_findings(runs, plan),
    )


def measure(bench: Bench, plan: Plan) -> Runs:
    """Measure all runs, or read finished ones."""
    measure_grid = functools.partial(
        bench.run, images=plan.images, severities=plan.severities, batch_size=plan.batch_size
    )
    over_holdout = functools.partial(measure_grid, corruptions=plan.holdout)
    over_grid = functools.partial(measure_grid, corruptions=plan.corruptions)
    passes = f"{plan.offline},epochs={plan.epochs}"
    bn = {"bn": "batchnorm:prior=0"}
    tried = {
        each.name(loss): each.spec(loss) for loss in plan.losses for each in plan.settings(loss)
    }
    holdout = over_holdout("holdout", {**bn, **tried}, protocol=plan.online)
    chosen = {loss: find_best_setting(holdout, loss, plan.settings(loss)) for loss in plan.losses}
    learning = {loss: setting.spec(loss) for loss, setting in chosen.items()}
    rdumb = f"rdumb:every={plan.rdumb_every}+{learning['ent']}"
    online = over_grid(
        "online", {**bn, **learning, "rdumb": rdumb, "lame": LAME}, protocol=plan.online
    )
    plain = {
        loss: find_best_setting(holdout, loss, _list_plain_settings(plan, loss))
        for loss in plan.swept
    }
    without_momentum = over_grid(
        "online-without-momentum",
        {loss: setting.spec(loss) for loss, setting in plain.items()},
        protocol=plan.online,
    )
    # Several passes have more steps, for which the rates of one pass may be too high.
    offline_settings = {loss: _list_plain_settings(plan, loss) for loss in plan.repeated}
    holdout_offline = over_holdout(
        "holdout-offline",
        {
            each.name(loss): each.spec(loss)
            for loss, all_ in offline_settings.items()
            for each in all_
        },
        protocol=passes,
    )
    chosen_offline = {
        loss: find_best_setting(holdout_offline, loss, settings)
        for loss, settings in offline_settings.items()
    }
    offline = over_grid(
        "offline",
        {loss: setting.spec(loss) for loss, setting in chosen_offline.items()},
        protocol=passes,
    )
    traps = _measure_traps(bench, plan, chosen)
    return Runs(holdout, chosen, plain, chosen_offline, online, without_momentum, offline, traps)


def _list_plain_settings(plan: Plan, loss: str) -> list[Setting]:
    """Return the settings without momentum."""
    return [each for each in plan.settings(loss) if not each.momentum]


def _measure_traps(bench: Bench, plan: Plan, chosen: Mapping[str, Setting]) -> dict[str, Measured]:
    """Measure the traps, with and without the guard."""

    def list_adapters(times: float = 1) -> dict[str, str]:
        ent, rpl = (chosen[loss].spec(loss, times=times) for loss in ("ent", "rpl"))
        guards = {"guard-ent": f"guard+{ent}", "guard-rpl": f"guard+{rpl}"}
        return {"bn": "batchnorm:prior=0", "ent": ent, "rpl": rpl, **guards}

    few = functools.partial(bench.run, corruptions=plan.trap_corruptions)
    adapters, size = list_adapters(), plan.batch_size
    one = [plan.severity]
    return {
        "single": few(
            "trap-single", adapters, images=plan.single_images, severities=one, batch_size=1
        ),
        "one-class": few(
            "trap-one-class",
            adapters,
            images=plan.trap_images,
            labels=[plan.only_class],
            severities=one,
            batch_size=size,
        ),
        "rate": few(
            "trap-rate",
            list_adapters(plan.too_high),
            images=plan.trap_images,
            severities=plan.severities,
            batch_size=size,
            protocol=plan.online,
        ),
        "continual": bench.run(
            "trap-continual",
            adapters,
            images=plan.trap_images,
            corruptions=plan.corruptions,
            severities=one,
            batch_size=size,
            protocol="online:reset=never",
        ),
    }


def find_best_setting(holdout: Measured, loss: str, settings: Sequence[Setting]) -> Setting:
    """Return the setting with the lowest mean error on the hold-out, ties to the first."""
    return min(settings, key=lambda setting: holdout.error(setting.name(loss)).value)


# ---------------------------------------------------------------- tables


def make_tables(runs: Runs, plan: Plan) -> list[Table]:
    """Return all tables."""
    names = {
        SOURCE: "source",
        "bn": "BN, N = 0",
        **{loss: TITLES[loss] for loss in plan.losses},
        "rdumb": f"RDumb over ENT, every {plan.rdumb_every} batches",
        "lame": LAME_TITLE,
    }
    offline = {
        loss: f"{TITLES[loss]}, offline, rate {setting.rate:g}"
        for loss, setting in runs.chosen_offline.items()
    }
    plain = {
        loss: f"{TITLES[loss]}, no momentum, rate {setting.rate:g}"
        for loss, setting in runs.plain.items()
    }
    return [
        compare_methods(
            [(runs.online, names), (runs.without_momentum, plain), (runs.offline, offline)],
            note=f"Batches of {plan.batch_size} images of one cell, {plan.images} images a cell; the "
            "severities of a corruption follow each other, and what was learnt is forgotten before "
            "the next corruption. Online: each image is predicted before the step that "
            f"learns from it. Offline: {plan.epochs} passes to learn, then one to predict.",
        ),
        compare_corruptions(
            runs.online,
            "rpl",
            "bn",
            title="What RPL changes, by corruption",
            note="In points, online, against batch-norm adaptation; less is better.",
        ),
        compare_rates(runs, plan),
        compare_traps(runs, plan),
        *compare_estimates(runs.online, names),
    ]


def compare_rates(runs: Runs, plan: Plan) -> Table:
    """Return the hold-out errors of every setting, with those of batch-norm adaptation."""
    momenta = [
        (loss, momentum)
        for loss in plan.losses
        for momentum in dict.fromkeys(each.momentum for each in plan.settings(loss))
    ]
    values: list[list[Value]] = [
        [runs.holdout.error(Setting(rate, momentum).name(loss)) for rate in plan.rates]
        for loss, momentum in momenta
    ]
    rows = [f"{TITLES[loss]}, momentum {momentum:g}" for loss, momentum in momenta]
    return Table(
        "rates",
        "Learning rates on the hold-out corruptions",
        "learning rate",
        [f"{rate:g}" for rate in plan.rates],
        [*rows, "BN, N = 0"],
        [*values, [runs.holdout.error("bn")] * len(plan.rates)],
        note=f"Mean error over {list_corruptions(plan.holdout)}; the protocol of the first table, "
        "online.",
        drawing="curves",
    )


def compare_traps(runs: Runs, plan: Plan) -> Table:
    """Return the errors in the traps."""
    places = [
        (f"{TRAPS[trap]}, {where}", measured, cells)
        for trap, measured in runs.traps.items()
        for where, cells in (("clean", [CLEAN]), ("corrupted", None))
    ]
    return Table(
        "traps",
        "Where self-learning goes astray",
        "error in %",
        list(TRAP_MODELS.values()),
        [title for title, _, _ in places],
        [[measured.error(model, cells) for model in TRAP_MODELS] for _, measured, cells in places],
        note=f"{plan.trap_images} images of each cell, {plan.single_images} where they come one at a "
        f"time; {list_corruptions(plan.trap_corruptions)}, and all {len(plan.corruptions)} corruptions "
        "without a reset. "
        f"The one class is {CLASSES.names[plan.only_class]}.",
    )


# ---------------------------------------------------------------- findings


def make_findings(runs: Runs, plan: Plan) -> list[Finding]:
    """Judge the paper's claims and the known failure modes by the results."""
    online = runs.online
    return [
        *_judge_gains(online),
        *_judge_rpl_against_ent(runs),
        judge(
            "more-passes",
            "More passes help RPL",
            f"{PAPER}: 5 epochs for RPL",
            bootstrap_mean(runs.offline.wrong("rpl") - runs.without_momentum.wrong("rpl")),
            f"{plan.epochs} passes and another to predict, against online, both without momentum: "
            "{} points",
            holds=below,
        ),
        *(
            finding
            for momentum in plan.momenta
            for finding in (
                _judge_stability(runs, plan, momentum),
                *_judge_collapse(runs, plan, momentum),
            )
        ),
        judge(
            "rpl-against-hard",
            "The robust loss is at least as good as plain pseudo-labels",
            PAPER,
            online.change("rpl", "hard"),
            "online {} points",
            holds=at_most,
        ),
        find_gains(
            online,
            "rpl",
            SOURCE,
            claim="Every corruption gains by RPL, against the source",
            source=PAPER,
        ),
        *_judge_traps(runs),
    ]


def _judge_gains(online: Measured) -> list[Finding]:
    found = []
    for loss, published in (("ent", "62.2 to 51.6"), ("rpl", "62.2 to 50.5")):
        before, after = (format_figure(online.error(model), "error") for model in ("bn", loss))
        found.append(
            judge(
                f"{loss}-gain",
                f"{TITLES[loss]} lowers the error further than batch-norm adaptation",
                f"{PAPER}: ResNet-50 mCE {published}",
                online.change(loss, "bn"),
                f"online {before} % to {after} %: {{}} points",
                holds=below,
            )
        )
    return found


def _judge_rpl_against_ent(runs: Runs) -> list[Finding]:
    return [
        judge(
            f"rpl-against-ent-{mode.replace(', ', '-').replace(' ', '-')}",
            f"RPL is at least as good as ENT, {mode}",
            f"{PAPER}: ResNet-50 mCE 50.5 against 51.6; with the ten classes of CIFAR-10-C ENT "
            "is ahead, 8.5 against 9.7",
            run.change("rpl", "ent"),
            "{} points",
            holds=at_most,
        )
        for mode, run in (
            ("online", runs.online),
            ("online, without momentum", runs.without_momentum),
            ("offline", runs.offline),
        )
    ]


def _judge_stability(runs: Runs, plan: Plan, momentum: float) -> Finding:
    """Judge how far the error rises above each loss's best, on average over all tried rates."""
    rises = {}
    for loss in ("ent", "rpl"):
        settings = [each for each in plan.settings(loss) if each.momentum == momentum]
        best = runs.holdout.wrong(find_best_setting(runs.holdout, loss, settings).name(loss))
        apart = [runs.holdout.wrong(each.name(loss)) - best for each in settings]
        rises[loss] = np.mean(apart, axis=0)
    means = {loss: format_number(float(rise.mean()), "change") for loss, rise in rises.items()}
    return judge(
        f"stability-{momentum:g}",
        f"RPL depends less on the learning rate than ENT, momentum {momentum:g}",
        PAPER,
        bootstrap_mean(rises["rpl"] - rises["ent"]),
        f"averaged over all rates RPL is {means['rpl']} points above its best one, ENT "
        f"{means['ent']}: {{}} points",
        holds=below,
    )


def _judge_collapse(runs: Runs, plan: Plan, momentum: float) -> list[Finding]:
    """Judge both losses at the highest learning rate."""
    extreme = Setting(max(plan.rates), momentum)
    ent, rpl = extreme.name("ent"), extreme.name("rpl")
    errors = {model: format_figure(runs.holdout.error(model), "error") for model in (ent, rpl)}
    source = f"{PAPER}: ResNet-50, hold-out mCE after 5 epochs at a rate of 1e-2"
    return [
        judge(
            f"ent-collapse-{momentum:g}",
            f"ENT collapses where the learning rate is too high, momentum {momentum:g}",
            f"{source}: 131.2, batch-norm adaptation alone 60.2",
            runs.holdout.change(ent, "bn"),
            f"at {extreme.rate:g}: {errors[ent]} %, {{}} points against batch-norm adaptation",
            holds=above,
        ),
        judge(
            f"rpl-collapse-{momentum:g}",
            f"RPL suffers less than ENT there, momentum {momentum:g}",
            f"{source}: 76.3 against 131.2",
            runs.holdout.change(rpl, ent),
            f"at {extreme.rate:g}: {errors[rpl]} %, {{}} points against ENT",
            holds=below,
        ),
    ]


def _judge_traps(runs: Runs) -> list[Finding]:
    """Judge how far each guarded loss ends above the source in each trap, on clean or corrupted
    images, whichever is worse.
    """
    found = []
    for trap, measured in runs.traps.items():
        places = {"clean": [CLEAN], "corrupted": measured.cells}
        for loss in ("ent", "rpl"):
            changes = {
                where: measured.change(f"guard-{loss}", SOURCE, cells)
                for where, cells in places.items()
            }
            where = max(changes, key=lambda place: changes[place].value)
            loose = format_figure(measured.change(loss, SOURCE, places[where]), "change")
            found.append(
                judge(
                    f"guard-{trap}-{loss}",
                    f"{TITLES[loss]} with the guard ends at most a point above the source: "
                    f"{TRAPS[trap]}",
                    "shiftproof",
                    changes[where],
                    f"{{}} points on {where} images; without the guard {loose}",
                    holds=at_most,
                    limit=MAX_GUARDED_RISE,
                )
            )
    return found
