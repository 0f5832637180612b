"""Estimating one number over the grid to a given precision or within a time budget; valid anytime.

The next pairs of image and cell are those that narrow the interval the most (``pair_sampling.py``); the
interval is valid at every stopping time (``metrics/betting.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from shiftproof.bench.arguments import CorruptionLike, check_classifiers
from shiftproof.bench.cells import batching
from shiftproof.bench.cells.stream import Visit
from shiftproof.bench.cells.views import Encode
from shiftproof.bench.grid.extending import NOT_EXTENDABLE
from shiftproof.bench.grid.precision import check_precision
from shiftproof.bench.grid.request import GridRequest, LoadedGrid
from shiftproof.bench.grid.run_folder import open_folder
from shiftproof.bench.other_runs.clock import CLOCK, Clock, check_budget
from shiftproof.bench.other_runs.pair_sampling import Block, Estimand, PairSampler
from shiftproof.bench.tasks.classification.task import MCE, MEAN_ERROR, Classification, why_no_mce
from shiftproof.bench.tasks.interface import Grid, Prepared
from shiftproof.bench.tasks.published import why_other_corruptions
from shiftproof.compute.progress import progress
from shiftproof.corruptions import COMMON, GROUPS
from shiftproof.counts import pluralize
from shiftproof.data import ImageData
from shiftproof.errors import InputError, RunError
from shiftproof.io import files
from shiftproof.io.folder_locks import releases_locks
from shiftproof.metrics import classification
from shiftproof.metrics.betting import ConfidenceSequence
from shiftproof.metrics.corruption import compute_mce_weights
from shiftproof.metrics.intervals import LEVEL, Interval
from shiftproof.models import ClassifierLike
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.draws import DrawRecords, make_block_path, read_block, write_block
from shiftproof.runs.run import AnytimeRun
from shiftproof.runs.scores.anytime import AnytimeEstimate, AnytimeScores, CellDraws, StopReason
from shiftproof.runs.scores.classification import ClassNames
from shiftproof.runs.scores.grid import Headline, Images
from shiftproof.runs.scores.reading import FORMAT, write_form
from shiftproof.runs.scores.shared import BrokenImage, Resampling
from shiftproof.types import F64, Cell, Sample

KIND = "anytime"

PROTOCOL = {"description": "any order: models that do not adapt answer the same in every one"}

METHOD = (
    "confidence sequence by betting, valid at every time of stopping (Waudby-Smith & Ramdas 2024), "
    "over weighted draws without replacement (Shekhar et al. 2023)"
)

Watch = Callable[[AnytimeRun], None]


@releases_locks
def run_anytime(
    models: ClassifierLike | str | Mapping[str, ClassifierLike | str],
    data: ImageData | str | Path,
    *,
    budget: float | None = None,
    precision: float | None = None,
    compare: bool = False,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike] = COMMON,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    images: int | str | None = None,
    out: str | Path,
    batch_size: int = 64,
    seed: int = 0,
    encode: Encode = "none",
    workers: int | None = None,
    device: str = "cpu",
    show_progress: bool | None = None,
    watch: Watch | None = None,
) -> AnytimeRun:
    """Estimate mCE, or the mean error over the grid, with as few forward passes as possible.

    The next images, corruptions and severities are those that narrow the interval the most. It is valid
    at every stopping time, so a run ends at the first of these: the precision, the budget, or with
    ``compare`` a known sign of the difference. Without ``precision`` and ``compare`` only the budget ends
    it. The estimated number is that over the given images, so the interval has width 0 when all pairs
    are evaluated.

    Args:
        models: as for :func:`run`: classifiers without adapters. Several models are evaluated on
            the same pairs.
        data: as for :func:`run`; with labels.
        budget: seconds, in total over all starts with a budget; None without a limit.
        precision: target half-width of the interval, in percentage points.
        compare: estimate the differences of the other models minus the first, until no interval
            contains 0; the intervals are simultaneous. Otherwise each model's own number is estimated,
            with an interval of its own.
        corruptions: as for :func:`run`; the mean ignores holdout corruptions if others are given.
        severities: as for :func:`run`.
        images: as for :func:`run`: a subset of the images, over which the number is then estimated.
        out: the folder of the run. One that holds an unfinished run with the same settings is resumed,
            and ends with the same records.
        batch_size: images per forward pass.
        seed: random seed of the corruptions and the draws.
        encode: as for :func:`run`.
        workers: processes that read and corrupt images; 0 uses this process.
        device: device of a model given as a spec.
        show_progress: None shows it on a terminal only.
        watch: called with the current run after each block of draws.

    Returns:
        The run; ``scores.models`` and ``scores.differences`` have the number with its interval.

    Raises:
        InputError: an argument cannot be used; nothing has been written then.
        RunMismatchError: ``out`` belongs to a run with other settings.
        RunError: the disk is full, or workers die again and again; records so far are kept.
    """
    _check_stopping(budget, precision, compare)
    check_classifiers(models, data, "An anytime run")
    request = GridRequest(
        models=models, data=data, task=Classification(run_folder=out), corruptions=corruptions,
        severities=severities, images=images, batch_size=batch_size, seed=seed, encode=encode,
        workers=workers, device=device, show_progress=show_progress,
    )  # fmt: skip
    grid = request.load(Path(out))
    _check_prepared(grid.prepared, compare)
    grid.check_copies()
    session = _AnytimeSession(Path(out), grid, precision, compare)
    session.run(budget, watch)
    return AnytimeRun(Path(out))


def _check_stopping(budget: float | None, precision: float | None, compare: bool) -> None:
    if budget is not None:
        check_budget(budget)
    if precision is not None:
        check_precision(precision)
    if budget is None and precision is None and not compare:
        raise InputError(
            "Expected a budget, a precision, or compare: nothing else ends such a run."
        )


def _check_prepared(prepared: Prepared, compare: bool) -> None:
    if not prepared.data.is_labeled:
        raise InputError(
            "An anytime run measures errors and needs labels: give class folders or a CSV of "
            "path,label, or leave out --budget, --precision and --compare to measure agreement."
        )
    if compare and len(prepared.models) < 2:
        raise InputError("To compare takes two models or more, each with a --model; got one.")


def choose_number(
    folder: RunFolder, grid: Grid, classes: ClassNames
) -> tuple[Headline, list[Cell], F64, str | None]:
    """Return the estimated quantity, its cells and their weights, and the reason if it is not
    mCE.
    """
    reason = why_no_mce(grid, True, classes) or why_other_corruptions(folder)
    cells = grid.averaged
    if reason is None:
        return MCE, cells, compute_mce_weights([cell.corruption for cell in cells]), None
    return MEAN_ERROR, cells, np.full(len(cells), 1 / len(cells)), reason


@final
class _AnytimeSession:
    """A run in progress: the finished blocks of draws, and the estimates."""

    def __init__(self, out: Path, grid: LoadedGrid, precision: float | None, compare: bool) -> None:
        prepared = grid.prepared
        changed = {"protocol": PROTOCOL, "asked": {"precision": precision, "compare": compare}}
        folder = open_folder(out, KIND, grid, changed, why=NOT_EXTENDABLE[KIND])
        self._folder, self._grid, self._prepared = folder, grid, prepared
        classes = next(iter(prepared.models.values())).classes
        named = ClassNames(classes.title, tuple(classes.names))
        corrupted = [cell for cell in grid.cells if not cell.is_clean]
        self._headline, self._cells, self._weights, self._reason = choose_number(
            folder, Grid(corrupted), named
        )
        self._precision, self._compare, self._seed = precision, compare, grid.request.seed
        self._samples: Sequence[Sample] = prepared.data.samples
        self._rows = {sample.id: row for row, sample in enumerate(self._samples)}
        self._places = {cell: place for place, cell in enumerate(self._cells)}
        self._blocks: list[dict[str, DrawRecords]] = []
        self._broken: dict[str, BrokenImage] = {}
        for name in prepared.models:
            files.make_folder(folder.path / "records" / name)
        self._plan_draws()

    # ------------------------------------------------------------ running

    def run(self, budget: float | None, watch: Watch | None) -> None:
        """Evaluate block by block until a stopping criterion is met; write the scores after
        each.
        """
        clock = Clock(self._folder.path / CLOCK, budget)
        show = self._grid.request.show_progress
        with progress("Percent of the way", 100, show=show) as advance:
            shown = 0
            ended: StopReason | None = None
            while ended is None:
                block = self._sampler.draw_block(len(self._blocks))
                done, is_new = self._evaluate_block(block, clock)
                evaluated = len(next(iter(done.values())))
                if evaluated:
                    self._process_block(done)
                ended = self._find_stop_reason() if evaluated == len(block) else "budget"
                if self._passes and (is_new or ended is not None):
                    self._write(ended or "unfinished")
                    if is_new and watch is not None:
                        watch(AnytimeRun(self._folder.path))
                now = round(100 * self._progress(clock))
                advance(max(now - shown, 0), note=self._note())
                shown = max(shown, now)
        if not self._passes:
            raise RunError(
                f"{self._folder.path}: the budget is used up, and no image could be read yet; start it "
                "again with a longer one, and it goes on."
            )
        self._folder.drop_cache()

    def _plan_draws(self) -> None:
        """Plan the draws, without unreadable images."""
        names = list(self._prepared.models)
        alone = [Estimand(name) for name in names]
        beside = [Estimand(name, names[0]) for name in names[1:]]
        level = 1 - (1 - LEVEL) / max(1, len(beside)) if self._compare else LEVEL
        broken = [self._rows[name] for name in self._broken]
        self._sampler = PairSampler(
            len(self._samples), self._cells, self._weights, names,
            beside if self._compare else alone,
            secondary=alone if self._compare else beside,
            families={name: group for group, found in GROUPS.items() for name in found},
            excluded=broken, level=level, seed=self._seed,
            aim=None if self._precision is None else self._precision / 100,
        )  # fmt: skip
        self._passes: list[int] = []
        self._paths: dict[Estimand, list[Interval]] = {one: [] for one in self._sampler.estimands}

    def _process_block(self, done: dict[str, DrawRecords]) -> None:
        """Process a block's predictions; unreadable images cause a restart without them."""
        self._blocks.append(done)
        first = next(iter(done.values()))
        found = {
            name: BrokenImage(name, 1, str(cell), reason)
            for name, cell, reason in zip(first.ids, first.cells, first.error, strict=True)
            if reason is not None and name not in self._broken
        }
        if not found:
            self._update(done)
            return
        self._broken |= found
        if len(self._broken) == len(self._samples):
            raise InputError(f"None of the images can be read. The first: {first.error[0]}")
        self._plan_draws()
        for block in self._blocks:
            self._update(block)

    def _update(self, done: dict[str, DrawRecords]) -> None:
        first = next(iter(done.values()))
        kept = np.array([name not in self._broken for name in first.ids], dtype=bool)
        if not kept.any():
            return
        block = Block(
            np.array([self._rows[name] for name in first.ids])[kept],
            np.array([self._places[cell] for cell in first.cells])[kept],
        )
        wrong = np.stack([records.wrong[kept] for records in done.values()])
        self._sampler.add(block, wrong.astype(np.float64))
        self._passes.append(len(self._sampler))
        for path, interval in zip(self._paths.values(), self._sampler.intervals, strict=True):
            path.append(to_interval(interval))

    def _find_stop_reason(self) -> StopReason | None:
        intervals = self._sampler.target_intervals
        if self._sampler.is_exhausted:
            return "exhausted"
        if self._precision is not None and all(
            100 * one.half_width <= self._precision for one in intervals
        ):
            return "precision"
        if self._compare and all(not one.low <= 0 <= one.high for one in intervals):
            return "decided"
        return None

    # ------------------------------------------------------------ predictions

    def _evaluate_block(self, block: Block, clock: Clock) -> tuple[dict[str, DrawRecords], bool]:
        """Return the predictions of a block, fewer when the time is up, and whether any are new."""
        number = len(self._blocks)
        names = list(self._prepared.models)
        kept = self._read_block(number, names)
        # At least one batch is evaluated, however short the budget.
        has_any = bool(self._blocks) or len(kept[names[0]]) > 0
        if len(kept[names[0]]) == len(block) or (clock.is_up and has_any):
            return kept, False
        evaluated = set(zip(kept[names[0]].ids, kept[names[0]].cells, strict=True))
        left = [
            place
            for place in range(len(block))
            if (self._samples[block.images[place]].id, self._cells[block.cells[place]])
            not in evaluated
        ][: len(block) - len(evaluated)]
        answers = _BlockAnswers(self._samples, self._cells, block, left, kept)
        try:
            self._predict_rest(answers, clock)
        finally:
            clock.save()
            for name, records in answers.finish().items():
                if len(records):
                    write_block(make_block_path(self._folder.path, name, number), records)
        return answers.finish(), True

    def _read_block(self, number: int, names: Sequence[str]) -> dict[str, DrawRecords]:
        """Return the stored records of a block, restricted to pairs that all models have."""
        paths = {name: make_block_path(self._folder.path, name, number) for name in names}
        if not all(path.is_file() for path in paths.values()):
            return {name: DrawRecords() for name in names}
        found = {name: read_block(path) for name, path in paths.items()}
        shortest = min(found.values(), key=len)
        return {name: _take_first(records, len(shortest)) for name, records in found.items()}

    def _predict_rest(self, answers: _BlockAnswers, clock: Clock) -> None:
        """Run the models on the rest of a block, batch by batch, until the time is up."""
        models, recording = self._prepared.models, self._prepared.recording
        batches = batching.make_batches(
            self._grid.view, [answers.visit()], self._samples,
            batch_size=self._grid.batch_size, workers=self._grid.workers,
        )  # fmt: skip
        with contextlib.closing(batches):
            for batch in batches:
                shown = recording.gather(batch.images)
                for name, model in models.items():
                    if batch.images:
                        answers.add(name, batch.rows, batch.cells, recording.predict(model, shown))
                    for row, cell, reason in batch.broken:
                        answers.add_broken(name, row, cell, reason)
                answers.count += len(batch)
                if clock.is_up:
                    return

    # ------------------------------------------------------------ progress

    def _progress(self, clock: Clock) -> float:
        """Return the progress, from 0 to 1, by the nearest stopping criterion."""
        intervals = self._sampler.target_intervals
        shares = [len(self._sampler) / self._sampler.total, clock.share]
        if self._precision is not None:
            widest = 100 * max(one.half_width for one in intervals)
            shares.append((self._precision / max(widest, self._precision)) ** 2)
        if self._compare:
            shares.append(min(one.compute_evidence(0.0) for one in intervals))
        return max(shares)

    def _note(self) -> str:
        sampler = self._sampler
        figures = [
            f"{one.model}: {100 * each.estimate:.1f} [{100 * each.low:.1f}, {100 * each.high:.1f}]"
            for one, each in zip(sampler.estimands, sampler.target_intervals, strict=False)
        ]
        what = f"{self._headline.title}{' difference' if self._compare else ''}"
        share = len(sampler) / sampler.total
        passes = pluralize(len(sampler), "pass")
        return f"{what} {', '.join(figures)}; {passes}, {share:.2%} of the grid"

    def _write(self, ended: StopReason) -> None:
        write_form(self._folder.scores_file, self._make_scores(ended))

    def _make_scores(self, ended: StopReason) -> AnytimeScores:
        sampler, names = self._sampler, list(self._prepared.models)
        errors = sampler.cell_errors()
        return AnytimeScores(
            format=FORMAT,
            kind="anytime",
            headline=self._headline,
            interval=Resampling(LEVEL, METHOD, 0, self._seed),
            images=Images(
                total=len(self._samples),
                used=len(self._samples) - len(self._broken),
                broken=tuple(self._broken[name] for name in sorted(self._broken)),
            ),
            cells=tuple(
                CellDraws(
                    cell.corruption, cell.severity, int(evaluated),
                    {name: round(float(errors[at, place]), 6) for at, name in enumerate(names)},
                )
                for place, (cell, evaluated) in enumerate(
                    zip(self._cells, sampler.counts(), strict=True)
                )
            ),
            models=tuple(self._make_estimate(Estimand(name)) for name in names),
            differences=tuple(self._make_estimate(Estimand(name, names[0])) for name in names[1:]),
            passes=tuple(self._passes),
            pairs=sampler.total,
            ended=ended,
            precision=None if self._precision is None else self._precision / 100,
            compare=self._compare,
            reason=self._reason,
        )  # fmt: skip

    def _make_estimate(self, estimand: Estimand) -> AnytimeEstimate:
        path = tuple(self._paths[estimand])
        title = "" if estimand.against else self._prepared.titles[estimand.model]
        return AnytimeEstimate(
            estimand.model, path[-1], path, title=title, against=estimand.against
        )


