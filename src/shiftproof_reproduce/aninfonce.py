"""AnInfoNCE (Rusak et al. 2025, arXiv 2407.00143): latents and precision recovered, where InfoNCE fails."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shiftproof.compute import processes as engine
from shiftproof.compute.progress import console, progress
from shiftproof.compute.tuning import usable_cores
from shiftproof.contrastive.train import Training
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.metrics.identifiability import interval_over_seeds
from shiftproof.metrics.intervals import Interval
from shiftproof.provenance import provenance
from shiftproof.types import Settings
from shiftproof_reproduce.claims import above, below
from shiftproof_reproduce.latents import Method, Recovered, Setting, log_spaced, recover
from shiftproof_reproduce.rendering import spelt
from shiftproof_reproduce.result import Finding, Result, Table, Value, point, rounded

PAPER = "Rusak et al. 2025"

RECOVERED = 0.95
"""R² from which a latent counts as recovered, and below which as lost in part."""

INTERVALS = (
    "“yes” and “no” where the whole 95 % interval is to that side of the line, “undecided” where it "
    "is on both. Intervals are over repetitions, each with another mixing, encoder and pairs, by "
    "Student's t; with so few of them they are wide, and a score may exceed 1 within them."
)

ANISOTROPIC = Method(name="AnInfoNCE", start=1.0, relative=True, link="exp", negatives="other")
"""What is recommended: encoder and Λ̂ start at slow features, Λ̂ moves by factors, and negatives come
from the other view."""

BOTH = dataclasses.replace(ANISOTROPIC, name="AnInfoNCE, both views' negatives", negatives="both")
"""With the published choice of negatives."""

KNOWN = dataclasses.replace(
    ANISOTROPIC, name="AnInfoNCE, on the latents themselves", start=10.0, relative=False, known=True
)
"""Without an encoder, Λ̂ says what the loss alone makes of Λ."""

KNOWN_BOTH = dataclasses.replace(
    KNOWN, name="AnInfoNCE, on the latents, both views' negatives", negatives="both"
)

RANDOM = dataclasses.replace(
    ANISOTROPIC, name="AnInfoNCE, random start", relative=False, slow=False
)
"""The encoder starts at random, and all Λ̂ at 1."""

PUBLISHED = Method(
    name="AnInfoNCE, random start, softplus", start=0.7, negatives="both", slow=False
)
"""As published: Λ̂ by softplus from where it starts there, and learnt slowly."""

LEARNT = Method(name="InfoNCE, learnt temperature", start=1.0, learn="one", negatives="both")

ENSEMBLE = dataclasses.replace(
    RANDOM, name="AnInfoNCE, random start, losses from 1 and 10", copies=2, ratio=10.0
)

HARD = dataclasses.replace(ANISOTROPIC, name="AnInfoNCE, hard negatives", hard=2.0)


def fixed(inverse_temperature: float) -> Method:
    """Return InfoNCE at a temperature that stays."""
    return Method(
        name=f"InfoNCE, 1/τ = {inverse_temperature:g}", start=inverse_temperature, learn="none"
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured. ``small()`` and ``medium()`` give the two scales; tests take less.

    Args:
        scale: its name.
        settings: what is drawn, by name; the first is where the temperature is swept.
        methods: measured in every setting, with every seed.
        swept: values of 1/τ for InfoNCE, in each setting, with the first seed alone; the best of
            them, by the mean R² over latents, is repeated with the others.
        extra: methods measured in one setting each, by its name.
        seeds: of the repetitions.
        about: what is drawn and learnt, in a sentence.
    """

    scale: str
    settings: Mapping[str, Setting]
    methods: tuple[Method, ...]
    swept: tuple[float, ...]
    extra: tuple[tuple[str, Method], ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    about: str = ""


def small() -> Plan:
    """Return the small scale: five latents, some minutes on one core."""
    training = Training(
        steps=800, rate=3e-3, loss_rate=1e-2, warm_up=0.02, cool_down=0.5, check_every=200,
        watch="least",
    )  # fmt: skip
    bimodal = Setting(precision=(25.0, 25.0, 25.0, 5.0, 5.0), training=training, batch=256)
    spread = dataclasses.replace(
        bimodal,
        precision=log_spaced(1.0, 1000.0, 5),
        training=dataclasses.replace(training, steps=1000),
    )
    return Plan(
        scale="small",
        settings={"25 and 5": bimodal, "1 to 1,000": spread},
        methods=(ANISOTROPIC,),
        swept=(2.0, 5.0, 10.0, 20.0),
        extra=(("25 and 5", BOTH), ("1 to 1,000", RANDOM)),
        about="Five latents on the sphere",
    )


def medium() -> Plan:
    """Return the medium scale: ten latents as in the published logs, and what goes beyond; an hour."""
    training = Training(
        steps=8000, rate=6e-3, loss_rate=1e-2, warm_up=0.02, cool_down=0.8, check_every=1000,
        watch="least",
    )  # fmt: skip
    bimodal = Setting(precision=(25.0,) * 5 + (5.0,) * 5, training=training)
    linear = tuple(5 + 20 * k / 9 for k in range(10))
    five = dataclasses.replace(
        bimodal, training=dataclasses.replace(training, steps=2500), batch=256
    )
    return Plan(
        scale="medium",
        settings={
            "25 and 5": bimodal,
            "5 to 25": dataclasses.replace(bimodal, precision=linear),
            "5 latents, 1 to 10": dataclasses.replace(five, precision=log_spaced(1.0, 10.0, 5)),
            "5 latents, 1 to 100": dataclasses.replace(five, precision=log_spaced(1.0, 100.0, 5)),
            "5 latents, 1 to 1,000": dataclasses.replace(
                five, precision=log_spaced(1.0, 1000.0, 5)
            ),
        },
        methods=(ANISOTROPIC,),
        swept=(2.0, 5.0, 10.0, 20.0),
        extra=(
            ("25 and 5", BOTH),
            ("25 and 5", KNOWN),
            ("25 and 5", KNOWN_BOTH),
            ("5 to 25", BOTH),
            ("5 latents, 1 to 100", HARD),
            ("5 latents, 1 to 1,000", LEARNT),
            ("5 latents, 1 to 1,000", RANDOM),
            ("5 latents, 1 to 1,000", PUBLISHED),
            ("5 latents, 1 to 1,000", ENSEMBLE),
        ),
        about="Ten latents on the sphere, as in the published logs, and five over wider spreads",
    )


Runs = dict[tuple[str, str], list[Recovered]]
"""By setting and method, one per seed."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All runs, the swept ones apart, and which InfoNCE is the best of each setting."""

    runs: Runs
    swept: dict[tuple[str, float], Recovered]
    best: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, setting: str, method: str) -> list[Recovered]:
        """Return the runs of a method; none where it was not measured."""
        return self.runs.get((setting, method), [])


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train encoders on pairs of known latents, and return what they recover.

    Args:
        out: the folder of the trainings; what is there is gone on with.
        data: none is needed.
        plan: how much is measured; None is the small scale.
        workers: processes that train; None takes all cores, 0 does it in this one.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: ``data`` is given.
        RunMismatchError: ``out`` is of a run with other settings.
    """
    if data is not None:
        raise InputError("aninfonce draws its own data: leave out --data.")
    plan = plan or small()
    files.make_folder(out)
    used = usable_cores() if workers is None else workers
    measured = measure(plan, out / "runs", workers=used, show_progress=show_progress)
    return Result(
        recipe="aninfonce",
        scale=plan.scale,
        title=f"AnInfoNCE at {plan.scale} scale",
        about=about(plan),
        settings=settings(plan),
        provenance=provenance("cpu", used),
        tables=tables(measured, plan),
        findings=findings(measured, plan),
        seconds=measured.seconds,
        intervals=INTERVALS,
    )


def reproduce_medium(
    out: Path,
    *,
    data: str | Path | None = None,
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """As ``reproduce``, at the medium scale."""
    return reproduce(out, data=data, plan=medium(), workers=workers, show_progress=show_progress)


def about(plan: Plan) -> str:
    """Say what was done."""
    first = next(iter(plan.settings.values()))
    return (
        f"{plan.about} vary within a pair with a precision λ each and are mixed by a random "
        "invertible network; an encoder learns from pairs of observations, and is then held against "
        "the latents. It is an MLP added to the observations' slow features, which are found "
        "beforehand from pairs alone, for InfoNCE and AnInfoNCE alike; where a random start is "
        f"named, the MLP is alone. {len(plan.seeds)} repetitions, batches of {first.batch}, "
        f"{first.training.steps:,} steps of Adam."
    )


def settings(plan: Plan) -> Settings:
    """Return all that decides the numbers, as JSON takes it."""
    plain: Settings = {
        "settings": {name: dataclasses.asdict(each) for name, each in plan.settings.items()},
        "methods": [dataclasses.asdict(each) for each in plan.methods],
        "extra": [[name, dataclasses.asdict(each)] for name, each in plan.extra],
        "swept": list(plan.swept),
        "seeds": list(plan.seeds),
    }
    as_read: Settings = json.loads(json.dumps(plain))
    return as_read


# ---------------------------------------------------------------- runs


@dataclass(frozen=True)
class _Repetition:
    """One training: a method in a setting with a seed."""

    setting: str
    method: Method
    seed: int


def measure(
    plan: Plan, folder: Path, *, workers: int = 0, show_progress: bool | None = None
) -> Measured:
    """Train all encoders of a plan, or go on with them.

    Args:
        plan: what is trained.
        folder: of the checkpoints.
        workers: processes that train, one encoder each at a time; 0 does it in this one.
        show_progress: None shows it on a terminal only.
    """
    swept = [fixed(value) for value in plan.swept]
    wanted = [
        _Repetition(name, method, seed)
        for name in plan.settings
        for methods, seeds in (
            (plan.methods, plan.seeds),
            (swept, plan.seeds[:1]),
            ([method for where, method in plan.extra if where == name], plan.seeds),
        )
        for method in methods
        for seed in seeds
    ]
    found = _train(plan, wanted, folder, workers, show_progress)
    best = {
        name: max(swept, key=lambda method: found[_Repetition(name, method, plan.seeds[0])].mean)
        for name in plan.settings
        if swept
    }
    again = [_Repetition(name, best[name], seed) for name in best for seed in plan.seeds[1:]]
    found |= _train(plan, again, folder, workers, show_progress)
    measured = Measured({}, {}, {name: method.name for name, method in best.items()})
    for name in plan.settings:
        compared = [*plan.methods, *([best[name]] if swept else [])]
        compared += [method for where, method in plan.extra if where == name]
        for method in compared:
            measured.runs[name, method.name] = [
                found[_Repetition(name, method, seed)] for seed in plan.seeds
            ]
        for value, method in zip(plan.swept, swept, strict=True):
            measured.swept[name, value] = found[_Repetition(name, method, plan.seeds[0])]
    for one, run in found.items():
        part = f"{one.setting}: {one.method.name}"
        measured.seconds[part] = round(measured.seconds.get(part, 0.0) + run.seconds, 1)
    return measured


def _train(
    plan: Plan,
    wanted: Sequence[_Repetition],
    folder: Path,
    workers: int,
    show_progress: bool | None,
) -> dict[_Repetition, Recovered]:
    found: dict[_Repetition, Recovered] = {}
    results = engine.map_ordered(
        _recovered, wanted, context=(plan, folder), workers=min(workers, len(wanted))
    )
    with progress("Trainings", len(wanted), show=show_progress) as advance:
        for one, run in zip(wanted, results, strict=True):
            found[one] = run
            title = f"{one.setting}: {one.method.name}, seed {one.seed}"
            advance(note=title)
            if show_progress is not False:
                console.print(f"{title}  [dim]R² of the worst {run.least:.3f}[/]")
    return found


def _recovered(context: tuple[Plan, Path], one: _Repetition) -> Recovered:
    """Runs in a worker: one training."""
    plan, folder = context
    path = folder / f"{_slug(one.setting)}-{_slug(one.method.name)}-{one.seed}.safetensors"
    return recover(plan.settings[one.setting], one.method, one.seed, path, show_progress=False)


def _slug(text: str) -> str:
    kept = "".join(c if c.isalnum() else "-" for c in text.replace("1/τ = ", "at ").lower())
    return "-".join(part for part in kept.split("-") if part)


# ---------------------------------------------------------------- tables


def tables(measured: Measured, plan: Plan) -> list[Table]:
    """Return the tables, the first of them what was recovered."""
    shown = [recovery(measured, plan)]
    shown += [latents(measured, plan, name) for name in plan.settings]
    if plan.swept:
        shown.append(temperatures(measured, plan))
    if plan.scale == "medium":
        shown.insert(0, beside_published(measured))
    return shown


_SCORES: tuple[tuple[str, Callable[[Recovered], float]], ...] = (
    ("R²", lambda run: run.mean),
    ("R² of the worst", lambda run: run.least),
    ("MCC", lambda run: run.mcc),
)


def recovery(measured: Measured, plan: Plan) -> Table:
    """Return R² and MCC by setting and method."""
    rows: list[str] = []
    values: list[list[Value]] = []
    for (setting, method), runs in measured.runs.items():
        rows.append(f"{setting}: {method}")
        values.append([over(runs, score) for _, score in _SCORES])
    return Table(
        "recovery",
        "What is recovered",
        "λ, loss",
        [name for name, _ in _SCORES],
        rows,
        values,
        unit="score",
        note="Linear R² on fresh latents, their mean and that of the latent recovered worst; and the "
        "mean correlation of each latent with a dimension of its own, which is 1 only where all λ "
        "differ: within equal ones nothing sets the axes."
        + (
            f" InfoNCE at the best of 1/τ = {', '.join(f'{each:g}' for each in plan.swept)}."
            if plan.swept
            else ""
        ),
    )


def latents(measured: Measured, plan: Plan, name: str) -> Table:
    """Return R² and Λ̂ of each latent of a setting."""
    setting = plan.settings[name]
    rows: list[str] = []
    values: list[list[Value]] = []
    for (where, method), runs in measured.runs.items():
        if where != name:
            continue
        rows.append(f"{method}: R²")
        values.append(by_latent([run.r2 for run in runs]))
        if method.startswith("AnInfoNCE"):
            rows.append(f"{method}: Λ̂")
            values.append(by_latent([run.precision for run in runs]))
    columns = [f"{value:.3g}" for value in setting.precision]
    return Table(
        f"latents-{_slug(name)}",
        f"Latent by latent: λ {name}",
        "λ",
        columns,
        rows,
        values,
        unit="score",
        note="Λ̂ is that of the dimension most correlated with the latent.",
    )


def temperatures(measured: Measured, plan: Plan) -> Table:
    """Return R² of InfoNCE by temperature."""
    rows: list[str] = []
    values: list[list[Value]] = []
    for name in plan.settings:
        runs = [measured.swept[name, value] for value in plan.swept]
        rows += [f"{name}: R²", f"{name}: R² of the worst"]
        values += [[point(run.mean) for run in runs], [point(run.least) for run in runs]]
    return Table(
        "temperatures",
        "InfoNCE by temperature",
        "1/τ",
        [f"{value:g}" for value in plan.swept],
        rows,
        values,
        unit="score",
        note="One repetition each.",
    )


PUBLISHED_LOGS = {
    "25 and 5": {"R²": 0.997, "Λ̂ at the lowest λ": 5.5, "Λ̂ at the highest λ": 23.1},
    "5 to 25": {"R²": 0.998, "MCC": 0.990, "Λ̂ at the lowest λ": 5.9, "Λ̂ at the highest λ": 24.2},
}
"""The last lines of the training logs published with the paper, ten latents, 100,000 steps."""


_ENDS = {"25 and 5": (range(5, 10), range(5)), "5 to 25": (range(1), range(9, 10))}
"""The latents of the lowest and of the highest λ."""


def _mean_precision(run: Recovered, latents: Sequence[int]) -> float:
    return sum(run.precision[k] for k in latents) / len(latents)


def beside_published(measured: Measured) -> Table:
    """Return the figures of the published logs with ours below them."""
    columns = ["R²", "MCC", "Λ̂ at the lowest λ", "Λ̂ at the highest λ"]
    rows: list[str] = []
    values: list[list[Value]] = []
    for setting, logged in PUBLISHED_LOGS.items():
        rows.append(f"{setting}: published log")
        values.append([point(logged[name]) if name in logged else None for name in columns])
        for method in (BOTH.name, ANISOTROPIC.name):
            runs = measured.of(setting, method)
            if not runs:
                continue
            rows.append(f"{setting}: {method}")
            low, high = _ENDS[setting]
            values.append(
                [
                    over(runs, lambda run: run.mean),
                    over(runs, lambda run: run.mcc),
                    over(runs, functools.partial(_mean_precision, latents=low)),
                    over(runs, functools.partial(_mean_precision, latents=high)),
                ]
            )
    return Table(
        "published",
        "Beside the published logs",
        "λ, loss",
        columns,
        rows,
        values,
        unit="score",
        note="The logs are of one run each, of ten latents, batches of 1,000 and 100,000 steps. "
        "Λ̂ is pulled together as long as the encoder is off, with negatives from either; on the latents "
        "themselves it is Λ, as the next tables show.",
    )


def over(runs: Sequence[Recovered], score: Callable[[Recovered], float]) -> Interval:
    """Return the mean of a score over repetitions, with its interval."""
    return rounded(interval_over_seeds([score(run) for run in runs]))


def by_latent(scores: Sequence[Sequence[float]]) -> list[Value]:
    """Return the mean over repetitions of each latent's score, with its interval."""
    return [rounded(interval_over_seeds(each)) for each in zip(*scores, strict=True)]


