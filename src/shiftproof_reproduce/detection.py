"""Detection robustness (Michaelis et al. 2019, arXiv 1907.07484) at small scale."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import msgspec
import numpy as np

from shiftproof import bench
from shiftproof.adapt import AdaptedDetector
from shiftproof.compute.processes import map_ordered
from shiftproof.compute.progress import console, progress
from shiftproof.compute.tuning import usable_cores
from shiftproof.corruptions import COMMON
from shiftproof.data import CocoData
from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.io import files
from shiftproof.io.text import read_json
from shiftproof.metrics.intervals import Interval
from shiftproof.models import Detector
from shiftproof.provenance import provenance
from shiftproof.report import wording
from shiftproof.rng import generator
from shiftproof.runs import Run
from shiftproof.runs.scores.detection import Detail, Fall
from shiftproof.runs.scores.grid import CellFigures, Scored
from shiftproof.stylize import Stylize
from shiftproof.stylize.styles import DrawnStyles, Styles
from shiftproof.types import Image, Settings
from shiftproof_reproduce import fashion
from shiftproof_reproduce.centrepoint import as_detector
from shiftproof_reproduce.claims import above, below
from shiftproof_reproduce.detector_training import DetectorTraining, Scenes, train_detector
from shiftproof_reproduce.rendering import spelt
from shiftproof_reproduce.result import Finding, Result, Table, Value, Verdict, point, rounded
from shiftproof_reproduce.scenes import SceneKind, backgrounds, write_scenes

PAPER = "Michaelis et al. 2019"

STANDARD = "standard"
TITLES = {
    STANDARD: "standard",
    "stylised": "stylised",
    "combined": "standard and stylised",
    "adapted": "standard, batch norm adapted",
    "combined-adapted": "standard and stylised, batch norm adapted",
}
"""The detectors by their name in the run: what they were trained on, and whether they adapt."""

SECONDS = "seconds.json"

STYLES = 200
"""So many styles are drawn, for all scenes together."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured. The defaults are the small scale; tests take less.

    ``photographs`` are split: the last ``held_out`` of them are behind the test scenes alone. Every
    training has as many steps: the combined one sees each scene half as often in either form.
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
    """Train small detectors on scenes with known boxes, with and without styles, and corrupt the scenes.

    Args:
        out: the folder of scenes, weights and the run; what is there is gone on with.
        data: the folder of Fashion-MNIST; None looks where Debian puts it.
        plan: how much is measured.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: there is no Fashion-MNIST, or ``out`` is of a run with other settings.
        RunError: the standard detector is not good enough.
    """
    plan = plan or Plan()
    items = fashion.load(data)
    files.make_folder(out)
    seconds = _Seconds(out / SECONDS)
    photographs = backgrounds()
    if len(photographs) <= plan.held_out:
        raise InputError(
            f"Expected more than {plan.held_out} photographs, got {len(photographs)}: that many are "
            "held out for the test scenes."
        )
    with seconds.of("scenes"):
        train_data = write_scenes(
            out / "train",
            plan.train_scenes,
            items.train_images,
            items.train_labels,
            photographs[: -plan.held_out],
            plan.kind,
            name="train",
            show_progress=show_progress,
        )
        test_data = write_scenes(
            out / "test",
            plan.test_scenes,
            items.test_images,
            items.test_labels,
            photographs[-plan.held_out :],
            plan.kind,
            name="test",
            show_progress=show_progress,
        )
    detectors = _detectors(out, train_data, plan, seconds, show_progress)
    adapted = {
        f"{name}-adapted" if name != STANDARD else "adapted": AdaptedDetector(
            detectors[name], f"batchnorm:prior={plan.prior}"
        )
        for name in (STANDARD, "combined")
    }
    if show_progress is not False:
        console.print(f"benchmark  [dim]{len(plan.corruptions)} corruptions, 5 detectors[/]")
    with seconds.of("benchmark"):
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
    clean = _clean(run, STANDARD).numbers["AP50"]
    if clean is None or clean < plan.good_enough:
        raise RunError(
            f"The standard detector has an AP50 of {clean:.3f} on the clean scenes; expected at least "
            f"{plan.good_enough:g}. Remove {out} to begin anew."
        )
    return Result(
        recipe="detection",
        scale="small",
        title="Detection robustness at small scale",
        about=(
            f"Small detectors with batch norm (centre points, {plan.training.widths[-1]} channels) "
            f"are trained from scratch on {plan.train_scenes:,} scenes of {plan.kind.side} x "
            f"{plan.kind.side} pixels, one to four items of Fashion-MNIST on crops of photographs; "
            "on the scenes as they are, on stylised ones (weight-free, with drawn styles), and on "
            f"both; all for as many steps. They are shown {plan.test_scenes} test scenes with other "
            f"items and photographs under the {len(plan.corruptions)} corruptions. P is COCO's AP; "
            f"the standard detector has an AP50 of {100 * clean:.1f} % on the clean scenes."
        ),
        settings={
            "plan": _plain(plan),
            "data": {"fingerprint": items.fingerprint(), "photographs": len(photographs)},
            "run": run.folder.info()["settings"],
        },
        provenance=provenance("cpu", 0),
        tables=tables(run),
        findings=findings(run),
        seconds=dict(seconds.spent),
    )


