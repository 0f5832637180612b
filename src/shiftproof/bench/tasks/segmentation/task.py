"""Semantic segmentation: mIoU in each cell, mPC and rPC (Kamann and Rother 2020)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, final

import msgspec
import numpy as np

from shiftproof.adapt import AdaptedSegmenter
from shiftproof.bench.cells.views import View, make_full_size_view, open_tree
from shiftproof.bench.tasks.interface import AdapterLike, Grid, Measured, Prepared, Task
from shiftproof.bench.tasks.named_models import (
    adapt_first,
    choose_titles,
    load_models,
    write_settings,
)
from shiftproof.bench.tasks.performance import BIAS_CORRECTED, Performance, summarize_performance
from shiftproof.bench.tasks.published import why_other_corruptions
from shiftproof.bench.tasks.segmentation.detail import (
    Cells,
    Resamples,
    detail_of,
    group_by_condition,
)
from shiftproof.bench.tasks.segmentation.gallery import save_gallery
from shiftproof.bench.tasks.segmentation.recorder import SegmenterRecording
from shiftproof.bench.tasks.summary import SEED, describe_resampling, list_broken
from shiftproof.compute.progress import progress
from shiftproof.data import (
    CorruptedData,
    ImageData,
    SegmentationData,
    check_masks,
    open_segmentation_data,
)
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.metrics import intervals
from shiftproof.metrics.intervals import correct_bias
from shiftproof.metrics.segmentation import class_ious, class_recalls, mean_iou, pixel_accuracy
from shiftproof.models import load_segmenter
from shiftproof.models.segmenters.class_match import match_pixel_classes
from shiftproof.models.segmenters.load import check_segmenter
from shiftproof.models.segmenters.segmenter import Segmenter, SegmenterLike
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.parquet import read_same_images
from shiftproof.runs.records.segmentation import SegmentationRecords, read_segmentation
from shiftproof.runs.resamples import Replicates
from shiftproof.runs.scores.grid import Headline, Images, Measure
from shiftproof.runs.scores.reading import FORMAT, read_form, write_form
from shiftproof.runs.scores.segmentation import TRUTH, Truth
from shiftproof.types import CLEAN, F64, I64, Cell, Flags, Settings

SegmenterGiven: TypeAlias = SegmenterLike | str

SUMS_BYTES = 128_000_000
"""Maximum memory for sums over resamples: 35 cells of ADE20K's 150 classes."""

MIOU = Measure(
    "mIoU", "mean intersection over union of the classes", lower_is_better=False, unit="share"
)
ACCURACY = Measure("accuracy", "pixel accuracy", lower_is_better=False, unit="share")


