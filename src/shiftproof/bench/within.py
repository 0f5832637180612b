"""A run over as many images as a budget of time allows: of detectors and segmenters.

mPC and mIoU are no means over images, so no interval of theirs holds at any time one stops. But the
number of images may depend on the time: whole rounds of images in all cells are measured until it is
over, and what is known then is the run over that number of images.
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
from shiftproof.bench.classification import Classification
from shiftproof.bench.clock import CLOCK, Clock, check_budget
from shiftproof.bench.filling import Stretch, fill
from shiftproof.bench.gathering import join_tables
from shiftproof.bench.grid_run import choose_task, fill_grid
from shiftproof.bench.opening import keep_images
from shiftproof.bench.protocol import Protocol, read_protocol
from shiftproof.bench.recording import Learner, recording_of
from shiftproof.bench.request import GridRequest, Layout
from shiftproof.bench.stream import Episode, Visit, episodes
from shiftproof.bench.task import Prepared, Task
from shiftproof.bench.views import Encode
from shiftproof.corruptions import COMMON
from shiftproof.data import ImageData, choose_images
from shiftproof.errors import BrokenFileError, InputError, RunMismatchError
from shiftproof.io import files
from shiftproof.io.holding import frees_folders
from shiftproof.io.text import read_json
from shiftproof.runs.budget import KEY
from shiftproof.runs.folder import RUN_FILE, RunFolder
from shiftproof.runs.run import Run
from shiftproof.types import Cell

FIRST = 8
"""Images of the first round, which is measured however short the budget is."""

GROWTH = 2
"""A round makes the images at most so many times as many: a few say little of how long many take."""

LEAST = 0.02
"""A round that would add less than this share of the images is left out."""

_ROUND = "round.json"


@frees_folders
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

    Images are drawn as ``run(images=N)`` draws them, the same ones for all cells and models. Rounds
    of more and more of them go through all cells; how many the next one has, the speed of the last
    one says. What comes out is the run over the images of all rounds: same records, same figures.
    Its intervals hold at the end of a budget, and not at any time one stops: who gives more budget
    until a figure looks good is misled by them.

    Args:
        models: as for :func:`run`, without adapters.
        data: as for :func:`run`.
        budget: seconds of measuring, of all times that the run was started together. A first round of
            8 images is measured however short it is; reading the records and drawing the page
            come on top.
        task: :class:`Detection` or :class:`Segmentation`; by default what the models or data are.
        corruptions: as for :func:`run`.
        severities: as for :func:`run`.
        out: the folder of the run. An interrupted one is resumed; one that is through goes on where
            the budget is larger.
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
    layout = request.lay_out(Path(out))
    _check_learners(layout.prepared)
    layout.check_copies()
    layout.list_episodes()  # refuses orders that need labels
    images = _Rounds(Path(out), layout).go_on(budget)
    prepared = layout.prepared
    whole = dataclasses.replace(request, models=prepared.models, data=prepared.data, images=images)
    return fill_grid(whole, Path(out))


def _check_budget(task: Task, budget: float) -> None:
    check_budget(budget)
    if isinstance(task, Classification):
        raise InputError(
            "Of classifiers one number is asked within a budget, with an interval that holds whenever "
            "one stops: see run_anytime."
        )


def _check_learners(prepared: Prepared) -> None:
    if any(isinstance(model, Learner) for model in prepared.models.values()):
        raise InputError(
            "A budget shows images in rounds, and an adapter learns from the order that it sees; leave "
            "out the adapters, or give the number of images."
        )


@dataclass(frozen=True)
class _Round:
    """A round that was begun: the images of all rounds with it, and the seconds that it took."""

    folder: RunFolder
    images: int
    seconds: float | None


@final
class _Rounds:
    """The rounds of a run: those in its records, and those below ``rounds`` that are not there yet."""

    def __init__(self, out: Path, layout: Layout) -> None:
        self._layout, self._cells, self._prepared = layout, layout.cells, layout.prepared
        self._all = len(layout.prepared.data.samples)
        there = _read_images(out)
        images = min(FIRST, self._all) if there is None else there
        chosen = layout.choose(images)
        about = {**chosen.about(), KEY: {"images": images, "seconds": 0.0}}
        self._folder = RunFolder.create(
            out, layout.request.task.kind, chosen.settings(), about,
            why="A run with a budget cannot be extended: its images depend on how long all cells took.",
        )  # fmt: skip
        if layout.prepared.keeps_images:
            keep_images(self._folder, layout.view)

    def go_on(self, budget: float) -> int:
        """Measure rounds until the budget is used up; return how many images there are then."""
        clock = Clock(self._folder.path / CLOCK, budget)
        images, speed = self._recorded, self._read_speed()
        for number in range(1, self._all + 1):
            begun = self._read_round(number)
            if begun is None or begun.seconds is None:
                planned = self._plan(images, speed, clock.left)
                if begun is None and planned is None:
                    break
                begun = begun or self._begin(number, planned or self._all)
                begun = self._measure(begun, images, clock)
            speed = (begun.seconds or 0.0) / max(begun.images - images, 1)
            images = begun.images
        if images > self._recorded or not self._is_summed(images):
            self._join(images, clock.seconds, speed)
        return images

    # ------------------------------------------------------------ rounds

    def _plan(self, images: int, speed: float | None, left: float) -> int | None:
        """Return how many images there are to be after the next round; None where there is none."""
        if not images or speed is None:
            return min(images + FIRST, self._all)
        more = int(min(left / max(speed, 1e-9), (GROWTH - 1) * images, self._all - images))
        is_worth_it = more > 0 and (more >= LEAST * images or images + more == self._all)
        return images + more if is_worth_it else None

    def _begin(self, number: int, images: int) -> _Round:
        folder = self._round_folder(number)
        files.make_folder(folder.path)
        files.write_json(folder.path / _ROUND, {"images": images, "seconds": None})
        return _Round(folder, images, None)

    def _measure(self, begun: _Round, before: int, clock: Clock) -> _Round:
        """Show the images that a round adds to all models in all cells."""
        start = time.monotonic()
        old = set() if not before else {one.id for one in self._choose(before).samples}
        samples = [one for one in self._choose(begun.images).samples if one.id not in old]
        layout, asked = self._layout, self._layout.request
        streams = episodes(self._cells, samples, asked.protocol, seed=asked.seed)
        try:
            fill(
                begun.folder,
                Stretch(layout.view, streams, samples, self._prepared.models),
                self._prepared.recording,
                batch_size=layout.batch_size,
                workers=layout.workers,
                show_progress=asked.show_progress,
            )
        finally:
            clock.save()
        seconds = time.monotonic() - start
        files.write_json(
            begun.folder.path / _ROUND, {"images": begun.images, "seconds": round(seconds, 3)}
        )
        return dataclasses.replace(begun, seconds=seconds)

    def _choose(self, images: int) -> ImageData:
        return choose_images(self._prepared.data, images)

    def _round_folder(self, number: int) -> RunFolder:
        return RunFolder(self._folder.rounds / f"{number:04}")

    def _read_round(self, number: int) -> _Round | None:
        folder = self._round_folder(number)
        path = folder.path / _ROUND
        if not path.is_file():
            return None
        there = read_json(path)
        try:
            seconds = there["seconds"]
            return _Round(folder, int(there["images"]), None if seconds is None else float(seconds))
        except (LookupError, TypeError, ValueError) as error:
            raise BrokenFileError(
                f"{path}: expected the images and seconds of a round ({error!r:.80}). Delete "
                f"{folder.path.parent}, and the run goes on from its records."
            ) from error

    # ------------------------------------------------------------ the records of all rounds

    @property
    def _recorded(self) -> int:
        """How many images all records of the run have; 0 before the first rounds were joined."""
        if not all(
            self._folder.has(name, cell) for name in self._prepared.models for cell in self._cells
        ):
            return 0
        return _read_images(self._folder.path) or 0

    def _read_speed(self) -> float | None:
        """Return the seconds that an image took last; None before the first round."""
        found = self._folder.info()[KEY].get("seconds an image")
        return float(found) if isinstance(found, int | float) else None

    def _is_summed(self, images: int) -> bool:
        return self._folder.scores_file.is_file() and _read_images(self._folder.path) == images

    def _join(self, images: int, seconds: float, speed: float | None) -> None:
        """Write the records of all rounds as one run has them, and that it is a run of so many."""
        chosen = self._layout.choose(images)
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
                # Once more by the writer of such records: the same bytes as in any other run.
                recording = recording_of(self._prepared.recording, name)
                recording.write(path, recording.resume(path, samples))
        for inner in ("scores.json", "report.html", "gallery.json"):
            (self._folder.path / inner).unlink(missing_ok=True)
        shutil.rmtree(self._folder.path / "gallery", ignore_errors=True)
        told = {"images": images, "seconds": round(seconds, 1), "seconds an image": speed}
        files.write_json(
            self._folder.path / RUN_FILE,
            {**self._folder.info(), "settings": chosen.settings(), KEY: told},
        )
        shutil.rmtree(self._folder.rounds, ignore_errors=True)

    def _list_rounds(self) -> list[RunFolder]:
        there = sorted(self._folder.rounds.glob("*")) if self._folder.rounds.is_dir() else []
        return [RunFolder(path) for path in there]


def find_positions(
    streams: Sequence[Episode], cell: Cell, broken: Sequence[bool], *, batch_size: int
) -> list[int]:
    """Return for each image its position in the stream, as a run over all of them records it.

    Args:
        streams: the episodes of the run.
        cell: of the table.
        broken: for each image whether it could not be read in the cell: such ones come at the end of
            their batch.
        batch_size: readable images of a batch.
    """
    found = [0] * len(broken)
    for episode in streams:
        for visit in episode.visits:
            if visit.recorded and cell in visit.cells:
                for row, position in _walk(visit, cell, broken, batch_size):
                    found[row] = position
    return found


def _walk(
    visit: Visit, cell: Cell, broken: Sequence[bool], batch_size: int
) -> list[tuple[int, int]]:
    own = [visit.cells[place] == cell for place in visit.which.tolist()]
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
    """Return how many images the run in a folder has by its budget; None where there is no run.

    Raises:
        RunMismatchError: a run whose images no budget chose.
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