def _detectors(
    out: Path, data: CocoData, plan: Plan, seconds: _Seconds, show_progress: bool | None
) -> dict[str, Detector]:
    """Train on the scenes as they are, on stylised ones, and on half of each."""
    with seconds.of("stylise"):
        plain = read_scenes(data)
        images = stylised(
            plain.images,
            plan.seed,
            out / "stylised.npy",
            workers=usable_cores(),
            show_progress=show_progress,
        )
        styled = dataclasses.replace(plain, images=images)
    detectors: dict[str, Detector] = {}
    for name, scenes in (
        (STANDARD, plain),
        ("stylised", styled),
        ("combined", mixed(plain, styled, plan.seed)),
    ):
        if show_progress is not False:
            console.print(f"training  [dim]{name}, {len(scenes):,} scenes[/]")
        with seconds.of(f"training, {name}"):
            network = train_detector(
                scenes,
                out / f"{name}.safetensors",
                plan.training,
                title=f"Training ({name})",
                show_progress=show_progress,
            )
        detectors[name] = as_detector(network, f"centre-point, {TITLES[name]}")
    return detectors


def read_scenes(data: CocoData) -> Scenes:
    """Return a data set of scenes as what a detector is trained on."""
    objects = [data.objects[sample.id] for sample in data.samples]
    return Scenes(
        [data.read(sample) for sample in data.samples],
        [one.positions for one in objects],
        [one.labels for one in objects],
    )


def stylised(
    images: Sequence[Image],
    seed: int,
    kept: Path,
    *,
    workers: int = 0,
    show_progress: bool | None = None,
) -> Sequence[Image]:
    """Return the images in drawn styles, one drawn for each; geometry and so the boxes stay.

    Args:
        images: of one size.
        seed: decides the styles.
        kept: a file in which they are kept, so that they are made once.
        workers: processes; 0 does it in this one.
        show_progress: None shows it on a terminal only.
    """
    mark = files.fingerprint([str(seed).encode(), *(image.tobytes() for image in images)])
    marks = kept.with_suffix(".txt")
    if kept.is_file() and marks.is_file() and marks.read_text(encoding="utf-8") == mark:
        return list(np.load(kept, allow_pickle=False))
    stylize = Stylize(styles=_DrawnOnce(DrawnStyles(STYLES)), seed=seed, probability=1.0)
    made = np.empty((len(images), *images[0].shape), dtype=np.uint8)
    with progress("Stylise", len(images), show=show_progress) as advance:
        results = map_ordered(_stylised, enumerate(images), context=stylize, workers=workers)
        for number, image in enumerate(results):
            made[number] = image
            advance()
    with files.atomic(kept) as target:
        np.save(target, made, allow_pickle=False)
    files.write_bytes(marks, mark.encode())
    return list(made)


def _stylised(stylize: Stylize, item: tuple[int, Image]) -> Image:
    number, image = item
    return stylize(image, key=f"{number:05}")


@final
class _DrawnOnce(Styles):
    """Styles that are kept: drawing one takes longer than giving it to a small scene."""

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


