"""Runs on disk without a model: records sampled from a known distribution."""

import numpy as np

from shiftproof.bench import Classification, Grid
from shiftproof.bench.tasks import summary
from shiftproof.classes import Classes
from shiftproof.io import files
from shiftproof.runs import RunFolder
from shiftproof.runs.records import classification as records
from shiftproof.runs.scores.classification import ClassNames
from shiftproof.runs.scores.reading import write_form
from shiftproof.types import CLEAN, Cell

CLASSES = Classes(tuple("abcdefgh"))
GRID = [Cell(name, severity) for name in ("fog", "contrast") for severity in (1, 3, 5)]

MODEL = {
    "name": "drawn", "fingerprint": "f" * 16, "device": "cpu",
    "classes": {"title": "custom", "count": 8, "fingerprint": "c"}, "preprocess": {"size": [24, 24]},
}  # fmt: skip
ADAPTERS = {"BN": {"adapter": "batchnorm", "prior": 16}}


def answers(count, severity, rng, *, hope=0.0, labeled=True, first=None):
    """Sample a cell: confidence ``p``, correct with probability ``p - hope * severity``.

    ``first`` are another model's answers; half of this model's answers equal them.
    """
    target = np.arange(count) % len(CLASSES)
    confidence = rng.beta(5, 1 + 0.5 * severity, count)
    right = rng.random(count) < confidence - hope * severity
    shift = rng.integers(1, len(CLASSES), count)
    prediction = np.where(right, target, (target + shift) % len(CLASSES))
    if first is not None:
        same = rng.random(count) < 0.5
        prediction = np.where(same, first.prediction, prediction)
    return records.CellRecords(
        ids=[f"{number:05d}.png" for number in range(count)],
        position=np.arange(count, dtype=np.int32),
        target=target.astype(np.int32) if labeled else np.full(count, -1, np.int32),
        prediction=prediction.astype(np.int32),
        confidence=confidence.astype(np.float32),
        loss=np.full(count, 1.0 if labeled else np.nan, np.float32),
        top=np.stack([(prediction + k) % len(CLASSES) for k in range(5)], axis=1).astype(np.int32),
        error=[None] * count,
    )


def draw_tables(count, *, seed=0, cells=GRID, models=("source", "BN"), **world):
    """Sample the tables of a run, by model and cell."""
    rng = np.random.default_rng(seed)
    tables = {name: {} for name in models}
    for cell in [CLEAN, *cells]:
        first = None
        for name in models:
            tables[name][cell] = answers(count, cell.severity, rng, first=first, **world)
            first = first or tables[name][cell]
    return tables


def write_run(
    path, tables, *, model=MODEL, adapters=ADAPTERS, batch_size=64, title=None, names=None
):
    """Write a finished run, with scores computed from the records as in a benchmark."""
    classes = CLASSES.names if names is None else names
    names = list(tables)
    cells = list(tables[names[0]])
    settings = {
        "models": {names[0]: model},
        "adapters": {name: adapters[name] for name in names[1:]},
        "data": {"name": "drawn"},
        "batch_size": batch_size,
        "protocol": "online",
    }
    folder = RunFolder.create(
        path, "classification", settings, {"classes": {"title": "custom", "count": 8}}
    )
    for name in names:
        files.make_folder(path / "records" / name)
        for cell, record in tables[name].items():
            records.write_cell(folder.records_file(name, cell), record)
    write_form(path / "classes.json", ClassNames(CLASSES.title, classes))
    titles = {name: name for name in names}
    if title is not None:
        titles[names[0]] = title
    scores = summary.summarize(folder, Classification(), titles, Grid(cells), show_progress=False)
    write_form(folder.scores_file, scores)
    return path
