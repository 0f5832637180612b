"""Detection robustness at the paper's own scale: a data set from disk, and what was published beside it."""

from __future__ import annotations

import csv
import time
from importlib import resources
from pathlib import Path

from shiftproof import bench
from shiftproof.data import CityscapesData, DetectionData, VocData, open_detection_data
from shiftproof.errors import InputError
from shiftproof.metrics.intervals import Interval
from shiftproof.models import Detector, load_detector
from shiftproof.provenance import provenance
from shiftproof.runs import Run
from shiftproof_reproduce.claims import below
from shiftproof_reproduce.rendering import spelt
from shiftproof_reproduce.result import Finding, Result, Table, Value, point, rounded

MODEL = "torchvision:fasterrcnn_resnet50_fpn"
"""The paper's detector; torchvision's weights are of COCO, trained otherwise than the paper's."""

COLUMNS = ("P", "mPC", "rPC")


def reproduce(
    out: Path,
    *,
    data: str | Path | DetectionData | None,
    model: str | Detector | None = None,
    device: str = "cpu",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Measure a detector on the 15 corruptions of a data set, and return it beside what was published.

    Args:
        out: the folder of the run; what is there is gone on with.
        data: Pascal VOC, COCO or Cityscapes: what ``open_detection_data`` takes, or a data set.
        model: what ``load_detector`` takes, or a detector; None takes ``MODEL``.
        device: where the detector is loaded.
        workers: processes that read and corrupt.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: there is no data set with boxes.
    """
    if data is None:
        raise InputError(
            "The scale paper needs a data set with boxes on disk: give the folder of Pascal VOC, COCO "
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
    benchmark = benchmark_of(dataset)
    return Result(
        recipe="detection",
        scale="paper",
        title=f"{benchmark}: a detector under corruption",
        about=f"{detector.name} on {dataset.name} ({len(dataset):,} images); P is "
        f"{run.scores.measure.title}.",
        settings={"run": run.folder.info()["settings"]},
        provenance=provenance(detector.device, workers or 0),
        tables=[beside_published(benchmark, detector.name, run), *_groups(run)],
        findings=[_finding(run)],
        seconds={"benchmark": round(time.monotonic() - begun, 1)},
    )


def benchmark_of(data: DetectionData) -> str:
    """Return the benchmark that a data set, corrupted, is."""
    if isinstance(data, VocData):
        return "Pascal-C"
    return "Cityscapes-C" if isinstance(data, CityscapesData) else "COCO-C"


def published(benchmark: str) -> dict[str, dict[str, float]]:
    """Return the published P, mPC and rPC in % by detector (Michaelis et al. 2019, tables 1 to 3)."""
    text = resources.files("shiftproof_reproduce").joinpath("published_detection.csv")
    rows = csv.DictReader(text.read_text("utf-8").splitlines())
    return {
        row["detector"]: {column: float(row[column]) for column in COLUMNS}
        for row in rows
        if row["benchmark"] == benchmark
    }


def beside_published(benchmark: str, name: str, run: Run) -> Table:
    """Return the published table with a row of our own before it."""
    rows = published(benchmark)
    summary = run.scores.models[0].summary
    reason = run.scores.grid.reason
    keys = ("clean", "mean", "rpc")
    values: list[list[Value]] = [
        [_figure(summary[key]) if key == "clean" or reason is None else None for key in keys]
    ]
    values += [[point(row[column] / 100) for column in COLUMNS] for row in rows.values()]
    return Table(
        "published",
        "Beside what was published",
        "in %",
        list(COLUMNS),
        [f"this run: {name}", *rows],
        values,
        note="" if reason is None else f"No mPC of this run: {reason}.",
    )


def _groups(run: Run) -> list[Table]:
    groups = run.scores.models[0].groups
    measure = run.scores.measure.name
    if not groups:
        return []
    return [
        Table(
            "groups",
            "By family of corruptions",
            "P in %",
            [row.group for row in groups],
            ["this run"],
            [[_figure(row.figures[measure]) for row in groups]],
        )
    ]


def _finding(run: Run) -> Finding:
    kept = _figure(run.scores.models[0].summary["rpc"])
    return Finding(
        "loses",
        "a detector loses 30 to 60 % of its performance under corruption",
        "Michaelis et al. 2019: rPC from 33 to 60 %",
        f"{spelt(kept, 'error')} % stay",
        "undecided" if kept is None else below(kept, 0.7),
        kept,
        "error",
    )


def _figure(figure: Interval | None) -> Value:
    return None if figure is None else rounded(figure)