# ---------------------------------------------------------------- findings


def findings(measured: Measured, plan: Plan) -> list[Finding]:
    """Hold the paper's claims against what was measured."""
    found: list[Finding] = []
    for name, setting in plan.settings.items():
        runs = measured.of(name, ANISOTROPIC.name)
        if not runs:
            continue
        least = over(runs, lambda run: run.least)
        found.append(
            Finding(
                f"all-{_slug(name)}",
                f"AnInfoNCE recovers every latent (R² above {RECOVERED}), λ {name}",
                PAPER,
                f"the worst at {spelt(least, 'score')}",
                above(least, RECOVERED),
                least,
                "score",
            )
        )
        off = over(runs, functools.partial(_off, true=setting.precision))
        found.append(
            Finding(
                f"precision-{_slug(name)}",
                f"Λ̂ is the true Λ: on average within a tenth, λ {name}",
                PAPER,
                f"off by {spelt(off, 'score')} of λ on average",
                below(off, 0.1),
                off,
                "score",
            )
        )
        best = measured.best.get(name)
        if best is None:
            continue
        ahead = _paired(runs, measured.of(name, best), lambda run: run.least)
        found.append(
            Finding(
                f"ahead-{_slug(name)}",
                f"It recovers the worst latent better than InfoNCE at its best temperature, λ {name}",
                PAPER,
                f"R² {spelt(ahead, 'score')} more than {best}",
                above(ahead),
                ahead,
                "score",
            )
        )
        if len(set(setting.precision)) == setting.dim:
            axes = _paired(runs, measured.of(name, best), lambda run: run.mcc)
            found.append(
                Finding(
                    f"axes-{_slug(name)}",
                    f"It gives each latent a dimension of its own, and InfoNCE does not, λ {name}",
                    PAPER,
                    f"MCC {spelt(axes, 'score')} more than {best}",
                    above(axes),
                    axes,
                    "score",
                )
            )
    return [*found, *_of_the_extras(measured, plan)]


