"""The papers' scale: ImageNet-C from disk, compared with published results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shiftproof import Classifier, Run, bench, load_classifier
from shiftproof.bench import SOURCE
from shiftproof.corruptions import COMMON
from shiftproof.data import CorruptedData, open_data
from shiftproof.errors import InputError
from shiftproof.io import make_folder
from shiftproof.runs import provenance
from shiftproof_reproduce.published import read_errors
from shiftproof_reproduce.result import Finding, Result, Table, Value, point
from shiftproof_reproduce.verdicts import below, judge

MODEL = "torchvision:resnet50"
"""The model of the first row in both papers."""


@dataclass(frozen=True)
class Part:
    """The run for the column ``method`` of the published table."""

    method: str
    adapter: str
    batch_size: int
    protocol: str


PARTS: Mapping[str, tuple[Part, ...]] = {
    "bn-adaptation": (
        Part("n = 8", "batchnorm:prior=16", 8, "online:mix=severities"),
        Part("full", "batchnorm:prior=0", 512, "online:mix=severities"),
    ),
    "self-learning": (
        Part("BN", "batchnorm:prior=0", 128, "online"),
        Part("ENT", "ent:preset=paper", 128, "offline:epochs=1"),
        Part("RPL", "rpl:preset=paper", 128, "offline:epochs=5"),
    ),
}
"""The runs of each recipe; the models are reset before each corruption or cell."""

_TITLES = {
    "bn-adaptation": "Batch-norm adaptation on ImageNet-C",
    "self-learning": "Self-learning on ImageNet-C",
}


def reproduce(
    recipe: str,
    out: Path,
    *,
    data: str | Path | None,
    model: str | Classifier | None = None,
    device: str = "cpu",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Measure a model on ImageNet-C as in the paper, and compare it with the published results.

    Args:
        recipe: ``"bn-adaptation"`` or ``"self-learning"``.
        out: the folder of the runs; interrupted ones resume.
        data: ImageNet-C: ``CORRUPTION/SEVERITY/CLASS/IMAGE``. With only some of the 15 corruptions
            these are measured, without an mCE.
        model: a spec for ``load_classifier``, or a classifier; None uses ``MODEL``.
        device: device of a model given as a spec.
        workers: processes that read images.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: ImageNet-C is missing.
    """
    if data is None:
        raise InputError(
            "The scale paper needs ImageNet-C on disk: give its folder (--data), which holds "
            "CORRUPTION/SEVERITY/CLASS/IMAGE. The scale small needs none."
        )
    model = MODEL if model is None else model
    classifier = load_classifier(model, device=device) if isinstance(model, str) else model
    tree = open_data(data, classes=classifier.classes)
    if not isinstance(tree, CorruptedData):
        raise InputError(f"{data} is no -C tree; expected CORRUPTION/SEVERITY/CLASS/IMAGE.")
    corruptions, severities = choose_cells(tree)
    if not corruptions:
        raise InputError(f"{data} has none of the 15 corruptions of ImageNet-C.")
    make_folder(out)
    runs: dict[str, Run] = {}
    seconds = {}
    for part in PARTS[recipe]:
        begun = time.monotonic()
        runs[part.method] = bench.run(
            classifier,
            tree,
            corruptions=corruptions,
            severities=severities,
            adapters={"adapted": part.adapter},
            out=out / "runs" / part.method.replace(" ", ""),
            batch_size=part.batch_size,
            protocol=part.protocol,
            workers=workers,
            show_progress=show_progress,
        )
        seconds[part.method] = round(time.monotonic() - begun, 1)
    any_run = next(iter(runs.values()))
    measure = "mce" if any_run.scores.grid.reason is None else "mean"
    return Result(
        recipe=recipe,
        scale="paper",
        title=_TITLES[recipe],
        about=f"{classifier.name} on {tree.name}, "
        + " ".join(
            f"{part.method}: {part.adapter}, batches of {part.batch_size}, {part.protocol}."
            for part in PARTS[recipe]
        ),
        settings={
            "model": classifier.settings,
            "runs": {method: run.folder.info()["settings"] for method, run in runs.items()},
        },
        provenance=provenance(classifier.device, workers or 0),
        tables=[compare_published(recipe, classifier.name, runs, measure)],
        findings=[
            judge_method(recipe, part.method, runs[part.method], measure) for part in PARTS[recipe]
        ],
        seconds=seconds,
    )


def choose_cells(tree: CorruptedData) -> tuple[list[str], list[int]]:
    """Return the available ones of the 15 corruptions, and the severities that all of them have."""
    available = {(cell.corruption, cell.severity) for cell in tree.cells}
    corruptions = [name for name in COMMON if any(name == other for other, _ in available)]
    severities = [s for s in range(1, 6) if all((name, s) in available for name in corruptions)]
    return corruptions, severities


def compare_published(recipe: str, name: str, runs: Mapping[str, Run], measure: str) -> Table:
    """Return the published table, preceded by a row of this experiment.

    ``runs`` are by method; ``measure`` is ``"mce"`` or ``"mean"`` of the summaries.
    """
    rows = read_errors(recipe)
    methods = list(dict.fromkeys(method for row in rows.values() for method in row))
    first = next(iter(runs.values()))
    ours: dict[str, Value] = {"none": _summarize(first, SOURCE, measure)}
    ours |= {method: _summarize(run, "adapted", measure) for method, run in runs.items()}
    reason = first.scores.grid.reason
    label = f"this run: {name}" + ("" if measure == "mce" else ", mean error")
    values: list[list[Value]] = [[ours.get(method) for method in methods]]
    for row in rows.values():
        values.append([point(row[m] / 100) if m in row else None for m in methods])
    note = "" if reason is None else f"No mCE of this run: {reason}."
    title, rows_shown = "Beside what was published", [label, *rows]
    return Table("published", title, "mCE in %", methods, rows_shown, values, note=note)


def judge_method(recipe: str, method: str, run: Run, measure: str) -> Finding:
    """Judge whether a method lowers the error, as published."""
    [difference] = run.scores.differences
    row = read_errors(recipe)["ResNet-50"]
    return judge(
        method.replace(" ", "").lower(),
        f"{method} lowers the error",
        f"published for ResNet-50: mCE {row['none']:g} to {row[method]:g}",
        difference.summary[measure],
        "{} points",
        holds=below,
    )


def _summarize(run: Run, name: str, measure: str) -> Value:
    return next(model for model in run.scores.models if model.name == name).summary[measure]
