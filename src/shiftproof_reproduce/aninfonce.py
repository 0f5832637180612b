"""AnInfoNCE (Rusak et al. 2025, arXiv 2407.00143): recovering latents where InfoNCE fails."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import loky

from shiftproof.compute.processes import map_ordered
from shiftproof.compute.progress import console, progress
from shiftproof.contrastive import train
from shiftproof.errors import InputError
from shiftproof.io import make_folder
from shiftproof.metrics import Interval, interval_over_seeds
from shiftproof.runs import provenance
from shiftproof.types import Settings
from shiftproof_reproduce.latents import Method, Recovery, Setting, recover, space_geometrically
from shiftproof_reproduce.result import Finding, Result, Table, Value, point, slug, to_json
from shiftproof_reproduce.verdicts import above, below, judge

PAPER = "Rusak et al. 2025"

RECOVERED = 0.95
"""R² at or above which a latent counts as recovered, and below which as partly lost."""

INTERVALS = (
    "“yes” and “no” where the whole 95 % interval is to that side of the line, “undecided” where it "
    "is on both. Intervals are over repetitions, each with another mixing, encoder and pairs, by "
    "Student's t; with so few of them they are wide, and a score may exceed 1 within them."
)

ANISOTROPIC = Method(name="AnInfoNCE", start=1.0, relative=True, link="exp", negatives="other")
"""The recommended method: encoder and Λ̂ start at slow features, Λ̂ is learned in log space, and
negatives come from the other view.
"""

BOTH = dataclasses.replace(ANISOTROPIC, name="AnInfoNCE, both views' negatives", negatives="both")
"""With the published choice of negatives."""

KNOWN = dataclasses.replace(
    ANISOTROPIC, name="AnInfoNCE, on the latents themselves", start=10.0, relative=False, known=True
)
"""Without an encoder: Λ̂ shows the effect of the loss alone."""

KNOWN_BOTH = dataclasses.replace(
    KNOWN, name="AnInfoNCE, on the latents, both views' negatives", negatives="both"
)

RANDOM = dataclasses.replace(
    ANISOTROPIC, name="AnInfoNCE, random start", relative=False, slow=False
)
"""The encoder starts at random, and Λ̂ at 1 in all dimensions."""

PUBLISHED = Method(
    name="AnInfoNCE, random start, softplus", start=0.7, negatives="both", slow=False
)
"""As published: Λ̂ by softplus from the published start, and learned slowly."""

LEARNED = Method(name="InfoNCE, learnt temperature", start=1.0, learn="one", negatives="both")

ENSEMBLE = dataclasses.replace(
    RANDOM, name="AnInfoNCE, random start, losses from 1 and 10", copies=2, ratio=10.0
)

HARD = dataclasses.replace(ANISOTROPIC, name="AnInfoNCE, hard negatives", hard=2.0)


def fix_temperature(inverse_temperature: float) -> Method:
    """Return InfoNCE with a fixed temperature."""
    return Method(
        name=f"InfoNCE, 1/τ = {inverse_temperature:g}", start=inverse_temperature, learn="none"
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of the experiment. ``small()`` and ``medium()`` return the two scales; tests use
    smaller ones.

    Args:
        scale: name of the scale.
        settings: the distributions of latents by name; the temperature is swept in the first.
        methods: methods measured in every setting, with every seed.
        swept: values of 1/τ for InfoNCE in each setting, with the first seed only; the best by the
            mean R² over latents is repeated with the other seeds.
        extra: names of settings with methods measured only there.
        seeds: random seeds of the repetitions.
        about: description of latents and encoder.
    """

    scale: str
    settings: Mapping[str, Setting]
    methods: tuple[Method, ...]
    swept: tuple[float, ...]
    extra: tuple[tuple[str, Method], ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    about: str = ""


def small() -> Plan:
    """Return the small scale: five latents, a few minutes on one core."""
    training = train.Training(
        steps=800, rate=3e-3, loss_rate=1e-2, warm_up=0.02, cool_down=0.5, check_every=200,
        watch="least",
    )  # fmt: skip
    bimodal = Setting(precision=(25.0, 25.0, 25.0, 5.0, 5.0), training=training, batch=256)
    spread = dataclasses.replace(
        bimodal,
        precision=space_geometrically(1.0, 1000.0, 5),
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
    """Return the medium scale: ten latents as in the published logs, and further settings; an
    hour.
    """
    training = train.Training(
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
            "5 latents, 1 to 10": dataclasses.replace(
                five, precision=space_geometrically(1.0, 10.0, 5)
            ),
            "5 latents, 1 to 100": dataclasses.replace(
                five, precision=space_geometrically(1.0, 100.0, 5)
            ),
            "5 latents, 1 to 1,000": dataclasses.replace(
                five, precision=space_geometrically(1.0, 1000.0, 5)
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
            ("5 latents, 1 to 1,000", LEARNED),
            ("5 latents, 1 to 1,000", RANDOM),
            ("5 latents, 1 to 1,000", PUBLISHED),
            ("5 latents, 1 to 1,000", ENSEMBLE),
        ),
        about="Ten latents on the sphere, as in the published logs, and five over wider spreads",
    )


Runs = dict[tuple[str, str], list[Recovery]]
"""Results by setting and method, one per seed."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All runs, those of the temperature sweep separately, and the best InfoNCE of each setting."""

    runs: Runs
    swept: dict[tuple[str, float], Recovery]
    best: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    def get_runs(self, setting: str, method: str) -> list[Recovery]:
        """Return the runs of a method; empty if it was not measured."""
        return self.runs.get((setting, method), [])


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train encoders on pairs of known latents, and return how well they recover the latents.

    Arguments as for ``shiftproof_reproduce.reproduce``, and ``plan``: the size of the experiment.

    Raises:
        InputError: ``data`` is given.
        RunMismatchError: ``out`` belongs to a run with other settings.
    """
    if data is not None:
        raise InputError("aninfonce draws its own data: leave out --data.")
    plan = plan or small()
    make_folder(out)
    used = loky.cpu_count() if workers is None else workers
    measured = measure(plan, out / "runs", workers=used, show_progress=show_progress)
    return Result(
        recipe="aninfonce",
        scale=plan.scale,
        title=f"AnInfoNCE at {plan.scale} scale",
        about=describe_experiment(plan),
        settings=list_settings(plan),
        provenance=provenance("cpu", used),
        tables=make_tables(measured, plan),
        findings=make_findings(measured, plan),
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
    """Run :func:`reproduce` at the medium scale."""
    return reproduce(out, data=data, plan=medium(), workers=workers, show_progress=show_progress)


def describe_experiment(plan: Plan) -> str:
    """Return a description of the experiment."""
    first = next(iter(plan.settings.values()))
    return (
        f"{plan.about} vary within a pair with a precision λ each and are mixed by a random "
        "invertible network; an encoder learns from pairs of observations, and is then held against "
        "the latents. It is an MLP added to the observations' slow features, which are found "
        "beforehand from pairs alone, for InfoNCE and AnInfoNCE alike; where a random start is "
        f"named, the MLP is alone. {len(plan.seeds)} repetitions, batches of {first.batch}, "
        f"{first.training.steps:,} steps of Adam."
    )


def list_settings(plan: Plan) -> Settings:
    """Return the settings that determine the results, for JSON."""
    everything = to_json(plan)
    names = ("settings", "methods", "extra", "swept", "seeds")
    return {name: everything[name] for name in names}


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
    """Train all encoders of a plan, or resume from the checkpoints in ``folder``.

    Each of ``workers`` processes trains one encoder at a time; 0 trains in this process.
    """
    swept = [fix_temperature(value) for value in plan.swept]
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
) -> dict[_Repetition, Recovery]:
    found: dict[_Repetition, Recovery] = {}
    results = map_ordered(
        _recover_one, wanted, context=(plan, folder), workers=min(workers, len(wanted))
    )
    with progress("Trainings", len(wanted), show=show_progress) as advance:
        for one, run in zip(wanted, results, strict=True):
            found[one] = run
            title = f"{one.setting}: {one.method.name}, seed {one.seed}"
            advance(note=title)
            if show_progress is not False:
                console.print(f"{title}  [dim]R² of the worst {run.least:.3f}[/]")
    return found


def _recover_one(context: tuple[Plan, Path], one: _Repetition) -> Recovery:
    """Train one encoder; runs in a worker."""
    plan, folder = context
    path = (
        folder
        / f"{to_file_name(one.setting)}-{to_file_name(one.method.name)}-{one.seed}.safetensors"
    )
    return recover(plan.settings[one.setting], one.method, one.seed, path, show_progress=False)


def to_file_name(text: str) -> str:
    """Convert a title to a file name."""
    return slug(text.replace("1/τ = ", "at "))


# ---------------------------------------------------------------- tables


def make_tables(measured: Measured, plan: Plan) -> list[Table]:
    """Return the tables."""
    shown = [compare_methods(measured, plan)]
    shown += [compare_latents(measured, plan, name) for name in plan.settings]
    if plan.swept:
        shown.append(compare_temperatures(measured, plan))
    if plan.scale == "medium":
        shown.insert(0, compare_published(measured))
    return shown


_SCORES: dict[str, Callable[[Recovery], float]] = {
    "R²": lambda run: run.mean,
    "R² of the worst": lambda run: run.least,
    "MCC": lambda run: run.mcc,
}


def compare_methods(measured: Measured, plan: Plan) -> Table:
    """Return R² and MCC by setting and method."""
    values: list[list[Value]] = [
        [average(runs, score) for score in _SCORES.values()] for runs in measured.runs.values()
    ]
    swept = ", ".join(f"{each:g}" for each in plan.swept)
    return Table(
        "recovery",
        "What is recovered",
        "λ, loss",
        list(_SCORES),
        [f"{setting}: {method}" for setting, method in measured.runs],
        values,
        unit="score",
        note="Linear R² on fresh latents, their mean and that of the latent recovered worst; and the "
        "mean correlation of each latent with a dimension of its own, which is 1 only where all λ "
        "differ: within equal ones nothing sets the axes."
        + (f" InfoNCE at the best of 1/τ = {swept}." if swept else ""),
    )


def compare_latents(measured: Measured, plan: Plan, name: str) -> Table:
    """Return R² and Λ̂ of each latent of a setting."""
    rows: dict[str, list[Value]] = {}
    for (where, method), runs in measured.runs.items():
        if where != name:
            continue
        rows[f"{method}: R²"] = _average_latents([run.r2 for run in runs])
        if method.startswith("AnInfoNCE"):
            rows[f"{method}: Λ̂"] = _average_latents([run.precision for run in runs])
    return Table(
        f"latents-{to_file_name(name)}",
        f"Latent by latent: λ {name}",
        "λ",
        [f"{value:.3g}" for value in plan.settings[name].precision],
        list(rows),
        list(rows.values()),
        unit="score",
        note="Λ̂ is that of the dimension most correlated with the latent.",
    )


def compare_temperatures(measured: Measured, plan: Plan) -> Table:
    """Return R² of InfoNCE by temperature."""
    rows: dict[str, list[Value]] = {}
    for name in plan.settings:
        runs = [measured.swept[name, value] for value in plan.swept]
        rows[f"{name}: R²"] = [point(run.mean) for run in runs]
        rows[f"{name}: R² of the worst"] = [point(run.least) for run in runs]
    return Table(
        "temperatures",
        "InfoNCE by temperature",
        "1/τ",
        [f"{value:g}" for value in plan.swept],
        list(rows),
        list(rows.values()),
        unit="score",
        note="One repetition each.",
    )


PUBLISHED_LOGS = {
    "25 and 5": {"R²": 0.997, "Λ̂ at the lowest λ": 5.5, "Λ̂ at the highest λ": 23.1},
    "5 to 25": {"R²": 0.998, "MCC": 0.990, "Λ̂ at the lowest λ": 5.9, "Λ̂ at the highest λ": 24.2},
}
"""The final values of the training logs published with the paper: ten latents, 100,000 steps."""


_ENDS = {"25 and 5": (range(5, 10), range(5)), "5 to 25": (range(1), range(9, 10))}
"""Indices of the latents with the lowest and with the highest λ."""


def _average_precision(run: Recovery, latents: Sequence[int]) -> float:
    return sum(run.precision[k] for k in latents) / len(latents)


def compare_published(measured: Measured) -> Table:
    """Return the values of the published logs and of these runs."""
    columns = ["R²", "MCC", "Λ̂ at the lowest λ", "Λ̂ at the highest λ"]
    rows: dict[str, list[Value]] = {}
    for setting, logged in PUBLISHED_LOGS.items():
        rows[f"{setting}: published log"] = [point(logged.get(name)) for name in columns]
        low, high = _ENDS[setting]
        scores: list[Callable[[Recovery], float]] = [
            lambda run: run.mean,
            lambda run: run.mcc,
            functools.partial(_average_precision, latents=low),
            functools.partial(_average_precision, latents=high),
        ]
        for method in (BOTH.name, ANISOTROPIC.name):
            runs = measured.get_runs(setting, method)
            if runs:
                rows[f"{setting}: {method}"] = [average(runs, score) for score in scores]
    return Table(
        "published",
        "Beside the published logs",
        "λ, loss",
        columns,
        list(rows),
        list(rows.values()),
        unit="score",
        note="The logs are of one run each, of ten latents, batches of 1,000 and 100,000 steps. "
        "Λ̂ is pulled together as long as the encoder is off, with negatives from either; on the latents "
        "themselves it is Λ, as the next tables show.",
    )


def average(runs: Sequence[Recovery], score: Callable[[Recovery], float]) -> Interval:
    """Return the mean of a score over repetitions, with its interval."""
    return interval_over_seeds([score(run) for run in runs])


def _average_latents(scores: Sequence[Sequence[float]]) -> list[Value]:
    """Return the mean over repetitions of each latent's score, with its interval."""
    return [interval_over_seeds(each) for each in zip(*scores, strict=True)]


# ---------------------------------------------------------------- findings


def make_findings(measured: Measured, plan: Plan) -> list[Finding]:
    """Judge the paper's claims by the results."""
    found: list[Finding] = []
    for name, setting in plan.settings.items():
        if measured.get_runs(name, ANISOTROPIC.name):
            found += _judge_setting(measured, name, setting)
    for name, method in plan.extra:
        if measured.get_runs(name, ANISOTROPIC.name) and measured.get_runs(name, method.name):
            extra = _judge_extra(measured, plan, name, method)
            found += [] if extra is None else [extra]
    return found


_judge = functools.partial(judge, unit="score")


def _judge_setting(measured: Measured, name: str, setting: Setting) -> list[Finding]:
    """Compare AnInfoNCE with the true latents and with InfoNCE at its best temperature."""
    runs, file_name = measured.get_runs(name, ANISOTROPIC.name), to_file_name(name)
    found = [
        _judge(
            f"all-{file_name}",
            f"AnInfoNCE recovers every latent (R² above {RECOVERED}), λ {name}",
            PAPER,
            average(runs, lambda run: run.least),
            "the worst at {}",
            holds=above,
            limit=RECOVERED,
        ),
        _judge(
            f"precision-{file_name}",
            f"Λ̂ is the true Λ: on average within a tenth, λ {name}",
            PAPER,
            average(runs, functools.partial(_deviate, true=setting.precision)),
            "off by {} of λ on average",
            holds=below,
            limit=0.1,
        ),
    ]
    best = measured.best.get(name)
    if best is None:
        return found
    others = measured.get_runs(name, best)
    found.append(
        _judge(
            f"ahead-{file_name}",
            f"It recovers the worst latent better than InfoNCE at its best temperature, λ {name}",
            PAPER,
            _compare_paired(runs, others, lambda run: run.least),
            f"R² {{}} more than {best}",
            holds=above,
        )
    )
    if len(set(setting.precision)) == setting.dim:
        found.append(
            _judge(
                f"axes-{file_name}",
                f"It gives each latent a dimension of its own, and InfoNCE does not, λ {name}",
                PAPER,
                _compare_paired(runs, others, lambda run: run.mcc),
                f"MCC {{}} more than {best}",
                holds=above,
            )
        )
    return found


def _judge_extra(measured: Measured, plan: Plan, name: str, method: Method) -> Finding | None:
    """Judge the claim that a method measured in one setting tests."""
    runs, file_name = measured.get_runs(name, method.name), to_file_name(name)
    deviate = functools.partial(_deviate, true=plan.settings[name].precision)
    known, alone = measured.get_runs(name, KNOWN.name), measured.get_runs(name, RANDOM.name)
    if method == KNOWN_BOTH and known:
        return _judge(
            f"bias-{file_name}",
            "Negatives from both views put Λ̂ farther off than the other view's by a tenth of λ "
            f"or more, on the latents themselves, λ {name}",
            "shiftproof",
            _compare_paired(runs, known, deviate),
            "{} of λ more",
            holds=above,
            limit=0.1,
        )
    if method == KNOWN:
        return _judge(
            f"loss-{file_name}",
            "Where the latents are known, the loss alone finds Λ: on average within a "
            f"twentieth, λ {name}",
            PAPER,
            average(runs, deviate),
            "off by {} of λ on average",
            holds=below,
            limit=0.05,
        )
    if method in (LEARNED, PUBLISHED, RANDOM):
        return _judge(
            f"lost-{to_file_name(method.name)}-{file_name}",
            f"{method.name} loses a latent in part (R² below {RECOVERED}), λ {name}",
            PAPER if method == LEARNED else "shiftproof",
            average(runs, lambda run: run.least),
            "the worst at {}",
            holds=below,
            limit=RECOVERED,
        )
    if method == ENSEMBLE and alone:
        return _judge(
            f"ensemble-{file_name}",
            f"Two losses on two stretches recover more together than one, λ {name}",
            PAPER,
            _compare_paired(runs, alone, lambda run: run.mean),
            "R² {} more",
            holds=above,
        )
    if method == HARD:
        plain = measured.get_runs(name, ANISOTROPIC.name)
        return _judge(
            f"hard-{file_name}",
            f"Negatives drawn around the anchor with a λ of {method.hard:g} lower Λ̂, as what "
            f"they share with the positives cannot be told apart, λ {name}",
            PAPER,
            _compare_paired(plain, runs, lambda run: sum(run.precision) / len(run.precision)),
            "Λ̂ {} lower on average",
            holds=above,
        )
    return None


def _deviate(run: Recovery, true: Sequence[float]) -> float:
    """Return the mean absolute deviation of Λ̂ relative to λ."""
    pairs = zip(run.precision, true, strict=True)
    return sum(abs(found / value - 1) for found, value in pairs) / len(true)


def _compare_paired(
    these: Sequence[Recovery], those: Sequence[Recovery], score: Callable[[Recovery], float]
) -> Interval:
    """Return the mean difference of a score over the same repetitions, with its interval."""
    pairs = zip(these, those, strict=True)
    return interval_over_seeds([score(one) - score(other) for one, other in pairs])