def _of_the_extras(measured: Measured, plan: Plan) -> list[Finding]:
    found: list[Finding] = []
    for name, method in plan.extra:
        plain = measured.of(name, ANISOTROPIC.name)
        runs = measured.of(name, method.name)
        if not (plain and runs):
            continue
        true = plan.settings[name].precision
        if method == KNOWN_BOTH:
            known = measured.of(name, KNOWN.name)
            if not known:
                continue
            more = _paired(runs, known, functools.partial(_off, true=true))
            found.append(
                Finding(
                    f"bias-{_slug(name)}",
                    "Negatives from both views put Λ̂ farther off than the other view's by a tenth of λ "
                    f"or more, on the latents themselves, λ {name}",
                    "shiftproof",
                    f"{spelt(more, 'score')} of λ more",
                    above(more, 0.1),
                    more,
                    "score",
                )
            )
        elif method == KNOWN:
            off = over(runs, functools.partial(_off, true=true))
            found.append(
                Finding(
                    f"loss-{_slug(name)}",
                    "Where the latents are known, the loss alone finds Λ: on average within a "
                    f"twentieth, λ {name}",
                    PAPER,
                    f"off by {spelt(off, 'score')} of λ on average",
                    below(off, 0.05),
                    off,
                    "score",
                )
            )
        elif method in (LEARNT, PUBLISHED, RANDOM):
            least = over(runs, lambda run: run.least)
            found.append(
                Finding(
                    f"lost-{_slug(method.name)}-{_slug(name)}",
                    f"{method.name} loses a latent in part (R² below {RECOVERED}), λ {name}",
                    PAPER if method == LEARNT else "shiftproof",
                    f"the worst at {spelt(least, 'score')}",
                    below(least, RECOVERED),
                    least,
                    "score",
                )
            )
        elif method == ENSEMBLE:
            alone = measured.of(name, RANDOM.name)
            if not alone:
                continue
            gain = _paired(runs, alone, lambda run: run.mean)
            found.append(
                Finding(
                    f"ensemble-{_slug(name)}",
                    f"Two losses on two stretches recover more together than one, λ {name}",
                    PAPER,
                    f"R² {spelt(gain, 'score')} more",
                    above(gain),
                    gain,
                    "score",
                )
            )
        elif method == HARD:
            lower = _paired(plain, runs, lambda run: sum(run.precision) / len(run.precision))
            found.append(
                Finding(
                    f"hard-{_slug(name)}",
                    f"Negatives drawn around the anchor with a λ of {method.hard:g} lower Λ̂, as what "
                    f"they share with the positives cannot be told apart, λ {name}",
                    PAPER,
                    f"Λ̂ {spelt(lower, 'score')} lower on average",
                    above(lower),
                    lower,
                    "score",
                )
            )
    return found


def _off(run: Recovered, true: Sequence[float]) -> float:
    """Return the mean deviation of Λ̂, as a share of λ."""
    pairs = zip(run.precision, true, strict=True)
    return sum(abs(found / value - 1) for found, value in pairs) / len(true)


def _paired(
    these: Sequence[Recovered], those: Sequence[Recovered], score: Callable[[Recovered], float]
) -> Interval:
    """Return the mean difference of a score over the same repetitions, with its interval."""
    pairs = zip(these, those, strict=True)
    return rounded(interval_over_seeds([score(one) - score(other) for one, other in pairs]))
