"""Models of several runs ranked together, paired by image."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shiftproof.bench.reanalysis.gathering import (
    find_task,
    gather_models,
    is_truth,
    list_images,
    read_grid,
)
from shiftproof.bench.tasks.interface import Task
from shiftproof.bench.tasks.summary import score
from shiftproof.errors import RunMismatchError
from shiftproof.io.files import file_fingerprint
from shiftproof.runs.run import Run
from shiftproof.runs.scores.ranking import Ranking


def rank_runs(
    runs: Sequence[Run | str | Path],
    names: Sequence[str] | None = None,
    *,
    task: Task | None = None,
    workers: int = 0,
    show_progress: bool | None = None,
) -> Ranking | None:
    """Rank the models of several runs, with paired intervals: no model runs, their records are read.

    Classifiers' classes are matched by name if the runs list them in another order.

    Whether the runs are comparable in what their records do not show (the seed of the noise, the
    protocol of adapters) is for the caller to see to; a page of several runs does.

    Args:
        runs: finished runs of one kind over the same images and cells.
        names: of the runs, their folders' by default; models are then called ``RUN: MODEL``.
        task: of runs of a task of one's own.
        workers: processes that measure; 0 does it in this one.
        show_progress: None shows it on a terminal only.

    Returns:
        None where fewer than two models have the headline.

    Raises:
        RunMismatchError: other images, labels, cells, classes or objects to be found.
        InputError: a task of one's own that was not given; a run without records.
        BrokenFileError: a file of a run cannot be read.
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    run_names = [run.path.name for run in opened] if names is None else list(names)
    measuring_task = find_task(opened[0], task)
    _check_comparable(opened, run_names)
    labels = {
        (at, model.name): f"{run_names[at]}: {model.name}"
        for at, run in enumerate(opened)
        for model in run.scores.models
    }
    short = {key: f"m{number}" for number, key in enumerate(labels)}
    grid = read_grid(opened[0])
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as temporary:
        folder = gather_models(opened, measuring_task, Path(temporary), short)
        models = list(short.values())
        measured = measuring_task.measure(
            folder, models, grid, workers=workers, show_progress=show_progress
        )
    ranking = score(measuring_task.kind, measured, dict.fromkeys(models, ""), grid).ranking
    names_by_short = {short[key]: label for key, label in labels.items()}
    return None if ranking is None else _rename(ranking, names_by_short)


def _check_comparable(runs: Sequence[Run], names: Sequence[str]) -> None:
    """Refuse runs whose records cannot be paired."""
    first = runs[0]
    expected = _list_pairing_keys(first)
    for run, name in zip(runs[1:], names[1:], strict=True):
        for (what, one), (_, other) in zip(expected, _list_pairing_keys(run), strict=True):
            if one != other:
                raise RunMismatchError(
                    f"{name} and {names[0]} have other {what}, so their models cannot be paired image "
                    "by image."
                )


def _list_pairing_keys(run: Run) -> list[tuple[str, object]]:
    """Return what must be equal for records to be paired, each with its name."""
    return [
        ("kinds of models", run.kind),
        ("measures", run.scores.measure.name),
        ("cells", read_grid(run).cells),
        ("images", list_images(run)),
        (
            "classes, or objects to be found",
            [(p.name, file_fingerprint(p)) for p in run.folder.task_files if is_truth(p)],
        ),
    ]


def _rename(ranking: Ranking, names: dict[str, str]) -> Ranking:
    replace = msgspec.structs.replace
    return replace(
        ranking,
        places=tuple(replace(one, name=names[one.name]) for one in ranking.places),
        pairs=tuple(
            replace(one, name=names[one.name], against=names[one.against]) for one in ranking.pairs
        ),
    )