def mixed(plain: Scenes, styled: Scenes, seed: int) -> Scenes:
    """Return the scenes, half of them, drawn by chance, in their stylised form.

    The paper's combined training set has each image twice and is trained on for as many steps; with
    as many scenes in all, each step sees both kinds and no training sees more.
    """
    turned = generator(seed, "combined").random(len(plain)) < 0.5
    images = [
        styled.images[at] if turn else plain.images[at] for at, turn in enumerate(turned.tolist())
    ]
    return dataclasses.replace(plain, images=images)


# ---------------------------------------------------------------- what comes of it


def tables(run: Run) -> list[Table]:
    """Return the tables of a finished benchmark."""
    names = [model.name for model in run.scores.models]
    groups = [row.group for row in _model(run, names[0]).groups]
    whole = run.scores.grid.complete
    summary = Table(
        "summary",
        "Clean, under corruption, and what stays",
        "AP in %",
        ["P", "mPC" if whole else "mean", "rPC" if whole else "share", *groups],
        [TITLES[name] for name in names],
        [
            [
                *(_figure(_model(run, name).summary[key]) for key in ("clean", "mean", "rpc")),
                *(_figure(row.figures[P]) for row in _model(run, name).groups),
            ]
            for name in names
        ],
        note="rPC is in % of the clean AP.",
    )
    corruptions = [row.corruption for row in _model(run, names[0]).corruptions]
    per_corruption = Table(
        "corruptions",
        "Each corruption, mean over the severities",
        "AP in %",
        [TITLES[name] for name in names],
        [wording.corruption_title(name) for name in corruptions],
        [
            [_figure(_model(run, name).corruptions[at].figures[P]) for name in names]
            for at in range(len(corruptions))
        ],
    )
    changes = Table(
        "changes",
        "What the other detectors gain over the standard one",
        "change of AP in points",
        ["P", "mean under corruption", *groups],
        [TITLES[row.name] for row in run.scores.differences],
        [
            [
                _figure(row.summary["clean"]),
                _figure(row.summary["mean"]),
                *(_figure(group.figures[P]) for group in row.groups),
            ]
            for row in run.scores.differences
        ],
        unit="change",
        note="Intervals are paired over the scenes.",
    )
    severities = run.scores.grid.severities
    by_severity = Table(
        "severities",
        "By severity, mean over the corruptions",
        "severity",
        ["clean", *map(str, severities)],
        [TITLES[name] for name in names],
        [
            [
                point(_value(_clean(run, name).figures[P])),
                *(point(_at(run, name, severity)) for severity in severities),
            ]
            for name in names
        ],
        note="Without intervals.",
        drawing="curves",
    )
    sizes = [key for key, value in _sizes(run, names[0]).items() if value.clean]
    by_size = Table(
        "sizes",
        "By the size of the items",
        "AP in %",
        [f"{_SIZES[key]}, {where}" for key in sizes for where in ("clean", "corrupted")],
        [TITLES[name] for name in names],
        [
            [
                point(value) if value is not None else None
                for key in sizes
                for value in (
                    _sizes(run, name)[key].clean,
                    _sizes(run, name)[key].mean,
                )
            ]
            for name in names
        ],
        note="Small is up to 32 x 32 pixels, medium up to 96 x 96. Without intervals.",
    )
    return [summary, changes, per_corruption, by_severity, by_size]


_SIZES = {"APs": "small", "APm": "medium", "APl": "large"}


