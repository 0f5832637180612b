"""Detection robustness (Michaelis et al. 2019, arXiv 1907.07484) at small scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from shiftproof import Detector, Run, bench
from shiftproof.adapt import AdaptedDetector
from shiftproof.compute.progress import console, progress
from shiftproof.corruptions import COMMON
from shiftproof.data import CocoData
from shiftproof.errors import InputError, RunError
from shiftproof.io import atomic, fingerprint, make_folder, write_bytes
from shiftproof.report import corruption_title
from shiftproof.rng import generator
from shiftproof.runs import ModelScores, provenance
from shiftproof.stylize import DrawnStyles, Styles, Stylize
from shiftproof.types import Image
from shiftproof_reproduce import fashion
from shiftproof_reproduce.center_points import wrap_detector
from shiftproof_reproduce.detection_paper import judge_loss
from shiftproof_reproduce.detector_training import DetectorTraining, Scenes, train_detector
from shiftproof_reproduce.fashion import FashionMNIST
from shiftproof_reproduce.formatting import format_figure
from shiftproof_reproduce.result import Finding, Result, Table, Value, point, to_json
from shiftproof_reproduce.scenes import Parts, SceneKind, read_backgrounds, write_scenes
from shiftproof_reproduce.seconds import Seconds
from shiftproof_reproduce.verdicts import above, below, judge

PAPER = "Michaelis et al. 2019"

STANDARD = "standard"
TITLES = {
    STANDARD: "standard",
    "stylised": "stylised",
    "combined": "standard and stylised",
    "adapted": "standard, batch norm adapted",
    "combined-adapted": "standard and stylised, batch norm adapted",
}
"""Titles of the detectors by their name in the run."""

STYLES = 200
"""Number of styles drawn for all scenes together."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of the experiment. The defaults are the small scale; tests use smaller ones.

    The last ``held_out`` background photographs are used only in test scenes. All trainings have
    the same number of steps: the combined one sees each scene half as often in either form.
    ``prior`` is the N of batch-norm adaptation, ``batch_size`` its n.
    """

    kind: SceneKind = dataclasses.field(default_factory=SceneKind)
    training: DetectorTraining = dataclasses.field(default_factory=DetectorTraining)
    train_scenes: int = 3200
    test_scenes: int = 200
    held_out: int = 5
    good_enough: float = 0.7
    corruptions: tuple[str, ...] = COMMON
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    batch_size: int = 32
    prior: int = 16
    seed: int = 0


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train small detectors on generated scenes, with and without stylization, and benchmark them.

    Arguments as for ``shiftproof_reproduce.reproduce``, and ``plan``: the size of the experiment.

    Raises:
        InputError: Fashion-MNIST is missing, or ``out`` belongs to a run with other settings.
        RunError: the standard detector's AP50 is too low.
    """
    plan = plan or Plan()
    items = fashion.load(data)
    photographs = read_backgrounds()
    if len(photographs) <= plan.held_out:
        raise InputError(
            f"Expected more than {plan.held_out} photographs, got {len(photographs)}: that many are "
            "held out for the test scenes."
        )
    seconds = Seconds(make_folder(out))
    with seconds.count("scenes"):
        train_data, test_data = _draw_scenes(out, items, photographs, plan, show_progress)
    detectors = _train_detectors(out, train_data, plan, seconds, show_progress)
    adapter = f"batchnorm:prior={plan.prior}"
    adapted = {
        "adapted": AdaptedDetector(detectors[STANDARD], adapter),
        "combined-adapted": AdaptedDetector(detectors["combined"], adapter),
    }
    if show_progress is not False:
        console.print(f"benchmark  [dim]{len(plan.corruptions)} corruptions, 5 detectors[/]")
    with seconds.count("benchmark"):
        run = bench.run(
            {**detectors, **adapted},
            test_data,
            corruptions=plan.corruptions,
            severities=plan.severities,
            out=out / "runs" / "benchmark",
            batch_size=plan.batch_size,
            workers=0,
            show_progress=show_progress,
        )
    first = _find_model(run, STANDARD).clean
    clean = None if first is None else first.numbers["AP50"]
    if clean is None or clean < plan.good_enough:
        raise RunError(
            f"The standard detector has an AP50 of {clean or 0:.3f} on the clean scenes; expected at "
            f"least {plan.good_enough:g}. Remove {out} to begin anew."
        )
    return Result(
        recipe="detection",
        scale="small",
        title="Detection robustness at small scale",
        about=_describe_experiment(plan, clean),
        settings={
            "plan": to_json(plan),
            "data": {"fingerprint": items.fingerprint(), "photographs": len(photographs)},
            "run": run.folder.info()["settings"],
        },
        provenance=provenance("cpu", 0),
        tables=make_tables(run),
        findings=make_findings(run),
        seconds=seconds.spent,
    )