class _BlockAnswers:
    """The predictions of all models for one block; those from disk come first."""

    def __init__(
        self,
        samples: Sequence[Sample],
        cells: Sequence[Cell],
        block: Block,
        left: Sequence[int],
        kept: dict[str, DrawRecords],
    ) -> None:
        self._samples, self._cells, self._kept = samples, cells, kept
        self._images, self._cell_indices = block.images[list(left)], block.cells[list(left)]
        self._place = {
            (int(row), cells[which]): place
            for place, (row, which) in enumerate(zip(self._images, self._cell_indices, strict=True))
        }
        size = len(left)
        self._prediction = {name: np.full(size, -1, np.int32) for name in kept}
        self._confidence = {name: np.full(size, np.nan, np.float32) for name in kept}
        self._error: list[str | None] = [None] * size
        self.count = 0

    def visit(self) -> Visit:
        """Return the remaining images, as a segment of a stream."""
        return Visit(
            tuple(self._cells), self._images.astype(np.int32), self._cell_indices.astype(np.int32),
            start=0, pass_index=0, recorded=True, ends_pass=True,
        )  # fmt: skip

    def add(self, model: str, rows: Sequence[int], cells: Sequence[Cell], logits: Any) -> None:
        """Add a model's predictions for a batch."""
        where = [self._place[row, cell] for row, cell in zip(rows, cells, strict=True)]
        self._prediction[model][where] = classification.top_classes(logits, 1)[:, 0]
        self._confidence[model][where] = classification.confidence(logits)

    def add_broken(self, model: str, row: int, cell: Cell, reason: str) -> None:
        """Add a file that could not be read."""
        self._error[self._place[row, cell]] = reason

    def finish(self) -> dict[str, DrawRecords]:
        """Return the records so far, of whole batches."""
        return {name: self._records(name) for name in self._kept}

    def _records(self, model: str) -> DrawRecords:
        kept, head = self._kept[model], slice(self.count)
        samples = [self._samples[row] for row in self._images[head]]
        return DrawRecords(
            ids=kept.ids + [sample.id for sample in samples],
            cells=kept.cells + [self._cells[which] for which in self._cell_indices[head]],
            target=np.concatenate([kept.target, [sample.target for sample in samples]]).astype(
                np.int32
            ),
            prediction=np.concatenate([kept.prediction, self._prediction[model][head]]),
            confidence=np.concatenate([kept.confidence, self._confidence[model][head]]),
            error=kept.error + self._error[head],
        )


def to_interval(sequence: ConfidenceSequence) -> Interval:
    """Return a confidence sequence as it is now, rounded as the figures of runs are."""
    low, high = round(sequence.low, 6), round(sequence.high, 6)
    return Interval(min(max(round(sequence.estimate, 6), low), high), low, high)


def _take_first(records: DrawRecords, count: int) -> DrawRecords:
    return DrawRecords(
        records.ids[:count], records.cells[:count], records.target[:count],
        records.prediction[:count], records.confidence[:count], records.error[:count],
    )  # fmt: skip
