"""Detection robustness at the paper's scale: a dataset from disk, compared with published results."""

from __future__ import annotations

import time
from pathlib import Path

from shiftproof import Detector, Run, bench, load_detector
from shiftproof.data import CityscapesData, DetectionData, VocData, open_detection_data
from shiftproof.errors import InputError
from shiftproof.runs import provenance
from shiftproof_reproduce.published import DETECTION, read_detectors
from shiftproof_reproduce.result import Finding, Result, Table, Value, point
from shiftproof_reproduce.verdicts import below, judge

MODEL = "torchvision:fasterrcnn_resnet50_fpn"
"""The paper's detector; torchvision's weights are trained on COCO, with other settings than the
paper's.
"""

MAX_KEPT_SHARE = 0.7
"""Upper limit of the share of their performance that the paper's detectors keep."""


def reproduce(
    out: Path,
    *,
    data: str | Path | DetectionData | None,
    model: str | Detector | None = None,
    device: str = "cpu",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Measure a detector on the 15 corruptions of a dataset, and compare it with published results.

    Args:
        out: the folder of the run; an interrupted one resumes.
        data: Pascal VOC, COCO or Cityscapes: a source for ``open_detection_data``, or a dataset.
        model: a spec for ``load_detector``, or a detector; None uses ``MODEL``.
        device: device of a detector given as a spec.
        workers: processes that read and corrupt images.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: ``data`` is missing.
    """
    if data is None:
        raise InputError(
            "The scale paper needs a dataset with boxes on disk: give the folder of Pascal VOC, COCO "
            "or Cityscapes (--data). The scale small needs none."
        )
    dataset = open_detection_data(data)
    model = MODEL if model is None else model
    detector = load_detector(model, device=device) if isinstance(model, str) else model
    begun = time.monotonic()
    run = bench.run(
        detector,
        dataset,
        out=out / "runs" / "benchmark",
        workers=workers,
        show_progress=show_progress,
    )
    benchmark = name_benchmark(dataset)
    return Result(
        recipe="detection",
        scale="paper",
        title=f"{benchmark}: a detector under corruption",
        about=f"{detector.name} on {dataset.name} ({len(dataset):,} images); P is "
        f"{run.scores.measure.title}.",
        settings={"run": run.folder.info()["settings"]},
        provenance=provenance(detector.device, workers or 0),
        tables=[compare_published(benchmark, detector.name, run), *compare_groups(run)],
        findings=[judge_loss(run, "{} % stay")],
        seconds={"benchmark": round(time.monotonic() - begun, 1)},
    )


def name_benchmark(data: DetectionData) -> str:
    """Return the name of the benchmark with a dataset."""
    if isinstance(data, VocData):
        return "Pascal-C"
    return "Cityscapes-C" if isinstance(data, CityscapesData) else "COCO-C"


def compare_published(benchmark: str, name: str, run: Run) -> Table:
    """Return the published table, preceded by a row of this experiment."""
    rows = read_detectors(benchmark)
    summary, reason = run.scores.models[0].summary, run.scores.grid.reason
    ours: list[Value] = [
        summary[key] if key == "clean" or reason is None else None
        for key in ("clean", "mean", "rpc")
    ]
    return Table(
        "published",
        "Beside what was published",
        "in %",
        list(DETECTION),
        [f"this run: {name}", *rows],
        [ours, *([point(row[column] / 100) for column in DETECTION] for row in rows.values())],
        note="" if reason is None else f"No mPC of this run: {reason}.",
    )


def compare_groups(run: Run) -> list[Table]:
    """Return the performance by corruption group, for complete groups."""
    found = run.scores.models[0].of_groups(run.scores.measure.name)
    if not found:
        return []
    title, values = "By family of corruptions", list(found.values())
    return [Table("groups", title, "P in %", list(found), ["this run"], [[*values]])]


def judge_loss(run: Run, words: str) -> Finding:
    """Judge the paper's first finding by the first detector of a run."""
    return judge(
        "loses",
        "a detector loses 30 to 60 % of its performance under corruption",
        "Michaelis et al. 2019: rPC from 33 to 60 %",
        run.scores.models[0].summary["rpc"],
        words,
        holds=below,
        limit=MAX_KEPT_SHARE,
        unit="error",
    )