@final
class Segmentation(Task):
    """Segmenters on images with label maps: mIoU and pixel accuracy in each cell, mPC and rPC.

    The pixels of all images are counted together, by the rule of Cityscapes (Cordts et al. 2016);
    intervals are over images. Classes that a segmenter does not have count as wrong everywhere.

    Args:
        corrupted: corrupted copies to read instead of corrupting images: an open tree, or a
            folder ``corruption/severity/<path of the image>``. Label maps are read from the dataset.
        class_map: from a segmenter's class to one of the dataset, if their names differ.
    """

    kind = "segmentation"
    gallery_needs_models = True

    def __init__(
        self,
        *,
        corrupted: CorruptedData | str | Path | None = None,
        class_map: Mapping[str, str] | None = None,
    ) -> None:
        self.corrupted = corrupted
        self.class_map = class_map

    def prepare(
        self,
        models: SegmenterGiven | Mapping[str, SegmenterGiven],
        data: ImageData | str | Path,
        adapters: Sequence[AdapterLike] | Mapping[str, AdapterLike],
        *,
        device: str,
    ) -> Prepared:
        """Load what is given as text; match classes; read every label map once."""
        if isinstance(data, ImageData) and not isinstance(data, SegmentationData):
            raise InputError(f"{data.name} has no label maps; expected a dataset for segmentation.")
        dataset = open_segmentation_data(data)
        tree = open_tree(self.corrupted, dataset)
        load = functools.partial(load_segmenter, device=device)
        plain: dict[str, SegmenterLike] = load_models(
            models, load, check=check_segmenter, noun="segmenter"
        )
        adapted = adapt_first(plain, adapters, AdaptedSegmenter, kind=Segmenter)
        named = {**plain, **adapted}
        matches = {
            name: match_pixel_classes(model.classes, dataset.classes, mapping=self.class_map)
            for name, model in named.items()
        }
        recording = SegmenterRecording(dataset)
        for name, model in named.items():
            recording.add(model, matches[name])
        pixels = check_masks(dataset).pixels

        return Prepared(
            models=named,
            titles=choose_titles(named),
            data=dataset,
            recording=recording,
            settings={
                **write_settings(plain, adapted, "segmenter"),
                "classes": {name: match.settings() for name, match in matches.items()},
                "measure": MIOU.name,
            },
            about={"classes": describe_classes(dataset, pixels)},
            make_view=functools.partial(make_full_size_view, dataset, tree),
            corrupted=tree,
            device=str(next(iter(plain.values())).settings.get("device", "cpu")),
            batch_size=4,
        )

    def begin(self, folder: RunFolder, prepared: Prepared) -> None:
        """Write the names of the classes, and the conditions of the images."""
        dataset = prepared.data
        assert isinstance(dataset, SegmentationData)
        write_truth(folder, dataset)

    def measure(
        self,
        folder: RunFolder,
        models: Sequence[str],
        grid: Grid,
        *,
        workers: int,
        show_progress: bool | None,
    ) -> Measured:
        """Return mIoU and pixel accuracy in each cell, mPC and rPC, and the figures of each class."""
        truth = read_form(folder.path / TRUTH, Truth)
        tables = _read_tables(folder, models, grid, len(truth.classes))
        first = next(iter(tables[models[0]].values()))
        broken = list_broken((cell, t.ids, t.error) for cell, t in tables[models[0]].items())
        left_out = {entry.id for entry in broken}
        used = np.array([name not in left_out for name in first.ids], dtype=bool)
        if not used.any():
            raise BrokenFileError(f"{folder.path}: no image of the run could be read in all cells.")
        figures = _compute_figures(tables, used, len(truth.classes), show_progress)
        by_condition = {
            name: _compute_figures(tables, used & among, len(truth.classes), show_progress)
            for name, among in group_by_condition(truth, first.ids).items()
            if (used & among).any()
        }
        measured = summarize_performance(
            {name: {c: one[0] for c, one in cells.items()} for name, cells in figures.items()},
            grid,
            MIOU.name,
            MIOU.title,
            interval=describe_resampling(BIAS_CORRECTED),
            images=Images(len(first), int(used.sum()), broken),
            changed=why_other_corruptions(folder),
        )
        return dataclasses.replace(
            measured,
            measures=(MIOU, ACCURACY),
            headlines=(*measured.headlines, *_make_accuracy_headlines(grid)),
            cells={
                name: {
                    cell: {MIOU.name: one[0].replicates, ACCURACY.name: one[1]}
                    for cell, one in cells.items()
                }
                for name, cells in figures.items()
            },
            summaries={
                name: {**measured.summaries.get(name, {}), **_compute_accuracies(cells, grid)}
                for name, cells in figures.items()
            },
            details=_detail(tables, used, figures, by_condition, grid, truth),
        )

    def save_gallery(
        self, folder: RunFolder, prepared: Prepared, view: View, cells: Sequence[Cell]
    ) -> None:
        """Save the images with the largest losses: clean, truth, corrupted, and predictions."""
        save_gallery(folder, prepared, view, cells)


def write_truth(folder: RunFolder, data: SegmentationData) -> None:
    """Write the names of the classes, and the conditions of the images if they differ."""
    several = len(set(data.conditions.values())) > 1
    conditions = dict(data.conditions) if several else {}
    write_form(folder.path / TRUTH, Truth(FORMAT, data.classes.names, conditions))


def describe_classes(data: SegmentationData, pixels: I64) -> Settings:
    """Return the classes for ``run.json``; ``pixels`` is ``(K,)``, the number of each in the truth."""
    return {
        "title": data.classes.title,
        "count": len(data.classes),
        "pixels": pixels.tolist(),
    }


# ---------------------------------------------------------------- what is measured


def _read_tables(
    folder: RunFolder, models: Sequence[str], grid: Grid, classes: int
) -> dict[str, dict[Cell, SegmentationRecords]]:
    """Read all tables, which must be of the same images: a cell would be measured on others."""
    paths = {
        (name, cell): folder.records_file(name, cell) for name in models for cell in grid.cells
    }
    tables: dict[str, dict[Cell, SegmentationRecords]] = {name: {} for name in models}
    for (name, cell), table in read_same_images(paths, read_segmentation).items():
        if table.find_largest_class() >= classes:
            raise BrokenFileError(
                f"{paths[name, cell]}: has the class {table.find_largest_class()}, but the run has "
                f"{classes}. Delete it and start the run again: only what is missing is done anew."
            )
        tables[name][cell] = table
    return tables


