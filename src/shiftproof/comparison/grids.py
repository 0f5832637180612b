"""Comparing two runs over the grid on their common cells and images."""

from __future__ import annotations

import tempfile
from pathlib import Path

from shiftproof.bench.reanalysis.class_order import describe_class_orders
from shiftproof.bench.reanalysis.gathering import find_task, gather_shared, list_images, read_grid
from shiftproof.bench.tasks.interface import Grid, Measured, Task
from shiftproof.bench.tasks.summary import collect_replicates
from shiftproof.comparison.figures import Figure, PairedFigures, find_worst, normalize_name
from shiftproof.counts import pluralize
from shiftproof.errors import RunMismatchError
from shiftproof.report import corruption_title
from shiftproof.report.wording import title_cell
from shiftproof.runs.resamples import Key, Replicates
from shiftproof.runs.run import Run
from shiftproof.types import Cell

_NAMES = ("baseline", "candidate")


def pair_grids(
    baseline: Run,
    candidate: Run,
    models: tuple[str, str],
    *,
    task: Task | None,
    workers: int,
    show_progress: bool | None,
) -> PairedFigures:
    """Score one model of each run on the common cells and images, from their records.

    Classes are matched by name.

    Raises:
        RunMismatchError: different kinds, measures, classes, labels or objects; no common cell or
            image.
        InputError: a run without records, or of a custom task that was not given.
        BrokenFileError: a file of a run cannot be read.
    """
    task = find_task(baseline, task)
    _check_measures(baseline, candidate)
    cells, images = (
        _find_shared_cells(baseline, candidate),
        _find_shared_images(baseline, candidate),
    )
    is_same = not _count_unshared_cells(baseline, candidate)
    grid = Grid(cells, read_grid(baseline).missing if is_same else [])
    names = dict(zip(enumerate(models), _NAMES, strict=True))
    with tempfile.TemporaryDirectory(prefix="shiftproof-") as temporary:
        folder = gather_shared([baseline, candidate], task, Path(temporary), names, cells, images)
        measured = task.measure(folder, _NAMES, grid, workers=workers, show_progress=show_progress)
    figures = _list_figures(measured, grid)
    claim = measured.claim
    return PairedFigures(
        figures,
        measured.images.used or len(images),
        len(cells),
        absent={}
        if claim is None or not measured.reason
        else {normalize_name(claim): measured.reason},
        warnings=_describe_unshared(baseline, candidate, len(cells), len(images)),
        notes=describe_class_orders(
            [baseline, candidate], [str(baseline.path), str(candidate.path)]
        ),
    )


def _check_measures(baseline: Run, candidate: Run) -> None:
    for what, one, other in (
        ("kind", baseline.kind, candidate.kind),
        ("measure", baseline.scores.measure.name, candidate.scores.measure.name),
    ):
        if one != other:
            raise RunMismatchError(
                f"{baseline.path} and {candidate.path} differ in their {what} ({one}, {other}); expected "
                "two runs of one."
            )


def _find_shared_cells(baseline: Run, candidate: Run) -> list[Cell]:
    candidate_cells = set(read_grid(candidate).cells)
    shared = [cell for cell in read_grid(baseline).cells if cell in candidate_cells]
    if not any(not cell.is_clean for cell in shared):
        raise RunMismatchError(
            f"{baseline.path} and {candidate.path} have no corrupted cell in common. Run both with the "
            "same --corruptions and --severities."
        )
    return shared


def _find_shared_images(baseline: Run, candidate: Run) -> list[str]:
    candidate_images = set(list_images(candidate))
    shared = [name for name in list_images(baseline) if name in candidate_images]
    if not shared:
        raise RunMismatchError(
            f"{baseline.path} and {candidate.path} have no image in common, so nothing can be paired. "
            "Run both on the same data."
        )
    return shared


def _count_unshared_cells(baseline: Run, candidate: Run) -> int:
    return len(set(read_grid(baseline).cells) ^ set(read_grid(candidate).cells))


def _describe_unshared(baseline: Run, candidate: Run, cells: int, images: int) -> list[str]:
    """Describe the cells and images that only one of the two has."""
    warnings = []
    if count := _count_unshared_cells(baseline, candidate):
        warnings.append(
            f"{pluralize(count, 'cell is', 'cells are')} in one run alone; only the {cells} that "
            "both have are compared."
        )
    if count := len(set(list_images(baseline)) ^ set(list_images(candidate))):
        warnings.append(
            f"{pluralize(count, 'image is', 'images are')} in one run alone; only the {images} "
            "that both have are paired."
        )
    return warnings


def _list_figures(measured: Measured, grid: Grid) -> list[Figure]:
    baseline, candidate = (collect_replicates(measured, name, grid) for name in _NAMES)
    both = {key: (baseline[key], candidate[key]) for key in baseline if key in candidate}
    first = measured.measures[0]
    corruptions = [
        Figure(name, corruption_title(name), "corruption", first.unit, first.lower_is_better, *pair)
        for name in grid.corruptions
        if (pair := both.get(("corruption", name, first.name))) is not None
    ]
    worst = find_worst(corruptions)
    return [
        *_list_headlines(measured, both),
        *([] if worst is None else [worst]),
        *corruptions,
        *(
            Figure(
                str(cell), title_cell(str(cell)), "cell", first.unit, first.lower_is_better, *pair
            )
            for cell in grid.corrupted
            if (pair := both.get(("cell", cell, first.name))) is not None
        ),
    ]


def _list_headlines(
    measured: Measured, both: dict[Key, tuple[Replicates, Replicates]]
) -> list[Figure]:
    return [
        Figure(one.name, one.title, "headline", one.unit, one.lower_is_better, *pair)
        for one in measured.headlines
        if (pair := both.get(("summary", one.name))) is not None
    ]