def _describe_experiment(plan: Plan, clean: float) -> str:
    return (
        f"Small detectors with batch norm (center points, {plan.training.widths[-1]} channels) "
        f"are trained from scratch on {plan.train_scenes:,} scenes of {plan.kind.side} x "
        f"{plan.kind.side} pixels, one to four items of Fashion-MNIST on crops of photographs; "
        "on the scenes as they are, on stylised ones (weight-free, with drawn styles), and on "
        f"both; all for as many steps. They are shown {plan.test_scenes} test scenes with other "
        f"items and photographs under the {len(plan.corruptions)} corruptions. P is COCO's AP; "
        f"the standard detector has an AP50 of {100 * clean:.1f} % on the clean scenes."
    )


def _draw_scenes(
    out: Path,
    items: FashionMNIST,
    photographs: Sequence[Image],
    plan: Plan,
    show_progress: bool | None,
) -> tuple[CocoData, CocoData]:
    """Return the training and the test scenes, with different photographs."""
    seen, held_out = photographs[: -plan.held_out], photographs[-plan.held_out :]
    train, test = (
        write_scenes(out / name, count, parts, plan.kind, name=name, show_progress=show_progress)
        for name, count, parts in (
            ("train", plan.train_scenes, Parts(items.train_images, items.train_labels, seen)),
            ("test", plan.test_scenes, Parts(items.test_images, items.test_labels, held_out)),
        )
    )
    return train, test


def _train_detectors(
    out: Path, data: CocoData, plan: Plan, seconds: Seconds, show_progress: bool | None
) -> dict[str, Detector]:
    """Train a detector each on plain scenes, on stylized ones, and on half of each."""
    with seconds.count("stylise"):
        plain = read_scenes(data)
        kept = out / "stylised.npy"
        images = stylize_scenes(plain.images, plan.seed, kept, show_progress=show_progress)
        styled = dataclasses.replace(plain, images=images)
    detectors: dict[str, Detector] = {}
    for name, scenes in (
        (STANDARD, plain),
        ("stylised", styled),
        ("combined", mix_scenes(plain, styled, plan.seed)),
    ):
        if show_progress is not False:
            console.print(f"training  [dim]{name}, {len(scenes):,} scenes[/]")
        with seconds.count(f"training, {name}"):
            network = train_detector(
                scenes,
                out / f"{name}.pt",
                plan.training,
                title=f"Training ({name})",
                show_progress=show_progress,
            )
        detectors[name] = wrap_detector(network, f"center-point, {TITLES[name]}")
    return detectors


def read_scenes(data: CocoData) -> Scenes:
    """Read a dataset of scenes into memory."""
    objects = [data.objects[sample.id] for sample in data.samples]
    return Scenes(
        [data.read(sample) for sample in data.samples],
        [one.positions for one in objects],
        [one.labels for one in objects],
    )


def stylize_scenes(
    images: Sequence[Image], seed: int, kept: Path, *, show_progress: bool | None = None
) -> Sequence[Image]:
    """Stylize images of one size, each in a randomly drawn style; boxes do not change.

    The result is cached in the file ``kept``.
    """
    mark = fingerprint([str(seed).encode(), *(image.tobytes() for image in images)])
    marks = kept.with_suffix(".txt")
    if kept.is_file() and marks.is_file() and marks.read_text(encoding="utf-8") == mark:
        return list(np.load(kept, allow_pickle=False))
    stylize = Stylize(styles=_KeptStyles(DrawnStyles(STYLES)), seed=seed, probability=1.0)
    made = np.empty((len(images), *images[0].shape), dtype=np.uint8)
    with progress("Stylise", len(images), show=show_progress) as advance:
        for number, image in enumerate(images):
            made[number] = stylize(image, key=f"{number:05}")
            advance()
    with atomic(kept) as target:
        np.save(target, made, allow_pickle=False)
    write_bytes(marks, mark.encode())
    return list(made)


