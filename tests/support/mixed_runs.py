"""A run of each kind that a mixed page can show, made without a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from shiftproof.io import files
from shiftproof.runs import RunFolder
from shiftproof.runs.records import classification as records
from shiftproof.types import Cell
from support.finished_runs import run_audit, run_detector
from support.simulated_runs import answers, draw_tables, write_run


def write_classifiers(folder: Path, count: int = 120) -> list[Path]:
    """Write two runs with the same settings and images: a model with an adapter, and another model."""
    tables = draw_tables(count, hope=0.04)
    other = draw_tables(count, seed=3)
    return [write_run(folder / "one", tables), write_run(folder / "two", {"source": other["BN"]})]


def write_evaluation(folder: Path, name: str = "sketch", count: int = 20) -> Path:
    """Write an evaluation of one model on one test set, without an audit."""
    run = RunFolder.create(folder, "evaluation", {"models": {}, "data": {}}, {})
    files.make_folder(folder / "records" / "net")
    record = answers(count, 1, np.random.default_rng(0))
    record.ids = [f"{number}" for number in range(count)]
    records.write_cell(run.records_file("net", Cell(name, 0)), record)
    share = float((record.prediction == record.target).mean())
    figure = {"value": share, "low": share - 0.05, "high": share + 0.05}
    scores = {
        "format": 2, "kind": "evaluation", "measure": "accuracy",
        "interval": {"level": 0.95, "method": "paired", "replicates": 1000, "seed": 0},
        "sets": [{"name": name, "total": count, "used": count, "classes": 8}],
        "models": [
            {"name": "net", "sets": {name: {"accuracy": figure, "top5": figure}}, "mean": figure}
        ],
        "differences": [],
    }  # fmt: skip
    run.scores_file.write_text(json.dumps(scores), encoding="utf-8")
    return folder


def write_all(folder: Path) -> list[Path]:
    """Write classifiers, a detector, an audit, and an evaluation of one of its test sets."""
    run_audit(folder / "audit")
    run_detector(folder, folder / "detector")
    return [
        *write_classifiers(folder),
        folder / "detector",
        folder / "audit",
        write_evaluation(folder / "evaluation"),
    ]