CellFigures: TypeAlias = tuple[Performance, Replicates, F64]
"""What is reached in mIoU; the pixel accuracy, and ``(1 + R, K)`` the IoU of each class, on the images
and their resamples."""


def _compute_figures(
    tables: Mapping[str, Mapping[Cell, SegmentationRecords]],
    used: Flags,
    classes: int,
    show_progress: bool | None,
) -> dict[str, dict[Cell, CellFigures]]:
    """Return the figures of each cell on the images and on resamples that all cells share."""
    keys = [(name, cell) for name, cells in tables.items() for cell in cells]
    count = int(used.sum())
    figures: dict[str, dict[Cell, CellFigures]] = {name: {} for name in tables}
    # Number of cells whose sums fit into memory; the seed gives all the same resamples.
    several = max(1, SUMS_BYTES // (8 * 3 * classes * (1 + intervals.REPLICATES)))
    with progress(
        "Measure", intervals.count_blocks(count) * len(keys), show=show_progress
    ) as advance:
        for start in range(0, len(keys), several):
            group = keys[start : start + several]
            makers = [
                functools.partial(_select_marginals, tables[name][cell], classes, used)
                for name, cell in group
            ]
            sums = intervals.sum_resamples(makers, count, seed=SEED, done=advance)
            for (name, cell), one in zip(group, sums, strict=True):
                figures[name][cell] = _divide_sums(one, classes)
    return figures


def _select_marginals(table: SegmentationRecords, classes: int, used: Flags) -> F64:
    return table.compute_marginals(classes)[used]


def _divide_sums(sums: F64, classes: int) -> CellFigures:
    hits, truth, predicted = np.split(sums, [classes, 2 * classes], axis=1)
    ious = class_ious(hits, truth, predicted)
    accuracy = pixel_accuracy(hits, truth)
    mean = mean_iou(ious)
    recall = mean_iou(class_recalls(hits[0], truth[0]))
    numbers = {"mean class accuracy": float(recall)}
    performance = Performance(_correct_share_bias(mean), numbers, ious[0].tolist())
    return performance, _correct_share_bias(accuracy), ious


def _correct_share_bias(drawn: F64) -> F64:
    """Return bias-corrected resamples, clipped to the range of shares."""
    return np.clip(correct_bias(drawn), 0, 1)


def _detail(
    tables: Mapping[str, Mapping[Cell, SegmentationRecords]],
    used: Flags,
    figures: Mapping[str, Mapping[Cell, CellFigures]],
    by_condition: Mapping[str, Mapping[str, Mapping[Cell, CellFigures]]],
    grid: Grid,
    truth: Truth,
) -> dict[str, Settings]:
    """Return by model the figures of each class, and of the images of each condition."""
    found = {}
    for name, table in tables.items():
        classes = Resamples.of({cell: one[2] for cell, one in figures[name].items()}, grid)
        conditions = {
            condition: Resamples.of({c: one[0].replicates for c, one in cells[name].items()}, grid)
            for condition, cells in by_condition.items()
        }
        detail = detail_of(Cells(table, used, classes, conditions), grid, truth)
        found[name] = msgspec.to_builtins(detail)
    return found


def _make_accuracy_headlines(grid: Grid) -> tuple[Headline, ...]:
    clean = Headline(
        "accuracy", "Clean pixel accuracy", "share of the pixels whose class is right",
        lower_is_better=False, unit="share", card=False,
    )  # fmt: skip
    mean = Headline(
        "mean accuracy", "Corrupted pixel accuracy", "mean over what was run",
        lower_is_better=False, unit="share", card=False,
    )  # fmt: skip
    return (clean, mean) if grid.has_clean else (mean,)


def _compute_accuracies(cells: Mapping[Cell, CellFigures], grid: Grid) -> dict[str, Replicates]:
    found: dict[str, Replicates] = {}
    if grid.has_clean:
        found["accuracy"] = cells[CLEAN][1]
    if grid.averaged:
        mean = np.mean([cells[cell][1] for cell in grid.averaged], axis=0)
        found["mean accuracy"] = np.asarray(mean)
    return found