def findings(run: Run) -> list[Finding]:
    """Hold the paper's findings against what was measured."""
    standard = _model(run, STANDARD)
    kept = standard.summary["rpc"]
    found = [
        Finding(
            "loses",
            "a detector loses 30 to 60 % of its performance under corruption",
            f"{PAPER}: rPC from 33 to 60 %",
            f"the standard detector keeps {spelt(kept, 'error')} %",
            "undecided" if kept is None else below(kept, 0.7),
            kept,
            "error",
        )
    ]
    for name, claim, published in (
        (
            "combined",
            "training on standard and stylised images raises the mean under corruption",
            "Pascal-C 48.6 to 56.2, COCO-C 18.2 to 20.4, Cityscapes-C 12.2 to 17.2",
        ),
        (
            "stylised",
            "so does training on stylised images alone, on Pascal and Cityscapes",
            "Pascal-C 48.6 to 50.0, Cityscapes-C 12.2 to 14.7; COCO-C 18.2 to 14.1",
        ),
    ):
        change = _difference(run, name).summary["mean"]
        found.append(
            Finding(
                f"{name}-raises",
                claim,
                f"{PAPER}: {published}",
                f"{spelt(change, 'change')} points of AP",
                "undecided" if change is None else above(change),
                change,
            )
        )
    for name, limit, claim, published in (
        ("combined", 0.02, "with both, the clean performance falls by 2 points at most",
         "Pascal 80.5 to 80.4, COCO 36.3 to 34.6, Cityscapes 36.4 to 36.3"),
        ("stylised", 0.02, "on stylised images alone it falls by more",
         "Pascal 80.5 to 68.0, COCO 36.3 to 21.5, Cityscapes 36.4 to 28.5"),
    ):  # fmt: skip
        change = _difference(run, name).summary["clean"]
        verdict: Verdict = "undecided"
        if change is not None:
            verdict = above(change, -limit) if name == "combined" else below(change, -limit)
        found.append(
            Finding(
                f"{name}-clean",
                claim,
                f"{PAPER}: {published}",
                f"{spelt(change, 'change')} points of AP",
                verdict,
                change,
            )
        )
    found.append(_most_on_noise(run))
    for name, other in (("adapted", STANDARD), ("combined-adapted", STANDARD)):
        change = _difference(run, name).summary["mean"]
        found.append(
            Finding(
                f"{name}-gains",
                "adapting the batch norm of the detector raises the mean under corruption"
                if name == "adapted"
                else "adaptation and stylised training together raise it, too",
                "Schneider et al. 2020 for classifiers",
                f"{spelt(change, 'change')} points of AP against {TITLES[other]}",
                "undecided" if change is None else above(change),
                change,
            )
        )
    return found


def _most_on_noise(run: Run) -> Finding:
    groups = {row.group: row.figures[P] for row in _difference(run, "combined").groups}
    known = {name: value for name, value in groups.items() if value is not None}
    best = max(known, key=lambda name: known[name].value) if known else None
    words = ", ".join(f"{name} {spelt(value, 'change')}" for name, value in known.items())
    return Finding(
        "most-on-noise",
        "stylised training data gain most on noise",
        f"{PAPER}: COCO-C by group, 16.0 to 18.8 on noise, 12.9 to 14.8 on blur, 25.5 to 26.1 on "
        "weather, 17.9 to 21.4 on digital",
        f"{words} points" if known else "the groups were not measured whole",
        "undecided" if best is None else ("yes" if best == "noise" else "no"),
    )


P = "AP"


def _model(run: Run, name: str) -> Scored:
    return next(model for model in run.scores.models if model.name == name)


def _difference(run: Run, name: str) -> Scored:
    return next(model for model in run.scores.differences if model.name == name)


def _clean(run: Run, name: str) -> CellFigures:
    return _model(run, name).clean or CellFigures()


def _sizes(run: Run, name: str) -> dict[str, Fall]:
    return msgspec.convert(_model(run, name).detail, Detail).sizes


def _at(run: Run, name: str, severity: int) -> float:
    cells = _model(run, name).of_cells(P)
    return float(np.mean([one.value for cell, one in cells.items() if cell.severity == severity]))


def _value(figure: Interval | None) -> float:
    return float("nan") if figure is None else figure.value


def _figure(figure: Interval | None) -> Value:
    return None if figure is None else rounded(figure)


def _plain(plan: Plan) -> Settings:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(plan).items()
    }


class _Seconds:
    """The CPU seconds of each part, kept over several starts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.spent: dict[str, float] = {}
        with contextlib.suppress(BrokenFileError, AttributeError, TypeError, ValueError):
            self.spent = {str(k): float(v) for k, v in read_json(path).items()}

    @contextlib.contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what is done in the context."""
        begun = time.process_time()
        try:
            yield
        finally:
            spent = self.spent.get(part, 0.0) + time.process_time() - begun
            self.spent[part] = round(spent, 1)
            files.write_json(self._path, self.spent)