@final
class _KeptStyles(Styles):
    """Styles cached in memory: drawing one takes longer than applying it to a small scene."""

    def __init__(self, styles: Styles) -> None:
        self._styles = styles
        self._drawn: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self._styles)

    def title(self, number: int) -> str:
        return self._styles.title(number)

    def read(self, number: int) -> Image:
        if number not in self._drawn:
            self._drawn[number] = self._styles.read(number)
        return self._drawn[number]

    def identity(self) -> dict[str, Any]:
        return self._styles.identity()


def mix_scenes(plain: Scenes, styled: Scenes, seed: int) -> Scenes:
    """Return the scenes with a random half of them stylized.

    The paper's combined training set has each image twice, with the same number of steps; here the
    number of scenes is the same in all trainings.
    """
    turned = generator(seed, "combined").random(len(plain)) < 0.5
    images = [
        styled.images[at] if turn else plain.images[at] for at, turn in enumerate(turned.tolist())
    ]
    return dataclasses.replace(plain, images=images)


# ---------------------------------------------------------------- tables and findings


def make_tables(run: Run) -> list[Table]:
    """Return the tables of a finished benchmark."""
    return [
        compare_summaries(run),
        compare_changes(run),
        compare_corruptions(run),
        compare_severities(run),
        compare_sizes(run),
    ]


def compare_summaries(run: Run) -> Table:
    """Return P, mPC and rPC of each detector, and the mean of each corruption group."""
    whole = run.scores.grid.complete
    columns = ["P", "mPC" if whole else "mean", "rPC" if whole else "share"]
    return Table(
        "summary",
        "Clean, under corruption, and what stays",
        "AP in %",
        [*columns, *(row.group for row in run.scores.models[0].groups)],
        _list_rows(run),
        [_list_figures(model, "clean", "mean", "rpc") for model in run.scores.models],
        note="rPC is in % of the clean AP.",
    )


def compare_changes(run: Run) -> Table:
    """Return the paired changes against the standard detector."""
    groups = (row.group for row in run.scores.models[0].groups)
    return Table(
        "changes",
        "What the other detectors gain over the standard one",
        "change of AP in points",
        ["P", "mean under corruption", *groups],
        [TITLES[row.name] for row in run.scores.differences],
        [_list_figures(row, "clean", "mean") for row in run.scores.differences],
        unit="change",
        note="Intervals are paired over the scenes.",
    )


def compare_corruptions(run: Run) -> Table:
    """Return the mean over the severities of each corruption."""
    models = run.scores.models
    corruptions = [row.corruption for row in models[0].corruptions]
    return Table(
        "corruptions",
        "Each corruption, mean over the severities",
        "AP in %",
        _list_rows(run),
        [corruption_title(name) for name in corruptions],
        [[model.corruptions[at].figures[P] for model in models] for at in range(len(corruptions))],
    )


def compare_severities(run: Run) -> Table:
    """Return the mean over the corruptions at each severity."""
    severities = run.scores.grid.severities
    values: list[list[Value]] = []
    for model in run.scores.models:
        clean, cells = model.of_clean(P), model.of_cells(P)
        means = [
            float(np.mean([one.value for cell, one in cells.items() if cell.severity == severity]))
            for severity in severities
        ]
        first = float("nan") if clean is None else clean.value
        values.append([point(mean) for mean in (first, *means)])
    return Table(
        "severities",
        "By severity, mean over the corruptions",
        "severity",
        ["clean", *map(str, severities)],
        _list_rows(run),
        values,
        note="Without intervals.",
        drawing="curves",
    )


