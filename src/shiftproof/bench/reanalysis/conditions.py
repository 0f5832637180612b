"""Scores of a finished run by recording conditions of its images: weather, time of day, camera, ..."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from shiftproof.bench.reanalysis.gathering import find_task, gather_images, list_images, read_grid
from shiftproof.bench.reanalysis.metadata import read_conditions
from shiftproof.bench.tasks.interface import Measured, Task
from shiftproof.bench.tasks.segmentation.task import Segmentation
from shiftproof.bench.tasks.summary import SEED, collect_replicates
from shiftproof.compute.progress import progress
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io.border import show_name
from shiftproof.io.folder_locks import lock_folder, releases_locks
from shiftproof.rng import generator
from shiftproof.runs.resamples import Key, Replicates, make_interval
from shiftproof.runs.run import Run, load_run
from shiftproof.runs.scores.conditions import Condition, ConditionFigures, ConditionScores
from shiftproof.runs.scores.grid import Headline
from shiftproof.runs.scores.reading import FORMAT, clean_text, read_form, write_form
from shiftproof.runs.scores.segmentation import TRUTH, Truth

REFERENCES = ("clear", "normal", "sunny", "day", "daytime")
"""Usual names of the reference condition."""

MAX_CONDITIONS = 200
"""Maximum number of conditions; a column with more values is a number or an id."""

MIN_IMAGES = 2
"""Minimum number of images for an interval."""

RECORDED = "condition"
"""The name under which runs of segmenters store the conditions of their images."""

_Figures = Mapping[Key, Replicates]


@dataclass(frozen=True, eq=False)
class _Group:
    """One condition: its images, their measurements, and the figures of each model."""

    name: str
    images: frozenset[str]
    measured: Measured
    figures: Mapping[str, _Figures]


@releases_locks
def score_conditions(
    run: Run | str | Path,
    metadata: str | Path | Mapping[str, str] | None = None,
    *,
    by: str,
    against: str | None = None,
    task: Task | None = None,
    workers: int = 0,
    show_progress: bool | None = None,
) -> ConditionScores:
    """Score a finished run separately by condition, and write ``conditions-BY.json`` into its folder.

    No model runs: the records of each condition are measured again, clean and under corruption. The
    next report of the run shows the scores.

    The intervals of a condition are over its own images. Two conditions have different images, so the
    interval of their difference uses independent resamples (Efron & Tibshirani 1993, section 8.3).

    Args:
        run: a finished run of any task over the grid, or its folder.
        metadata: a CSV or Parquet table with a column for the images and one called ``by``, a JSON
            list of records with names and attributes (BDD100K, SHIFT), or a mapping of image to
            condition. None if the names of the images or the run contain the conditions.
        by: the column or attribute. ``part:2`` is the second folder of the images' names, as in
            ACDC; ``condition`` without metadata are the conditions stored by runs of segmenters (ACDC,
            Foggy Cityscapes, ...).
        against: the reference condition; by default clear, normal, sunny, day or daytime if one
            exists, else the condition with the most images.
        task: the task, for a run of a user's own task.
        workers: number of processes that measure; 0 uses this process.
        show_progress: None shows progress on a terminal only.

    Raises:
        InputError: no such run or column, no image of the run in it, or only one condition.
        UnknownNameError: ``against`` is not a condition.
        BrokenFileError: a file cannot be read.
    """
    run = _open_run(run)
    task_used = find_task(run, task)
    images = list_images(run)
    lock_folder(run.path)
    if metadata is None and by == RECORDED:
        metadata = _read_recorded(run)
    groups = _group_images(images, _read_or_select_conditions(metadata, by, images))
    reference = _choose_reference(groups, against)
    order = [reference, *(name for name in groups if name != reference)]
    measured: dict[str, _Group] = {}
    with progress("Measure", len(order), show=show_progress) as advance:
        for name in order:
            measured[name] = _measure(run, task_used, name, groups[name], workers)
            advance(note=clean_text(name))
    scores = _write(run, list(measured.values()), by, metadata, len(images))
    write_form(run.folder.conditions_file(by), scores)
    return scores


def _open_run(run: Run | str | Path) -> Run:
    if isinstance(run, Run):
        return run
    found = load_run(run)
    if isinstance(found, Run):
        return found
    raise InputError(
        f"{found.path} is a run of the kind {found.kind!r}; conditions are of runs over the "
        "corruption grid, as bench, detect, segment and score write them."
    )


def _read_recorded(run: Run) -> dict[str, str] | None:
    """Return the conditions stored by a run of segmenters, or None."""
    path = run.folder.path / TRUTH
    if run.kind != Segmentation.kind or not path.is_file():
        return None
    return dict(read_form(path, Truth).conditions) or None


def _read_or_select_conditions(
    metadata: str | Path | Mapping[str, str] | None, by: str, images: Sequence[str]
) -> dict[str, str]:
    if not isinstance(metadata, Mapping):
        return read_conditions(None if metadata is None else Path(metadata), by, images)
    found = {image: str(metadata[image]) for image in images if image in metadata}
    if not found:
        raise InputError(
            f"None of the {pluralize(len(images), 'image')} of the run is in the metadata; expected names as "
            f"{show_name(images[0])}."
        )
    return found


def _group_images(
    images: Sequence[str], conditions: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Return the images of each condition, the largest condition first."""
    counts = Counter(conditions[image] for image in images if image in conditions)
    if len(counts) < 2:
        raise InputError(
            f"Expected two conditions or more to compare, got {next(iter(counts))!r:.60} alone "
            f"({len(conditions):,} of {pluralize(len(images), 'image')})."
        )
    if len(counts) > MAX_CONDITIONS:
        raise InputError(
            f"Expected up to {MAX_CONDITIONS} conditions, got {len(counts):,}; this column has different "
            "values for nearly all images. Group the values first."
        )
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return {
        name: frozenset(image for image in images if conditions.get(image) == name)
        for name in names
    }


