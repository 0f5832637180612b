"""A run over as many images as a budget of time allows: of detectors and segmenters.

mPC and mIoU are not means over images, so they have no confidence sequences that are valid at every
stopping time. Instead, rounds of images are measured in all cells until the budget is used up; the result
is the run over these images.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from shiftproof.bench.arguments import CorruptionLike
from shiftproof.bench.cells.filling import Workload, fill
from shiftproof.bench.cells.protocol import Protocol, read_protocol
from shiftproof.bench.cells.recording import Learner, choose_recording
from shiftproof.bench.cells.stream import Episode, Visit, list_episodes
from shiftproof.bench.cells.views import Encode
from shiftproof.bench.grid.grid_run import choose_task, fill_grid
from shiftproof.bench.grid.request import GridRequest, LoadedGrid
from shiftproof.bench.grid.run_folder import cache_images_on_disk
from shiftproof.bench.other_runs.clock import CLOCK, Clock, check_budget
from shiftproof.bench.reanalysis.gathering import join_tables
from shiftproof.bench.tasks.classification.task import Classification
from shiftproof.bench.tasks.interface import Prepared, Task
from shiftproof.corruptions import COMMON
from shiftproof.data import ImageData, choose_images
from shiftproof.errors import BrokenFileError, InputError, RunMismatchError
from shiftproof.io import files
from shiftproof.io.folder_locks import releases_locks
from shiftproof.io.text import read_json
from shiftproof.runs.budget import KEY
from shiftproof.runs.folder import RUN_FILE, RunFolder
from shiftproof.runs.run import Run
from shiftproof.types import Cell

FIRST_ROUND = 8
"""Images of the first round, which is measured even if the budget is too short."""

GROWTH = 2
"""Largest factor by which a round increases the number of images: timings of few images are unreliable."""

MIN_ROUND = 0.02
"""Smallest share of the images that a round adds; smaller rounds are skipped."""

_ROUND_FILE = "round.json"


@releases_locks
def run_within(
    models: Any,
    data: ImageData | str | Path,
    *,
    budget: float,
    task: Task | None = None,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike] = COMMON,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    out: str | Path,
    batch_size: int | None = None,
    protocol: Protocol | str = "online",
    seed: int = 0,
    encode: Encode = "none",
    workers: int | None = None,
    device: str = "cpu",
    show_progress: bool | None = None,
) -> Run:
    """Measure detectors or segmenters on as many images as a budget of time allows.

    Images are drawn as by ``run(images=N)``, the same for all cells and models. Rounds of growing size go
    through all cells; the size of each follows from the speed of the previous one. The result is the run
    over the images of all rounds, with the same records and figures. Its intervals are valid for a budget
    that is fixed in advance, not if the budget is increased until a figure looks good.

    Args:
        models: as for :func:`run`, without adapters.
        data: as for :func:`run`.
        budget: seconds of measuring, in total over all starts of the run. A first round of 8 images is
            measured in any case; the time for the summary and the page is not included.
        task: :class:`Detection` or :class:`Segmentation`; by default what the models or data are.
        corruptions: as for :func:`run`.
        severities: as for :func:`run`.
        out: the folder of the run. An interrupted run is resumed; a finished one is continued if the
            budget is larger.
        batch_size: as for :func:`run`.
        protocol: as for :func:`run`.
        seed: as for :func:`run`.
        encode: as for :func:`run`.
        workers: as for :func:`run`.
        device: as for :func:`run`.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: an argument cannot be used.
        RunMismatchError: ``out`` belongs to a run with other settings, or without a budget.
        RunError: the disk is full, or workers die again and again; finished cells are kept.
    """
    request = GridRequest(
        models=models, data=data, task=choose_task(models, data) if task is None else task,
        corruptions=corruptions, severities=severities, batch_size=batch_size,
        protocol=read_protocol(protocol), seed=seed, encode=encode, workers=workers, device=device,
        show_progress=show_progress,
    )  # fmt: skip
    _check_budget(request.task, budget)
    grid = request.load(Path(out))
    _check_learners(grid.prepared)
    grid.check_copies()
    grid.list_episodes()  # refuses orders that need labels
    images = _Rounds(Path(out), grid).run(budget)
    prepared = grid.prepared
    request_of_all = dataclasses.replace(
        request, models=prepared.models, data=prepared.data, images=images
    )
    return fill_grid(request_of_all, Path(out))


def _check_budget(task: Task, budget: float) -> None:
    check_budget(budget)
    if isinstance(task, Classification):
        raise InputError(
            "For classifiers a budget needs run_anytime, which estimates one number with an interval "
            "that is valid at every stopping time."
        )


def _check_learners(prepared: Prepared) -> None:
    if any(isinstance(model, Learner) for model in prepared.models.values()):
        raise InputError(
            "A budget runs images in rounds, and adapters depend on the order of the images; leave out "
            "the adapters, or give the number of images."
        )


@dataclass(frozen=True)
class _Round:
    """A started round: the number of images including it, and its duration once it is finished."""

    folder: RunFolder
    images: int
    seconds: float | None


@final
class _Rounds:
    """The rounds of a run: those joined into its records, and those still below ``rounds``."""

    def __init__(self, out: Path, grid: LoadedGrid) -> None:
        self._grid, self._cells, self._prepared = grid, grid.cells, grid.prepared
        self._all = len(grid.prepared.data.samples)
        stored = _read_images(out)
        images = min(FIRST_ROUND, self._all) if stored is None else stored
        chosen = grid.choose_images(images)
        about = {**chosen.about(), KEY: {"images": images, "seconds": 0.0}}
        self._folder = RunFolder.create(
            out, grid.request.task.kind, chosen.settings(), about,
            why="A run with a budget cannot be extended: its images depend on how long all cells took.",
        )  # fmt: skip
        if grid.prepared.keeps_images:
            cache_images_on_disk(self._folder, grid.view)

    def run(self, budget: float) -> int:
        """Measure rounds until the budget is used up; return the total number of images."""
        clock = Clock(self._folder.path / CLOCK, budget)
        images, speed = self._recorded, self._read_speed()
        for number in range(1, self._all + 1):
            current = self._read_round(number)
            if current is None or current.seconds is None:
                planned = self._plan_round(images, speed, clock.left)
                if current is None and planned is None:
                    break
                current = current or self._begin_round(number, planned or self._all)
                current = self._measure_round(current, images, clock)
            speed = (current.seconds or 0.0) / max(current.images - images, 1)
            images = current.images
        if images > self._recorded or not self._has_scores(images):
            self._join_rounds(images, clock.seconds, speed)
        return images

    # ------------------------------------------------------------ rounds

    def _plan_round(self, images: int, speed: float | None, left: float) -> int | None:
        """Return the number of images after the next round; None if there is no next round."""
        if not images or speed is None:
            return min(images + FIRST_ROUND, self._all)
        more = int(min(left / max(speed, 1e-9), (GROWTH - 1) * images, self._all - images))
        is_worth_it = more > 0 and (more >= MIN_ROUND * images or images + more == self._all)
        return images + more if is_worth_it else None

    def _begin_round(self, number: int, images: int) -> _Round:
        folder = self._round_folder(number)
        files.make_folder(folder.path)
        files.write_json(folder.path / _ROUND_FILE, {"images": images, "seconds": None})
        return _Round(folder, images, None)

    def _measure_round(self, current: _Round, before: int, clock: Clock) -> _Round:
        """Run all models in all cells on the images that a round adds."""
        start = time.monotonic()
        old = set() if not before else {one.id for one in self._choose_data(before).samples}
        samples = [one for one in self._choose_data(current.images).samples if one.id not in old]
        grid, request = self._grid, self._grid.request
        streams = list_episodes(self._cells, samples, request.protocol, seed=request.seed)
        try:
            fill(
                current.folder,
                Workload(grid.view, streams, samples, self._prepared.models),
                self._prepared.recording,
                batch_size=grid.batch_size,
                workers=grid.workers,
                show_progress=request.show_progress,
            )
        finally:
            clock.save()
        seconds = time.monotonic() - start
        files.write_json(
            current.folder.path / _ROUND_FILE,
            {"images": current.images, "seconds": round(seconds, 3)},
        )
        return dataclasses.replace(current, seconds=seconds)

    def _choose_data(self, images: int) -> ImageData:
        return choose_images(self._prepared.data, images)

    def _round_folder(self, number: int) -> RunFolder:
        return RunFolder(self._folder.rounds / f"{number:04}")

    def _read_round(self, number: int) -> _Round | None:
        folder = self._round_folder(number)
        path = folder.path / _ROUND_FILE
        if not path.is_file():
            return None
        stored = read_json(path)
        try:
            seconds = stored["seconds"]
            return _Round(
                folder, int(stored["images"]), None if seconds is None else float(seconds)
            )
        except (LookupError, TypeError, ValueError) as error:
            raise BrokenFileError(
                f"{path}: expected the images and seconds of a round ({error!r:.80}). Delete "
                f"{folder.path.parent}, and the run goes on from its records."
            ) from error

    # ------------------------------------------------------------ the records of all rounds

    @property
    def _recorded(self) -> int:
        """The number of images in the records of the run; 0 before rounds are joined."""
        if not all(
            self._folder.has(name, cell) for name in self._prepared.models for cell in self._cells
        ):
            return 0
        return _read_images(self._folder.path) or 0

    def _read_speed(self) -> float | None:
        """Return the seconds per image of the last round; None before the first one."""
        found = self._folder.info()[KEY].get("seconds an image")
        return float(found) if isinstance(found, int | float) else None

    def _has_scores(self, images: int) -> bool:
        return self._folder.scores_file.is_file() and _read_images(self._folder.path) == images

    def _join_rounds(self, images: int, seconds: float, speed: float | None) -> None:
        """Join the records of all rounds, and write the number of images into ``run.json``."""
        chosen = self._grid.choose_images(images)
        samples, streams = chosen.prepared.data.samples, chosen.list_episodes()
        ids = [one.id for one in samples]
        parts = [self._folder, *self._list_rounds()]
        for name in self._prepared.models:
            files.make_folder(self._folder.path / "records" / name)
            for cell in self._cells:
                path = self._folder.records_file(name, cell)
                tables = [one.records_file(name, cell) for one in parts]
                join_tables(
                    [table for table in tables if table.is_file()],
                    path,
                    ids,
                    functools.partial(find_positions, streams, cell, batch_size=chosen.batch_size),
                )
                # Written again by the usual writer of records: the same bytes as in other runs.
                recording = choose_recording(self._prepared.recording, name)
                recording.write(path, recording.resume(path, samples))
        for inner in ("scores.json", "report.html", "gallery.json"):
            (self._folder.path / inner).unlink(missing_ok=True)
        shutil.rmtree(self._folder.path / "gallery", ignore_errors=True)
        budget = {"images": images, "seconds": round(seconds, 1), "seconds an image": speed}
        files.write_json(
            self._folder.path / RUN_FILE,
            {**self._folder.info(), "settings": chosen.settings(), KEY: budget},
        )
        shutil.rmtree(self._folder.rounds, ignore_errors=True)

    def _list_rounds(self) -> list[RunFolder]:
        stored = sorted(self._folder.rounds.glob("*")) if self._folder.rounds.is_dir() else []
        return [RunFolder(path) for path in stored]


def find_positions(
    streams: Sequence[Episode], cell: Cell, broken: Sequence[bool], *, batch_size: int
) -> list[int]:
    """Return the position of each image in the stream, as recorded by a run over all images.

    Args:
        streams: the episodes of the run.
        cell: the cell of the table.
        broken: for each image whether it is unreadable in the cell; unreadable images come last in their
            batch.
        batch_size: readable images per batch.
    """
    found = [0] * len(broken)
    for episode in streams:
        for visit in episode.visits:
            if visit.recorded and cell in visit.cells:
                for row, position in _find_visit_positions(visit, cell, broken, batch_size):
                    found[row] = position
    return found


def _find_visit_positions(
    visit: Visit, cell: Cell, broken: Sequence[bool], batch_size: int
) -> list[tuple[int, int]]:
    own = [visit.cells[place] == cell for place in visit.cell_indices.tolist()]
    rows = visit.rows.tolist()
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(rows):
        good: list[int] = []
        bad: list[int] = []
        end = start
        while end < len(rows):
            is_bad = broken[rows[end]]
            if not is_bad and len(good) == batch_size:
                break
            (bad if is_bad else good).append(end)
            end += 1
        ordered = [*good, *bad]
        found += [
            (rows[place], visit.start + start + at)
            for at, place in enumerate(ordered)
            if own[place]
        ]
        start = end
    return found


def _read_images(out: Path) -> int | None:
    """Return the number of images of the run with a budget in a folder; None without a run.

    Raises:
        RunMismatchError: the run has no budget.
    """
    folder = RunFolder(out)
    if not folder.run_file.is_file():
        return None
    budget = folder.info().get(KEY)
    images = budget.get("images") if isinstance(budget, dict) else None
    if not isinstance(images, int) or images < 1:
        raise RunMismatchError(
            f"{out} holds a run whose number of images was chosen without a budget; choose another "
            "output folder."
        )
    return images