def compare_sizes(run: Run) -> Table:
    """Return the performance on small, medium and large items."""
    details = [model.detail["sizes"] for model in run.scores.models]
    sizes = [key for key, value in details[0].items() if value.get("clean")]
    return Table(
        "sizes",
        "By the size of the items",
        "AP in %",
        [f"{_SIZES[key]}, {where}" for key in sizes for where in ("clean", "corrupted")],
        _list_rows(run),
        [
            [point(detail[key].get(where)) for key in sizes for where in ("clean", "mean")]
            for detail in details
        ],
        note="Small is up to 32 x 32 pixels, medium up to 96 x 96. Without intervals.",
    )


P = "AP"
_SIZES = {"APs": "small", "APm": "medium", "APl": "large"}


def _list_rows(run: Run) -> list[str]:
    return [TITLES[model.name] for model in run.scores.models]


def _list_figures(model: ModelScores, *summary: str) -> list[Value]:
    return [*(model.summary[key] for key in summary), *(row.figures[P] for row in model.groups)]


def make_findings(run: Run) -> list[Finding]:
    """Judge the paper's findings by the results."""
    stylized = "training on standard and stylised images raises the mean under corruption"
    alone = "so does training on stylised images alone, on Pascal and Cityscapes"
    adapted = "adapting the batch norm of the detector raises the mean under corruption"
    means = [
        _judge_change(
            run, f"{name}-raises", name, "mean", claim, f"{PAPER}: {published}", "{} points of AP"
        )
        for name, claim, published in (
            ("combined", stylized, "Pascal-C 48.6 to 56.2, COCO-C 18.2 to 20.4, Cityscapes-C 12.2 to 17.2"),
            ("stylised", alone, "Pascal-C 48.6 to 50.0, Cityscapes-C 12.2 to 14.7; COCO-C 18.2 to 14.1"),
        )
    ]  # fmt: skip
    adaptations = [
        _judge_change(
            run,
            f"{name}-gains",
            name,
            "mean",
            claim,
            "Schneider et al. 2020 for classifiers",
            f"{{}} points of AP against {TITLES[STANDARD]}",
        )
        for name, claim in (
            ("adapted", adapted),
            ("combined-adapted", "adaptation and stylised training together raise it, too"),
        )
    ]
    loses = judge_loss(run, "the standard detector keeps {} %")
    return [loses, *means, *_judge_clean(run), _judge_noise(run), *adaptations]


def _judge_change(
    run: Run, finding: str, name: str, key: str, claim: str, source: str, words: str
) -> Finding:
    change = _find_difference(run, name).summary[key]
    return judge(finding, claim, source, change, words, holds=above)


def _judge_clean(run: Run) -> list[Finding]:
    """Judge the loss of clean performance."""
    return [
        judge(
            f"{name}-clean",
            claim,
            f"{PAPER}: {published}",
            _find_difference(run, name).summary["clean"],
            "{} points of AP",
            holds=holds,
            limit=-0.02,
        )
        for name, holds, claim, published in (
            ("combined", above, "with both, the clean performance falls by 2 points at most",
             "Pascal 80.5 to 80.4, COCO 36.3 to 34.6, Cityscapes 36.4 to 36.3"),
            ("stylised", below, "on stylised images alone it falls by more",
             "Pascal 80.5 to 68.0, COCO 36.3 to 21.5, Cityscapes 36.4 to 28.5"),
        )
    ]  # fmt: skip


def _judge_noise(run: Run) -> Finding:
    known = _find_difference(run, "combined").of_groups(P)
    best = max(known, key=lambda name: known[name].value) if known else None
    words = ", ".join(f"{name} {format_figure(value, 'change')}" for name, value in known.items())
    return Finding(
        "most-on-noise",
        "stylised training data gain most on noise",
        f"{PAPER}: COCO-C by group, 16.0 to 18.8 on noise, 12.9 to 14.8 on blur, 25.5 to 26.1 on "
        "weather, 17.9 to 21.4 on digital",
        f"{words} points" if known else "the groups were not measured whole",
        "undecided" if best is None else ("yes" if best == "noise" else "no"),
    )


def _find_model(run: Run, name: str) -> ModelScores:
    return next(model for model in run.scores.models if model.name == name)


def _find_difference(run: Run, name: str) -> ModelScores:
    return next(model for model in run.scores.differences if model.name == name)