def _choose_reference(groups: Mapping[str, frozenset[str]], against: str | None) -> str:
    if against is not None:
        if against not in groups:
            raise UnknownNameError.of("condition", against, list(groups))
        return against
    known = {name.casefold(): name for name in groups}
    return next((known[one] for one in REFERENCES if one in known), next(iter(groups)))


def _measure(run: Run, task: Task, name: str, images: frozenset[str], workers: int) -> _Group:
    grid = read_grid(run)
    models = [one.name for one in run.scores.models]
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as temporary:
        folder = gather_images(run, task, Path(temporary), images)
        measured = task.measure(folder, models, grid, workers=workers, show_progress=False)
    few = measured.images.used is not None and measured.images.used < MIN_IMAGES
    figures = {model: collect_replicates(measured, model, grid) for model in models}
    return _Group(
        name,
        images,
        measured,
        {
            model: {key: values[:1] if few else values for key, values in found.items()}
            for model, found in figures.items()
        },
    )


# ---------------------------------------------------------------- as written to the file


def _write(
    run: Run,
    groups: Sequence[_Group],
    by: str,
    metadata: str | Path | Mapping[str, str] | None,
    images: int,
) -> ConditionScores:
    reference, first = groups[0], groups[0].measured
    headlines = [one for one in first.headlines if one.card]
    named = metadata is not None and not isinstance(metadata, Mapping)
    return ConditionScores(
        format=FORMAT,
        kind=run.kind,
        by=by,
        source=Path(str(metadata)).name if named else "",
        against=reference.name,
        measure=first.measures[0],
        headlines=tuple(headlines),
        interval=msgspec.structs.replace(
            first.interval, method="percentile bootstrap over the images of each condition"
        ),
        images=images,
        unmatched=images - sum(len(group.images) for group in groups),
        conditions=tuple(_make_condition(group, reference, headlines) for group in groups),
    )


def _make_condition(group: _Group, reference: _Group, headlines: Sequence[Headline]) -> Condition:
    counted = group.measured.images
    return Condition(
        name=group.name,
        images=len(group.images),
        used=counted.used,
        objects=counted.objects,
        models=tuple(_make_figures(group, reference, model, headlines) for model in group.figures),
    )


def _make_figures(
    group: _Group, reference: _Group, model: str, headlines: Sequence[Headline]
) -> ConditionFigures:
    own, other = group.figures[model], reference.figures[model]
    measure = group.measured.measures[0].name
    keys = {one.name: ("summary", one.name) for one in headlines}
    return ConditionFigures(
        name=model,
        summary={name: make_interval(own.get(key)) for name, key in keys.items()},
        corruptions={
            key[1]: make_interval(values)
            for key, values in own.items()
            if key[0] == "corruption" and key[2] == measure
        },
        difference={}
        if group is reference
        else {
            name: make_interval(subtract_independent(own[key], other[key], group.name))
            for name, key in keys.items()
            if key in own and key in other
        },
    )


def subtract_independent(minuend: Replicates, subtrahend: Replicates, key: str) -> Replicates:
    """Return the difference of two figures over different images, on independent resamples.

    Resamples depend only on the number of images and the seed, so those of two conditions of the same
    size would be equal. The second's are shuffled to make them independent.

    Args:
        minuend: ``(1 + R,)`` the figure of one condition, then on its resamples.
        subtrahend: the same for another condition; the longer one is truncated.
        key: seed of the shuffling.
    """
    order = generator(SEED, "conditions", key).permutation(len(subtrahend) - 1)
    drawn = subtrahend[1:][order]
    count = min(len(minuend) - 1, len(drawn))
    head = minuend[:1] - subtrahend[:1]
    return np.concatenate([head, minuend[1 : count + 1] - drawn[:count]])
